//! A fault as it is written: which requests, when among them, and what happens. The same in TOML and in JSON.

use super::refusal::Reason;
use super::settings::{parse_span, product};
use crate::finch::Operation;
use crate::finch::endpoints::ENDPOINTS;
use crate::types::Product;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// One fault of a scenario, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct Fault {
    pub(super) which: Which,
    pub(super) when: When,
    /// What happens.
    pub(super) how: How,
}

/// Which requests a fault fits: all that is given must be so.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub(super) operation: Option<Operation>,
    pub(super) product: Option<Product>,
    pub(super) path: Option<String>,
    pub(super) method: Option<String>,
    pub(super) customer: Option<String>,
    pub(super) connection: Option<String>,
    pub(super) provider: Option<String>,
    /// A text that stands in the body: an id, mostly.
    pub(super) holding: Option<String>,
}

/// When among those that fit: all that is given must be so.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) nth: Option<u64>,
    pub(super) after: u64,
    pub(super) every: Option<u64>,
    pub(super) times: Option<u64>,
    pub(super) probability: Option<f64>,
}

/// What a fault does to an answer.
#[derive(Debug, Clone)]
pub(super) struct How {
    /// In place of the answer; `None` leaves it.
    pub(super) what: Option<What>,
    /// Whether the request is carried out although its answer is lost or replaced.
    pub(super) carried_out: bool,
    /// Waited before anything else happens.
    pub(super) delay: Duration,
    /// Added to the answer. `{name}` stands for the request's header of that name.
    pub(super) headers: Vec<(String, String)>,
}

impl How {
    /// All is well.
    pub(super) fn nothing() -> Self {
        Self { what: None, carried_out: true, delay: Duration::ZERO, headers: Vec::new() }
    }
}

/// What comes in place of the answer.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A row of Finch's catalogue.
    Refuse(Reason),
    /// The refusal of a forced refresh, which has a shape of its own.
    RefreshQuota,
    /// A status and perhaps a body.
    Status(u16, Option<Value>),
    /// Stored data after a failed sync: 200, and old dates.
    Stale,
    /// Some items of a batch fail.
    Items { items: Vec<Item>, reason: ItemReason },
    /// No answer at all.
    Stall,
    /// The connection is reset.
    Reset,
    /// Bytes that are not HTTP.
    Rubbish(String),
    /// Half of the answer.
    Truncated,
}

/// Which item of a batch: its place in the answer, or its id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    /// From 0.
    At(usize),
    /// By its id.
    Named(String),
}

/// What is wrong with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemReason {
    /// A row of the catalogue.
    Listed(Reason),
    /// Any status.
    Status(u16),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    operation: Option<String>,
    product: Option<String>,
    path: Option<String>,
    method: Option<String>,
    customer: Option<String>,
    connection: Option<String>,
    provider: Option<String>,
    holding: Option<String>,
    nth: Option<u64>,
    after: Option<u64>,
    every: Option<u64>,
    times: Option<u64>,
    probability: Option<f64>,
    preset: Option<String>,
    status: Option<u16>,
    body: Option<Value>,
    items: Option<Vec<Item>>,
    item_preset: Option<String>,
    item_status: Option<u16>,
    #[serde(default)]
    stall: bool,
    #[serde(default)]
    reset: bool,
    rubbish: Option<Rubbish>,
    #[serde(default)]
    truncated: bool,
    carried_out: Option<bool>,
    delay: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rubbish {
    Plain(bool),
    These(String),
}

const RUBBISH: &str = "\u{1}\u{2}SSH-2.0-not-http\r\n\r\n";

impl TryFrom<Written> for Fault {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let which = Which {
            operation: written.operation.as_deref().map(operation).transpose()?,
            product: written.product.as_deref().map(product).transpose()?,
            path: written.path.clone(),
            method: written.method.as_ref().map(|m| m.to_ascii_uppercase()),
            customer: written.customer.clone(),
            connection: written.connection.clone(),
            provider: written.provider.clone(),
            holding: written.holding.clone(),
        };
        if written.nth == Some(0) || written.every == Some(0) {
            return Err("nth and every count from 1".to_owned());
        }
        if written.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("probability is a number from 0 to 1".to_owned());
        }
        let when = When {
            nth: written.nth,
            after: written.after.unwrap_or(0),
            every: written.every,
            times: written.times,
            probability: written.probability,
        };
        Ok(Self { which, when, how: how(written)? })
    }
}

fn how(written: Written) -> Result<How, String> {
    let delay = match &written.delay {
        Some(text) => parse_span(text)
            .ok_or_else(|| format!("delay {text:?} is no span; write it as 250ms, 2s, 5m or 1h"))?,
        None => Duration::ZERO,
    };
    for (name, value) in &written.headers {
        if http::HeaderName::try_from(name.as_str()).is_err() {
            return Err(format!("{name:?} is no header name"));
        }
        if http::HeaderValue::try_from(value.as_str()).is_err() {
            return Err(format!("the value of header {name:?} cannot stand in a header"));
        }
    }
    let headers: Vec<_> = written.headers.into_iter().collect();
    let items = written.items.clone();
    let rubbish = match written.rubbish {
        None | Some(Rubbish::Plain(false)) => None,
        Some(Rubbish::Plain(true)) => Some(RUBBISH.to_owned()),
        Some(Rubbish::These(text)) => Some(text),
    };
    let mut named = Vec::new();
    if let Some(preset) = &written.preset {
        named.push((
            "preset",
            preset_of(preset, items.clone(), written.item_preset.as_deref(), written.item_status)?,
        ));
    }
    if let Some(status) = written.status {
        if !(200..=599).contains(&status) {
            return Err(format!("status {status} is not one of 200 to 599"));
        }
        named.push(("status", What::Status(status, written.body.clone())));
    }
    let flags = [(written.stall, "stall", What::Stall), (written.reset, "reset", What::Reset)];
    named.extend(flags.into_iter().filter(|(on, ..)| *on).map(|(_, name, what)| (name, what)));
    named.extend(rubbish.map(|text| ("rubbish", What::Rubbish(text))));
    if written.truncated {
        named.push(("truncated", What::Truncated));
    }
    if let [(first, _), (second, _), ..] = named.as_slice() {
        return Err(format!("{first} and {second} cannot both happen; write two faults"));
    }
    let what = named.pop().map(|(_, what)| what);
    if written.body.is_some() && !matches!(what, Some(What::Status(..))) {
        return Err("body needs status beside it".to_owned());
    }
    if !matches!(what, Some(What::Items { .. }))
        && (items.is_some() || written.item_preset.is_some() || written.item_status.is_some())
    {
        return Err(
            "items, item_preset and item_status belong to preset = \"partial\" or \"item_202\"".to_owned()
        );
    }
    if what.is_none() && delay.is_zero() && headers.is_empty() {
        return Err("the fault does nothing; give it a preset, status, stall, reset, rubbish, truncated, \
                    delay or headers"
            .to_owned());
    }
    // Half an answer, stale data and failed items can only be made of a whole answer.
    let needs_answer = matches!(what, None | Some(What::Truncated | What::Stale | What::Items { .. }));
    let carried_out = written.carried_out.unwrap_or(needs_answer);
    if needs_answer && !carried_out {
        return Err("without its own answer the request must be carried out".to_owned());
    }
    Ok(How { what, carried_out, delay, headers })
}

fn preset_of(
    preset: &str,
    items: Option<Vec<Item>>,
    item_preset: Option<&str>,
    item_status: Option<u16>,
) -> Result<What, String> {
    let items = items.unwrap_or_else(|| vec![Item::At(0)]);
    Ok(match preset {
        "stale" => What::Stale,
        "refresh_quota" => What::RefreshQuota,
        "partial" => {
            let reason = match (item_preset, item_status) {
                (Some(_), Some(_)) => return Err("give item_preset or item_status, not both".to_owned()),
                (Some(name), None) => ItemReason::Listed(reason(name)?),
                (None, Some(status)) => ItemReason::Status(status),
                (None, None) => ItemReason::Listed(Reason::ServerError),
            };
            What::Items { items, reason }
        }
        "item_202" => {
            if item_preset.is_some() || item_status.is_some() {
                return Err("item_202 says already what the items are".to_owned());
            }
            What::Items { items, reason: ItemReason::Listed(Reason::DataSyncInProgress) }
        }
        name => What::Refuse(reason(name)?),
    })
}

fn reason(name: &str) -> Result<Reason, String> {
    use serde::de::IntoDeserializer;
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    Reason::deserialize(name)
        .map_err(|error| format!("preset: {error}, stale, refresh_quota, partial, item_202"))
}

/// Reads an operation's name, `get_company` or `GetCompany`.
fn operation(name: &str) -> Result<Operation, String> {
    let wanted: String = name.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
    ENDPOINTS
        .iter()
        .map(|e| e.operation)
        .find(|o| format!("{o:?}").to_ascii_lowercase() == wanted)
        .ok_or_else(|| format!("{name:?} is no operation; it is written as get_company or read_individuals"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(rule: Value) -> String {
        serde_json::from_value::<Fault>(rule).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_fault_that_cannot_be_meant_is_refused() {
        assert!(refused(json!({"preset": "reauth", "status": 500})).contains("cannot both happen"));
        assert!(refused(json!({"stall": true, "reset": true})).contains("two faults"));
        assert!(refused(json!({"preset": "reath"})).contains("reath"));
        assert!(refused(json!({"operation": "get_companies", "stall": true})).contains("get_companies"));
        assert!(refused(json!({"customer": "acme"})).contains("does nothing"));
        assert!(refused(json!({"stall": true, "nth": 0})).contains("count from 1"));
        assert!(refused(json!({"stall": true, "probability": 2.0})).contains("0 to 1"));
        assert!(refused(json!({"stall": true, "delay": "soon"})).contains("250ms"));
        assert!(refused(json!({"status": 99})).contains("200 to 599"));
        assert!(refused(json!({"stall": true, "items": [0]})).contains("partial"));
        assert!(refused(json!({"stal": true})).contains("stal"));
        assert!(refused(json!({"headers": {"a b": "c"}})).contains("header name"));
    }
}
