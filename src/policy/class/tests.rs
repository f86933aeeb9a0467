//! The whole catalogue, row by row, and what Finch is not known to say.

use super::*;
use crate::finch::catalogue::Name;
use crate::finch::endpoints::{Endpoint, Method, find};
use std::collections::HashSet;

const READ: (Method, &str) = (Method::Get, "/employer/company");

/// Status, `name`, `finch_code`, class; an empty word is left out of the body.
const ROWS: [(u16, &str, &str, Class); 62] = [
    (400, "invalid_grant_error", "", Class::InvalidRequest),
    (400, "bad_request", "invalid_request", Class::InvalidRequest),
    (400, "invalid_request_error", "invalid_request", Class::InvalidRequest),
    (400, "invalid_request_error", "", Class::InvalidRequest),
    (401, "invalid_request_error", "invalid_request", Class::InvalidRequest),
    (401, "invalid_request_error", "", Class::InvalidRequest),
    (401, "", "invalid_request", Class::InvalidRequest),
    (401, "authentication_error", "invalid_request", Class::InvalidRequest),
    (401, "invalid_token_error", "", Class::Disconnected),
    (401, "invalid_token_error", "brand_new", Class::Disconnected),
    (401, "", "", Class::Disconnected),
    (401, "brand_new", "", Class::Disconnected),
    (401, "unauthorized_request_error", "", Class::ApplicationBlocked),
    (401, "invalid_client_error", "", Class::ApplicationBlocked),
    (401, "authentication_error", "reauthenticate_user", Class::ReauthenticationRequired),
    (401, "", "reauthenticate_user", Class::ReauthenticationRequired),
    (401, "authentication_error", "session_expired", Class::ReauthenticationRequired),
    (401, "authentication_error", "invalid_mfa_code", Class::ReauthenticationRequired),
    (401, "authentication_error", "locked_out", Class::ReauthenticationRequired),
    (401, "authentication_error", "no_valid_accounts", Class::ReauthenticationRequired),
    (401, "authentication_error", "", Class::ReauthenticationRequired),
    (401, "authentication_error", "brand_new", Class::ReauthenticationRequired),
    (401, "brand_new", "brand_new", Class::ReauthenticationRequired),
    (401, "authentication_error", "account_setup_required", Class::AccountSetupRequired),
    (402, "payment_required", "payment_required", Class::ApplicationBlocked),
    (402, "", "", Class::ApplicationBlocked),
    (403, "payment_required", "payment_required", Class::ApplicationBlocked),
    (403, "error_permissions", "insufficient_account_permissions", Class::PermissionDenied),
    (403, "insufficient_scope_error", "", Class::PermissionDenied),
    (401, "insufficient_scope_error", "", Class::PermissionDenied),
    (403, "insufficient_permission_error", "no_valid_accounts", Class::PermissionDenied),
    (403, "insufficient_permission_error", "account_update_required", Class::PermissionDenied),
    (403, "", "access_denied", Class::PermissionDenied),
    (403, "access_denied", "", Class::PermissionDenied),
    (403, "authentication_error", "reauthenticate_user", Class::ReauthenticationRequired),
    (404, "not_found_error", "item_not_found", Class::InvalidRequest),
    (404, "not_found_error", "benefit_not_found", Class::InvalidRequest),
    (404, "not_found_error", "individual_not_found", Class::InvalidRequest),
    (404, "not_found_error", "payment_not_found", Class::InvalidRequest),
    (404, "bad_request", "enrollment_not_found", Class::InvalidRequest),
    (404, "resource_not_found_error", "", Class::InvalidRequest),
    (408, "client connection closed", "client_connection_closed", Class::FinchUnreachable),
    (422, "unprocessable_request_error", "unsupported_parameters", Class::InvalidRequest),
    (422, "unprocessable_request_error", "unsupported_paramters", Class::InvalidRequest),
    (422, "unprocessable_request_error", "unprocessable_parameters", Class::InvalidRequest),
    (422, "unprocessable_request_error", "invalid_employee_enrollment", Class::InvalidRequest),
    (422, "unprocessable_request_error", "", Class::InvalidRequest),
    (422, "unprocessable_request_error", "not_supported_by_provider", Class::NotSupported),
    (429, "rate_limit_exceeded_error", "finch_application_rl", Class::RateLimited),
    (500, "server_error", "internal_server_error", Class::FinchError),
    (500, "server_error", "", Class::FinchError),
    (500, "server_error", "reauthenticate_user", Class::ReauthenticationRequired),
    (500, "server_error", "account_setup_required", Class::AccountSetupRequired),
    (500, "invalid_request_error", "invalid_request", Class::FinchError),
    (500, "not_implemented", "", Class::NotSupported),
    (501, "not_implemented_error", "internal_server_error", Class::NotSupported),
    (501, "not_implemented", "", Class::NotSupported),
    (502, "bad_gateway_error", "upstream_provider_error", Class::ProviderError),
    (500, "server_error", "upstream_provider_error", Class::ProviderError),
    (503, "", "", Class::FinchError),
    (504, "timeout_error", "", Class::ProviderError),
    (500, "timeout_error", "", Class::ProviderError),
];

fn endpoint((method, path): (Method, &str)) -> &'static Endpoint {
    find(method, path).expect("a path of Finch")
}

fn classify(at: (Method, &str), status: u16, body: &str) -> Class {
    of_answer(endpoint(at), status, &FinchError::read(body.as_bytes()))
}

fn body(members: [(&str, &str); 2]) -> String {
    let members = members.iter().filter(|(_, word)| !word.is_empty());
    let members: Vec<String> = members.map(|(member, word)| format!("{member:?}:{word:?}")).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn every_row_of_the_catalogue_has_its_class_in_every_form() {
    for (status, name, code, class) in ROWS {
        let shout =
            |word: &str| if word.is_empty() { String::new() } else { format!(" {} ", word.to_uppercase()) };
        for body in [
            body([("name", name), ("finch_code", code)]),
            body([("error_name", name), ("finch_code", code)]),
            body([("error", name), ("finch_code", code)]),
            body([("name", &shout(name)), ("finch_code", &shout(code))]),
        ] {
            assert_eq!(classify(READ, status, &body), class, "{status} {body}");
        }
    }
}

#[test]
fn every_word_of_the_catalogue_of_errors_is_in_a_row() {
    let elsewhere = [
        Code::FinchApiIpRl, // the scopes of a 429 have a table of their own
        Code::FinchAuthIpRl,
        Code::UpstreamRateLimitExceeded,
        Code::FinchTokenRl,
        Code::FinchRateLimitExceeded,
        Code::DataSyncInProgress, // of answers that are no errors
        Code::EnrolledNewBenefit,
        Code::UpdatedExistingEnrollment,
        Code::UnenrolledIndividualBenefit,
    ];
    let codes: HashSet<Code> = ROWS.iter().filter_map(|row| Code::parse(row.2)).chain(elsewhere).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    let names: HashSet<Name> = ROWS.iter().filter_map(|row| Name::parse(row.1)).collect();
    assert_eq!(names.len() + [Name::Accepted, Name::Created].len(), Name::ALL.len());
}

#[test]
fn what_nobody_knows_falls_back_to_its_status() {
    for body in ["", "<html>", "[]", "null", "7.5", r#"{"name":7,"finch_code":[],"code":{}}"#, "\u{1}"] {
        for (status, class) in [
            (302, Class::FinchError),
            (400, Class::InvalidRequest),
            (401, Class::Disconnected),
            (402, Class::ApplicationBlocked),
            (403, Class::PermissionDenied),
            (404, Class::InvalidRequest),
            (405, Class::InvalidRequest),
            (408, Class::FinchUnreachable),
            (409, Class::InvalidRequest),
            (413, Class::InvalidRequest),
            (422, Class::InvalidRequest),
            (429, Class::RateLimited),
            (499, Class::InvalidRequest),
            (500, Class::FinchError),
            (501, Class::NotSupported),
            (502, Class::ProviderError),
            (503, Class::FinchError),
            (504, Class::ProviderError),
            (520, Class::FinchError),
            (599, Class::FinchError),
        ] {
            assert_eq!(classify(READ, status, body), class, "{status} {body}");
        }
    }
    assert_eq!(classify(READ, 401, "Unauthorized"), Class::Disconnected);
}

#[test]
fn a_401_that_no_customer_caused_is_the_operators() {
    for at in [(Method::Post, "/connect/sessions"), (Method::Post, "/auth/token")] {
        for body in
            ["{}", "Unauthorized", r#"{"name":"invalid_client_error"}"#, r#"{"finch_code":"brand_new"}"#]
        {
            assert_eq!(classify(at, 401, body), Class::ApplicationBlocked, "{body}");
        }
        assert_eq!(classify(at, 401, r#"{"finch_code":"invalid_request"}"#), Class::InvalidRequest);
    }
}

#[test]
fn whatever_finch_says_with_a_good_status_is_good() {
    for status in [200, 201, 204, 207] {
        assert_eq!(classify(READ, status, r#"{"finch_code":"reauthenticate_user"}"#), Class::Ok);
    }
    assert_eq!(classify(READ, 202, ""), Class::NotReady);
    assert_eq!(classify((Method::Post, "/jobs/automated"), 202, ""), Class::Ok, "a queued job is an answer");
}

#[test]
fn a_429_tells_its_scope() {
    for (body, scope) in [
        (r#"{"finch_code":"finch_application_rl"}"#, LimitedBy::Product),
        (r#"{"finch_code":"finch_token_rl"}"#, LimitedBy::Product),
        (r#"{"finch_code":"finch_rate_limit_exceeded"}"#, LimitedBy::Product),
        (r#"{"finch_code":"finch_token_rl","retry_at":"2026-11-23T10:00:00Z"}"#, LimitedBy::Product),
        (r#"{"finch_code":"finch_api_ip_rl"}"#, LimitedBy::Ip),
        (r#"{"finch_code":" FINCH_API_IP_RL "}"#, LimitedBy::Ip),
        (r#"{"finch_code":"finch_auth_ip_rl"}"#, LimitedBy::Auth),
        (r#"{"finch_code":"upstream_rate_limit_exceeded"}"#, LimitedBy::Provider),
        (r#"{"retry_at":"2026-11-23T10:00:00Z"}"#, LimitedBy::RefreshQuota),
        (r#"{"retry_at":1795428000}"#, LimitedBy::RefreshQuota),
        (r#"{"retry_at":"later"}"#, LimitedBy::RefreshQuota),
        (r#"{"finch_code":"something_new","retry_at":"2026-11-23T10:00:00Z"}"#, LimitedBy::RefreshQuota),
        (r#"{"finch_code":"something_new","retry_at":"x"}"#, LimitedBy::Product),
        (r#"{"name":"rate_limit_exceeded_error"}"#, LimitedBy::Product),
        ("", LimitedBy::Product),
    ] {
        assert_eq!(LimitedBy::of(&FinchError::read(body.as_bytes())), scope, "{body}");
    }
}
