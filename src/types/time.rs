//! Instants as plain numbers. Nothing here reads a clock: the edge does, and hands the value down.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on one steady clock whose origin means nothing. Only differences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The origin of the clock.
    pub const ZERO: Moment = Moment(Duration::ZERO);

    /// The moment `since` after the origin.
    pub const fn at(since: Duration) -> Self {
        Moment(since)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The span from the clock's origin to this moment.
    pub const fn since_origin(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, span: Duration) -> Moment {
        Moment(self.0.saturating_sub(span))
    }
}

/// Wall-clock time in milliseconds since 1970, for records that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This moment moved on by `span`.
    pub fn plus(self, span: Duration) -> Self {
        UnixMillis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment before this one by `span`.
    pub fn minus(self, span: Duration) -> Self {
        UnixMillis(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Reads RFC 3339, such as `2026-11-23T10:00:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| UnixMillis(at.as_millisecond()))
    }

    /// Its month in UTC, such as `2026-11`.
    pub fn month(self) -> String {
        let mut text = self.to_string();
        text.truncate(7);
        text
    }
}

/// RFC 3339 in UTC, to the millisecond.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => f.write_str("-"),
        }
    }
}

impl serde::Serialize for UnixMillis {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// What is written is read again; fractions of a millisecond are dropped.
impl<'de> serde::Deserialize<'de> for UnixMillis {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a time is RFC 3339, such as 2026-11-23T10:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_time_reads_as_rfc_3339() {
        assert_eq!(UnixMillis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(UnixMillis(i64::MAX).to_string(), "-");
        assert_eq!(UnixMillis(1_700_000_000_123).month(), "2023-11");
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for at in [UnixMillis(1_700_000_000_123), UnixMillis(0), UnixMillis(-1)] {
            let json = serde_json::to_string(&at).expect("JSON");
            assert_eq!(serde_json::from_str::<UnixMillis>(&json).expect("a time"), at);
        }
        assert_eq!(UnixMillis::parse("2023-11-14T23:13:20.123+01:00"), Some(UnixMillis(1_700_000_000_123)));
        for text in ["-", "", "yesterday", "2023-11-14"] {
            assert_eq!(UnixMillis::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_never_goes_below_its_origin() {
        let one = Moment::ZERO + Duration::from_secs(1);
        assert_eq!(Moment::ZERO.since(one), Duration::ZERO);
        assert_eq!(one - Duration::from_secs(9), Moment::ZERO);
    }
}
