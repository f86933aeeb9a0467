//! How old the data of an answer is, and whether the last attempt to renew it failed.
//!
//! After a failed sync Finch serves what it has with a 200: these three headers are the only sign (Finch API reference).
//! The word for the result is missing from some of its pages, so the two dates have to do without it.

use crate::finch::headers::{
    FINCH_DATA_RETRIEVED, FINCH_LAST_ATTEMPTED_UPDATE_DATE, FINCH_LAST_ATTEMPTED_UPDATE_RESULT,
};
use crate::types::UnixMillis;
use http::HeaderMap;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::time::Duration;

/// How much later than the data an attempt may be dated and still be the one that brought it.
const SAME_ATTEMPT: Duration = Duration::from_secs(60);

/// How the last attempt to renew the data ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LastUpdate {
    /// It brought this data.
    Success,
    /// It failed.
    Error,
    /// It failed for some items of a batch.
    PartialError,
    /// Finch does not say, and it is later than the data: it brought none.
    Behind,
}

impl LastUpdate {
    /// The word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            LastUpdate::Success => "success",
            LastUpdate::Error => "error",
            LastUpdate::PartialError => "partial_error",
            LastUpdate::Behind => "behind",
        }
    }

    /// Whether the data is older than it should be.
    pub const fn is_stale(self) -> bool {
        !matches!(self, LastUpdate::Success)
    }
}

/// What the headers of an answer tell of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// When the data was pulled from the provider.
    pub retrieved: Option<UnixMillis>,
    /// How the last attempt ended; nothing when the answer does not let that be known.
    pub last_update: Option<LastUpdate>,
}

impl Freshness {
    /// Reads the headers. What is missing or no date is as if it were not there.
    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let retrieved = text(FINCH_DATA_RETRIEVED).and_then(instant);
        let attempted = text(FINCH_LAST_ATTEMPTED_UPDATE_DATE).and_then(instant);
        let last_update = match text(FINCH_LAST_ATTEMPTED_UPDATE_RESULT) {
            Some("success") => Some(LastUpdate::Success),
            Some("error") => Some(LastUpdate::Error),
            Some("partial_error") => Some(LastUpdate::PartialError),
            _ => retrieved.zip(attempted).map(|(retrieved, attempted)| {
                match attempted > retrieved.plus(SAME_ATTEMPT) {
                    true => LastUpdate::Behind,
                    false => LastUpdate::Success,
                }
            }),
        };
        Self { retrieved, last_update }
    }

    /// How old the data is. Data from a clock that is ahead is new.
    pub fn age(&self, now: UnixMillis) -> Option<Duration> {
        let age = now.0.saturating_sub(self.retrieved?.0);
        Some(Duration::from_millis(u64::try_from(age).unwrap_or_default()))
    }
}

/// Lets the headers of `first` speak for both answers: when the data of `second` is older, its dates stand there.
pub fn keep_older(first: &mut HeaderMap, second: &HeaderMap) {
    if is_older(second, first) {
        take(
            first,
            second,
            &[FINCH_DATA_RETRIEVED, FINCH_LAST_ATTEMPTED_UPDATE_DATE, FINCH_LAST_ATTEMPTED_UPDATE_RESULT],
        );
    }
}

/// The same for two parts of one answer: an update of either that failed is told as well.
pub fn keep_worse(first: &mut HeaderMap, second: &HeaderMap) {
    let fails = |headers: &HeaderMap| Freshness::read(headers).last_update.is_some_and(LastUpdate::is_stale);
    let (first_fails, second_fails) = (fails(first), fails(second));
    let is_older = is_older(second, first);
    if is_older {
        take(first, second, &[FINCH_DATA_RETRIEVED]);
    }
    if (second_fails && !first_fails) || (is_older && second_fails == first_fails) {
        take(first, second, &[FINCH_LAST_ATTEMPTED_UPDATE_DATE, FINCH_LAST_ATTEMPTED_UPDATE_RESULT]);
    }
}

/// Whether data is older than other data. Where one does not say, the other cannot speak for both.
fn is_older(one: &HeaderMap, other: &HeaderMap) -> bool {
    let retrieved = |headers| Freshness::read(headers).retrieved;
    retrieved(one).zip(retrieved(other)).is_some_and(|(one, other)| one < other)
}

fn take(to: &mut HeaderMap, from: &HeaderMap, names: &[&'static str]) {
    for name in names {
        to.remove(*name);
        if let Some(value) = from.get(*name) {
            to.insert(*name, value.clone());
        }
    }
}

/// An ISO 8601 time; without a zone it is UTC, without a time the day's beginning.
fn instant(text: &str) -> Option<UnixMillis> {
    let utc = |at: DateTime| Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let at = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| utc(text.parse::<DateTime>().ok()?))
        .or_else(|| utc(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())))?;
    Some(UnixMillis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(retrieved: &str, attempted: &str, result: &str) -> HeaderMap {
        let lines = [
            (FINCH_DATA_RETRIEVED, retrieved),
            (FINCH_LAST_ATTEMPTED_UPDATE_DATE, attempted),
            (FINCH_LAST_ATTEMPTED_UPDATE_RESULT, result),
        ];
        let value = |text: &str| HeaderValue::try_from(text).expect("a value");
        lines
            .into_iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(n, v)| (http::HeaderName::from_static(n), value(v)))
            .collect()
    }

    #[test]
    fn the_last_attempt_is_judged_by_its_word_or_else_by_its_date() {
        use LastUpdate as L;
        let (noon, a_minute_later, later) =
            ("2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z", "2026-11-23T12:01:01+00:00");
        for (retrieved, attempted, result, last) in [
            (noon, later, "success", Some(L::Success)),
            (noon, noon, "error", Some(L::Error)),
            (noon, noon, "partial_error", Some(L::PartialError)),
            (noon, later, "", Some(L::Behind)),
            (noon, later, "a new word", Some(L::Behind)),
            (noon, a_minute_later, "", Some(L::Success)),
            (later, noon, "", Some(L::Success)),
            (noon, "", "", None),
            ("", noon, "", None),
            ("soon", later, "", None),
            ("", "", "error", Some(L::Error)),
            ("", "", "", None),
        ] {
            let read = Freshness::read(&headers(retrieved, attempted, result));
            assert_eq!(read.last_update, last, "{retrieved} {attempted} {result}");
        }
    }

    #[test]
    fn the_age_of_data_is_read_from_any_iso_time() {
        let now = UnixMillis(1_795_435_200_000); // 2026-11-23T12:00:00Z
        for (retrieved, age) in [
            ("2026-11-23T11:00:00Z", Some(3_600)),
            ("2026-11-23T11:00:00.500+00:00", Some(3_599)),
            ("2026-11-23T13:00:00+02:00", Some(3_600)),
            ("2026-11-23T11:00:00", Some(3_600)),
            ("2026-11-23 11:00:00", Some(3_600)),
            ("2026-11-22", Some(36 * 3_600)),
            ("2026-11-23T12:00:30Z", Some(0)),
            ("2999-12-31T00:00:00Z", Some(0)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", None),
            ("null", None),
        ] {
            let read = Freshness::read(&headers(retrieved, "", ""));
            assert_eq!(read.age(now).map(|age| age.as_secs()), age, "{retrieved}");
        }
    }

    #[test]
    fn of_two_answers_the_older_one_speaks() {
        let new = headers("2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", "success");
        let old = headers("2026-11-20T12:00:00Z", "2026-11-23T12:00:00Z", "error");
        let unsaid = headers("", "2026-11-23T12:00:00Z", "");
        let bare = headers("2026-11-20T12:00:00Z", "", "");
        for (first, second, kept) in [
            (&new, &old, &old),
            (&old, &new, &old),
            (&new, &unsaid, &new),
            (&unsaid, &old, &unsaid),
            (&new, &bare, &bare),
        ] {
            let mut headers = first.clone();
            keep_older(&mut headers, second);
            assert_eq!(headers, *kept);
        }
    }

    #[test]
    fn of_two_parts_the_older_date_and_a_failed_update_are_told() {
        let good = headers("2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z", "success");
        let old = headers("2026-11-19T12:00:00Z", "2026-11-19T12:00:00Z", "success");
        let failed = headers("2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z", "error");
        let told = |first: &HeaderMap, second: &HeaderMap| {
            let mut first = first.clone();
            keep_worse(&mut first, second);
            [FINCH_DATA_RETRIEVED, FINCH_LAST_ATTEMPTED_UPDATE_RESULT].map(|name| first[name].clone())
        };
        for (one, other, at, result) in [
            (&good, &old, "2026-11-19T12:00:00Z", "success"),
            (&good, &failed, "2026-11-20T12:00:00Z", "error"),
            (&old, &failed, "2026-11-19T12:00:00Z", "error"),
        ] {
            assert_eq!(told(one, other), [at, result]);
            assert_eq!(told(other, one), [at, result]);
        }
    }
}
