//! From what Finch said to the class of it: codes and names of the catalogue first, the status last.

use super::Class;
use crate::finch::catalogue::{Code, Name};
use crate::finch::endpoints::{Auth, Endpoint, Operation};
use crate::finch::error::FinchError;

/// The class of Finch's answer. Batches are looked at apart, by `policy::batch`.
///
/// The status decides where it has one meaning. Where it has several (a 401 may be a malformed request, a 500 a login
/// that ended) the `finch_code` goes before the `name`, and what neither settles falls back to the status
/// (Finch error guide).
pub fn of_answer(endpoint: &Endpoint, status: u16, error: &FinchError) -> Class {
    match status {
        // A 202 of the job queue is its answer, not a lack of one.
        202 if endpoint.operation != Operation::CreateAutomatedJob => Class::NotReady,
        200..=299 => Class::Ok,
        402 => Class::ApplicationBlocked,
        408 => Class::FinchUnreachable,
        429 => Class::RateLimited,
        501 => Class::NotSupported,
        400..=599 => error
            .known_code()
            .and_then(|code| of_code(code, status))
            .or_else(|| error.known_name().and_then(|name| of_name(name, status)))
            .unwrap_or_else(|| of_status(endpoint, status, error)),
        _ => Class::FinchError,
    }
}

/// What a `finch_code` settles beside this status. A wrong call is no word for a 5xx, nor a fault for a 4xx.
fn of_code(code: Code, status: u16) -> Option<Class> {
    let is_fault = status >= 500;
    match code {
        // Finch says these with 401, and at times with 500 or 403.
        Code::ReauthenticateUser | Code::SessionExpired | Code::InvalidMfaCode | Code::LockedOut => {
            Some(Class::ReauthenticationRequired)
        }
        Code::AccountSetupRequired => Some(Class::AccountSetupRequired),
        Code::NoValidAccounts if status == 403 => Some(Class::PermissionDenied),
        Code::NoValidAccounts => Some(Class::ReauthenticationRequired),
        Code::PaymentRequired => Some(Class::ApplicationBlocked),
        Code::InsufficientAccountPermissions | Code::AccountUpdateRequired | Code::AccessDenied => {
            Some(Class::PermissionDenied)
        }
        Code::ClientConnectionClosed => Some(Class::FinchUnreachable),
        Code::NotSupportedByProvider => Some(Class::NotSupported),
        Code::UpstreamProviderError => is_fault.then_some(Class::ProviderError),
        // With other parameters the provider may well do it, so it is the call that is to be mended.
        Code::InvalidRequest
        | Code::ItemNotFound
        | Code::BenefitNotFound
        | Code::IndividualNotFound
        | Code::PaymentNotFound
        | Code::EnrollmentNotFound
        | Code::UnsupportedParameters
        | Code::UnsupportedParamters
        | Code::UnprocessableParameters
        | Code::InvalidEmployeeEnrollment => (!is_fault).then_some(Class::InvalidRequest),
        // Their status says it, or says something else.
        Code::FinchApplicationRl
        | Code::FinchApiIpRl
        | Code::FinchAuthIpRl
        | Code::UpstreamRateLimitExceeded
        | Code::FinchTokenRl
        | Code::FinchRateLimitExceeded
        | Code::InternalServerError
        | Code::DataSyncInProgress
        | Code::EnrolledNewBenefit
        | Code::UpdatedExistingEnrollment
        | Code::UnenrolledIndividualBenefit => None,
    }
}

/// What a `name` settles beside this status.
fn of_name(name: Name, status: u16) -> Option<Class> {
    let is_fault = status >= 500;
    match name {
        Name::NotImplementedError | Name::NotImplemented if is_fault => Some(Class::NotSupported),
        Name::BadGatewayError | Name::TimeoutError if is_fault => Some(Class::ProviderError),
        Name::AuthenticationError if status == 401 => Some(Class::ReauthenticationRequired),
        // The customer's connection is sound: it is perch's credentials, or their way to Finch, that are not.
        Name::InvalidClientError | Name::UnauthorizedRequestError | Name::PaymentRequired if !is_fault => {
            Some(Class::ApplicationBlocked)
        }
        Name::ErrorPermissions
        | Name::InsufficientScopeError
        | Name::InsufficientPermissionError
        | Name::AccessDenied
            if !is_fault =>
        {
            Some(Class::PermissionDenied)
        }
        Name::InvalidGrantError
        | Name::BadRequest
        | Name::InvalidRequestError
        | Name::NotFoundError
        | Name::ResourceNotFoundError
        | Name::UnprocessableRequestError
            if !is_fault =>
        {
            Some(Class::InvalidRequest)
        }
        Name::ClientConnectionClosed => Some(Class::FinchUnreachable),
        // Their status says it, or says something else.
        Name::InvalidTokenError
        | Name::NotImplementedError
        | Name::NotImplemented
        | Name::BadGatewayError
        | Name::TimeoutError
        | Name::AuthenticationError
        | Name::InvalidClientError
        | Name::UnauthorizedRequestError
        | Name::PaymentRequired
        | Name::ErrorPermissions
        | Name::InsufficientScopeError
        | Name::InsufficientPermissionError
        | Name::AccessDenied
        | Name::InvalidGrantError
        | Name::BadRequest
        | Name::InvalidRequestError
        | Name::NotFoundError
        | Name::ResourceNotFoundError
        | Name::UnprocessableRequestError
        | Name::RateLimitExceededError
        | Name::ServerError
        | Name::Accepted
        | Name::Created => None,
    }
}

/// What is left when the body says nothing that is known.
fn of_status(endpoint: &Endpoint, status: u16, error: &FinchError) -> Class {
    match status {
        401 if endpoint.auth != Auth::Bearer => Class::ApplicationBlocked,
        // A code that is new here is about the login, as nearly all codes of a 401; and that way back is the gentler.
        401 if error.finch_code.is_some()
            && error.known_code().is_none()
            && error.known_name() != Some(Name::InvalidTokenError) =>
        {
            Class::ReauthenticationRequired
        }
        // Finch does not know the token, or answers with the bare text of a dead connection.
        401 => Class::Disconnected,
        403 => Class::PermissionDenied,
        400..=499 => Class::InvalidRequest,
        502 | 504 => Class::ProviderError,
        _ => Class::FinchError,
    }
}
