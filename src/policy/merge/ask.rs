//! The body of a call as a list of entries in a frame: what several calls put together, and an over-size one takes apart.

use super::{BYTES_MAX, CALL_IDS_MAX, PARTS_MAX};
use crate::finch::endpoints::Endpoint;
use crate::types::json::RawObject;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;

/// What a call asks for, in pieces.
#[derive(Debug, Clone)]
pub struct Asks {
    /// The body with an empty list.
    pub frame: Vec<u8>,
    /// Each entry's id and its bytes, in order; no id twice.
    pub entries: Arc<[(String, Box<RawValue>)]>,
    /// The most entries of one request.
    pub ids_max: usize,
}

impl Asks {
    /// Reads the body of a call that may share a request. `None` when it may not: another operation, a body of another
    /// shape, an id that stands twice, more ids than a shared request is for.
    pub fn read(endpoint: &Endpoint, body: &[u8]) -> Option<Self> {
        let (key, ids_max) = batch(endpoint)?;
        // Any list of so many ids is shorter than that.
        if body.len() > BYTES_MAX {
            return None;
        }
        let mut object = RawObject::parse(body)?;
        let entries = {
            let list = list(&object)?;
            if list.is_empty() || list.len() > ids_max.min(CALL_IDS_MAX) {
                return None;
            }
            let mut seen = HashSet::new();
            let entries: Option<Vec<(String, Box<RawValue>)>> = list
                .into_iter()
                .map(|raw| {
                    let id = id_of(key, raw)?;
                    seen.insert(id.clone()).then(|| (id, raw.to_owned()))
                })
                .collect();
            entries?
        };
        object.set("requests", &[(); 0]);
        Some(Self { frame: object.to_bytes(), entries: entries.into(), ids_max })
    }

    /// How many bytes its entries have.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, raw)| raw.get().len()).sum()
    }

    /// The ids, in the order of the entries.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(id, _)| id.as_str())
    }

    /// The body that asks for what all of these do, whose frames are the same; an id that several ask for stands once.
    pub fn together<'a>(all: impl Iterator<Item = &'a Asks> + Clone) -> Option<(Vec<u8>, Vec<&'a str>)> {
        let mut object = RawObject::parse(&all.clone().next()?.frame)?;
        let (mut ids, mut seen, mut list) = (Vec::new(), HashSet::new(), Vec::new());
        for (id, raw) in all.flat_map(|asks| asks.entries.iter()) {
            if seen.insert(id.as_str()) {
                ids.push(id.as_str());
                list.push(raw);
            }
        }
        object.set("requests", &list);
        Some((object.to_bytes(), ids))
    }
}

/// The bodies of the requests that an over-size call becomes, in order. `None` when it is none, is no such call, or
/// would become too many.
pub fn parts(endpoint: &Endpoint, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (_, ids_max) = batch(endpoint)?;
    let mut object = RawObject::parse(body)?;
    let chunks: Vec<Vec<Box<RawValue>>> = {
        let list = list(&object)?;
        if list.len() <= ids_max || list.len().div_ceil(ids_max) > PARTS_MAX {
            return None;
        }
        list.chunks(ids_max).map(|chunk| chunk.iter().map(|raw| (*raw).to_owned()).collect()).collect()
    };
    let with = |chunk: Vec<Box<RawValue>>| {
        object.set("requests", &chunk);
        object.to_bytes()
    };
    Some(chunks.into_iter().map(with).collect())
}

/// The key of the ids and the most of them, of an operation that has both.
fn batch(endpoint: &Endpoint) -> Option<(&'static str, usize)> {
    let batch = endpoint.batch.filter(|_| endpoint.reads_by_ids())?;
    Some((batch.key, batch.items_max.filter(|max| *max > 0)?))
}

/// The entries of `requests`, which must stand once.
fn list(object: &RawObject) -> Option<Vec<&RawValue>> {
    if object.names().filter(|name| *name == "requests").count() != 1 {
        return None;
    }
    serde_json::from_str(object.get("requests")?.get()).ok()
}

/// The id of an entry, when it stands once.
fn id_of(key: &str, entry: &RawValue) -> Option<String> {
    let object = RawObject::parse(entry.get().as_bytes())?;
    if object.names().filter(|name| *name == key).count() != 1 {
        return None;
    }
    object.text(key)
}
