//! What became of a call, in one closed vocabulary: header, log field and metric label.

mod answer;
#[cfg(test)]
mod tests;

pub use answer::of_answer;

use crate::finch::catalogue::Code;
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
    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

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
        match error.known_code() {
            Some(Code::FinchApiIpRl) => LimitedBy::Ip,
            Some(Code::FinchAuthIpRl) => LimitedBy::Auth,
            Some(Code::UpstreamRateLimitExceeded) => LimitedBy::Provider,
            Some(Code::FinchApplicationRl | Code::FinchTokenRl | Code::FinchRateLimitExceeded) => {
                LimitedBy::Product
            }
            // Only the refresh quota names a time; it has no code, or one that Finch has given it since.
            _ if error.retry_at().is_some() => LimitedBy::RefreshQuota,
            None if error.finch_code.is_none() && error.retry_at.is_some() => LimitedBy::RefreshQuota,
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
