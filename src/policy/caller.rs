//! Whom a call is for, read from its headers. Nothing is guessed: one name, given once.

use super::batch::Repair;
use super::refusal::Refusal;
use crate::finch::headers::{PERCH_CONNECTION, PERCH_CUSTOMER, PERCH_PRIORITY, PERCH_REPAIR};
use crate::types::{ConnectionId, CustomerId, Priority};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The scheme-like prefixes of a reference token.
const CUSTOMER_PREFIX: &str = "customer:";
const CONNECTION_PREFIX: &str = "connection:";

/// How a call names its connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The customer, from the header or from a bearer reference.
    pub customer: Option<CustomerId>,
    /// The connection, from a bearer reference.
    pub connection: Option<ConnectionId>,
    /// What `Perch-Connection` picks: a connection id or a provider id.
    pub pick: Option<String>,
    /// Whether `Authorization` holds something that may be a real Finch token.
    pub has_raw_token: bool,
}

impl Selector {
    /// Whether anybody is named.
    pub const fn names_somebody(&self) -> bool {
        self.customer.is_some() || self.connection.is_some() || self.pick.is_some()
    }
}

/// The string an app keeps in place of a token: names the connection, worthless outside perch.
pub fn reference(connection: &ConnectionId) -> String {
    format!("{CONNECTION_PREFIX}{connection}")
}

/// Reads who is named.
///
/// # Errors
/// A selector that stands twice, cannot be read, or disagrees with another.
pub fn selector(headers: &HeaderMap) -> Result<Selector, Refusal> {
    let mut selector = Selector::default();
    if let Some(value) = once(headers, PERCH_CUSTOMER, "Perch-Customer")? {
        selector.customer = Some(id(value, "Perch-Customer", CustomerId::new)?);
    }
    if let Some(value) = once(headers, PERCH_CONNECTION, "Perch-Connection")? {
        selector.pick = Some(id(value, "Perch-Connection", ConnectionId::new)?.to_string());
    }
    let Some(value) = once(headers, AUTHORIZATION.as_str(), "Authorization")? else {
        return Ok(selector);
    };
    let Some(bearer) = bearer(value) else {
        // Basic credentials of an SDK, or a scheme Finch does not know: perch puts its own.
        return Ok(selector);
    };
    if let Some(name) = bearer.strip_prefix(CUSTOMER_PREFIX) {
        let customer = id(name, "Authorization: Bearer customer:", CustomerId::new)?;
        if selector.customer.as_ref().is_some_and(|named| *named != customer) {
            return Err(Refusal::CustomersDisagree);
        }
        selector.customer = Some(customer);
    } else if let Some(name) = bearer.strip_prefix(CONNECTION_PREFIX) {
        selector.connection = Some(id(name, "Authorization: Bearer connection:", ConnectionId::new)?);
    } else {
        // With somebody named beside it, a short dummy is what SDKs need to start at all; without
        // one, or shaped like a real token, it is a token that should not be here.
        selector.has_raw_token = !selector.names_somebody() || looks_like_a_token(bearer);
    }
    Ok(selector)
}

/// Reads `Perch-Priority`.
///
/// # Errors
/// A value other than `interactive` and `batch`, or two.
pub fn priority(headers: &HeaderMap) -> Result<Priority, Refusal> {
    match once(headers, PERCH_PRIORITY, "Perch-Priority")? {
        None => Ok(Priority::Interactive),
        Some(word) => Priority::parse(word).ok_or_else(|| Refusal::BadHeader {
            header: "Perch-Priority",
            why: "is neither interactive nor batch".to_owned(),
        }),
    }
}

/// Reads `Perch-Repair`; without it, what is configured.
///
/// # Errors
/// A value other than `true`, `pending` and `false`, or two.
pub fn repair(headers: &HeaderMap, configured: Repair) -> Result<Repair, Refusal> {
    match once(headers, PERCH_REPAIR, "Perch-Repair")? {
        None => Ok(configured),
        Some(word) => Repair::parse(word).ok_or_else(|| Refusal::BadHeader {
            header: "Perch-Repair",
            why: "is none of true, pending and false".to_owned(),
        }),
    }
}

/// The value of a header that may stand once.
///
/// # Errors
/// It stands twice, or is not text.
pub fn once<'h>(headers: &'h HeaderMap, name: &str, shown: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::DoubledHeader(shown));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Refusal::BadHeader { header: shown, why: "is not text".to_owned() }),
    }
}

fn id<'t, T, W: std::fmt::Display>(
    text: &'t str,
    shown: &'static str,
    make: impl FnOnce(&'t str) -> Result<T, W>,
) -> Result<T, Refusal> {
    make(text).map_err(|why| Refusal::BadHeader { header: shown, why: why.to_string() })
}

/// The credentials of the bearer scheme, whose name is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, credentials) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// Finch's tokens are UUIDs today and opaque by contract, so length decides too.
fn looks_like_a_token(text: &str) -> bool {
    text.len() >= 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<Selector, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        selector(&headers)
    }

    fn named(customer: &str) -> Selector {
        Selector { customer: Some(CustomerId::new(customer).expect("an id")), ..Selector::default() }
    }

    #[test]
    fn a_name_given_once_or_twice_alike_is_read() {
        assert_eq!(read(&[("perch-customer", "acme")]), Ok(named("acme")));
        assert_eq!(read(&[("authorization", "Bearer customer:acme")]), Ok(named("acme")));
        assert_eq!(read(&[("authorization", "bearer  customer:a:b")]), Ok(named("a:b")));
        assert_eq!(
            read(&[("perch-customer", "acme"), ("authorization", "Bearer customer:acme")]),
            Ok(named("acme"))
        );
        assert_eq!(read(&[("perch-customer", "acme"), ("authorization", "Bearer perch")]), Ok(named("acme")));
        assert_eq!(read(&[("perch-customer", "acme"), ("authorization", "Basic eDp5")]), Ok(named("acme")));
        let reference =
            read(&[("authorization", "Bearer connection:c-1"), ("perch-connection", "gusto")]).expect("read");
        assert_eq!(reference.connection.as_ref().map(ConnectionId::as_str), Some("c-1"));
        assert_eq!(reference.pick.as_deref(), Some("gusto"));
        assert_eq!(read(&[]), Ok(Selector::default()));
    }

    #[test]
    fn doubled_or_differing_names_are_refused() {
        assert_eq!(
            read(&[("perch-customer", "acme"), ("perch-customer", "acme")]),
            Err(Refusal::DoubledHeader("Perch-Customer"))
        );
        assert_eq!(
            read(&[("authorization", "Bearer customer:a"), ("authorization", "Bearer customer:b")]),
            Err(Refusal::DoubledHeader("Authorization"))
        );
        assert_eq!(
            read(&[("perch-connection", "a"), ("perch-connection", "b")]),
            Err(Refusal::DoubledHeader("Perch-Connection"))
        );
        assert_eq!(
            read(&[("perch-customer", "acme"), ("authorization", "Bearer customer:globex")]),
            Err(Refusal::CustomersDisagree)
        );
    }

    #[test]
    fn a_name_that_is_no_id_is_refused() {
        for lines in [
            [("perch-customer", "")],
            [("perch-customer", &"x".repeat(256))],
            [("authorization", "Bearer customer:")],
            [("authorization", "Bearer connection:")],
            [("perch-connection", "")],
        ] {
            assert!(matches!(read(&lines), Err(Refusal::BadHeader { .. })), "{lines:?}");
        }
    }

    #[test]
    fn what_may_be_a_real_token_is_noticed() {
        let token = "7e965183-9332-423c-9259-3edafb332ad2";
        for lines in [
            &[("authorization", format!("Bearer {token}"))][..],
            &[("authorization", "Bearer short".to_owned())],
            &[("perch-customer", "acme".to_owned()), ("authorization", format!("Bearer {token}"))],
        ] {
            let lines: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert!(read(&lines).expect("read").has_raw_token, "{lines:?}");
        }
    }

    #[test]
    fn a_call_decides_on_repair_for_itself() {
        let of = |value: &str, configured| {
            let mut headers = HeaderMap::new();
            headers.insert(PERCH_REPAIR, value.parse().expect("a value"));
            repair(&headers, configured)
        };
        assert_eq!(repair(&HeaderMap::new(), Repair::Pending), Ok(Repair::Pending));
        assert_eq!(of("false", Repair::Pending), Ok(Repair::Off));
        assert_eq!(of("true", Repair::Pending), Ok(Repair::Failed));
        assert_eq!(of("pending", Repair::Off), Ok(Repair::Pending));
        assert!(of("yes", Repair::Off).is_err() && of("", Repair::Off).is_err());
    }

    #[test]
    fn a_priority_is_one_of_two_words() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(PERCH_PRIORITY, value.parse().expect("a value"));
            priority(&headers)
        };
        assert_eq!(of("batch"), Ok(Priority::Batch));
        assert_eq!(priority(&HeaderMap::new()), Ok(Priority::Interactive));
        assert!(of("urgent").is_err() && of("Batch").is_err());
    }
}
