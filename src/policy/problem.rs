//! One shape for every error: Finch's own members untouched, and one member `perch` beside them.

use super::class::Class;
use super::refusal::Choice;
use super::resend::Resend;
use crate::types::json::RawObject;
use crate::types::{ConnectionId, CustomerId, FinchRequestId, RequestId, UnixMillis};
use serde::Serialize;
use std::time::Duration;

/// An error of perch's own, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status, repeated as `code`.
    pub status: u16,
    /// What programs match on; always begins with `perch_`.
    pub finch_code: &'static str,
    /// The class.
    pub class: Class,
    /// What happened, to whom, and what to do next.
    pub message: String,
    /// What the client should do about it.
    pub resend: Resend,
    /// How long it will last, when that is known.
    pub wait: Option<Duration>,
    /// Which limit was reached.
    pub scope: Option<&'static str>,
    /// What could be meant.
    pub choices: Vec<Choice>,
    /// Methods the path knows, for `Allow`.
    pub allow: Option<String>,
    /// Whether the client's connection is of no further use.
    pub closes: bool,
}

impl Problem {
    /// A problem that sending again does not cure.
    pub fn new(status: u16, finch_code: &'static str, class: Class, message: String) -> Self {
        Self {
            status,
            finch_code,
            class,
            message,
            resend: Resend::No,
            wait: None,
            scope: None,
            choices: Vec::new(),
            allow: None,
            closes: false,
        }
    }

    /// One that ends after `wait`.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self.resend = Resend::after(wait);
        self
    }

    /// One about this limit.
    #[must_use]
    pub fn scoped(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    /// One that says what to do about sending again.
    #[must_use]
    pub fn resend(mut self, resend: Resend) -> Self {
        self.resend = resend;
        self
    }

    /// One after which the client's connection cannot be read further.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// One that lists what could be meant.
    #[must_use]
    pub fn choosing(mut self, choices: &[Choice]) -> Self {
        self.choices = choices.to_vec();
        self
    }

    /// One that lists the methods of the path.
    #[must_use]
    pub fn allowing(mut self, methods: &str) -> Self {
        self.allow = Some(methods.to_owned());
        self
    }

    /// Finch's broad class for the status, so that code written for Finch reads it too.
    fn name(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            402 => "payment_required",
            403 => "insufficient_permission_error",
            404 => "not_found_error",
            422 => "unprocessable_request_error",
            429 => "rate_limit_exceeded_error",
            502 => "bad_gateway_error",
            504 => "timeout_error",
            500..=599 => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body: Finch's members first, then `perch`.
    pub fn to_body(&self, evidence: Evidence<'_>) -> Vec<u8> {
        let mut object = RawObject::default();
        object.set("code", &self.status);
        object.set("name", &self.name());
        object.set("finch_code", &self.finch_code);
        object.set("message", &self.message);
        object.set(
            "perch",
            &Member {
                class: self.class.as_str(),
                origin: "perch",
                retryable: self.resend.is_retryable(),
                retry_at: self.wait.map(|wait| evidence.now.plus(wait)),
                action: self.class.action(),
                scope: self.scope,
                choices: &self.choices,
                since: None,
                reauth_url: None,
                evidence,
            },
        );
        object.to_bytes()
    }
}

/// What is known of the call, for the people who will read the error.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evidence<'a> {
    /// perch's id of the call.
    pub request_id: &'a RequestId,
    /// Finch's id of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finch_request_id: Option<&'a FinchRequestId>,
    /// Whom it was for.
    pub customer: Option<&'a CustomerId>,
    /// Through which connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<&'a ConnectionId>,
    /// How often it was sent.
    pub attempts: u32,
    /// The wall clock, to turn a wait into a time of day.
    #[serde(skip)]
    pub now: UnixMillis,
}

#[derive(Serialize)]
struct Member<'a> {
    class: &'static str,
    origin: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<UnixMillis>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "<[Choice]>::is_empty")]
    choices: &'a [Choice],
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reauth_url: Option<&'a str>,
    #[serde(flatten)]
    evidence: Evidence<'a>,
}

/// What perch adds to an error of Finch's own.
#[derive(Debug, Clone, Copy)]
pub struct Relayed<'a> {
    /// Its class.
    pub class: Class,
    /// Its status, for bodies that are not JSON.
    pub status: u16,
    /// What the client should do about it.
    pub resend: Resend,
    /// How long it will last, when that is known.
    pub wait: Option<Duration>,
    /// Which limit was reached.
    pub scope: Option<&'static str>,
    /// Since when perch knows it, when nothing was sent for this call.
    pub since: Option<UnixMillis>,
    /// Where the customer renews the login.
    pub reauth_url: Option<&'a str>,
    /// What the app should do, when not what the class says.
    pub action: Option<&'static str>,
}

impl Relayed<'_> {
    /// Finch's body with the member `perch` appended; a body that is no JSON object becomes the
    /// `message` of one.
    pub fn to_body(self, finch: &[u8], evidence: Evidence<'_>) -> Vec<u8> {
        let mut object = RawObject::parse(finch).unwrap_or_else(|| {
            let mut object = RawObject::default();
            object.set("code", &self.status);
            object.set("name", &"unreadable_error");
            object.set("message", &String::from_utf8_lossy(finch).chars().take(2_000).collect::<String>());
            object
        });
        object.set(
            "perch",
            &Member {
                class: self.class.as_str(),
                origin: "finch",
                retryable: self.resend.is_retryable(),
                retry_at: self.wait.map(|wait| evidence.now.plus(wait)),
                action: self.action.unwrap_or(self.class.action()),
                scope: self.scope,
                choices: &[],
                since: self.since,
                reauth_url: self.reauth_url,
                evidence,
            },
        );
        object.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Refusal;
    use crate::types::Product;

    fn evidence(request_id: &RequestId) -> Evidence<'_> {
        Evidence {
            request_id,
            finch_request_id: None,
            customer: None,
            connection_id: None,
            attempts: 0,
            now: UnixMillis(1_700_000_000_000),
        }
    }

    fn relayed(class: Class, status: u16) -> Relayed<'static> {
        let (wait, scope, since, reauth_url) = (None, None, None, None);
        Relayed { class, status, resend: Resend::No, wait, scope, since, reauth_url, action: None }
    }

    #[test]
    fn an_own_error_reads_like_one_of_finch() {
        let id = RequestId::new("r1").expect("an id");
        let limited =
            Refusal::Limited { product: Product::Payment, scope: "product", wait: Duration::from_secs(30) };
        let body: serde_json::Value =
            serde_json::from_slice(&limited.problem().to_body(evidence(&id))).expect("JSON");
        assert_eq!(body["code"], 429);
        assert_eq!(body["name"], "rate_limit_exceeded_error");
        assert_eq!(body["finch_code"], "perch_rate_limited");
        assert_eq!(body["perch"]["class"], "rate_limited");
        assert_eq!(body["perch"]["origin"], "perch");
        assert_eq!(body["perch"]["retryable"], true);
        assert_eq!(body["perch"]["retry_at"], "2023-11-14T22:13:50.000Z");
        assert_eq!(body["perch"]["request_id"], "r1");
        assert_eq!(body["perch"]["customer"], serde_json::Value::Null);
        assert!(body["perch"].get("finch_request_id").is_none());
    }

    #[test]
    fn an_error_of_finch_keeps_every_member_it_came_with() {
        let id = RequestId::new("r2").expect("an id");
        let finch =
            br#"{"code":500.0,"status":500,"name":"server_error","perch":"mine","extra":{"a":[1e3]}}"#;
        let relayed = relayed(Class::FinchError, 500);
        let text = String::from_utf8(relayed.to_body(finch, evidence(&id))).expect("text");
        assert!(
            text.starts_with(
                r#"{"code":500.0,"status":500,"name":"server_error","perch":{"class":"finch_error""#
            ),
            "{text}"
        );
        assert!(text.ends_with(r#""extra":{"a":[1e3]}}"#), "{text}");
    }

    #[test]
    fn a_body_that_is_no_object_becomes_one() {
        let id = RequestId::new("r3").expect("an id");
        let relayed = relayed(Class::Disconnected, 401);
        for finch in [&b"Unauthorized"[..], b"", b"\xff\xfe", b"[1]"] {
            let body: serde_json::Value =
                serde_json::from_slice(&relayed.to_body(finch, evidence(&id))).expect("JSON");
            assert_eq!(body["code"], 401);
            assert_eq!(body["perch"]["class"], "disconnected");
        }
    }
}
