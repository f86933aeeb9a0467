//! How limits read in headers: the IETF draft's `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-11), and `Retry-After`.

use super::Standing;
use crate::types::Product;
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
