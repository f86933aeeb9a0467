//! One pass over an answer that reads its items' codes and skips the rest.
//!
//! Visitors by hand, for three reasons: a name that stands twice means its last value, as in every client of
//! Finch; a value of an unexpected type must not hide the other items; and the bodies, which are nearly all
//! of the bytes, are only skipped.

use super::BatchReport;
use serde::de::{Deserialize, DeserializeSeed};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Where the items of an answer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// In `responses`, or the whole answer is the list.
    Batch,
    /// In `body`: a deduction job.
    Job,
    /// The answer is the only one, and its code is `statusCode`.
    Forward,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Data.
    Good,
    /// Not ready yet.
    Pending,
    /// An error, with its code where it has one of HTTP's.
    Failed(Option<u16>),
}

impl Standing {
    fn of(code: f64) -> Self {
        match code {
            202.0 => Standing::Pending,
            code if (200.0..300.0).contains(&code) => Standing::Good,
            // In this range the conversion is exact but for a fraction, which no code has.
            code if (100.0..600.0).contains(&code) => Standing::Failed(Some(code as u16)),
            _ => Standing::Failed(None),
        }
    }
}

/// Counts the items. `None` when the body is not of this shape.
pub(super) fn tally(shape: Shape, body: &[u8]) -> Option<BatchReport> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let report = Whole(shape).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    report
}

/// One item: its id, where the key of it is known, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Item {
    pub(in crate::policy) id: Option<String>,
    pub(super) standing: Standing,
}

impl Item {
    /// Reads one item whose id is the member `key`.
    pub(super) fn read(key: &'static str, raw: &str) -> Option<Self> {
        let mut reader = serde_json::Deserializer::from_str(raw);
        ItemSeed(Some(key)).deserialize(&mut reader).ok()
    }
}

/// The whole answer.
struct Whole(Shape);

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Option<BatchReport>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Option<BatchReport>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        match self.0 {
            Shape::Batch => List.visit_seq(seq),
            Shape::Job | Shape::Forward => Err(A::Error::custom("not a list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let member = match self.0 {
            Shape::Batch => "responses",
            Shape::Job => "body",
            Shape::Forward => "statusCode",
        };
        let mut report = None;
        while let Some(found) = map.next_key_seed(OneOf([member]))? {
            match (found, self.0) {
                (None, _) => drop(map.next_value::<IgnoredAny>()?),
                (Some(_), Shape::Batch | Shape::Job) => report = map.next_value_seed(List)?,
                (Some(_), Shape::Forward) => {
                    report = map.next_value::<Code>()?.0.map(|code| {
                        let mut report = BatchReport::default();
                        // Only the provider's errors count: its 202 is its answer.
                        report.count(if code < 400.0 { Standing::Good } else { Standing::of(code) });
                        report
                    });
                }
            }
        }
        Ok(report)
    }
}

/// The list of items; anything else in its place is none.
struct List;

impl<'de> DeserializeSeed<'de> for List {
    type Value = Option<BatchReport>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Option<BatchReport>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut report = BatchReport::default();
        while let Some(item) = seq.next_element_seed(ItemSeed(None))? {
            report.count(item.standing);
        }
        Ok(Some(report))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An item. The key of its id, when that is wanted.
struct ItemSeed(Option<&'static str>);

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Item;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Item, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let (mut id, mut code, mut body) = (None, None, None);
        let (mut error_name, mut error_message) = (false, false);
        let names = ["code", "body", "error_name", "error_message", self.0.unwrap_or("code")];
        while let Some(found) = map.next_key_seed(OneOf(names))? {
            match found {
                Some(0) => code = map.next_value::<Code>()?.0,
                Some(1) => body = Some(map.next_value::<&RawValue>()?),
                Some(2) => error_name = map.next_value::<IsText>()?.0,
                Some(3) => error_message = map.next_value::<IsText>()?.0,
                Some(_) => id = serde_json::from_str(map.next_value::<&RawValue>()?.get()).ok(),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let standing = match (code, body) {
            (Some(code), _) => Standing::of(code),
            (None, _) if error_name || error_message => Standing::Failed(None),
            (None, Some(body)) => of_body(body.get()),
            (None, None) => Standing::Good,
        };
        Ok(Item { id, standing })
    }

    /// Finch's lists may hold nulls; nothing is known of such an item.
    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item { id: None, standing: Standing::Good })
    }
}

/// What an item without a code is: data, unless its body is an error as older endpoints write it.
fn of_body(body: &str) -> Standing {
    let Ok(told) = serde_json::from_str::<Told<'_>>(body) else { return Standing::Good };
    if let Some(code) = told.code.filter(|code| (100.0..600.0).contains(code)) {
        return Standing::of(code);
    }
    if told.has_error_name {
        return Standing::Failed(None);
    }
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    match (text(told.finch_code).as_deref(), text(told.name).as_deref(), told.has_message) {
        // The three successes of an enrolment that carry a code (Finch API reference).
        (
            Some("enrolled_new_benefit" | "updated_existing_enrollment" | "unenrolled_individual_benefit"),
            ..,
        ) => Standing::Good,
        (Some("data_sync_in_progress"), ..) | (None, Some("accepted"), true) => Standing::Pending,
        (Some(_), ..) => Standing::Failed(None),
        (None, Some(_), true) if !told.has_id => Standing::Failed(None),
        (None, ..) => Standing::Good,
    }
}

/// What of a body tells data from error.
#[derive(Default)]
struct Told<'a> {
    code: Option<f64>,
    has_error_name: bool,
    has_message: bool,
    has_id: bool,
    name: Option<&'a RawValue>,
    finch_code: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Told<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ToldVisitor)
    }
}

struct ToldVisitor;

impl<'de> Visitor<'de> for ToldVisitor {
    type Value = Told<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Told<'de>, A::Error> {
        let mut told = Told::default();
        let names = ["code", "error_name", "error_message", "message", "id", "name", "finch_code"];
        while let Some(found) = map.next_key_seed(OneOf(names))? {
            match found {
                Some(0) => told.code = map.next_value::<Code>()?.0,
                Some(1 | 2) => told.has_error_name |= map.next_value::<IsText>()?.0,
                Some(3) => told.has_message = map.next_value::<IsText>()?.0,
                Some(4) => {
                    map.next_value::<IgnoredAny>()?;
                    told.has_id = true;
                }
                Some(5) => told.name = Some(map.next_value()?),
                Some(_) => told.finch_code = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(told)
    }
}

/// A member's name: which of these it is.
struct OneOf<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for OneOf<N> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl<const N: usize> Visitor<'_> for OneOf<N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

/// A code: Finch writes it as an integer or as a float (Finch API reference). `None` for null and for
/// whatever is no number.
struct Code(Option<f64>);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl<'de> Visitor<'de> for CodeVisitor {
    type Value = Code;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a code")
    }

    fn visit_u64<E>(self, code: u64) -> Result<Code, E> {
        Ok(Code(Some(code as f64)))
    }

    fn visit_i64<E>(self, code: i64) -> Result<Code, E> {
        Ok(Code(Some(code as f64)))
    }

    fn visit_f64<E>(self, code: f64) -> Result<Code, E> {
        Ok(Code(Some(code)))
    }

    fn visit_str<E>(self, code: &str) -> Result<Code, E> {
        Ok(Code(code.trim().parse().ok()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Code, E> {
        Ok(Code(None))
    }

    fn visit_unit<E>(self) -> Result<Code, E> {
        Ok(Code(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Code, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Code(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Code, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Code(None))
    }
}

/// Whether a value is a text.
struct IsText(bool);

impl<'de> Deserialize<'de> for IsText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(d)?;
        Ok(IsText(raw.get().starts_with('"')))
    }
}
