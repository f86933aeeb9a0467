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
    AccountSetupRequired,
    InvalidClient,
    PaymentRequired,
    Permissions,
    InsufficientScope,
    NotFound,
    BenefitNotFound,
    IndividualNotFound,
    PaymentNotFound,
    EnrollmentNotFound,
    ClientClosed,
    Unprocessable,
    InvalidEmployeeEnrollment,
    NotSupportedByProvider,
    AppLimit,
    IpLimit,
    AuthIpLimit,
    ProviderLimit,
    ServerError,
    NotImplemented,
    BadGateway,
    GatewayTimeout,
    /// Item level: this payment's statements are still being fetched.
    DataSyncInProgress,
}

impl Reason {
    /// Status, `name`, `finch_code`, `message`.
    const fn row(self) -> (u16, &'static str, Option<&'static str>, &'static str) {
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
            Reason::Unprocessable => (
                422,
                "unprocessable_request_error",
                Some("unsupported_parameters"),
                "The provider cannot do this",
            ),
            Reason::InvalidEmployeeEnrollment => (
                422,
                "unprocessable_request_error",
                Some("invalid_employee_enrollment"),
                "The enrolment is not possible",
            ),
            Reason::NotSupportedByProvider => (
                422,
                "unprocessable_request_error",
                Some("not_supported_by_provider"),
                "The provider does not support this",
            ),
            Reason::AppLimit => limited("finch_application_rl"),
            Reason::IpLimit => limited("finch_api_ip_rl"),
            Reason::AuthIpLimit => limited("finch_auth_ip_rl"),
            Reason::ProviderLimit => limited("upstream_rate_limit_exceeded"),
            Reason::ServerError => {
                (500, "server_error", Some("internal_server_error"), "Something went wrong")
            }
            Reason::NotImplemented => (
                501,
                "not_implemented_error",
                Some("internal_server_error"),
                "Not implemented for this provider",
            ),
            Reason::BadGateway => {
                (502, "bad_gateway_error", Some("upstream_provider_error"), "The provider is not answering")
            }
            Reason::GatewayTimeout => (504, "timeout_error", None, "The provider took too long"),
        }
    }

    /// The HTTP status.
    pub(super) const fn status(self) -> u16 {
        self.row().0
    }

    /// The error object with the catalogue's message, or another.
    pub(super) fn body(self, message: Option<&str>) -> Value {
        let (status, name, finch_code, usual) = self.row();
        let mut body = json!({ "code": status, "name": name, "message": message.unwrap_or(usual) });
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

const fn limited(finch_code: &'static str) -> (u16, &'static str, Option<&'static str>, &'static str) {
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
