//! What becomes of Finch's webhooks: the door, the secrets they are signed with, and the app that is told.

use super::address::base_url;
use super::problem::{Check, Complaint};
use super::reader::Reader;
use super::sections::{optional_door, secret};
use super::sound::{Delivery, Target, Webhooks};
use super::value::{Setting, duration, whole};
use crate::finch::webhook::check_secret;
use crate::types::WebhookSecret;

/// The most events kept.
const QUEUE_MAX: u32 = 100_000;
/// The most times an event is offered.
const ATTEMPTS_MAX: u32 = 100;
/// The longest path of the app's.
const PATH_BYTES_MAX: usize = 2048;

pub(super) fn webhooks(r: &mut Reader<'_>) -> Option<Webhooks> {
    let target = r.get_unless_empty("webhooks.deliver_to", target);
    let sign_with = webhook_secret(r, "webhooks.sign_with");
    let timeout = r.get("webhooks.timeout", duration);
    let attempts = r.get("webhooks.attempts", |s| whole(s, 1, ATTEMPTS_MAX));
    let queue = r.get("webhooks.queue", |s| whole(s, 10, QUEUE_MAX));
    let keep = r.get("webhooks.keep", duration);
    let (target, sign_with) = (target?, sign_with?);
    let (timeout, attempts) = (timeout?, attempts?);
    Some(Webhooks {
        deliver: target.map(|target| Delivery { target, sign_with, timeout, attempts }),
        queue: queue?,
        keep: keep?,
    })
}

/// A secret of Finch's kind of signatures, or none. Where it is used it is base64: anything else could sign nothing.
pub(super) fn webhook_secret(r: &mut Reader<'_>, key: &str) -> Option<Option<WebhookSecret>> {
    let secret = secret(r, key)?.map(WebhookSecret::new);
    let is_used =
        key == "webhooks.sign_with" || r.again("listen.webhooks", optional_door).flatten().is_some();
    if !is_used {
        return Some(secret);
    }
    if secret.as_ref().is_some_and(|secret| check_secret(secret).is_err()) {
        let complaint = Complaint::new("refers to a secret that is not base64, which signs nothing");
        r.complain(key, complaint.hint("copy the whole secret, as the dashboard shows it"));
        return None;
    }
    Some(secret)
}

/// Reads `http://127.0.0.1:8080/finch`: the address of the app, and a path of its own.
pub(super) fn target(setting: &Setting) -> Check<Target> {
    let text = setting.text()?;
    let begin = text.find("://").map_or(0, |at| at + 3);
    let (base, path) = match text[begin..].find(['/', '?', '#']) {
        Some(at) => text.split_at(begin + at),
        None => (text, "/"),
    };
    let base =
        base_url(&Setting { value: base.into(), place: setting.place.clone() }).map_err(|complaint| {
            match complaint.what.contains("in the clear") {
                true => Complaint::new(
                    "is http:// to another machine; what Finch tells would travel in the clear",
                )
                .hint("write https://, or an address of this machine"),
                false => complaint,
            }
        })?;
    let is_plain = path.len() <= PATH_BYTES_MAX && path.bytes().all(|b| b.is_ascii_graphic());
    if !path.starts_with('/') || !is_plain || path.contains('#') {
        return Err(Complaint::new("has a path that cannot be called").hint("write /… after the host"));
    }
    Ok(Target { base, path: path.to_owned() })
}
