//! A month of the calendar, in UTC: what Finch bills for.

use crate::types::UnixMillis;
use std::fmt;

/// A month, such as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

/// It is not written as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMonth;

impl fmt::Display for InvalidMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a month is written as 2026-11")
    }
}

impl std::error::Error for InvalidMonth {}

impl Month {
    /// Reads `2026-11`.
    ///
    /// # Errors
    /// [`InvalidMonth`].
    pub fn parse(text: &str) -> Result<Self, InvalidMonth> {
        let is_digit = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let (year, month) = text.split_once('-').ok_or(InvalidMonth)?;
        if year.len() != 4 || month.len() != 2 || !is_digit(year) || !is_digit(month) {
            return Err(InvalidMonth);
        }
        let (year, month) =
            (year.parse().map_err(|_| InvalidMonth)?, month.parse().map_err(|_| InvalidMonth)?);
        // Years before Finch, and those that the calendar does not reach, are mistakes.
        match (1970..=9998).contains(&year) && (1..=12).contains(&month) {
            true => Ok(Self { year, month }),
            false => Err(InvalidMonth),
        }
    }

    /// The month of a moment.
    pub fn of(at: UnixMillis) -> Self {
        Self::parse(at.to_string().get(..7).unwrap_or_default()).unwrap_or(Self { year: 1970, month: 1 })
    }

    /// Its first moment.
    pub fn begin(self) -> UnixMillis {
        let first = jiff::civil::date(self.year, self.month, 1).at(0, 0, 0, 0);
        let at = jiff::tz::TimeZone::UTC.to_timestamp(first);
        at.map_or(UnixMillis(0), |at| UnixMillis(at.as_millisecond()))
    }

    /// The first moment after it.
    pub fn end(self) -> UnixMillis {
        let next = match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        };
        next.begin()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl serde::Serialize for Month {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_read_as_it_is_written() {
        for text in ["2026-11", "2026-12", "1970-01", "9998-12"] {
            assert_eq!(Month::parse(text).map(|month| month.to_string()), Ok(text.to_owned()));
        }
        for bad in [
            "",
            "2026",
            "2026-1",
            "2026-13",
            "2026-00",
            "26-11",
            "2026-11-01",
            "+026-11",
            "2026-+1",
            "1969-12",
            "9999-01",
        ] {
            assert_eq!(Month::parse(bad), Err(InvalidMonth), "{bad}");
        }
    }

    #[test]
    fn it_begins_and_ends_at_midnight_in_utc() {
        let month = |text| Month::parse(text).expect("a month");
        assert_eq!(month("2026-12").begin().to_string(), "2026-12-01T00:00:00.000Z");
        assert_eq!(month("2026-12").end().to_string(), "2027-01-01T00:00:00.000Z");
        assert_eq!(month("2028-02").end().0 - month("2028-02").begin().0, 29 * 86_400_000);
        assert_eq!(Month::of(UnixMillis(month("2026-12").end().0 - 1)), month("2026-12"));
        assert_eq!(Month::of(month("2026-12").end()), month("2027-01"));
    }
}
