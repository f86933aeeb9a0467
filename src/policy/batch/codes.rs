//! How often each error code stood on a failed item, in a bounded space.

use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;

/// How many different codes are told apart; a batch rarely has more than two.
const CODES_MAX: usize = 8;

/// A few codes and how often each was seen. It is written as a map: `{"404":3,"500":1}`; items without a usable code
/// are `none`, those beyond the bound `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Codes {
    rows: [(u16, u64); CODES_MAX],
    none: u64,
    other: u64,
}

impl Codes {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each code and how often it was seen, as it is written.
    pub fn counts(&self) -> impl Iterator<Item = (Cow<'static, str>, u64)> {
        let known = self.rows.into_iter().map(|(code, count)| (Cow::Owned(code.to_string()), count));
        let others = [("none", self.none), ("other", self.other)];
        let others = others.into_iter().map(|(name, count)| (Cow::Borrowed(name), count));
        known.chain(others).filter(|(_, count)| *count > 0)
    }

    pub(super) fn count(&mut self, code: Option<u16>) {
        let Some(code) = code else {
            self.none += 1;
            return;
        };
        match self.rows.iter_mut().find(|(known, count)| *known == code || *count == 0) {
            Some(row) => *row = (code, row.1 + 1),
            None => self.other += 1,
        }
    }
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eight_codes_are_told_apart() {
        let mut codes = Codes::default();
        assert!(codes.is_empty());
        for code in [404, 500, 404, 404] {
            codes.count(Some(code));
        }
        assert_eq!(serde_json::to_string(&codes).expect("JSON"), r#"{"404":3,"500":1}"#);
        codes.count(None);
        for code in 400..420 {
            codes.count(Some(code));
        }
        let value = serde_json::to_value(codes).expect("JSON");
        assert_eq!((&value["404"], &value["none"], &value["other"]), (&4.into(), &1.into(), &13.into()));
        assert_eq!(value.as_object().expect("a map").len(), CODES_MAX + 2);
    }
}
