//! The section of the limits: what may be spent, where that is remembered, and who shares it.

use super::postgres_url::postgres_url;
use super::problem::{Check, Complaint, shown};
use super::reader::{Reader, limit_key};
use super::redis_url::{is_redis, redis_url};
use super::reference::{is_reference, reference, resolve};
use super::sections::{pem_file, scheme, secret};
use super::sound::*;
use super::value::{Setting, duration, duration_or_zero, flag, kind, percent, whole, word};
use crate::types::{ApplicationId, CustomerId, Product, StorePassword};
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::time::Duration;

/// The largest limit and queue: the state of each call in them is held in memory.
const CALLS_MAX: u32 = 100_000;

/// The largest weight: beyond it the customers of weight 1 would starve.
const WEIGHT_MAX: u32 = 100;

/// The longest names of a replica and of a namespace. Both are part of keys and of every heartbeat.
const MEMBER_BYTES_MAX: usize = 100;
const NAMESPACE_BYTES_MAX: usize = 64;

/// Reads the section; `application` is known unless something is wrong with it.
pub(super) fn limits(r: &mut Reader<'_>, application: Option<&ApplicationId>) -> Option<Limits> {
    let store = store(r);
    let replicas = r.get("limits.replicas", |s| calls(s, u32::MAX));
    let window = r.get("limits.window", duration);
    let pad = r.get("limits.pad", duration_or_zero);
    let arrival_bound = r.get("limits.arrival_bound", arrival_bound);
    let on_outage =
        r.get("limits.on_outage", |s| word(s, &[("share", OnOutage::Share), ("refuse", OnOutage::Refuse)]));
    let share = r.get("limits.share", |s| percent(s, 10, 90));
    let member = member(r);
    let namespace = r.get_unless_empty("limits.namespace", |s| {
        name(s, NAMESPACE_BYTES_MAX, &['-', '_', '.']).map(str::to_owned)
    });
    let pacing = r.get("limits.pacing", flag);
    let weights = r.get("limits.weights", weights);
    let products = products(r);
    let ip_requests = r.get("limits.ip.requests", |s| calls(s, CALLS_MAX));
    let ip_window = r.get("limits.ip.window", duration);
    let interactive = r.get("limits.wait.interactive", duration_or_zero);
    let batch = r.get("limits.wait.batch", duration_or_zero);
    let per_customer = r.get("limits.queue.per_customer", |s| calls(s, CALLS_MAX));
    let total = r.get("limits.queue.total", |s| calls(s, CALLS_MAX));
    let mode = r.get("limits.mode", |s| word(s, &LimitMode::ALL.map(|mode| (mode.as_str(), mode))));
    Some(Limits {
        store: store?,
        replicas: replicas?,
        window: window?,
        pad: pad?,
        arrival_bound: arrival_bound?,
        on_outage: on_outage?,
        share: share?,
        member: member?,
        namespace: match namespace? {
            Some(name) => name,
            None => digest(application?.as_str()),
        },
        pacing: pacing?,
        weights: weights?,
        products: products?,
        ip: IpLimit { requests: ip_requests?, window: ip_window? },
        wait: Waits { interactive: interactive?, batch: batch? },
        queue: Queue { per_customer: per_customer?, total: total? },
        mode: mode?,
    })
}

/// The store with what it takes to sign in.
fn store(r: &mut Reader<'_>) -> Option<LimitStore> {
    const PASSWORD: &str = "limits.password";
    let env = r.env;
    let store = r.get("limits.store", |s| {
        let text = s.text()?;
        if is_reference(text) {
            return redis_url(&resolve(&reference(s)?, env)?).map(LimitStore::Redis).map_err(|complaint| {
                Complaint { what: format!("refers to a text that {}", complaint.what), ..complaint }
            });
        }
        written_store(s)
    });
    let password = secret(r, PASSWORD);
    let ca_file = r.get_unless_empty("limits.ca_file", pem_file);
    let (store, password, ca_file) = (store?, password?, ca_file?);
    let LimitStore::Redis(mut url) = store else { return Some(store) };
    if let Some(password) = password {
        if url.password.is_some() {
            let complaint = Complaint::new("is set, and so is a password in `limits.store`");
            r.complain(PASSWORD, complaint.hint("keep one of them"));
            return None;
        }
        url.password = Some(StorePassword::new(password));
    }
    url.ca_file = ca_file;
    Some(LimitStore::Redis(url))
}

/// Reads a store that is named in the setting itself. A password may stand in the environment, never in a file.
pub(super) fn written_store(s: &Setting) -> Check<LimitStore> {
    let text = s.text()?;
    if text == "memory" {
        return Ok(LimitStore::Memory);
    }
    if is_redis(text) {
        let url = redis_url(text)?;
        if url.password.is_some() && s.place.variable().is_none() {
            return Err(Complaint::new("holds a password; secrets never stand in the configuration").hint(
                "set limits.password to file:… or env:…, or limits.store to env:NAME, where NAME holds the whole URL",
            ));
        }
        return Ok(LimitStore::Redis(url));
    }
    Err(match scheme(text) {
        Some(scheme) => Complaint::new(format!("is {scheme}://…, which is no store of limits"))
            .hint("write \"memory\", redis://… or rediss://…"),
        None => match word(s, &[("memory", ())]) {
            Err(complaint) => {
                Complaint { what: format!("{}, redis://… or rediss://…", complaint.what), ..complaint }
            }
            Ok(()) => Complaint::new("is not a store of limits"),
        },
    })
}

/// Takes user and password out of a URL that is going to be shown.
pub(super) fn mask(setting: &mut Setting) {
    let Ok(text) = setting.text() else { return };
    let shown =
        redis_url(text).map(|url| url.to_string()).or_else(|_| postgres_url(text).map(|url| url.to_string()));
    let Ok(shown) = shown else { return };
    if text.contains('@') {
        setting.value = toml::Value::String(shown);
    }
}

/// This replica's name. It has to be the same after a restart, and another one for each gateway of one machine: so by
/// default it is the machine's name and a digest of the vault and the door, which no two of them can share.
fn member(r: &mut Reader<'_>) -> Option<String> {
    let own = r.get_unless_empty("limits.member", |s| {
        name(s, MEMBER_BYTES_MAX, &['-', '_', '.', ':', '/', '@']).map(str::to_owned)
    })?;
    if own.is_some() {
        return own;
    }
    let by_environment =
        |variable| r.env.get(variable)?.to_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let by_system = || nix::unistd::gethostname().ok()?.into_string().ok();
    // A pod on the host's network has the node's name as its HOSTNAME, so POD_NAME goes first.
    let host = by_environment("POD_NAME").or_else(|| by_environment("HOSTNAME")).or_else(by_system);
    let text = |key| r.again(key, |s| s.text().map(str::to_owned)).unwrap_or_default();
    let vault = text("vault.store");
    let path = vault.strip_prefix("sqlite:").unwrap_or(&vault);
    let path = std::path::absolute(path).map_or_else(|_| vault.clone(), |path| path.display().to_string());
    let host: String = host
        .unwrap_or_else(|| "perch".to_owned())
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(80)
        .collect();
    Some(format!("{host}/{:.6}", digest(&format!("{path}\n{}", text("listen.proxy")))))
}

/// A name of letters, digits and a few signs: it becomes part of keys and log lines.
fn name<'a>(s: &'a Setting, bytes_max: usize, signs: &[char]) -> Check<&'a str> {
    let text = s.text()?;
    if text.len() > bytes_max {
        return Err(Complaint::new(format!("is longer than {bytes_max} bytes")));
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(&c)) {
        let signs: Vec<String> = signs.iter().map(char::to_string).collect();
        let what = format!("is \"{}\"; it can have letters, digits and {}", shown(text), signs.join(" "));
        return Err(Complaint::new(what));
    }
    Ok(text)
}

/// The beginning of the SHA-256, in hexadecimal: enough to tell names apart, too little to find them.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `{ acme = 5 }`.
fn weights(s: &Setting) -> Check<Weights> {
    let Some(table) = s.value.as_table() else {
        return Err(
            Complaint::new(format!("is {}; a table is needed", kind(&s.value))).hint("write { acme = 5 }")
        );
    };
    table
        .iter()
        .map(|(customer, value)| {
            let whose = |what: String| Complaint::new(format!("of \"{}\" {what}", shown(customer)));
            let id =
                CustomerId::new(customer).map_err(|why| whose(format!("names a customer whose id {why}")))?;
            let weight = Setting { value: value.clone(), place: s.place.clone() };
            let weight = whole(&weight, 1, WEIGHT_MAX).map_err(|complaint| whose(complaint.what))?;
            Ok((id, NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN)))
        })
        .collect()
}

/// A number of calls; zero would be a gateway that lets nothing through.
fn calls(s: &Setting, most: u32) -> Check<NonZeroU32> {
    let n = whole(s, 1, most)?;
    NonZeroU32::new(n).ok_or_else(|| Complaint::new("is 0; it must be 1 or more"))
}

pub(super) fn arrival_bound(s: &Setting) -> Check<Option<Duration>> {
    match s.text() {
        Ok("off") => Ok(None),
        _ => duration(s).map(Some),
    }
}

fn products(r: &mut Reader<'_>) -> Option<ProductLimits> {
    let mut is_sound = r.get("limits.products.default", |s| calls(s, CALLS_MAX)).is_some();
    let own: Vec<Product> =
        Product::ALL.into_iter().filter(|product| r.settings.contains_key(&limit_key(*product))).collect();
    let mut limits = Vec::with_capacity(own.len());
    for product in own {
        let key = limit_key(product);
        // A product that only inherits a wrong default has nothing wrong of its own.
        let inherits = r.place("limits.products.default") == r.place(&key);
        let limit = if inherits {
            r.again(&key, |s| calls(s, CALLS_MAX))
        } else {
            r.get(&key, |s| calls(s, CALLS_MAX))
        };
        match limit {
            Some(limit) => limits.push((product, limit)),
            None => is_sound = false,
        }
    }
    is_sound.then(|| limits.into_iter().collect())
}
