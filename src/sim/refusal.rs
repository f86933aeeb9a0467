//! Everything Finch is known to say instead of data, in its own words (Finch rate-limit guide).

use serde::Deserialize;
use serde_json::{Value, json};

/// One row of Finch's error catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// 202 with nothing in it: the first sync is not done.
    Accepted,
    /// 202 with a JSON body.
    AcceptedJson,
    InvalidGrant,
    BadRequest,
    InvalidRequest,
    /// The same as 401, as the older error table has it.
    InvalidRequest401,
    InvalidToken,
    Unauthorized,
    /// The bare text of a disconnected connection.
    Disconnected,
    Reauth,
    /// Older forms of `Reauth`.
    SessionExpired,
    InvalidMfaCode,
    LockedOut,
    NoValidAccounts,
    AccountSetupRequired,
    InvalidClient,
    PaymentRequired,
    Permissions,
    InsufficientScope,
    /// The same code as `NoValidAccounts`, as a 403.
    InsufficientPermission,
    AccountUpdateRequired,
    /// Without a `name`.
    AccessDenied,
    NotFound,
    /// The older form of `NotFound`.
    ResourceNotFound,
    BenefitNotFound,
    IndividualNotFound,
    PaymentNotFound,
    EnrollmentNotFound,
    ClientClosed,
    #[serde(alias = "unsupported_parameters")]
    Unprocessable,
    /// As Finch's own description misspells it.
    UnsupportedParamters,
    UnprocessableParameters,
    InvalidEmployeeEnrollment,
    NotSupportedByProvider,
    AppLimit,
    IpLimit,
    AuthIpLimit,
    ProviderLimit,
    /// Older forms of `AppLimit`.
    TokenLimit,
    LegacyLimit,
    ServerError,
    NotImplemented,
    /// The older form of `NotImplemented`.
    NotImplementedOld,
    BadGateway,
    GatewayTimeout,
    /// What Finch may come to say.
    UnknownCode,
    /// `error` in the place of `name`.
    VeryOld,
    /// `error_name` and `error_message`.
    OldNames,
    /// Item level: this payment's statements are still being fetched.
    DataSyncInProgress,
}

impl Reason {
    /// Status, `name` (empty: it has none), `finch_code`, `message`.
    const fn row(self) -> Row {
        match self {
            Reason::Accepted | Reason::AcceptedJson => {
                (202, "accepted", Some("data_sync_in_progress"), "The data is not ready yet")
            }
            Reason::DataSyncInProgress => {
                (202, "accepted", Some("data_sync_in_progress"), "The pay statements are still being fetched")
            }
            Reason::InvalidGrant => (400, "invalid_grant_error", None, "The authorization code is invalid"),
            Reason::BadRequest => (400, "bad_request", Some("invalid_request"), "The request is invalid"),
            Reason::InvalidRequest => {
                (400, "invalid_request_error", Some("invalid_request"), "A parameter is missing or malformed")
            }
            Reason::InvalidRequest401 => {
                (401, "invalid_request_error", Some("invalid_request"), "A parameter is missing or malformed")
            }
            Reason::InvalidToken => (401, "invalid_token_error", None, "The access token is invalid"),
            Reason::Unauthorized => (401, "unauthorized_request_error", None, "No authorization was given"),
            Reason::Disconnected => (401, "", None, "Unauthorized"),
            Reason::Reauth => {
                (401, "authentication_error", Some("reauthenticate_user"), "Please reauthenticate user")
            }
            Reason::SessionExpired => login("session_expired"),
            Reason::InvalidMfaCode => login("invalid_mfa_code"),
            Reason::LockedOut => login("locked_out"),
            Reason::NoValidAccounts => login("no_valid_accounts"),
            Reason::AccountSetupRequired => (
                401,
                "authentication_error",
                Some("account_setup_required"),
                "The employer must finish the set-up of the account",
            ),
            Reason::InvalidClient => (401, "invalid_client_error", None, "Client id or secret is wrong"),
            Reason::PaymentRequired => {
                (402, "payment_required", Some("payment_required"), "Please settle the open invoices")
            }
            Reason::Permissions => (
                403,
                "error_permissions",
                Some("insufficient_account_permissions"),
                "The connected user lacks permissions at the provider",
            ),
            Reason::InsufficientScope => {
                (403, "insufficient_scope_error", None, "The access token does not cover this product")
            }
            Reason::InsufficientPermission => rights("no_valid_accounts"),
            Reason::AccountUpdateRequired => rights("account_update_required"),
            Reason::AccessDenied => (403, "", Some("access_denied"), "Access to this benefit is denied"),
            Reason::ResourceNotFound => (404, "resource_not_found_error", None, "No such resource"),
            Reason::NotFound => (404, "not_found_error", Some("item_not_found"), "No such item"),
            Reason::BenefitNotFound => (404, "not_found_error", Some("benefit_not_found"), "No such benefit"),
            Reason::IndividualNotFound => {
                (404, "not_found_error", Some("individual_not_found"), "No such individual")
            }
            Reason::PaymentNotFound => (404, "not_found_error", Some("payment_not_found"), "No such payment"),
            Reason::EnrollmentNotFound => (404, "bad_request", Some("enrollment_not_found"), "Not enrolled"),
            Reason::ClientClosed => {
                (408, "client connection closed", Some("client_connection_closed"), "The client went away")
            }
            Reason::Unprocessable => unable("unsupported_parameters"),
            Reason::UnsupportedParamters => unable("unsupported_paramters"),
            Reason::UnprocessableParameters => unable("unprocessable_parameters"),
            Reason::InvalidEmployeeEnrollment => unable("invalid_employee_enrollment"),
            Reason::NotSupportedByProvider => unable("not_supported_by_provider"),
            Reason::AppLimit => limited("finch_application_rl"),
            Reason::IpLimit => limited("finch_api_ip_rl"),
            Reason::AuthIpLimit => limited("finch_auth_ip_rl"),
            Reason::ProviderLimit => limited("upstream_rate_limit_exceeded"),
            Reason::TokenLimit => limited("finch_token_rl"),
            Reason::LegacyLimit => limited("finch_rate_limit_exceeded"),
            Reason::ServerError => {
                (500, "server_error", Some("internal_server_error"), "Something went wrong")
            }
            Reason::NotImplemented => (
                501,
                "not_implemented_error",
                Some("internal_server_error"),
                "Not implemented for this provider",
            ),
            Reason::NotImplementedOld => (501, "not_implemented", None, "Not implemented for this provider"),
            Reason::BadGateway => {
                (502, "bad_gateway_error", Some("upstream_provider_error"), "The provider is not answering")
            }
            Reason::GatewayTimeout => (504, "timeout_error", None, "The provider took too long"),
            Reason::UnknownCode => (418, "brand_new_error", Some("brand_new_code"), "Nobody knows this yet"),
            Reason::VeryOld => (400, "invalid_request_error", None, "A parameter is missing or malformed"),
            Reason::OldNames => (500, "server_error", None, "Something went wrong"),
        }
    }

    /// The HTTP status.
    pub(super) const fn status(self) -> u16 {
        self.row().0
    }

    /// The error object with the catalogue's message, or another.
    pub(super) fn body(self, message: Option<&str>) -> Value {
        let (status, name, finch_code, usual) = self.row();
        let message = message.unwrap_or(usual);
        let mut body = match self {
            Reason::VeryOld => json!({ "error": name, "message": message }),
            Reason::OldNames => json!({ "code": status, "error_name": name, "error_message": message }),
            _ if name.is_empty() => json!({ "code": status, "message": message }),
            _ => json!({ "code": status, "name": name, "message": message }),
        };
        if let Some(finch_code) = finch_code {
            body["finch_code"] = finch_code.into();
        }
        if status == 429 {
            body["statusCode"] = status.into();
            body["status"] = status.into();
        }
        body
    }
}

type Row = (u16, &'static str, Option<&'static str>, &'static str);

const fn login(finch_code: &'static str) -> Row {
    (401, "authentication_error", Some(finch_code), "Please reauthenticate user")
}

const fn rights(finch_code: &'static str) -> Row {
    (403, "insufficient_permission_error", Some(finch_code), "The connected user lacks permissions")
}

const fn unable(finch_code: &'static str) -> Row {
    (422, "unprocessable_request_error", Some(finch_code), "The provider cannot do this")
}

const fn limited(finch_code: &'static str) -> Row {
    // The text names the token even where the application is meant (Finch rate-limit guide).
    (429, "rate_limit_exceeded_error", Some(finch_code), "Too many requests for token")
}

/// The error object for a status that came without a reason.
pub(super) fn plain(status: u16) -> Value {
    let name = match status {
        200..=299 => "accepted",
        429 => "rate_limit_exceeded_error",
        400..=499 => "bad_request",
        _ => "server_error",
    };
    json!({ "code": status, "name": name, "message": format!("simulated {status}") })
}

/// A reason with, where it helps, a message of its own.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: Option<String>,
}

impl Refusal {
    /// A refusal that says more than the catalogue.
    pub(super) fn because(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: Some(message.into()) }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, message: None }
    }
}
