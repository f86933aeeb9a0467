//! Finch's webhooks: how one is signed and what it says (Finch webhook guide, "Verifying signatures").
//!
//! The signed text is `{event id}.{timestamp}.{raw body}`, the key is the base64-decoded secret of the dashboard, the
//! function is HMAC-SHA256. While a secret is replaced a message carries two signatures for up to a day.

use crate::types::json::RawObject;
use crate::types::{CompanyId, ConnectionId, EntityId, UnixMillis, WebhookSecret};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How far a timestamp may be from now, past or future (Finch webhook guide).
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The only version of signatures there is.
const VERSION: &str = "v1";
/// The longest event type that is kept as it is.
const EVENT_TYPE_BYTES_MAX: usize = 100;

/// Padding or none: both are written by people who copy.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a signature is about.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// `Finch-Event-Id`.
    pub event_id: &'a str,
    /// `Finch-Timestamp`, as it stands in the header.
    pub timestamp: &'a str,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// One of the three headers is missing, or its value is none that Finch writes.
    Header(&'static str),
    /// Its timestamp is more than five minutes away: an old message played again, or a clock that is wrong.
    Stale,
    /// No signature fits any of the secrets.
    Signature,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Header(name) => write!(f, "{name} is missing or unreadable"),
            Why::Stale => f.write_str("Finch-Timestamp is more than five minutes away from this clock"),
            Why::Signature => f.write_str("no signature fits the secret"),
        }
    }
}

/// A secret that is no base64, so that nothing can be signed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSecret;

/// Checks the timestamp alone, which needs no body. The moment that it names, to the second.
///
/// # Errors
/// [`Why::Header`] and [`Why::Stale`].
pub fn check_age(timestamp: &str, now: UnixMillis) -> Result<UnixMillis, Why> {
    let at = moment(timestamp).ok_or(Why::Header("Finch-Timestamp"))?;
    let away = Duration::from_secs((now.0.div_euclid(1000)).abs_diff(at.0 / 1000));
    match away <= TOLERANCE {
        true => Ok(at),
        false => Err(Why::Stale),
    }
}

/// Checks a message against the secrets in force: one, or two while one replaces the other. A signature of an unknown
/// version, or one that is damaged, is passed over: it never hides a good one.
///
/// # Errors
/// [`Why`].
pub fn verify(
    secrets: &[&WebhookSecret],
    message: Message<'_>,
    signatures: &str,
    now: UnixMillis,
) -> Result<UnixMillis, Why> {
    let at = check_age(message.timestamp, now)?;
    let mut fits = subtle::Choice::from(0);
    for secret in secrets {
        let Ok(expected) = mac(secret, message) else { continue };
        for entry in signatures.split_ascii_whitespace() {
            let Some((VERSION, encoded)) = entry.split_once(',') else { continue };
            let Ok(shown) = BASE64.decode(encoded) else { continue };
            fits |= shown.ct_eq(&expected);
        }
    }
    match bool::from(fits) {
        true => Ok(at),
        false => Err(Why::Signature),
    }
}

/// The value of `Finch-Signature` for a message.
///
/// # Errors
/// [`BadSecret`].
pub fn sign(secret: &WebhookSecret, message: Message<'_>) -> Result<String, BadSecret> {
    Ok(format!("{VERSION},{}", BASE64.encode(mac(secret, message)?)))
}

/// Whether anything can be signed with this secret.
///
/// # Errors
/// [`BadSecret`].
pub fn check_secret(secret: &WebhookSecret) -> Result<(), BadSecret> {
    key_of(secret).map(|_| ())
}

fn key_of(secret: &WebhookSecret) -> Result<Zeroizing<Vec<u8>>, BadSecret> {
    let key = BASE64.decode(secret.expose().trim()).map(Zeroizing::new).map_err(|_| BadSecret)?;
    if key.is_empty() { Err(BadSecret) } else { Ok(key) }
}

fn mac(secret: &WebhookSecret, message: Message<'_>) -> Result<[u8; 32], BadSecret> {
    let key = key_of(secret)?;
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).map_err(|_| BadSecret)?;
    for part in [message.event_id.as_bytes(), b".", message.timestamp.as_bytes(), b".", message.body] {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

/// Reads seconds since 1970; a fraction is let be, as the Python SDK does.
fn moment(text: &str) -> Option<UnixMillis> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > 12 {
        return None;
    }
    whole.parse::<i64>().ok()?.checked_mul(1000).map(UnixMillis)
}

/// What an event is about. Finch adds types; one that is unknown passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A connection's status.
    Account,
    /// A job of Finch's is done, well or not.
    Job,
    /// Data of the customer's changed: the event names what, not how.
    Data,
    /// A test from the dashboard.
    Test,
    /// A type that perch does not know.
    Other,
}

/// Every event type that Finch documents, and what it is about.
const TYPES: [(&str, Topic); 27] = [
    ("account.updated", Topic::Account),
    ("job.initial_data_sync_org.succeeded", Topic::Job),
    ("job.initial_data_sync_payroll.succeeded", Topic::Job),
    ("job.data_sync_all.completed", Topic::Job),
    ("job.w4_form_employee_sync.completed", Topic::Job),
    ("job.benefit_create.completed", Topic::Job),
    ("job.benefit_enroll.completed", Topic::Job),
    ("job.benefit_register.completed", Topic::Job),
    ("job.benefit_unenroll.completed", Topic::Job),
    ("job.benefit_update.completed", Topic::Job),
    ("company.updated", Topic::Data),
    ("directory.created", Topic::Data),
    ("directory.updated", Topic::Data),
    ("directory.deleted", Topic::Data),
    ("individual.created", Topic::Data),
    ("individual.updated", Topic::Data),
    ("individual.deleted", Topic::Data),
    ("employment.created", Topic::Data),
    ("employment.updated", Topic::Data),
    ("employment.deleted", Topic::Data),
    ("payment.created", Topic::Data),
    ("payment.updated", Topic::Data),
    ("payment.deleted", Topic::Data),
    ("pay_statement.created", Topic::Data),
    ("pay_statement.updated", Topic::Data),
    ("pay_statement.deleted", Topic::Data),
    ("test", Topic::Test),
];

/// What an event type is about, by Finch's closed list.
pub fn topic_of(event_type: &str) -> Topic {
    TYPES.iter().find(|(name, _)| *name == event_type).map_or(Topic::Other, |(_, topic)| *topic)
}

/// The event type when Finch documents it, else `other`: fit for a metric's label.
pub fn label_of(event_type: &str) -> &'static str {
    TYPES.iter().find(|(name, _)| *name == event_type).map_or("other", |(name, _)| name)
}

/// Every label that [`label_of`] gives.
pub fn labels() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name).chain(["other"])
}

/// What a message says. It names things; data is fetched by those who want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Finch's word, or `unknown` when there is none that could stand in a log.
    pub event_type: String,
    /// The connection; Finch may leave it out.
    pub connection_id: Option<ConnectionId>,
    /// The company.
    pub company_id: Option<CompanyId>,
    /// The legal entity; none for a connection that has one only.
    pub entity_id: Option<EntityId>,
    /// `data.status` of `account.updated`.
    pub status: Option<String>,
    /// `data.job_id` of a job.
    pub job_id: Option<String>,
}

impl Event {
    /// Reads a body. A member that is missing, null or of an unexpected kind is none: Finch's SDKs do not agree on
    /// all of them. `None`: the body is no JSON object.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let object = RawObject::parse(body)?;
        let data = object.get("data").and_then(|data| RawObject::parse(data.get().as_bytes()));
        let is_word = |text: &String| {
            !text.is_empty()
                && text.len() <= EVENT_TYPE_BYTES_MAX
                && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let of_data = |name| data.as_ref().and_then(|data| data.text(name)).filter(is_word);
        Some(Self {
            event_type: object.text("event_type").filter(is_word).unwrap_or_else(|| "unknown".to_owned()),
            connection_id: object.text("connection_id").and_then(|id| ConnectionId::new(id).ok()),
            company_id: object.text("company_id").and_then(|id| CompanyId::new(id).ok()),
            entity_id: object.text("entity_id").and_then(|id| EntityId::new(id).ok()),
            status: of_data("status"),
            job_id: of_data("job_id"),
        })
    }

    /// What it is about.
    pub fn topic(&self) -> Topic {
        topic_of(&self.event_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const GOOD: &str = "v1,YOREwC5BRUvI4ezImQEgEteB7JbPr/Iy2YCZe049/5g=";
    const AT: i64 = 1_700_000_000;

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::new(text.to_owned())
    }

    fn check(secrets: &[&str], signatures: &str, timestamp: &str, body: &[u8], now: i64) -> Result<(), Why> {
        let secrets: Vec<WebhookSecret> = secrets.iter().map(|text| secret(text)).collect();
        let secrets: Vec<&WebhookSecret> = secrets.iter().collect();
        let message = Message { event_id: "msg_1", timestamp, body };
        verify(&secrets, message, signatures, UnixMillis(now * 1000)).map(|_| ())
    }

    #[test]
    fn the_example_of_finch_s_sdks_is_signed_and_believed() {
        let message = Message { event_id: "msg_1", timestamp: "1700000000", body: b"{\"a\":1}" };
        assert_eq!(sign(&secret(SECRET), message).as_deref(), Ok(GOOD));
        let at = verify(&[&secret(SECRET)], message, GOOD, UnixMillis(AT * 1000 + 999));
        assert_eq!(at, Ok(UnixMillis(AT * 1000)));
    }

    #[test]
    fn a_message_is_believed_exactly_when_a_signature_of_finch_s_fits() {
        let other = "b3RoZXIgc2VjcmV0";
        let body: &[u8] = b"{\"a\":1}";
        let wrong = "v1,AAREwC5BRUvI4ezImQEgEteB7JbPr/Iy2YCZe049/5g=";
        let unpadded = GOOD.trim_end_matches('=');
        for (what, secrets, signatures, expected) in [
            ("the one secret", &[SECRET] as &[&str], GOOD.to_owned(), Ok(())),
            ("the previous one", &[other, SECRET], GOOD.to_owned(), Ok(())),
            ("another secret", &[other], GOOD.to_owned(), Err(Why::Signature)),
            ("no secret", &[], GOOD.to_owned(), Err(Why::Signature)),
            ("a secret that is no base64", &["whsec_1"], GOOD.to_owned(), Err(Why::Signature)),
            ("a bad secret beside a good one", &["whsec_1", SECRET], GOOD.to_owned(), Ok(())),
            ("two signatures", &[SECRET], format!("{wrong} {GOOD}"), Ok(())),
            ("a damaged one first", &[SECRET], format!("v1,%%% v1 v1, , {GOOD}"), Ok(())),
            ("a later version beside it", &[SECRET], format!("v2,AAAA {GOOD}"), Ok(())),
            ("a later version alone", &[SECRET], GOOD.replace("v1", "v2"), Err(Why::Signature)),
            ("no padding", &[SECRET], unpadded.to_owned(), Ok(())),
            ("a part of it", &[SECRET], GOOD[..20].to_owned(), Err(Why::Signature)),
            ("nothing", &[SECRET], String::new(), Err(Why::Signature)),
            ("no base64", &[SECRET], "v1,***".to_owned(), Err(Why::Signature)),
            ("no version", &[SECRET], GOOD[3..].to_owned(), Err(Why::Signature)),
        ] {
            assert_eq!(check(secrets, &signatures, "1700000000", body, AT), expected, "{what}");
        }
        assert_eq!(check(&[SECRET], GOOD, "1700000000", b"{\"a\": 1}", AT), Err(Why::Signature));
        assert_eq!(check(&[SECRET], GOOD, "1700000001", body, AT), Err(Why::Signature));
    }

    #[test]
    fn a_message_of_another_time_is_refused() {
        let body: &[u8] = b"{\"a\":1}";
        for (now, expected) in [
            (AT, Ok(())),
            (AT + 300, Ok(())),
            (AT - 300, Ok(())),
            (AT + 301, Err(Why::Stale)),
            (AT - 301, Err(Why::Stale)),
            (0, Err(Why::Stale)),
        ] {
            assert_eq!(check(&[SECRET], GOOD, "1700000000", body, now), expected, "{now}");
        }
        for timestamp in ["", "soon", "-1", "+1700000000", " 1700000000", "1e9", "1700000000.", ".5", "١"] {
            assert_eq!(
                check(&[SECRET], GOOD, timestamp, body, AT),
                Err(Why::Header("Finch-Timestamp")),
                "{timestamp}"
            );
        }
        let huge = "9".repeat(40);
        assert_eq!(check(&[SECRET], GOOD, &huge, body, AT), Err(Why::Header("Finch-Timestamp")));
    }

    #[test]
    fn a_fraction_of_a_second_is_signed_as_written_and_counts_for_nothing() {
        let message = Message { event_id: "msg_1", timestamp: "1700000000.75", body: b"{}" };
        let signed = sign(&secret(SECRET), message).expect("a good secret");
        assert_eq!(check(&[SECRET], &signed, "1700000000.75", b"{}", AT + 300), Ok(()));
        assert_eq!(check(&[SECRET], &signed, "1700000000", b"{}", AT), Err(Why::Signature));
    }

    #[test]
    fn a_secret_is_base64_or_it_is_none() {
        assert_eq!(check_secret(&secret(SECRET)), Ok(()));
        for text in ["whsec_1", "", "  ", "a", "not base64!"] {
            assert_eq!(check_secret(&secret(text)), Err(BadSecret), "{text}");
        }
    }

    #[test]
    fn an_event_is_read_as_far_as_it_says_something() {
        let body = br#"{"company_id":"co","account_id":"a","connection_id":"c","entity_id":"e",
            "event_type":"account.updated","data":{"status":"reauth","authentication_method":{"type":"oauth"}}}"#;
        let event = Event::parse(body).expect("an object");
        assert_eq!(event.event_type, "account.updated");
        assert_eq!(event.connection_id.as_ref().map(ConnectionId::as_str), Some("c"));
        assert_eq!(event.company_id.as_ref().map(CompanyId::as_str), Some("co"));
        assert_eq!(event.entity_id.as_ref().map(EntityId::as_str), Some("e"));
        assert_eq!((event.status.as_deref(), event.topic()), (Some("reauth"), Topic::Account));
        for (body, event_type, topic) in [
            (r#"{"event_type":"test","connection_id":null,"data":null}"#, "test", Topic::Test),
            (r#"{"event_type":"payslip.signed","data":[1]}"#, "payslip.signed", Topic::Other),
            (r#"{"event_type":7,"connection_id":{},"company_id":""}"#, "unknown", Topic::Other),
            (r#"{"event_type":"a\nb"}"#, "unknown", Topic::Other),
            (r#"{"event_type":"job.data_sync_all.completed"}"#, "job.data_sync_all.completed", Topic::Job),
            (r"{}", "unknown", Topic::Other),
        ] {
            let event = Event::parse(body.as_bytes()).expect(body);
            assert_eq!((event.event_type.as_str(), event.topic()), (event_type, topic), "{body}");
            assert_eq!((event.connection_id, event.status), (None, None), "{body}");
        }
        for body in ["", "[]", "\"x\"", "{\"a\":", "\u{0}"] {
            assert_eq!(Event::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_label_is_one_of_finch_s_words_or_other() {
        assert_eq!(label_of("payment.created"), "payment.created");
        assert_eq!(label_of("evil\"} 1"), "other");
        assert_eq!(labels().count(), TYPES.len() + 1);
    }
}
