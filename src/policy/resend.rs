//! Whether the app's client should send a failed call again by itself.
//!
//! The official SDKs repeat 408, 409, 429 and every 5xx twice within two seconds, writes included,
//! unless `x-should-retry` says otherwise (measured). Quota is too small for that, and a
//! write may have been carried out.

use super::class::Class;
use crate::finch::endpoints::{Effect, Endpoint};
use crate::limit::headers::retry_after;
use std::time::Duration;

/// What the answer says about sending again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// `x-should-retry: false`.
    No,
    /// `x-should-retry: true`.
    Yes,
    /// `Retry-After`, one to sixty seconds.
    After(u32),
    /// Nothing: the client's own habit is harmless.
    AsYouLike,
}

impl Resend {
    /// For a wait of this length: longer than a minute is not a matter for a client's loop, since
    /// Python ignores it and Node sleeps through it.
    pub fn after(wait: Duration) -> Self {
        retry_after(wait).map_or(Resend::No, Resend::After)
    }

    /// Whether sending the same call again can help at all, now or later.
    pub const fn is_retryable(self) -> bool {
        !matches!(self, Resend::No)
    }
}

/// For an answer of Finch's, or the lack of one, after a call was sent.
pub fn of_outcome(endpoint: Option<&Endpoint>, class: Class, status: u16, wait: Option<Duration>) -> Resend {
    let may_have_happened = endpoint.is_none_or(|e| e.effect == Effect::Writes);
    match class {
        Class::Ok | Class::Partial | Class::NotReady => Resend::AsYouLike,
        Class::RateLimited => wait.map_or(Resend::No, Resend::after),
        Class::ProviderError | Class::FinchUnreachable if !may_have_happened => Resend::AsYouLike,
        // Finch asks for hours, not seconds.
        Class::FinchError if status == 503 && !may_have_happened => Resend::AsYouLike,
        Class::FinchError
        | Class::ProviderError
        | Class::FinchUnreachable
        | Class::ReauthenticationRequired
        | Class::AccountSetupRequired
        | Class::Disconnected
        | Class::PermissionDenied
        | Class::InvalidRequest
        | Class::NotSupported
        | Class::ApplicationBlocked
        | Class::UnknownCustomer
        | Class::CallerRefused
        | Class::PerchUnavailable
        | Class::Abandoned => Resend::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finch::endpoints::{Method, find};

    #[test]
    fn a_write_that_may_have_happened_is_never_asked_for_again() {
        let read = find(Method::Get, "/employer/company");
        let write = find(Method::Post, "/employer/benefits");
        for (endpoint, class, status, resend) in [
            (read, Class::ProviderError, 502, Resend::AsYouLike),
            (write, Class::ProviderError, 502, Resend::No),
            (read, Class::FinchUnreachable, 408, Resend::AsYouLike),
            (write, Class::FinchUnreachable, 408, Resend::No),
            (read, Class::FinchError, 500, Resend::No),
            (read, Class::FinchError, 503, Resend::AsYouLike),
            (read, Class::NotSupported, 501, Resend::No),
            (read, Class::RateLimited, 429, Resend::No),
            (None, Class::FinchUnreachable, 502, Resend::No),
        ] {
            assert_eq!(of_outcome(endpoint, class, status, None), resend, "{class:?} {status}");
        }
    }

    #[test]
    fn only_a_short_wait_is_told_to_a_client() {
        assert_eq!(Resend::after(Duration::ZERO), Resend::After(1));
        assert_eq!(Resend::after(Duration::from_millis(1001)), Resend::After(2));
        assert_eq!(Resend::after(Duration::from_secs(60)), Resend::After(60));
        assert_eq!(Resend::after(Duration::from_millis(60_001)), Resend::No);
        assert_eq!(Resend::after(Duration::MAX), Resend::No);
    }
}
