//! The answer to a shared request, taken apart by id; the answers to the parts of an over-size call, put together.
//!
//! An answer is taken apart only when it holds nothing but items that somebody asked for: then what each call gets is,
//! byte for byte, what Finch would have sent it alone. The order is the call's own where Finch kept the order of the
//! request, and Finch's where it has one of its own.

use crate::policy::batch::{Placed, placed};
use std::collections::HashMap;

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer<'a> {
    list: List<'a>,
    /// Which items an id has, in Finch's order.
    of_id: HashMap<&'a str, Vec<usize>>,
    /// Whether Finch kept the order of the request.
    is_in_order: bool,
}

/// A list of items, and what stands before, between and after them.
#[derive(Debug)]
struct List<'a> {
    before: &'a [u8],
    items: Vec<&'a str>,
    between: &'a [u8],
    after: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Takes an answer apart whose request asked for these ids, in this order. `ids` are those of the answer's items, from
    /// [`Answer::ids`]: they have to live somewhere.
    pub fn read(asked: &[&str], ids: &'a [String], answer: &'a [u8]) -> Option<Self> {
        let list = List::read(answer)?;
        if list.items.len() != ids.len() {
            return None;
        }
        let place: HashMap<&str, usize> = asked.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let mut of_id: HashMap<&str, Vec<usize>> = HashMap::new();
        let (mut is_in_order, mut last) = (true, 0);
        for (at, id) in ids.iter().enumerate() {
            // What nobody asked for is nobody's.
            let asked_at = *place.get(id.as_str())?;
            is_in_order &= asked_at >= last;
            last = asked_at;
            of_id.entry(id.as_str()).or_default().push(at);
        }
        Some(Self { list, of_id, is_in_order })
    }

    /// The ids of an answer's items, in order. `None` when one has none, or there is no list of items.
    pub fn ids(key: &'static str, answer: &[u8]) -> Option<Vec<String>> {
        placed(key, answer)?.into_iter().map(|placed| placed.item.id).collect()
    }

    /// The answer of a call that asked for these ids.
    pub fn part<'b>(&self, ids: impl Iterator<Item = &'b str>) -> Vec<u8> {
        let mut places: Vec<usize> =
            ids.filter_map(|id| self.of_id.get(id)).flat_map(|at| at.iter().copied()).collect();
        if !self.is_in_order {
            places.sort_unstable();
        }
        self.list.with(places.into_iter().filter_map(|at| self.list.items.get(at).copied()))
    }
}

/// One answer out of those to the parts of a call, in order. `None` when one has another shape.
pub fn joined(answers: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let lists: Option<Vec<List<'_>>> = answers.iter().map(|answer| List::read(answer.as_ref())).collect();
    let lists = lists?;
    let frame = lists.iter().find(|list| !list.items.is_empty()).or(lists.first())?;
    Some(frame.with(lists.iter().flat_map(|list| list.items.iter().copied())))
}

impl<'a> List<'a> {
    /// `None` when there is more in an answer than a list.
    fn read(answer: &'a [u8]) -> Option<Self> {
        // The key does not matter here: the ids are read elsewhere.
        let items: Vec<Placed<'a>> = placed("", answer)?;
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            let (before, after) = answer.split_at(answer.iter().position(|b| *b == b']')?);
            let is_list = is_frame(before, after);
            return is_list.then_some(Self { before, items: Vec::new(), between: b",", after });
        };
        let (before, after) = (answer.get(..first.start)?, answer.get(last.start + last.raw.len()..)?);
        if !is_frame(before, after) {
            return None;
        }
        let mut gaps = items.windows(2).filter_map(|pair| match pair {
            [a, b] => answer.get(a.start + a.raw.len()..b.start),
            _ => None,
        });
        let between = gaps.next().filter(|first| gaps.all(|gap| gap == *first)).unwrap_or(b",");
        Some(Self { before, items: items.into_iter().map(|placed| placed.raw).collect(), between, after })
    }

    /// The same around other items.
    fn with<'b>(&self, items: impl Iterator<Item = &'b str>) -> Vec<u8> {
        let mut out = self.before.to_vec();
        for (at, item) in items.enumerate() {
            if at > 0 {
                out.extend_from_slice(self.between);
            }
            out.extend_from_slice(item.as_bytes());
        }
        out.extend_from_slice(self.after);
        out
    }
}

/// Whether this is all there is around a list of items, wrapped or bare.
fn is_frame(before: &[u8], after: &[u8]) -> bool {
    let plain =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect() };
    let frame = (plain(before), plain(after));
    let is = |before: &[u8], after: &[u8]| frame.0 == before && frame.1 == after;
    is(b"{\"responses\":[", b"]}") || is(b"[", b"]")
}
