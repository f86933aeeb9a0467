//! Finch's webhooks: a message is believed only when a computation that shares nothing with perch's agrees.

use super::input::Message as Lines;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use perch::finch::webhook::{
    Event, Message, TOLERANCE, check_age, check_secret, label_of, sign, topic_of, verify,
};
use perch::types::{UnixMillis, WebhookSecret};
use sha2::{Digest, Sha256};

/// The time now in seconds; header lines, of which `secret` and `previous` are keys; an empty line; the body.
pub fn target(data: &[u8]) {
    let lines = Lines::read(data);
    let text = |name| lines.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let now: i64 = lines.line.trim().parse().unwrap_or(1_790_000_000);
    let now = UnixMillis(now.saturating_mul(1_000));
    let (id, timestamp, body) = (text("finch-event-id"), text("finch-timestamp"), lines.body);
    let message = Message { event_id: &id, timestamp: &timestamp, body };
    let texts = [text("secret"), text("previous")];
    let secrets = texts.clone().map(WebhookSecret::new);
    let sound: Vec<(&WebhookSecret, Vec<u8>)> = secrets
        .iter()
        .zip(&texts)
        .filter(|(secret, _)| check_secret(secret).is_ok())
        .map(|(secret, text)| {
            (secret, STANDARD.decode(padded(text.trim())).expect("a sound secret is base64"))
        })
        .collect();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let good: Vec<String> = sound.iter().map(|(_, key)| STANDARD.encode(hmac(key, &signed))).collect();
    let is_young = timestamp
        .split('.')
        .next()
        .and_then(|whole| whole.parse::<i64>().ok())
        .is_some_and(|at| now.0.div_euclid(1_000).abs_diff(at) <= TOLERANCE.as_secs());
    let signatures = text("finch-signature");
    let is_signed = signatures.split_ascii_whitespace().any(|shown| {
        let shown = shown.strip_prefix("v1,").unwrap_or("");
        good.iter().any(|good| shown == good || shown == good.trim_end_matches('='))
    });
    let refs: Vec<&WebhookSecret> = secrets.iter().collect();
    let verdict = verify(&refs, message, &signatures, now);
    assert!(verdict.is_err() || (is_young && is_signed), "believed: {signatures:?} at {timestamp:?}");
    assert!(
        verdict.is_ok() || !is_signed || check_age(&timestamp, now).is_err(),
        "not believed: {verdict:?}"
    );
    for ((secret, _), good) in sound.iter().zip(&good) {
        let own = sign(secret, message).expect("its secret is sound");
        assert_eq!(own, format!("v1,{good}"));
        assert_eq!(verify(&refs, message, &own, now).is_ok(), check_age(&timestamp, now).is_ok());
        let altered = [body, b" "].concat();
        let other = Message { body: &altered, ..message };
        assert!(verify(&refs, other, &own, now).is_err(), "a signature of another body");
        let moved = Message { event_id: "", ..message };
        assert!(id.is_empty() || verify(&refs, moved, &own, now).is_err(), "a signature of another event");
    }
    if let Some(event) = Event::parse(body) {
        assert!(
            (1..=100).contains(&event.event_type.len())
                && event.event_type.bytes().all(|b| b.is_ascii_graphic())
        );
        assert!(["other", &event.event_type].contains(&label_of(&event.event_type)));
        assert_eq!(event.topic(), topic_of(&event.event_type));
    }
}

fn padded(text: &str) -> String {
    let bare = text.trim_end_matches('=');
    format!("{bare}{}", "=".repeat((4 - bare.len() % 4) % 4))
}

/// RFC 2104, as it stands there.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::digest([&pad(0x36)[..], message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).into()
}
