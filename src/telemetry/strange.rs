//! Words of Finch's that are not in its catalogue: each is told to the operator once, so that a new one is
//! noticed and a frequent one does not fill the log.

use crate::finch::error::FinchError;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The words that are remembered. Beyond them new ones are counted and not told: something else is wrong by then.
const WORDS_MAX: usize = 100;

/// The words told so far.
#[derive(Debug, Default)]
pub(super) struct Strange(Mutex<HashSet<String>>);

impl Strange {
    /// Tells of an unknown error, unless its word was told before.
    pub(super) fn tell(&self, error: &FinchError) {
        // An error without a code is unknown by its name.
        let Some(word) = error.finch_code.as_ref().or(error.name.as_ref()) else { return };
        if self.is_new(word) {
            tracing::warn!(
                finch_code = shown(error.finch_code.as_deref()),
                name = shown(error.name.as_deref()),
                "Finch answered with an error that perch does not know; it is passed on, and its class follows its status"
            );
        }
    }

    fn is_new(&self, word: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < WORDS_MAX && !told.contains(word) && told.insert(word.to_owned())
    }
}

/// A word for the log. A sentence in its place may name a person, and is not shown.
fn shown(word: Option<&str>) -> &str {
    match word {
        None => "none",
        Some(word) if word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) => word,
        Some(_) => "not a word",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_not_shown() {
        let words = [None, Some("brand_new"), Some("ana jones not found"), Some("ana@example.com")];
        assert_eq!(words.map(shown), ["none", "brand_new", "not a word", "not a word"]);
    }

    #[test]
    fn a_word_is_told_once_and_not_without_end() {
        let strange = Strange::default();
        assert!(strange.is_new("a") && !strange.is_new("a") && strange.is_new("b"));
        let told = (0..1_000).filter(|n| strange.is_new(&n.to_string())).count();
        assert_eq!(told, WORDS_MAX - 2);
        assert!(!strange.is_new("c"));
    }
}
