//! Header lines -> whom a call is for. Nobody is named who does not stand there, and two names are one or none.

use super::input::Message;
use http::{HeaderMap, HeaderValue};
use perch::limit::patience::{Hints, WAIT_MAX, WaitRules, patience};
use perch::policy::batch::Repair;
use perch::policy::caller::{self, once, priority, reference, repair};
use perch::types::Priority;

/// Each line is a header.
pub fn target(data: &[u8]) {
    let text = [b"\n", data].concat();
    let headers = Message::read(&text).headers;
    let count = |name: &str| headers.get_all(name).iter().count();
    if let Ok(selector) = caller::selector(&headers) {
        assert!(["perch-customer", "perch-connection", "authorization"].iter().all(|name| count(name) <= 1));
        let bearer = bearer(&headers);
        let referred = |prefix: &str| bearer.as_deref().and_then(|bearer| bearer.strip_prefix(prefix));
        let named = [value(&headers, "perch-customer"), referred("customer:").map(str::to_owned)];
        let named: Vec<String> = named.into_iter().flatten().collect();
        assert!(named.windows(2).all(|two| two[0] == two[1]), "two customers became one");
        assert_eq!(selector.customer.as_ref().map(|id| id.as_str()), named.first().map(String::as_str));
        assert_eq!(selector.connection.as_ref().map(|id| id.as_str()), referred("connection:"));
        assert_eq!(selector.pick, value(&headers, "perch-connection"));
        let is_reference = referred("customer:").or(referred("connection:")).is_some();
        let is_long = bearer.as_ref().is_some_and(|bearer| bearer.len() >= 32);
        assert!(!is_long || is_reference || selector.has_raw_token, "a token was taken for a dummy");
        assert!(bearer.is_none() || selector.names_somebody() || selector.has_raw_token);
        if let Some(connection) = &selector.connection {
            let mut again = HeaderMap::new();
            let value = HeaderValue::try_from(format!("Bearer {}", reference(connection)));
            again.insert("authorization", value.expect("what stood in a header may stand in one"));
            assert_eq!(caller::selector(&again).map(|again| again.connection), Ok(Some(connection.clone())));
        }
    }
    let read = priority(&headers);
    let words: Vec<&[u8]> = headers.get_all("perch-priority").iter().map(|value| value.as_bytes()).collect();
    match words[..] {
        [] | [b"interactive"] => assert_eq!(read, Ok(Priority::Interactive)),
        [b"batch"] => assert_eq!(read, Ok(Priority::Batch)),
        _ => assert!(read.is_err()),
    }
    assert_eq!(
        repair(&headers, Repair::Off).is_ok(),
        match headers.get_all("perch-repair").iter().map(|value| value.as_bytes()).collect::<Vec<_>>()[..] {
            [] => true,
            [word] => [&b"true"[..], b"false", b"pending"].contains(&word),
            _ => false,
        }
    );
    waits(&headers);
}

fn waits(headers: &HeaderMap) {
    let text = |name| once(headers, name, "it").ok().flatten();
    let hints = Hints {
        max_wait: text("perch-max-wait"),
        sdk_lang: text("x-stainless-lang"),
        sdk_read_timeout: text("x-stainless-read-timeout"),
        sdk_timeout: text("x-stainless-timeout"),
    };
    for urgency in Priority::ALL {
        match patience(&hints, urgency, &WaitRules::default()) {
            Ok(wait) => {
                assert!(wait <= WAIT_MAX);
                let asked: Option<f64> =
                    hints.max_wait.map(|text| text.parse().expect("a number of seconds"));
                assert!(asked.is_none_or(|asked| wait.as_secs_f64() <= asked + 1e-6), "longer than asked");
            }
            Err(_) => assert!(hints.max_wait.is_some(), "refused for what the caller did not write"),
        }
    }
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8(value.as_bytes().to_vec()).expect("only text is read"))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = value(headers, "authorization")?;
    let (scheme, rest) = value.trim().split_at_checked(6)?;
    let rest = rest.strip_prefix(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim().to_owned())
}
