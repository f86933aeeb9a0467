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
    before: &'a [u8],
    between: &'a [u8],
    after: &'a [u8],
    items: Vec<&'a str>,
    /// Which items an id has, in Finch's order.
    of_id: HashMap<&'a str, Vec<usize>>,
    /// Whether Finch kept the order of the request.
    is_in_order: bool,
}

impl<'a> Answer<'a> {
    /// Takes an answer apart whose request asked for these ids, in this order. `ids` are those of the answer's items, from
    /// [`Answer::ids`]: they have to live somewhere.
    pub fn read(asked: &[&str], ids: &'a [String], answer: &'a [u8]) -> Option<Self> {
        let (before, items, between, after) = opened(answer)?;
        if items.len() != ids.len() {
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
        Some(Self { before, between, after, items, of_id, is_in_order })
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
        let items = places.into_iter().filter_map(|at| self.items.get(at).copied());
        around(self.before, items, self.between, self.after)
    }
}

/// One answer out of those to the parts of a call, in order. `None` when one has another shape.
pub fn joined(answers: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let opened: Option<Vec<_>> = answers.iter().map(|answer| opened(answer.as_ref())).collect();
    let opened = opened?;
    let (before, _, between, after) =
        opened.iter().find(|(_, items, ..)| !items.is_empty()).or(opened.first())?;
    let items = opened.iter().flat_map(|(_, items, ..)| items.iter().copied());
    Some(around(before, items, between, after))
}

fn around<'a>(before: &[u8], items: impl Iterator<Item = &'a str>, between: &[u8], after: &[u8]) -> Vec<u8> {
    let mut out = before.to_vec();
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.extend_from_slice(between);
        }
        out.extend_from_slice(item.as_bytes());
    }
    out.extend_from_slice(after);
    out
}

/// What stands before, between and after the items, and the items. `None` when there is more in it than a list.
fn opened(answer: &[u8]) -> Option<(&[u8], Vec<&str>, &[u8], &[u8])> {
    let is = |bytes: &[u8], wanted: &[&[u8]]| {
        let plain: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        wanted.contains(&plain.as_slice())
    };
    // The key does not matter here: the ids are read elsewhere.
    let items: Vec<Placed<'_>> = placed("", answer)?;
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        let close = answer.iter().position(|b| *b == b']')?;
        let (before, after) = answer.split_at(close);
        let is_whole = is(answer, &[b"{\"responses\":[]}", b"[]"]);
        return is_whole.then_some((before, Vec::new(), b",".as_slice(), after));
    };
    let (before, after) = (answer.get(..first.start)?, answer.get(last.start + last.raw.len()..)?);
    let is_wrapped = is(before, &[b"{\"responses\":["]) && is(after, &[b"]}"]);
    if !is_wrapped && !(is(before, &[b"["]) && is(after, &[b"]"])) {
        return None;
    }
    let mut gaps = items.windows(2).filter_map(|pair| match pair {
        [a, b] => answer.get(a.start + a.raw.len()..b.start),
        _ => None,
    });
    let between = gaps.next().filter(|first| gaps.all(|gap| gap == *first)).unwrap_or(b",");
    Some((before, items.into_iter().map(|placed| placed.raw).collect(), between, after))
}
