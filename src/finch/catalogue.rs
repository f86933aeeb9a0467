//! Finch's error catalogue: every `finch_code` and every `name` it is known to send, with their older forms
//! and its own misspelling (Finch error guide, Finch rate-limit guide, Finch batch-error guide). What is not here is
//! passed on all the same; it only has no meaning of its own.

use super::error::FinchError;

macro_rules! words {
    ($(#[$doc:meta])+ $set:ident { $($(#[$of:meta])+ $word:ident = $text:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $set { $($(#[$of])+ $word),+ }

        impl $set {
            /// All of them.
            pub const ALL: [$set; [$($set::$word),+].len()] = [$($set::$word),+];

            /// The word as Finch writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $($set::$word => $text),+ }
            }

            /// Reads a word, whatever its case and the space around it.
            pub fn parse(text: &str) -> Option<Self> {
                let text = text.trim();
                Self::ALL.into_iter().find(|word| word.as_str().eq_ignore_ascii_case(text))
            }
        }
    };
}

words! {
    /// The finer class of an error, or of an item of a batch.
    Code {
        /// A member is missing or malformed.
        InvalidRequest = "invalid_request",
        /// The login at the provider no longer works.
        ReauthenticateUser = "reauthenticate_user",
        /// The employer must finish the setup.
        AccountSetupRequired = "account_setup_required",
        /// Older form of `reauthenticate_user`.
        SessionExpired = "session_expired",
        /// Older form of `reauthenticate_user`.
        InvalidMfaCode = "invalid_mfa_code",
        /// Older form of `reauthenticate_user`.
        LockedOut = "locked_out",
        /// Older: as 401 the login is useless, as 403 it has no rights.
        NoValidAccounts = "no_valid_accounts",
        /// Unpaid invoices; the whole application is blocked.
        PaymentRequired = "payment_required",
        /// The provider's user lacks rights.
        InsufficientAccountPermissions = "insufficient_account_permissions",
        /// Older form of a lack of rights.
        AccountUpdateRequired = "account_update_required",
        /// A benefit item was refused; it comes without a `name`.
        AccessDenied = "access_denied",
        /// No such thing.
        ItemNotFound = "item_not_found",
        /// No such benefit.
        BenefitNotFound = "benefit_not_found",
        /// No such individual.
        IndividualNotFound = "individual_not_found",
        /// No such payment.
        PaymentNotFound = "payment_not_found",
        /// No such enrolment; its `name` is `bad_request`.
        EnrollmentNotFound = "enrollment_not_found",
        /// Finch saw its client leave.
        ClientConnectionClosed = "client_connection_closed",
        /// The provider takes other parameters.
        UnsupportedParameters = "unsupported_parameters",
        /// The same as Finch's API description misspells it.
        UnsupportedParamters = "unsupported_paramters",
        /// The parameters contradict what the provider holds.
        UnprocessableParameters = "unprocessable_parameters",
        /// This employee cannot be enrolled so.
        InvalidEmployeeEnrollment = "invalid_employee_enrollment",
        /// The provider cannot do it at all.
        NotSupportedByProvider = "not_supported_by_provider",
        /// The application's requests for one product are spent.
        FinchApplicationRl = "finch_application_rl",
        /// The egress IP is blocked.
        FinchApiIpRl = "finch_api_ip_rl",
        /// The egress IP is blocked for Connect and authentication.
        FinchAuthIpRl = "finch_auth_ip_rl",
        /// The provider throttles Finch.
        UpstreamRateLimitExceeded = "upstream_rate_limit_exceeded",
        /// Older form of `finch_application_rl`.
        FinchTokenRl = "finch_token_rl",
        /// Older form of `finch_application_rl`.
        FinchRateLimitExceeded = "finch_rate_limit_exceeded",
        /// A fault of Finch's; as 501 it is not built for this provider.
        InternalServerError = "internal_server_error",
        /// The provider failed.
        UpstreamProviderError = "upstream_provider_error",
        /// The data is still being fetched.
        DataSyncInProgress = "data_sync_in_progress",
        /// Success of a benefit item: enrolled.
        EnrolledNewBenefit = "enrolled_new_benefit",
        /// Success of a benefit item: changed.
        UpdatedExistingEnrollment = "updated_existing_enrollment",
        /// Success of a benefit item: taken out.
        UnenrolledIndividualBenefit = "unenrolled_individual_benefit",
    }
}

words! {
    /// The broad class of an error, or of an item of a batch.
    Name {
        /// The authorization code is bad, old or spent.
        InvalidGrantError = "invalid_grant_error",
        /// The call is wrong; also of enrolments that do not exist.
        BadRequest = "bad_request",
        /// The call is wrong; comes with 400 and with 401.
        InvalidRequestError = "invalid_request_error",
        /// Finch does not know the token.
        InvalidTokenError = "invalid_token_error",
        /// Finch saw no authorization.
        UnauthorizedRequestError = "unauthorized_request_error",
        /// The login at the provider; the `finch_code` tells more.
        AuthenticationError = "authentication_error",
        /// The application's id or secret is wrong.
        InvalidClientError = "invalid_client_error",
        /// Unpaid invoices.
        PaymentRequired = "payment_required",
        /// The provider's user lacks rights.
        ErrorPermissions = "error_permissions",
        /// The product is not in the token's scopes.
        InsufficientScopeError = "insufficient_scope_error",
        /// Older form of a lack of rights.
        InsufficientPermissionError = "insufficient_permission_error",
        /// A benefit item was refused, in the older place of the word.
        AccessDenied = "access_denied",
        /// No such thing.
        NotFoundError = "not_found_error",
        /// Older form of `not_found_error`.
        ResourceNotFoundError = "resource_not_found_error",
        /// Finch saw its client leave; Finch writes it with spaces.
        ClientConnectionClosed = "client connection closed",
        /// The provider cannot do this.
        UnprocessableRequestError = "unprocessable_request_error",
        /// A limit was reached; the `finch_code` tells which.
        RateLimitExceededError = "rate_limit_exceeded_error",
        /// A fault of Finch's.
        ServerError = "server_error",
        /// Not built for this provider.
        NotImplementedError = "not_implemented_error",
        /// Older form of `not_implemented_error`.
        NotImplemented = "not_implemented",
        /// The provider failed.
        BadGatewayError = "bad_gateway_error",
        /// The provider took too long.
        TimeoutError = "timeout_error",
        /// Not ready yet.
        Accepted = "accepted",
        /// Success of a benefit item.
        Created = "created",
    }
}

/// How well an error is known. Its word is a metric label: one of [`Code::ALL`] and two more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    /// By its `finch_code`.
    Code(Code),
    /// It has no `finch_code`, which many of Finch's errors have not.
    Uncoded,
    /// Its `finch_code` is not in the catalogue, or it has none and its `name` is not.
    Unknown,
}

impl Known {
    /// Looks an error up.
    pub fn of(error: &FinchError) -> Self {
        match (&error.finch_code, &error.name) {
            (Some(code), _) => Code::parse(code).map_or(Known::Unknown, Known::Code),
            (None, Some(name)) if Name::parse(name).is_none() => Known::Unknown,
            (None, _) => Known::Uncoded,
        }
    }

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Known::Code(code) => code.as_str(),
            Known::Uncoded => "none",
            Known::Unknown => "unknown_code",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_own_and_reads_back() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code), "{}", code.as_str());
            assert_eq!(Code::parse(&format!(" {}\t", code.as_str().to_ascii_uppercase())), Some(code));
            assert!(!["none", "unknown_code"].contains(&code.as_str()), "these labels mean something else");
        }
        for name in Name::ALL {
            assert_eq!(Name::parse(name.as_str()), Some(name), "{}", name.as_str());
        }
        for strange in ["", "reauthenticate", "reauthenticate_user_", "reauthenticate user"] {
            assert_eq!((Code::parse(strange), Name::parse(strange)), (None, None), "{strange}");
        }
    }

    #[test]
    fn an_error_is_counted_under_a_word_of_the_catalogue_and_nothing_else() {
        for (body, label) in [
            (r#"{"name":"server_error","finch_code":"internal_server_error"}"#, "internal_server_error"),
            (r#"{"name":"brand_new","finch_code":"locked_out"}"#, "locked_out"),
            (r#"{"finch_code":" Locked_Out "}"#, "locked_out"),
            (r#"{"finch_code":"unsupported_paramters"}"#, "unsupported_paramters"),
            (r#"{"name":"invalid_token_error"}"#, "none"),
            (r#"{"error":"not_found_error","message":"m"}"#, "none"),
            (r#"{"message":"m"}"#, "none"),
            (r#"{"finch_code":"","name":null}"#, "none"),
            (r#"{"finch_code":7,"name":{}}"#, "none"),
            ("Unauthorized", "none"),
            ("", "none"),
            (r#"{"name":"server_error","finch_code":"brand_new"}"#, "unknown_code"),
            (r#"{"name":"brand_new"}"#, "unknown_code"),
            (r#"{"finch_code":"evil\"} 1\n"}"#, "unknown_code"),
        ] {
            assert_eq!(Known::of(&FinchError::read(body.as_bytes())).as_str(), label, "{body}");
        }
    }
}
