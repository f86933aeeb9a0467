//! An answer of Finch's -> what became of the call, who may send it again, and the error that the app reads.

use super::input::Message;
use perch::finch::endpoints::{Effect, Endpoint};
use perch::finch::error::FinchError;
use perch::limit::headers::read_retry_after;
use perch::policy::Class;
use perch::policy::class::of_answer;
use perch::policy::freshness::Freshness;
use perch::policy::headers::{to_app, to_finch};
use perch::policy::merge::concerns;
use perch::policy::problem::{Evidence, Relayed};
use perch::policy::resend::{Resend, of_outcome};
use perch::policy::retry::{Facts, Failure, Verdict, verdict};
use perch::types::{RequestId, UnixMillis};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// `METHOD PATH STATUS`, header lines, an empty line, the body.
pub fn target(data: &[u8]) {
    let message = Message::read(data);
    let endpoint = message.endpoint();
    let status = message.line.split(' ').nth(2).and_then(|word| word.parse::<u16>().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(500);
    let error = FinchError::read(message.body);
    words(&error, message.body);
    let class = of_answer(endpoint, status, &error);
    judged(endpoint, status, class);
    let _ = concerns(endpoint, status, &error);
    let wait = error.retry_in(NOW).or(read_retry_after(&message.headers));
    let resend = of_outcome(Some(endpoint), class, wait);
    sent_again(endpoint, status, class, resend, wait);
    relayed(message.body, class, status, resend, wait);
    if let Some(age) = Freshness::read(&message.headers).age(NOW) {
        assert!(age < Duration::from_secs(u64::MAX / 1_000));
    }
    for name in to_app(&message.headers, !message.body.is_empty()).keys() {
        assert!(!["set-cookie", "authorization", "content-length", "connection"].contains(&name.as_str()));
    }
    let out = to_finch(&message.headers);
    for (name, value) in &out {
        assert!(!name.as_str().starts_with("perch-") && name != "authorization" && name != "cookie");
        assert!(out.get_all(name).iter().count() == 1 && value.to_str().is_ok());
    }
    assert_eq!(out["accept-encoding"], "identity");
}

/// What is read of an error, read by another way.
fn words(error: &FinchError, body: &[u8]) {
    for word in [&error.name, &error.finch_code].into_iter().flatten() {
        assert!(
            (1..=64).contains(&word.len()) && word.bytes().all(|b| (b' '..0x7f).contains(&b)),
            "{word:?}"
        );
    }
    assert!(error.retry_in(NOW).is_none_or(|wait| wait <= Duration::from_secs(24 * 60 * 60)));
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(body) {
        let code =
            object.get("finch_code").and_then(Value::as_str).map(|code| code.trim().to_ascii_lowercase());
        if let Some(code) = code.filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            assert_eq!(error.finch_code.as_deref().unwrap_or(""), &code[..code.len().min(64)]);
        }
    }
}

/// What holds for the class of every answer.
fn judged(endpoint: &Endpoint, status: u16, class: Class) {
    let is_good = matches!(class, Class::Ok | Class::NotReady);
    assert_eq!(is_good, (200..300).contains(&status), "{status} {class:?}");
    match status {
        402 => assert_eq!(class, Class::ApplicationBlocked),
        408 => assert_eq!(class, Class::FinchUnreachable),
        429 => assert_eq!(class, Class::RateLimited),
        501 => assert_eq!(class, Class::NotSupported),
        _ => assert_ne!(class, Class::RateLimited),
    }
    assert!(
        class != Class::InvalidRequest || (400..500).contains(&status),
        "a fault of Finch's blamed on the call"
    );
    assert!(class != Class::Disconnected || status == 401, "{} {status}", endpoint.path);
    assert!(class != Class::FinchError || !(400..500).contains(&status), "{} {status}", endpoint.path);
    let ours = [
        Class::Partial,
        Class::UnknownCustomer,
        Class::CallerRefused,
        Class::PerchUnavailable,
        Class::Abandoned,
    ];
    assert!(!ours.contains(&class));
}

fn sent_again(endpoint: &Endpoint, status: u16, class: Class, resend: Resend, wait: Option<Duration>) {
    let writes = endpoint.effect == Effect::Writes;
    let is_fault = matches!(class, Class::FinchError | Class::ProviderError | Class::FinchUnreachable);
    assert!(!(writes && is_fault && resend.is_retryable()), "a write that may have been done");
    assert!(!matches!(resend, Resend::After(seconds) if !(1..=60).contains(&seconds)));
    for retries in 0..4 {
        for failure in [Failure::Cut, Failure::Stale, Failure::Status(status)] {
            let facts = Facts {
                effect: endpoint.effect,
                failure,
                retries,
                attempts_max: 3,
                left: Duration::from_secs(30),
                retry_after: wait,
                jitter: 0.5,
            };
            if let Verdict::Again { after } = verdict(&facts) {
                assert!(!writes && retries < 2, "{facts:?}");
                assert!(failure == Failure::Stale || after < facts.left, "{facts:?}");
            }
        }
    }
}

/// Finch's members stay as they are, and one is added.
fn relayed(body: &[u8], class: Class, status: u16, resend: Resend, wait: Option<Duration>) {
    let request_id = RequestId::new("r").expect("an id");
    let evidence = Evidence {
        request_id: &request_id,
        finch_request_id: None,
        customer: None,
        connection_id: None,
        attempts: 1,
        now: NOW,
    };
    let (scope, since, reauth_url, action) = (None, None, None, None);
    let out =
        Relayed { class, status, resend, wait, scope, since, reauth_url, action }.to_body(body, evidence);
    let members = |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(bytes).ok();
    let object = members(&out).expect("an object");
    let perch: Value = serde_json::from_str(object["perch"].get()).expect("JSON");
    assert_eq!((&perch["class"], &perch["origin"]), (&Value::from(class.as_str()), &Value::from("finch")));
    for (name, value) in members(body).unwrap_or_default().iter().filter(|(name, _)| *name != "perch") {
        assert_eq!(object[name].get(), value.get(), "{name}");
    }
}
