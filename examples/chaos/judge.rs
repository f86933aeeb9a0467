//! What an answer of perch's may be: one of its classes, in its shape, with its own customer's data and nothing secret.

use super::furnish::{CLIENT_SECRET, Customer, TOKEN_MARKER};
use super::wire::Message;
use serde_json::Value;

/// Classes of good answers.
const GOOD: [&str; 3] = ["ok", "partial", "not_ready"];
/// Classes of refusals (README, "Errors").
const BAD: [&str; 13] = [
    "reauthentication_required",
    "account_setup_required",
    "disconnected",
    "permission_denied",
    "invalid_request",
    "not_supported",
    "rate_limited",
    "provider_error",
    "finch_error",
    "finch_unreachable",
    "application_blocked",
    "unknown_customer",
    "caller_refused",
];
/// The one class that says that perch itself cannot.
const UNAVAILABLE: &str = "perch_unavailable";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Company,
    Directory,
    /// This person.
    Individual(String),
    /// A write to Finch, by the digest of its body.
    Write(String),
    /// Something whose answer names nobody.
    Other,
}

/// What is wrong with an answer, or its class.
pub(crate) type Verdict = Result<String, String>;

/// Judges a whole answer. A bare 400 or 431 is the HTTP library's word for a head that is not HTTP.
pub(crate) fn answer(asked: &Asked, customer: Option<&Customer>, answer: &Message) -> Verdict {
    secrets(&answer.raw)?;
    let status = answer.status();
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let Some(class) = answer.header("perch-class") else {
        return match (status, answer.body.is_empty()) {
            (400 | 431, true) => Ok(BARE.to_owned()),
            _ => Err(format!("an answer {status} without Perch-Class")),
        };
    };
    if answer.header("perch-request-id").is_none() {
        return Err(format!("an answer {status} {class} without Perch-Request-Id"));
    }
    if (200..300).contains(&status) {
        if !GOOD.contains(&class.as_str()) {
            return Err(format!("a {status} of class {class}"));
        }
        return customer.map_or(Ok(()), |customer| data(asked, customer, &body)).map(|()| class);
    }
    if !BAD.contains(&class.as_str()) && class != UNAVAILABLE {
        return Err(format!("a {status} of class {class}, which is unknown"));
    }
    let told = &body["perch"];
    let is_told = told["class"] == class.as_str()
        && matches!(told["origin"].as_str(), Some("finch" | "perch"))
        && told["retryable"].is_boolean()
        && told["request_id"].is_string();
    let is_json = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    match is_told && is_json {
        true => Ok(class),
        false => Err(format!("a {status} of class {class} without perch's JSON")),
    }
}

/// The name of the HTTP library's own answer.
pub(crate) const BARE: &str = "not_http";

/// No byte may be a secret.
pub(crate) fn secrets(bytes: &[u8]) -> Result<(), String> {
    let holds = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    match holds(TOKEN_MARKER) || holds(CLIENT_SECRET) {
        true => Err("a secret was given to an app".to_owned()),
        false => Ok(()),
    }
}

/// Another customer's ids may never be there. One's own may be damaged on the way.
fn data(asked: &Asked, customer: &Customer, body: &Value) -> Result<(), String> {
    let foreign = |id: &str, own: bool| match own || !is_id(id) {
        true => Ok(()),
        false => Err(format!("{} was given data of another customer", customer.name)),
    };
    match asked {
        Asked::Company => body["id"].as_str().map_or(Ok(()), |id| foreign(id, id == customer.company)),
        Asked::Directory => {
            let people = body["individuals"].as_array().into_iter().flatten();
            people
                .filter_map(|person| person["id"].as_str())
                .try_for_each(|id| foreign(id, customer.people.iter().any(|own| own == id)))
        }
        Asked::Individual(wanted) => {
            let items = body["responses"].as_array().into_iter().flatten();
            items
                .filter_map(|item| item["individual_id"].as_str())
                .try_for_each(|id| foreign(id, id == wanted))
        }
        Asked::Write(_) | Asked::Other => Ok(()),
    }
}

/// Whether a text has the form of Finch's ids, so that damage is not taken for somebody else.
fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "00000000-0000-4000-8000-00000000000a";
    const FOREIGN: &str = "00000000-0000-4000-8000-00000000000b";

    fn customer() -> Customer {
        let text = str::to_owned;
        let (name, connection, token, provider) = (text("a"), text("c"), text("t"), text("gusto"));
        Customer { name, connection, token, company: text(OWN), provider, people: vec![text(OWN)] }
    }

    fn message(status: u16, headers: &str, body: &str) -> Message {
        let head = format!("HTTP/1.1 {status} X\r\n{headers}\r\n");
        let raw = format!("{head}{body}").into_bytes();
        Message { head: head.into_bytes(), body: body.into(), raw }
    }

    const OK: &str = "Perch-Class: ok\r\nPerch-Request-Id: 1\r\n";

    #[test]
    fn data_of_another_customer_is_seen_and_damage_is_not_taken_for_it() {
        let judge = |asked: &Asked, body: &str| answer(asked, Some(&customer()), &message(200, OK, body));
        for (asked, body) in [
            (Asked::Company, "{\"id\":\"ID\"}"),
            (Asked::Directory, "{\"individuals\":[{\"id\":\"ID\"}]}"),
            (Asked::Individual(OWN.to_owned()), "{\"responses\":[{\"individual_id\":\"ID\"}]}"),
        ] {
            assert_eq!(judge(&asked, &body.replace("ID", OWN)), Ok("ok".to_owned()));
            assert_eq!(judge(&asked, &body.replace("ID", "damaged")), Ok("ok".to_owned()));
            assert!(judge(&asked, &body.replace("ID", FOREIGN)).is_err(), "{asked:?}");
        }
    }

    #[test]
    fn an_error_has_a_known_class_and_perchs_member() {
        let told = "{\"perch\":{\"class\":\"rate_limited\",\"origin\":\"perch\",\"retryable\":true,\"request_id\":\"1\"}}";
        let head = "Perch-Class: rate_limited\r\nPerch-Request-Id: 1\r\nContent-Type: application/json\r\n";
        let judge =
            |status, head: &str, body: &str| answer(&Asked::Other, None, &message(status, head, body));
        assert_eq!(judge(429, head, told), Ok("rate_limited".to_owned()));
        assert!(judge(429, head, "{}").is_err());
        assert!(judge(429, &head.replace("application/json", "text/html"), told).is_err());
        assert!(
            judge(429, &head.replace("rate_limited", "tired"), &told.replace("rate_limited", "tired"))
                .is_err()
        );
        assert!(judge(200, head, told).is_err());
        assert!(judge(502, "", "").is_err());
        assert_eq!(judge(400, "", ""), Ok(BARE.to_owned()));
        assert!(judge(200, OK, TOKEN_MARKER).is_err());
    }
}
