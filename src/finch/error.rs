//! The body of a Finch error, read for the few members programs may rely on.
//!
//! Names vary with the age of the endpoint (Finch error guide): very old bodies say `error` or
//! `error_name`. Nothing here decides; `policy::class` does.

use super::catalogue::{Code, Name};
use crate::types::UnixMillis;
use crate::types::json::RawObject;
use std::time::Duration;

/// The longest word that is kept of an error; Finch's own are half of it.
const WORD_CHARS_MAX: usize = 64;
/// The longest wait that is believed. Finch's forced refresh comes back within an hour.
const RETRY_IN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A number of seconds since 1970 stays below this until the year 5138; one of milliseconds is past it since 1973.
const EPOCH_SECONDS_MAX: i64 = 100_000_000_000;
/// The first of January 2020. A number that means an earlier time is no time.
const EPOCH_SECONDS_MIN: i64 = 1_577_836_800;

/// What an error body says, as far as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinchError {
    /// The broad class, such as `authentication_error`: lower case, and no more than 64 plain characters.
    pub name: Option<String>,
    /// The finer class, such as `reauthenticate_user`, in the same form.
    pub finch_code: Option<String>,
    /// For developers; never matched on, except for the one bare text Finch is known to send.
    pub message: Option<String>,
    /// When the refresh quota of a connection is whole again, as Finch wrote it.
    pub retry_at: Option<String>,
}

impl FinchError {
    /// Reads a body. One that is no JSON object yields its text as the message.
    pub fn read(body: &[u8]) -> Self {
        match RawObject::parse(body) {
            Some(object) => Self::of(&object),
            None => Self {
                message: std::str::from_utf8(body).ok().map(|t| t.trim().chars().take(200).collect()),
                ..Self::default()
            },
        }
    }

    /// Reads the members of an object that is already parsed: a whole body or one batch item's. A member
    /// that is no text is passed over; of one that stands twice the last counts.
    pub fn of(object: &RawObject) -> Self {
        let text = |names: &[&str]| names.iter().find_map(|n| object.text(n));
        let word = |names: &[&str]| names.iter().find_map(|n| plain(&object.text(n)?));
        Self {
            name: word(&["name", "error_name", "error"]),
            finch_code: word(&["finch_code"]),
            message: text(&["message", "error_message"]),
            retry_at: text(&["retry_at"]).or_else(|| number(object, "retry_at")),
        }
    }

    /// The `finch_code`, when it is of the catalogue.
    pub fn known_code(&self) -> Option<Code> {
        self.finch_code.as_deref().and_then(Code::parse)
    }

    /// The `name`, when it is of the catalogue.
    pub fn known_name(&self) -> Option<Name> {
        self.name.as_deref().and_then(Name::parse)
    }

    /// When Finch says to come back: RFC 3339, or a number of seconds or milliseconds since 1970. A time without
    /// an offset is taken for UTC. `None` when it says nothing that is a time.
    pub fn retry_at(&self) -> Option<UnixMillis> {
        let said = self.retry_at.as_deref()?.trim();
        if let Ok(at) = said.parse::<jiff::Timestamp>() {
            return Some(UnixMillis(at.as_millisecond()));
        }
        if let Ok(at) = said.parse::<jiff::civil::DateTime>() {
            let at = jiff::tz::Offset::UTC.to_timestamp(at).ok()?;
            return Some(UnixMillis(at.as_millisecond()));
        }
        let number: f64 = said.parse().ok().filter(|n: &f64| n.is_finite())?;
        // The cast saturates, and what it saturates at is no time.
        let number = number as i64;
        let millis = if number < EPOCH_SECONDS_MAX { number.checked_mul(1_000)? } else { number };
        (EPOCH_SECONDS_MIN..EPOCH_SECONDS_MAX).contains(&(millis / 1_000)).then_some(UnixMillis(millis))
    }

    /// How long it is until [`Self::retry_at`]: nothing when it has passed, a day at most.
    pub fn retry_in(&self, now: UnixMillis) -> Option<Duration> {
        let millis = self.retry_at()?.0.saturating_sub(now.0);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(RETRY_IN_MAX))
    }
}

/// A word to compare, to log and to show: trimmed, in lower case, cut, its odd characters replaced so that an
/// odd word never becomes a known one. Nothing when it is empty.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let keep = |c: char| if c == ' ' || c.is_ascii_graphic() { c.to_ascii_lowercase() } else { '?' };
    (!text.is_empty()).then(|| text.chars().take(WORD_CHARS_MAX).map(keep).collect())
}

fn number(object: &RawObject, name: &str) -> Option<String> {
    let text = object.get(name)?.get();
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_shapes_are_read() {
        let new = FinchError::read(
            br#"{"code":401,"name":"authentication_error","finch_code":"reauthenticate_user","message":"m"}"#,
        );
        assert_eq!(new.name.as_deref(), Some("authentication_error"));
        assert_eq!(new.finch_code.as_deref(), Some("reauthenticate_user"));
        let old = FinchError::read(br#"{"error_name":"server_error","error_message":"m"}"#);
        assert_eq!((old.name.as_deref(), old.message.as_deref()), (Some("server_error"), Some("m")));
        let oldest = FinchError::read(br#"{"error":"bad_request","message":"m"}"#);
        assert_eq!((oldest.name.as_deref(), oldest.message.as_deref()), (Some("bad_request"), Some("m")));
        assert_eq!(FinchError::read(b"Unauthorized\n").message.as_deref(), Some("Unauthorized"));
        assert_eq!(FinchError::read(b"\xff\xfe"), FinchError::default());
    }

    #[test]
    fn members_of_other_types_are_passed_over() {
        for body in [
            r#"{"name":7,"finch_code":{"a":1},"message":[],"retry_at":null}"#,
            r#"{"name":true,"error":["x"],"code":401.0,"statusCode":"401","finch_code":1e400}"#,
            r#"{"finch_code":"  ","name":""}"#,
        ] {
            assert_eq!(FinchError::read(body.as_bytes()), FinchError::default(), "{body}");
        }
        let mixed = FinchError::read(br#"{"name":7.5,"error_name":"server_error","code":5.0e2}"#);
        assert_eq!(mixed.known_name(), Some(Name::ServerError));
        let doubled = FinchError::read(br#"{"finch_code":"locked_out","finch_code":"session_expired"}"#);
        assert_eq!(doubled.known_code(), Some(Code::SessionExpired));
        let half = FinchError::read(br#"{"finch_code":"locked_out""#);
        assert_eq!((half.finch_code.is_none(), half.message.is_some()), (true, true));
    }

    #[test]
    fn words_are_plain_and_bounded() {
        let odd = FinchError::read(
            r#"{"finch_code":" LOCKED\n_out\u0000é ","name":"Client Connection Closed"}"#.as_bytes(),
        );
        assert_eq!(odd.finch_code.as_deref(), Some("locked?_out??"));
        assert_eq!(odd.known_name(), Some(Name::ClientConnectionClosed));
        let long = FinchError::read(format!(r#"{{"finch_code":"{}"}}"#, "x".repeat(9_000)).as_bytes());
        assert_eq!(long.finch_code.map(|code| code.len()), Some(64));
    }

    #[test]
    fn the_time_that_finch_names_becomes_a_wait() {
        // 2026-11-23T10:00:00Z
        let now = UnixMillis(1_795_428_000_000);
        let seconds = |secs| Some(Duration::from_secs(secs));
        for (retry_at, wait) in [
            (r#""2026-11-23T10:00:30Z""#, seconds(30)),
            (r#"" 2026-11-23T11:00:30+01:00 ""#, seconds(30)),
            (r#""2026-11-23T10:00:00.250Z""#, Some(Duration::from_millis(250))),
            (r#""2026-11-23T10:30:00""#, seconds(1_800)),
            (r#""2026-11-23T09:59:59Z""#, seconds(0)),
            (r#""1970-01-01T00:00:00Z""#, seconds(0)),
            (r#""2026-11-25T00:00:00Z""#, seconds(86_400)),
            (r#""9999-12-30T00:00:00Z""#, seconds(86_400)),
            ("1795428060", seconds(60)),
            (r#""1795428060""#, seconds(60)),
            ("1795428060.0", seconds(60)),
            ("1795428060000", seconds(60)),
            ("1.795428060e12", seconds(60)),
            ("60", None),
            ("0", None),
            ("-1", None),
            ("1e300", None),
            ("9223372036854775807", None),
            (r#""NaN""#, None),
            (r#""inf""#, None),
            (r#""soon""#, None),
            (r#""""#, None),
            (r#""2026-13-23T10:00:00Z""#, None),
            ("null", None),
            ("{}", None),
            ("true", None),
        ] {
            let error = FinchError::read(format!(r#"{{"retry_at":{retry_at}}}"#).as_bytes());
            assert_eq!(error.retry_in(now), wait, "{retry_at}");
        }
        assert_eq!(FinchError::default().retry_in(now), None);
        let error = FinchError { retry_at: Some("2026-11-23T10:00:00Z".to_owned()), ..FinchError::default() };
        assert_eq!(error.retry_in(UnixMillis(i64::MIN)), seconds(86_400));
        assert_eq!(error.retry_in(UnixMillis(i64::MAX)), seconds(0));
    }
}
