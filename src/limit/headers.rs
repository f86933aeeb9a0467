//! How limits read in headers: the IETF draft's `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-11), and `Retry-After`.

use super::Standing;
use crate::types::Product;
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::fmt::rfc2822;
use std::time::Duration;

/// The longest `Retry-After` that is sent. Beyond it the Python SDK ignores the header and comes
/// back after half a second, and the Node SDK sleeps for as long as it says (measured: 2.9.1 and
/// 10.7.0).
const RETRY_AFTER_MAX: u32 = 60;

/// The value of `RateLimit-Policy`: `"directory";q=20;w=60`.
pub fn policy(product: Product, standing: &Standing) -> String {
    format!("\"{product}\";q={};w={}", standing.limit, seconds_up(standing.window))
}

/// The value of `RateLimit`: `"directory";r=7;t=41`, where `t` is when the next unit comes back.
pub fn limit(product: Product, standing: &Standing) -> String {
    format!("\"{product}\";r={};t={}", standing.remaining, seconds_up(standing.next_free_in))
}

/// The value of `Retry-After` for a wait of this length: 1 to 60 whole seconds, rounded up.
/// `None` beyond that: then send `x-should-retry: false`, and the time in the body.
pub fn retry_after(wait: Duration) -> Option<u32> {
    let seconds = u32::try_from(seconds_up(wait)).ok()?.max(1);
    (seconds <= RETRY_AFTER_MAX).then_some(seconds)
}

/// Reads Finch's `Retry-After`: seconds, or a date that is compared with Finch's own `Date` (RFC 9110
/// section 10.2.3). `None` when it says neither.
pub fn read_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let said = text(RETRY_AFTER)?;
    if let Ok(seconds) = said.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let [until, now] = [said, text(DATE)?].map(|date| rfc2822::parse(date).ok());
    u64::try_from(until?.timestamp().as_second() - now?.timestamp().as_second()).ok().map(Duration::from_secs)
}

fn seconds_up(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_reads_as_the_draft_says() {
        let standing = |remaining, millis| Standing {
            limit: 20,
            used: 20 - remaining,
            remaining,
            window: Duration::from_secs(60),
            next_free_in: Duration::from_millis(millis),
        };
        assert_eq!(policy(Product::Directory, &standing(7, 0)), r#""directory";q=20;w=60"#);
        assert_eq!(limit(Product::Directory, &standing(7, 40_001)), r#""directory";r=7;t=41"#);
        assert_eq!(limit(Product::PayStatement, &standing(0, 41_000)), r#""pay-statement";r=0;t=41"#);
        assert_eq!(limit(Product::Directory, &standing(20, 0)), r#""directory";r=20;t=0"#);
    }

    #[test]
    fn finchs_retry_after_is_read_by_finchs_own_clock() {
        let read = |retry_after: &str, date: &str| {
            let value = |text: &str| http::HeaderValue::try_from(text).expect("a header");
            read_retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value(retry_after)), (DATE, value(date))]))
        };
        let date = "Mon, 23 Nov 2026 10:00:00 GMT";
        assert_eq!(read("7", "nonsense"), Some(Duration::from_secs(7)));
        assert_eq!(read("Mon, 23 Nov 2026 10:01:30 GMT", date), Some(Duration::from_secs(90)));
        for said in ["", "-1", "soon", "Mon, 23 Nov 2026 09:59:59 GMT", "4294967296"] {
            assert_eq!(read(said, date), None, "{said}");
        }
        assert_eq!(read_retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn retry_after_is_one_to_sixty_whole_seconds_or_absent() {
        for (millis, header) in [
            (0, Some(1)),
            (1, Some(1)),
            (1000, Some(1)),
            (1001, Some(2)),
            (60_000, Some(60)),
            (60_001, None),
            (3_600_000, None),
        ] {
            assert_eq!(retry_after(Duration::from_millis(millis)), header, "{millis} ms");
        }
        assert_eq!(retry_after(Duration::MAX), None);
    }
}
