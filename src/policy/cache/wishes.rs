//! What a call says about kept answers, in the words of `Cache-Control` (RFC 9111 §5.2.1).

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use std::time::Duration;

/// What a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// It takes a kept answer.
    pub takes: bool,
    /// Its own answer may be kept.
    pub keeps: bool,
    /// The oldest answer it takes.
    pub age_max: Option<Duration>,
}

/// Reads them. `no-store` keeps nothing and takes nothing; a `max-age` that is no number takes nothing.
pub fn wishes(headers: &HeaderMap) -> Wishes {
    let mut wishes = Wishes { takes: true, keeps: true, age_max: None };
    let values = headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap_or("no-store"));
    for word in values.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        if name.eq_ignore_ascii_case("no-store") {
            (wishes.takes, wishes.keeps) = (false, false);
        } else if name.eq_ignore_ascii_case("no-cache") {
            wishes.takes = false;
        } else if name.eq_ignore_ascii_case("max-age") {
            let seconds =
                value.and_then(|value| value.trim_matches('"').parse::<u64>().ok()).unwrap_or_default();
            let age = Duration::from_secs(seconds);
            wishes.age_max = Some(wishes.age_max.map_or(age, |known| known.min(age)));
            wishes.takes &= seconds > 0;
        }
    }
    wishes
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_call_says_whether_it_takes_and_whether_it_leaves_an_answer() {
        let age = |seconds| Some(Duration::from_secs(seconds));
        for (lines, takes, keeps, age_max) in [
            (&[][..], true, true, None),
            (&["no-cache"], false, true, None),
            (&["max-age=60, No-Cache"], false, true, age(60)),
            (&["NO-STORE"], false, false, None),
            (&["private", "no-store"], false, false, None),
            (&["max-age=30"], true, true, age(30)),
            (&["max-age=30", "max-age=10"], true, true, age(10)),
            (&["max-age=0"], false, true, age(0)),
            (&["max-age=soon"], false, true, age(0)),
            (&["max-age"], false, true, age(0)),
            (&["only-if-cached, x-no-cache"], true, true, None),
            (&["n\u{e9}"], false, false, None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
            }
            assert_eq!(wishes(&headers), Wishes { takes, keeps, age_max }, "{lines:?}");
        }
    }
}
