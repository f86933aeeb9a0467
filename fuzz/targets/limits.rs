//! What headers say of limits and waits: Finch's `Retry-After` as it is read, and perch's own as they are written.

use super::input::{Input, headers, parts};
use perch::limit::Standing;
use perch::limit::headers::{limit, policy, read_retry_after, retry_after};
use perch::policy::resend::Resend;
use perch::store::requests::Search;
use perch::types::{Product, UnixMillis};
use std::time::Duration;

/// Header lines; then decisions; then a text that may be a moment.
pub fn target(data: &[u8]) {
    let [lines, decisions, text] = parts(data);
    let headers = headers(lines.split(|byte| *byte == b'\n'));
    let said = headers.get("retry-after").and_then(|value| value.to_str().ok()).map(str::trim);
    let digits = said.filter(|said| !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit()));
    match (read_retry_after(&headers), digits.map(str::parse::<u32>)) {
        (wait, Some(Ok(seconds))) => assert_eq!(wait, Some(Duration::from_secs(seconds.into()))),
        (None, _) => {}
        (Some(wait), _) => {
            assert!(said.is_some() && wait < Duration::from_secs(1 << 40));
            match Resend::after(wait) {
                Resend::After(seconds) => assert!((1..=60).contains(&seconds)),
                other => assert!(other == Resend::Later && wait > Duration::from_secs(60)),
            }
        }
    }
    let mut input = Input::new(decisions);
    let wait = Duration::new(input.number() >> input.below(64), input.below(1 << 16) as u32);
    match retry_after(wait) {
        Some(seconds) => assert!((1..=60).contains(&seconds) && Duration::from_secs(seconds.into()) >= wait),
        None => assert!(wait > Duration::from_secs(60)),
    }
    let product = input.pick(&Product::ALL);
    let [limit_is, used, remaining] = [input.number(), input.number(), input.number()].map(|n| n as u32);
    let (window, next_free_in) =
        (Duration::from_micros(input.number()), Duration::from_micros(input.number()));
    let standing = Standing { limit: limit_is, used, remaining, window, next_free_in };
    written(&policy(product, &standing), product, [("q", limit_is.into()), ("w", up(window))]);
    written(&limit(product, &standing), product, [("r", remaining.into()), ("t", up(next_free_in))]);
    let (text, now) = (String::from_utf8_lossy(text), UnixMillis(1_790_000_000_000));
    if let (Ok(at), true) = (Search::moment(&text, now), UnixMillis::parse(&text).is_none()) {
        assert!(at <= now, "so long ago is not ahead");
    }
}

/// `"product";a=1;b=2`, and nothing else.
fn written(text: &str, product: Product, expected: [(&str, u64); 2]) {
    let mut parts = text.split(';');
    assert_eq!(parts.next(), Some(format!("\"{product}\"").as_str()));
    for ((name, number), part) in expected.into_iter().zip(parts.by_ref()) {
        assert_eq!(part.split_once('='), Some((name, number.to_string().as_str())), "{text}");
    }
    assert_eq!(parts.next(), None);
}

fn up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
