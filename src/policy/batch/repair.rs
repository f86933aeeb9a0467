//! Which items of a batch are worth asking for once more, how to ask for these alone, and how what came takes its place.
//!
//! Items are matched by id, since Finch promises no order (Finch batch-error guide). Whatever is
//! not replaced keeps its bytes and its place.

use super::items::{Item, Standing};
use crate::finch::endpoints::{Batch, Endpoint, Operation};
use crate::types::json::RawObject;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// Which items are asked for once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repair {
    /// None.
    #[default]
    Off,
    /// Those that failed in a way that may pass: 5xx, but not 501, which is for good.
    Failed,
    /// Those, and those that are not ready (202).
    Pending,
}

impl Repair {
    /// Reads `Perch-Repair`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "false" => Some(Repair::Off),
            "true" => Some(Repair::Failed),
            "pending" => Some(Repair::Pending),
            _ => None,
        }
    }

    const fn wants(self, standing: Standing) -> bool {
        match (self, standing) {
            (Repair::Failed | Repair::Pending, Standing::Failed(Some(code))) => code >= 500 && code != 501,
            (Repair::Pending, Standing::Pending) => true,
            _ => false,
        }
    }
}

/// The request as the app sent it.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The query, encoded.
    pub query: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What differs in the request for the rest; everything else of it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Another body.
    Body(Vec<u8>),
    /// Another query.
    Query(String),
}

/// A second request for some of the items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it asks.
    pub ask: Ask,
    key: &'static str,
    repair: Repair,
    ids: BTreeSet<String>,
}

/// An answer with better items in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The body.
    pub body: Vec<u8>,
    /// How many items were replaced; never 0.
    pub repaired: u64,
}

/// The longest list of ids in a query; more would not fit into the request lines that servers take.
const QUERY_BYTES_MAX: usize = 4096;

/// Plans the second request. `None` when no item is worth it, or the request cannot be asked in part.
pub fn plan(endpoint: &Endpoint, repair: Repair, sent: Sent<'_>, answer: &[u8]) -> Option<Plan> {
    if repair == Repair::Off {
        return None;
    }
    let Batch { key, .. } = endpoint.batch?;
    let wanted = || {
        let items = placed(key, answer)?.into_iter().filter(|placed| repair.wants(placed.item.standing));
        let ids: BTreeSet<String> = items.filter_map(|placed| placed.item.id).collect();
        (!ids.is_empty()).then_some(ids)
    };
    let (ask, ids) = match endpoint.operation {
        Operation::ReadIndividuals | Operation::ReadEmployments | Operation::ReadPayStatements => {
            let (body, ids) = narrowed_body(key, sent.body, wanted()?)?;
            (Ask::Body(body), ids)
        }
        Operation::ReadEnrollments => {
            let (query, ids) = narrowed_query(sent.query, wanted()?)?;
            (Ask::Query(query), ids)
        }
        // Writes are never repeated; other reads are no batches.
        _ => return None,
    };
    Some(Plan { ask, key, repair, ids })
}

/// Puts the better items of `second` into the places they have in `first`. `None` when none is better.
pub fn merge(plan: &Plan, first: &[u8], second: &[u8]) -> Option<Merged> {
    let mut best: BTreeMap<String, Placed<'_>> = BTreeMap::new();
    for found in placed(plan.key, second)? {
        let Some(id) = found.item.id.clone().filter(|id| plan.ids.contains(id)) else { continue };
        match best.get(&id) {
            Some(known) if rank(known.item.standing) >= rank(found.item.standing) => {}
            _ => drop(best.insert(id, found)),
        }
    }
    let mut body = Vec::with_capacity(first.len() + second.len());
    let (mut kept, mut repaired) = (0, 0);
    for place in placed(plan.key, first)? {
        let Some(better) = place.item.id.as_ref().and_then(|id| best.get(id)) else { continue };
        if plan.repair.wants(place.item.standing) && rank(better.item.standing) > rank(place.item.standing) {
            body.extend_from_slice(first.get(kept..place.start)?);
            body.extend_from_slice(better.raw.as_bytes());
            kept = place.start + place.raw.len();
            repaired += 1;
        }
    }
    body.extend_from_slice(first.get(kept..)?);
    (repaired > 0).then_some(Merged { body, repaired })
}

/// What is better than what: data, then a promise of data, then an error.
const fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Good => 2,
        Standing::Pending => 1,
        Standing::Failed(_) => 0,
    }
}

/// An item and where in the answer it stands.
pub(in crate::policy) struct Placed<'a> {
    pub(in crate::policy) item: Item,
    pub(in crate::policy) start: usize,
    pub(in crate::policy) raw: &'a str,
}

/// Every item of an answer, in order. `None` when it has no such shape.
pub(in crate::policy) fn placed<'a>(key: &'static str, answer: &'a [u8]) -> Option<Vec<Placed<'a>>> {
    let list = match answer.iter().find(|b| !b.is_ascii_whitespace())? {
        b'[' => answer,
        _ => responses(answer)?.get().as_bytes(),
    };
    let items: Vec<&'a RawValue> = serde_json::from_slice(list).ok()?;
    let place = |raw: &'a RawValue| {
        let raw = raw.get();
        // Borrowed from the answer, so the difference is its place in it.
        let start = (raw.as_ptr() as usize).checked_sub(answer.as_ptr() as usize)?;
        Some(Placed { item: Item::read(key, raw)?, start, raw })
    };
    items.into_iter().map(place).collect()
}

/// The list in `responses`; the last one where the name stands twice.
fn responses(answer: &[u8]) -> Option<&RawValue> {
    struct Responses;
    impl<'de> serde::de::Visitor<'de> for Responses {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut list = None;
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                if name == "responses" {
                    list = Some(value);
                }
            }
            Ok(list)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(answer);
    let list = serde::Deserializer::deserialize_map(&mut reader, Responses).ok()?;
    reader.end().ok()?;
    list
}

/// The body with the wanted entries of `requests` alone, each as it was.
fn narrowed_body(
    key: &'static str,
    body: &[u8],
    mut ids: BTreeSet<String>,
) -> Option<(Vec<u8>, BTreeSet<String>)> {
    let mut object = RawObject::parse(body)?;
    let list = object.get("requests")?.to_owned();
    let entries: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    let entries: Vec<(Option<String>, &RawValue)> =
        entries.into_iter().map(|raw| (id_of(key, raw), raw)).collect();
    // Two entries of one id that differ, such as two pages of one payment, cannot be told apart by the
    // id of their answers.
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, raw) in &entries {
        let Some(id) = id else { continue };
        if *known.entry(id).or_insert_with(|| raw.get()) != raw.get() {
            ids.remove(id);
        }
    }
    ids.retain(|id| known.contains_key(id.as_str()));
    if ids.is_empty() {
        return None;
    }
    let is_wanted = |id: &Option<String>| id.as_ref().is_some_and(|id| ids.contains(id));
    let rest: Vec<&RawValue> = entries.iter().filter(|(id, _)| is_wanted(id)).map(|(_, raw)| *raw).collect();
    object.set("requests", &rest);
    Some((object.to_bytes(), ids))
}

fn id_of(key: &'static str, entry: &RawValue) -> Option<String> {
    RawObject::parse(entry.get().as_bytes())?.text(key)
}

/// The query with the wanted ids alone in `individual_ids`, and every other parameter as it was. As many ids as fit.
fn narrowed_query(query: Option<&str>, ids: BTreeSet<String>) -> Option<(String, BTreeSet<String>)> {
    let (mut list, mut asked) = (String::new(), BTreeSet::new());
    for id in ids {
        let encoded = encode(&id);
        // A comma would be read as two ids.
        if id.contains(',') || list.len() + encoded.len() >= QUERY_BYTES_MAX {
            continue;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&encoded);
        asked.insert(id);
    }
    if asked.is_empty() {
        return None;
    }
    let list = format!("individual_ids={list}");
    let (mut parameters, mut is_placed) = (Vec::new(), false);
    for parameter in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        match name {
            "individual_ids" if is_placed => {}
            "individual_ids" => {
                is_placed = true;
                parameters.push(list.as_str());
            }
            // An encoded name may be the same one in another spelling, and then both would be sent.
            _ if name.contains('%') && name.starts_with(['i', '%']) => return None,
            _ if name.starts_with("individual_ids") => return None,
            _ => parameters.push(parameter),
        }
    }
    if !is_placed {
        parameters.push(list.as_str());
    }
    Some((parameters.join("&"), asked))
}

/// A text as a query holds it.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
