//! How far an answer of Finch's is from its known shape: which fields are null, which are new, which hold words or kinds
//! of values that were not known. Only counts and names of fields come out of this: no value of a body is kept, and a
//! name is kept only if it looks like one of Finch's. A body is read once, from its bytes, and never built up in memory.

mod book;
mod pace;

pub use book::{Book, FieldReport, News, Snapshot, Source, UnknownReport};
pub use pace::{Pace, is_worth_a_look};

use crate::finch::shape::{Kind, Shape, Sort};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The most places of one answer that are counted; what follows is skipped.
const PLACES_MAX: u64 = 200_000;

/// The most unknown names of one answer that are kept apart.
const UNKNOWN_MAX: usize = 100;

/// What the names are called that are not kept.
pub const OTHER_NAME: &str = "?";

/// The field of an answer that is not even of the kind that its whole should be.
pub const WHOLE: &str = "$";

/// What one answer, or many, held in the place of a known field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What should stand there.
    pub expected: Sort,
    /// How often a value stood there that is as it should be.
    pub values: u64,
    /// How often null stood there, where it may.
    pub nulls: u64,
    /// How often a word stood there that is not one of the known.
    pub unknown_words: u64,
    /// How often something else stood there, by what it was; null where it may not be is one of these.
    pub surprises: BTreeMap<Sort, u64>,
}

impl Seen {
    /// How often the field was there at all.
    pub fn times(&self) -> u64 {
        self.values + self.nulls + self.unknown_words + self.surprises.values().sum::<u64>()
    }
}

/// What was found in one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By the field's path in the shape, such as `individuals[].manager.id`.
    pub fields: BTreeMap<String, Seen>,
    /// Names that the shape does not have, by their path, and how often each was there.
    pub unknown: BTreeMap<String, u64>,
}

/// Counts what a body holds of its shape. `None`: it is not JSON.
pub fn inspect(shape: &Shape, body: &[u8]) -> Option<Tally> {
    let mut walk = Walk { path: String::new(), tally: Tally::default(), places: 0 };
    let mut json = serde_json::Deserializer::from_slice(body);
    Place { shape, walk: &mut walk }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(walk.tally)
}

/// Whether a name looks like one of Finch's, such as `w4_2020`: small letters, underscores, and too few digits for a number
/// that is data. Finch's keys are Finch's words, but nobody promised that no provider's data will ever be a key.
fn is_finchs(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=64).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && name.bytes().filter(u8::is_ascii_digit).count() <= 5
}

/// Where the walk is, and what it has found.
struct Walk {
    path: String,
    tally: Tally,
    places: u64,
}

enum Found {
    Value,
    UnknownWord,
    Kind(Sort),
}

impl Walk {
    fn found(&mut self, shape: &Shape, found: &Found) {
        self.places += 1;
        // A whole that is as it should be is no field.
        if self.places > PLACES_MAX || (self.path.is_empty() && matches!(found, Found::Value)) {
            return;
        }
        let path = if self.path.is_empty() { WHOLE } else { &self.path };
        if !self.tally.fields.contains_key(path) {
            let seen = Seen {
                expected: shape.kind.sort(),
                values: 0,
                nulls: 0,
                unknown_words: 0,
                surprises: BTreeMap::new(),
            };
            self.tally.fields.insert(path.to_owned(), seen);
        }
        let Some(seen) = self.tally.fields.get_mut(path) else { return };
        match found {
            Found::Value => seen.values += 1,
            Found::UnknownWord => seen.unknown_words += 1,
            Found::Kind(Sort::Null) if shape.nullable => seen.nulls += 1,
            Found::Kind(sort) => *seen.surprises.entry(*sort).or_default() += 1,
        }
    }

    fn unknown(&mut self, name: &str) {
        self.places += 1;
        if self.places > PLACES_MAX {
            return;
        }
        let before = self.enter(if is_finchs(name) { name } else { OTHER_NAME });
        let is_new = !self.tally.unknown.contains_key(&self.path);
        let path = match is_new && self.tally.unknown.len() >= UNKNOWN_MAX {
            true => OTHER_NAME.to_owned(),
            false => self.path.clone(),
        };
        *self.tally.unknown.entry(path).or_default() += 1;
        self.leave(before);
    }

    /// Goes into a member; what it gives is where to come back to.
    fn enter(&mut self, name: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        before
    }

    fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }
}

/// One place of a body and what should stand there.
struct Place<'w, 's> {
    shape: &'s Shape,
    walk: &'w mut Walk,
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        match self.shape.kind {
            // Null or something: that is all there is to know.
            Kind::Anything => {
                let is_there = <Option<IgnoredAny> as serde::Deserialize>::deserialize(d)?.is_some();
                let found = if is_there { Found::Value } else { Found::Kind(Sort::Null) };
                self.walk.found(self.shape, &found);
                Ok(())
            }
            _ => d.deserialize_any(self),
        }
    }
}

impl Place<'_, '_> {
    fn is(&mut self, sort: Sort) {
        let found = if self.shape.kind.sort() == sort { Found::Value } else { Found::Kind(sort) };
        self.walk.found(self.shape, &found);
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.is(Sort::Null);
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.is(Sort::Flag);
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.is(Sort::Number);
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.is(Sort::Number);
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.is(Sort::Number);
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.shape.kind {
            Kind::Word(words) if !words.contains(&text) => {
                self.walk.found(self.shape, &Found::UnknownWord);
            }
            _ => self.is(Sort::Text),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.is(Sort::List);
        let Kind::List(of) = self.shape.kind else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let before = self.walk.path.len();
        self.walk.path.push_str("[]");
        while list.next_element_seed(Place { shape: of, walk: self.walk })?.is_some() {}
        self.walk.leave(before);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.is(Sort::Object);
        let (fields, is_item) = match self.shape.kind {
            Kind::Object(fields) => (fields, false),
            Kind::Item(fields) => (fields, true),
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(());
            }
        };
        // Of an item, the code may follow the body of which it tells what it is.
        let mut body: Option<&RawValue> = None;
        let mut is_data = true;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                self.walk.unknown(&name);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if is_item && field.name == "body" {
                body = Some(map.next_value()?);
                continue;
            }
            let before = self.walk.enter(field.name);
            if is_item && field.name == "code" {
                let code: &RawValue = map.next_value()?;
                is_data = is_good(code);
                walk_raw(&field.shape, code, self.walk)?;
            } else {
                map.next_value_seed(Place { shape: &field.shape, walk: self.walk })?;
            }
            self.walk.leave(before);
        }
        let field = fields.iter().find(|field| field.name == "body").filter(|_| is_item && is_data);
        if let (Some(body), Some(field)) = (body, field) {
            let before = self.walk.enter(field.name);
            walk_raw(&field.shape, body, self.walk)?;
            self.walk.leave(before);
        }
        Ok(())
    }
}

fn walk_raw<E: Error>(shape: &Shape, raw: &RawValue, walk: &mut Walk) -> Result<(), E> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    Place { shape, walk }.deserialize(&mut json).map_err(|_| E::custom("not JSON"))
}

/// Whether an item with this code holds data: it succeeded, and it is ready.
fn is_good(code: &RawValue) -> bool {
    let code: Option<f64> = serde_json::from_str(code.get()).ok();
    code.is_none_or(|code| (200.0..300.0).contains(&code) && code != 202.0)
}

#[cfg(test)]
mod tests;
