//! What steers a roll-out: for whom perch works, whose calls are stopped, whether limits hold back, and how a running
//! perch hears of all that.

use super::problem::{Check, Complaint, nearest, shown};
use super::reader::Reader;
use super::value::{Setting, flag, kind};
use crate::finch::endpoints::can_be_kept_back;
use crate::types::{CustomerId, InvalidId, Product, ProviderId};
use toml::Value;

/// The most names in one list.
const NAMES_MAX: usize = 10_000;

/// For whom perch works already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Customers; all.
    pub customers: Circle<CustomerId>,
    /// Providers; all. Never a share.
    pub providers: Circle<ProviderId>,
}

/// Who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circle<T> {
    /// Everyone.
    All,
    /// These.
    Listed(Vec<T>),
    /// So many of a hundred, 0 to 100.
    Share(u8),
}

/// Whose calls are stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    /// Those of these customers; none.
    pub customers: Vec<CustomerId>,
    /// Those to these products; none.
    pub products: Vec<Product>,
    /// Those through these providers; none.
    pub providers: Vec<ProviderId>,
}

/// How a running perch hears that its configuration has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Whether it looks at its file by itself; yes. A SIGHUP is heard in any case.
    pub watch: bool,
}

/// Whether the limits hold calls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMode {
    /// They do.
    Enforce,
    /// They count and tell what they would have done.
    Observe,
}

impl LimitMode {
    /// Both.
    pub const ALL: [LimitMode; 2] = [LimitMode::Enforce, LimitMode::Observe];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            LimitMode::Enforce => "enforce",
            LimitMode::Observe => "observe",
        }
    }
}

pub(super) fn rollout(r: &mut Reader<'_>) -> Option<Rollout> {
    let customers = r.get("rollout.customers", |s| circle(s, CustomerId::new, true));
    let providers = r.get("rollout.providers", |s| circle(s, ProviderId::new, false));
    Some(Rollout { customers: customers?, providers: providers? })
}

pub(super) fn pause(r: &mut Reader<'_>) -> Option<Paused> {
    let customers = r.get("pause.customers", |s| names(s, CustomerId::new));
    let products = r.get("pause.products", products);
    let providers = r.get("pause.providers", |s| names(s, ProviderId::new));
    Some(Paused { customers: customers?, products: products?, providers: providers? })
}

pub(super) fn reload(r: &mut Reader<'_>) -> Option<Reload> {
    Some(Reload { watch: r.get("reload.watch", flag)? })
}

/// Reads `"all"`, a list, or `"10%"` where there may be a share.
fn circle<T>(
    s: &Setting,
    read: impl Fn(String) -> Result<T, InvalidId>,
    may_share: bool,
) -> Check<Circle<T>> {
    let example = if may_share { "\"all\", [\"acme\"] or \"10%\"" } else { "\"all\" or [\"gusto\"]" };
    let text = match &s.value {
        Value::Array(_) => return names(s, read).map(Circle::Listed),
        Value::String(text) => text.as_str(),
        other => {
            return Err(Complaint::new(format!("is {}; it can be {example}", kind(other))));
        }
    };
    if text == "all" {
        return Ok(Circle::All);
    }
    let other = || Complaint::new(format!("is \"{}\"; it can be {example}", shown(text)));
    match text.strip_suffix('%') {
        Some(_) if !may_share => Err(Complaint::new("is a share; only customers are rolled out by shares")
            .hint("write a list of providers")),
        Some(digits) => match digits.parse::<u8>() {
            Ok(percent) if percent <= 100 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Circle::Share(percent))
            }
            _ => Err(other().hint("write a whole number from 0% to 100%")),
        },
        None => Err(other().hint(format!("write {}", s.written("all")))),
    }
}

fn list(s: &Setting) -> Check<&[Value]> {
    let Value::Array(list) = &s.value else {
        let complaint = Complaint::new(format!("is {}; a list is needed", kind(&s.value)));
        return Err(complaint.hint("write [] for none"));
    };
    match list.len() <= NAMES_MAX {
        true => Ok(list),
        false => Err(Complaint::new(format!("has {} names; {NAMES_MAX} is the most", list.len()))),
    }
}

fn text(value: &Value) -> Check<&str> {
    value.as_str().ok_or_else(|| Complaint::new(format!("has {} in it; names are texts", kind(value))))
}

fn names<T>(s: &Setting, read: impl Fn(String) -> Result<T, InvalidId>) -> Check<Vec<T>> {
    let name = |value: &Value| {
        let name = text(value)?;
        read(name.to_owned())
            .map_err(|why| Complaint::new(format!("has \"{}\" in it, a name that {why}", shown(name))))
    };
    list(s)?.iter().map(name).collect()
}

fn products(s: &Setting) -> Check<Vec<Product>> {
    let all = || Product::ALL.into_iter().filter(|product| can_be_kept_back(*product)).map(Product::as_str);
    let product = |value: &Value| {
        let name = text(value)?;
        Product::parse(name).filter(|product| can_be_kept_back(*product)).ok_or_else(|| {
            let known = all().collect::<Vec<_>>().join(", ");
            let complaint = Complaint::new(format!(
                "has \"{}\" in it, which is no product that can be paused; those are {known}",
                shown(name)
            ));
            match nearest(name, all()) {
                Some(name) => complaint.hint(format!("did you mean \"{name}\"?")),
                None => complaint,
            }
        })
    };
    list(s)?.iter().map(product).collect()
}
