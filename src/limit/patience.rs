//! How long a call may wait for quota: what the caller says, else what its priority says, and
//! never longer than its SDK stays on the line.

use crate::types::Priority;
use std::fmt;
use std::time::Duration;

/// The longest wait anybody may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// What an official SDK waits when it does not say so (Python to the next byte, Node to
/// the headers).
const SDK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// The least part of an SDK's timeout that is left for Finch's answer: this, or a sixth of it.
const SDK_MARGIN_MIN: Duration = Duration::from_secs(5);

/// How long a call waits when it does not say: `[limits.wait]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitRules {
    /// While a person waits.
    pub interactive: Duration,
    /// While a job waits.
    pub batch: Duration,
}

impl Default for WaitRules {
    fn default() -> Self {
        Self { interactive: Duration::from_secs(15), batch: Duration::from_secs(10 * 60) }
    }
}

/// What the request's headers say about waiting; each `None` when the header is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints<'a> {
    /// `Perch-Max-Wait`.
    pub max_wait: Option<&'a str>,
    /// `x-stainless-lang`: an official SDK is calling.
    pub sdk_lang: Option<&'a str>,
    /// `x-stainless-read-timeout`, from Python.
    pub sdk_read_timeout: Option<&'a str>,
    /// `x-stainless-timeout`, from Node when the call set one.
    pub sdk_timeout: Option<&'a str>,
}

/// `Perch-Max-Wait` is not a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMaxWait;

impl fmt::Display for InvalidMaxWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "Perch-Max-Wait is not a number of seconds; write whole or decimal seconds such as \
             `15` or `2.5`, or leave the header out",
        )
    }
}

impl std::error::Error for InvalidMaxWait {}

/// How long the call may wait.
///
/// # Errors
/// [`InvalidMaxWait`] when the caller says something that is not seconds. An SDK's hint that
/// cannot be read is taken as the SDK's default: the caller did not write it.
pub fn patience(
    hints: &Hints<'_>,
    priority: Priority,
    rules: &WaitRules,
) -> Result<Duration, InvalidMaxWait> {
    let asked = match (hints.max_wait, priority) {
        (Some(text), _) => seconds(text).ok_or(InvalidMaxWait)?,
        (None, Priority::Interactive) => rules.interactive,
        (None, Priority::Batch) => rules.batch,
    };
    let sdk_cap = sdk_timeout(hints).map_or(Duration::MAX, before_timeout);
    Ok(asked.min(sdk_cap).min(WAIT_MAX))
}

/// How long the calling SDK waits for headers; `None` when none is known to call.
fn sdk_timeout(hints: &Hints<'_>) -> Option<Duration> {
    let hinted = [hints.sdk_read_timeout, hints.sdk_timeout].into_iter().flatten();
    let shortest = hinted.filter_map(seconds).filter(|hint| !hint.is_zero()).min();
    shortest.or_else(|| hints.sdk_lang.map(|_| SDK_TIMEOUT_DEFAULT))
}

/// What is left of an SDK's timeout once Finch has had time to answer.
fn before_timeout(timeout: Duration) -> Duration {
    timeout.saturating_sub(SDK_MARGIN_MIN.max(timeout / 6))
}

/// Whole or decimal seconds, nothing else: no sign, no exponent, no unit. Too many saturate.
fn seconds(text: &str) -> Option<Duration> {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.parse().unwrap_or(u64::MAX);
    // The first nine digits are nanoseconds; what follows them is nobody's patience.
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(Duration::new(whole, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hints: Hints<'_>, priority: Priority) -> Result<u128, InvalidMaxWait> {
        patience(&hints, priority, &WaitRules::default()).map(|wait| wait.as_millis())
    }

    #[test]
    fn without_a_word_the_priority_decides() {
        assert_eq!(of(Hints::default(), Priority::Interactive), Ok(15_000));
        assert_eq!(of(Hints::default(), Priority::Batch), Ok(600_000));
    }

    #[test]
    fn the_caller_may_say_whole_or_decimal_seconds() {
        for (text, millis) in [
            ("0", 0),
            ("15", 15_000),
            ("2.5", 2_500),
            ("0.0015", 1),
            ("007", 7_000),
            ("1.00000000099", 1_000),
            ("3600", 3_600_000),
            ("3601", 3_600_000),
            ("99999999999999999999999999", 3_600_000),
            ("18446744073709551615.999999999", 3_600_000),
        ] {
            let hints = Hints { max_wait: Some(text), ..Hints::default() };
            assert_eq!(of(hints, Priority::Interactive), Ok(millis), "{text}");
        }
    }

    #[test]
    fn anything_else_is_an_error_whatever_else_is_said() {
        for text in ["", " ", "-1", "+1", "1e3", ".5", "5.", "1.2.3", "15s", "inf", "NaN", "1,5", "٣", " 1"]
        {
            let hints = Hints { max_wait: Some(text), sdk_lang: Some("python"), ..Hints::default() };
            assert_eq!(of(hints, Priority::Batch), Err(InvalidMaxWait), "{text:?}");
        }
    }

    #[test]
    fn an_sdk_is_answered_before_it_hangs_up() {
        let lang = Some("js");
        for (sdk_lang, sdk_read_timeout, sdk_timeout, millis) in [
            (lang, None, None, 50_000),
            (lang, Some("60"), None, 50_000),
            (lang, None, Some("360"), 300_000),
            (lang, Some("360"), Some("60"), 50_000),
            (None, Some("12"), None, 7_000),
            (lang, Some("30.0"), None, 25_000),
            (lang, Some("5"), None, 0),
            (lang, Some("0.5"), None, 0),
            (lang, Some("None"), Some("0"), 50_000),
            (None, Some("never"), None, 600_000),
        ] {
            let hints = Hints { max_wait: None, sdk_lang, sdk_read_timeout, sdk_timeout };
            assert_eq!(of(hints, Priority::Batch), Ok(millis), "{hints:?}");
        }
    }

    #[test]
    fn the_shorter_of_the_callers_word_and_the_sdks_counts() {
        let hints = |max_wait| Hints { max_wait, sdk_lang: Some("python"), ..Hints::default() };
        assert_eq!(of(hints(Some("300")), Priority::Batch), Ok(50_000));
        assert_eq!(of(hints(Some("3")), Priority::Batch), Ok(3_000));
    }
}
