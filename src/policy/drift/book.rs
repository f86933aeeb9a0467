//! What was found in all answers that were looked into, for each product and provider, and what of it is new. Bounded:
//! known fields by their shapes, providers by whoever calls, unknown names here.

use super::{OTHER_NAME, Seen, Tally};
use crate::finch::shape::Sort;
use crate::types::Product;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most unknown names of one product that are kept apart. The rest is counted as one.
const UNKNOWN_MAX: usize = 100;

/// Everything that was found so far.
#[derive(Debug, Default)]
pub struct Book {
    sources: BTreeMap<(Product, Box<str>), Found>,
    unknown: BTreeMap<Product, BTreeSet<String>>,
    new_words: BTreeSet<(Product, String)>,
}

#[derive(Debug, Default)]
struct Found {
    samples: u64,
    fields: BTreeMap<String, Seen>,
    unknown: BTreeMap<String, u64>,
}

/// Something that was found for the first time. An operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A product has a field that its shape does not have.
    Field(String),
    /// A field holds a word that is not one of its known words. Which one is not told.
    Word(String),
}

impl Book {
    /// Adds what was found in one answer.
    pub fn add(&mut self, product: Product, provider: &str, tally: Tally) -> Vec<News> {
        let mut news = Vec::new();
        let found = self.sources.entry((product, provider.into())).or_default();
        found.samples += 1;
        for (field, seen) in tally.fields {
            if seen.unknown_words > 0 && self.new_words.insert((product, field.clone())) {
                news.push(News::Word(field.clone()));
            }
            match found.fields.get_mut(&field) {
                Some(known) => known.add(&seen),
                None => {
                    found.fields.insert(field, seen);
                }
            }
        }
        let names = self.unknown.entry(product).or_default();
        for (field, times) in tally.unknown {
            let is_known = names.contains(&field);
            let is_kept = is_known || names.len() < UNKNOWN_MAX;
            if is_kept && !is_known {
                names.insert(field.clone());
                news.push(News::Field(field.clone()));
            }
            let field = if is_kept { field } else { OTHER_NAME.to_owned() };
            *found.unknown.entry(field).or_default() += times;
        }
        news
    }

    /// Everything, for people and programs to read.
    pub fn snapshot(&self) -> Snapshot {
        let sources = self.sources.iter().map(|((product, provider), found)| Source {
            product: product.as_str(),
            provider: provider.to_string(),
            samples: found.samples,
            fields: found.fields.iter().map(|(field, seen)| FieldReport::of(field, seen)).collect(),
            unknown_fields: found
                .unknown
                .iter()
                .map(|(field, seen)| UnknownReport { field: field.clone(), seen: *seen })
                .collect(),
        });
        Snapshot { sources: sources.collect(), dropped: 0 }
    }
}

impl Seen {
    fn add(&mut self, more: &Seen) {
        self.values += more.values;
        self.nulls += more.nulls;
        self.unknown_words += more.unknown_words;
        for (sort, times) in &more.surprises {
            *self.surprises.entry(*sort).or_default() += times;
        }
    }
}

/// How answers compare with their known shapes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// By product and provider.
    pub sources: Vec<Source>,
    /// Answers that should have been looked into and were not, for lack of time.
    pub dropped: u64,
}

/// The answers of one product of one provider.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// Finch's product.
    pub product: &'static str,
    /// The employment system.
    pub provider: String,
    /// How many answers were looked into.
    pub samples: u64,
    /// The known fields that were there.
    pub fields: Vec<FieldReport>,
    /// The fields that are not known.
    pub unknown_fields: Vec<UnknownReport>,
}

/// One known field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldReport {
    /// Its path, such as `individuals[].manager.id`.
    pub field: String,
    /// What should stand there.
    pub expected: Sort,
    /// How often it was there.
    pub seen: u64,
    /// How often it was null.
    pub null: u64,
    /// The same as a share of `seen`, between 0 and 1.
    pub null_share: f64,
    /// How often it held a word that is not one of the known.
    pub unknown_enum: u64,
    /// How often it held something else than it should, by what that was.
    pub surprises: BTreeMap<Sort, u64>,
}

impl FieldReport {
    fn of(field: &str, seen: &Seen) -> Self {
        // A null where none may be is a surprise, and a null all the same.
        let null = seen.nulls + seen.surprises.get(&Sort::Null).copied().unwrap_or_default();
        let times = seen.times();
        #[expect(clippy::cast_precision_loss, reason = "a share to four digits")]
        let share = if times == 0 { 0.0 } else { null as f64 / times as f64 };
        Self {
            field: field.to_owned(),
            expected: seen.expected,
            seen: times,
            null,
            null_share: (share * 10_000.0).round() / 10_000.0,
            unknown_enum: seen.unknown_words,
            surprises: seen.surprises.clone(),
        }
    }
}

/// One field that is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnknownReport {
    /// Where it stands, or `?` in the place of a name that does not look like one of Finch's.
    pub field: String,
    /// How often it was there.
    pub seen: u64,
}
