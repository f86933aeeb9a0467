//! What became of a call, in one closed vocabulary: header, log field and metric label.

use crate::finch::endpoints::{Auth, Endpoint, Operation};
use crate::finch::error::FinchError;

macro_rules! classes {
    ($($(#[$doc:meta])+ $name:ident = $label:literal, $action:literal;)+) => {
        /// What became of a call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Class { $($(#[$doc])+ $name),+ }

        impl Class {
            /// Every class.
            pub const ALL: [Class; [$(Class::$name),+].len()] = [$(Class::$name),+];

            /// The word for headers, logs and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Class::$name => $label),+ }
            }

            /// What the app should do now, in a sentence.
            pub const fn action(self) -> &'static str {
                match self { $(Class::$name => $action),+ }
            }
        }
    };
}

classes! {
    /// Finch answered with what was asked for.
    Ok = "ok", "use the answer";
    /// Finch answered, and some items of the batch are errors.
    Partial = "partial", "use the good items; look at the code of each of the others";
    /// 202: the connection exists, its data does not yet.
    NotReady = "not_ready", "ask again later; the first sync is not done";
    /// The employer's login at the provider no longer works.
    ReauthenticationRequired = "reauthentication_required", "send the customer through reauthentication; do not disconnect";
    /// The employer has not finished setting up the account.
    AccountSetupRequired = "account_setup_required", "ask the customer to finish the setup of the account";
    /// The connection is gone for good.
    Disconnected = "disconnected", "send the customer through Finch Connect again";
    /// Scopes or rights at the provider are missing.
    PermissionDenied = "permission_denied", "ask for more products, or for more rights at the provider";
    /// The call itself is wrong.
    InvalidRequest = "invalid_request", "fix the call; the same call will fail again";
    /// This provider cannot do it.
    NotSupported = "not_supported", "do not ask this provider for it again";
    /// A limit is reached: Finch's, the provider's, or perch's own before either.
    RateLimited = "rate_limited", "wait until retry_at, then ask once";
    /// The provider failed behind Finch.
    ProviderError = "provider_error", "ask again later";
    /// Finch failed.
    FinchError = "finch_error", "try again in some hours; then write to Finch's support with the Finch-Request-ID";
    /// No answer of Finch's was had.
    FinchUnreachable = "finch_unreachable", "ask again later";
    /// Finch refuses the whole application: unpaid, or wrong credentials.
    ApplicationBlocked = "application_blocked", "tell the operator: billing or credentials of the Finch application";
    /// perch knows no such customer or connection.
    UnknownCustomer = "unknown_customer", "check the customer id, or let the customer finish Finch Connect";
    /// perch does not let this app do this.
    CallerRefused = "caller_refused", "fix the caller, or ask the operator to allow it";
    /// perch itself cannot serve now.
    PerchUnavailable = "perch_unavailable", "ask again in a moment";
    /// The client left before anything was sent to Finch; nobody sees this answer.
    Abandoned = "abandoned", "nothing";
}

impl Class {
    /// Whether the app got something other than what it asked for.
    pub const fn is_error(self) -> bool {
        !matches!(self, Class::Ok | Class::Partial | Class::NotReady)
    }
}

/// Which limit a 429 speaks of (Finch rate-limit guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitedBy {
    /// The application's counter of one product.
    Product,
    /// The egress IP: everything is refused for an hour.
    Ip,
    /// The egress IP, for Connect and authentication only.
    Auth,
    /// The provider throttles Finch for this connection.
    Provider,
    /// The connection's hourly forced refresh is spent.
    RefreshQuota,
}

impl LimitedBy {
    /// Reads the scope from a 429's body.
    pub fn of(error: &FinchError) -> Self {
        match error.finch_code.as_deref() {
            Some("finch_api_ip_rl") => LimitedBy::Ip,
            Some("finch_auth_ip_rl") => LimitedBy::Auth,
            Some("upstream_rate_limit_exceeded") => LimitedBy::Provider,
            None if error.retry_at.is_some() => LimitedBy::RefreshQuota,
            _ => LimitedBy::Product,
        }
    }

    /// The word for the `scope` member of an error and for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            LimitedBy::Product => "product",
            LimitedBy::Ip => "ip",
            LimitedBy::Auth => "auth",
            LimitedBy::Provider => "provider",
            LimitedBy::RefreshQuota => "refresh_quota",
        }
    }
}

/// The class of Finch's answer. Batches are looked at apart, by `policy::batch`.
///
/// Codes come first, since one status means several things (a 401 may be a malformed request);
/// an unknown code falls back to its status (Finch API reference).
pub fn of_answer(endpoint: &Endpoint, status: u16, error: &FinchError) -> Class {
    if (200..300).contains(&status) {
        // A 202 of the job queue is its answer, not a lack of one.
        let is_waiting = status == 202 && endpoint.operation != Operation::CreateAutomatedJob;
        return if is_waiting { Class::NotReady } else { Class::Ok };
    }
    let name = error.name.as_deref().unwrap_or("");
    let code = error.finch_code.as_deref().unwrap_or("");
    match status {
        401 => match (name, code) {
            (_, "account_setup_required") => Class::AccountSetupRequired,
            (
                _,
                "reauthenticate_user"
                | "session_expired"
                | "invalid_mfa_code"
                | "locked_out"
                | "no_valid_accounts",
            ) => Class::ReauthenticationRequired,
            ("invalid_request_error", _) | (_, "invalid_request") => Class::InvalidRequest,
            ("invalid_client_error", _) => Class::ApplicationBlocked,
            ("authentication_error", _) => Class::ReauthenticationRequired,
            // Finch does not know the token, or answers with the bare text of a dead connection.
            _ if endpoint.auth == Auth::Bearer => Class::Disconnected,
            _ => Class::ApplicationBlocked,
        },
        402 => Class::ApplicationBlocked,
        403 => Class::PermissionDenied,
        // Finch saw its client leave: perch gave up on it.
        408 => Class::FinchUnreachable,
        422 if code == "not_supported_by_provider" => Class::NotSupported,
        429 => Class::RateLimited,
        400..=499 => Class::InvalidRequest,
        501 => Class::NotSupported,
        502 | 504 => Class::ProviderError,
        _ => Class::FinchError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finch::endpoints::{Method, find};

    fn classify(path: &str, status: u16, body: &str) -> Class {
        let endpoint =
            [Method::Get, Method::Post].into_iter().find_map(|m| find(m, path)).expect("a path of Finch");
        of_answer(endpoint, status, &FinchError::read(body.as_bytes()))
    }

    #[test]
    fn every_answer_has_its_class() {
        for (status, body, class) in [
            (200, "{}", Class::Ok),
            (207, "[]", Class::Ok),
            (202, "", Class::NotReady),
            (400, r#"{"name":"invalid_request_error"}"#, Class::InvalidRequest),
            (
                401,
                r#"{"name":"authentication_error","finch_code":"reauthenticate_user"}"#,
                Class::ReauthenticationRequired,
            ),
            (
                401,
                r#"{"name":"authentication_error","finch_code":"account_setup_required"}"#,
                Class::AccountSetupRequired,
            ),
            (
                401,
                r#"{"name":"authentication_error","finch_code":"locked_out"}"#,
                Class::ReauthenticationRequired,
            ),
            (
                401,
                r#"{"name":"authentication_error","finch_code":"brand_new"}"#,
                Class::ReauthenticationRequired,
            ),
            (
                401,
                r#"{"name":"invalid_request_error","finch_code":"invalid_request"}"#,
                Class::InvalidRequest,
            ),
            (401, r#"{"name":"invalid_token_error"}"#, Class::Disconnected),
            (401, "Unauthorized", Class::Disconnected),
            (402, r#"{"name":"payment_required"}"#, Class::ApplicationBlocked),
            (403, r#"{"name":"insufficient_scope_error"}"#, Class::PermissionDenied),
            (404, r#"{"name":"not_found_error"}"#, Class::InvalidRequest),
            (408, r#"{"finch_code":"client_connection_closed"}"#, Class::FinchUnreachable),
            (422, r#"{"finch_code":"not_supported_by_provider"}"#, Class::NotSupported),
            (422, r#"{"finch_code":"unsupported_paramters"}"#, Class::InvalidRequest),
            (429, r#"{"finch_code":"finch_application_rl"}"#, Class::RateLimited),
            (500, r#"{"name":"server_error"}"#, Class::FinchError),
            (501, r#"{"name":"not_implemented"}"#, Class::NotSupported),
            (502, r#"{"finch_code":"upstream_provider_error"}"#, Class::ProviderError),
            (503, "<html>", Class::FinchError),
            (504, r#"{"name":"timeout_error"}"#, Class::ProviderError),
            (599, "", Class::FinchError),
        ] {
            assert_eq!(classify("/employer/company", status, body), class, "{status} {body}");
        }
        assert_eq!(classify("/connect/sessions", 401, "{}"), Class::ApplicationBlocked);
        assert_eq!(
            classify("/auth/token", 401, r#"{"name":"invalid_client_error"}"#),
            Class::ApplicationBlocked
        );
        assert_eq!(classify("/jobs/automated", 200, "{}"), Class::Ok);
    }

    #[test]
    fn a_queued_job_is_an_answer() {
        let jobs = find(Method::Post, "/jobs/automated").expect("a path of Finch");
        assert_eq!(of_answer(jobs, 202, &FinchError::default()), Class::Ok);
    }

    #[test]
    fn a_429_tells_its_scope() {
        for (body, scope) in [
            (r#"{"finch_code":"finch_application_rl"}"#, LimitedBy::Product),
            (r#"{"finch_code":"finch_api_ip_rl"}"#, LimitedBy::Ip),
            (r#"{"finch_code":"finch_auth_ip_rl"}"#, LimitedBy::Auth),
            (r#"{"finch_code":"upstream_rate_limit_exceeded"}"#, LimitedBy::Provider),
            (r#"{"retry_at":"2026-11-23T10:00:00Z"}"#, LimitedBy::RefreshQuota),
            (r#"{"finch_code":"something_new","retry_at":"x"}"#, LimitedBy::Product),
            ("", LimitedBy::Product),
        ] {
            assert_eq!(LimitedBy::of(&FinchError::read(body.as_bytes())), scope, "{body}");
        }
    }
}
