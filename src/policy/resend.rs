//! Whether the app's client should send a failed call again by itself.
//!
//! The official SDKs repeat 408, 409, 429 and every 5xx twice within two seconds, writes included,
//! unless `x-should-retry` says otherwise (measured). Quota is too small for that, a write may have been carried
//! out, and perch has by then sent a read again as often as that can help: three tries of the SDK's would each be
//! several at Finch.

use super::class::Class;
use crate::finch::endpoints::{Effect, Endpoint};
use crate::limit::headers::retry_after;
use std::time::Duration;

/// What the answer says about sending again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// `x-should-retry: false`: the same call will fail again, or must not be made twice.
    No,
    /// `x-should-retry: false` as well, though later it may succeed: not a matter for a client's loop.
    Later,
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
        retry_after(wait).map_or(Resend::Later, Resend::After)
    }

    /// Whether a client's own loop sends the call again.
    pub const fn invites(self) -> bool {
        match self {
            Resend::No | Resend::Later => false,
            Resend::Yes | Resend::After(_) | Resend::AsYouLike => true,
        }
    }

    /// Whether sending the same call again can help at all, now or later.
    pub const fn is_retryable(self) -> bool {
        !matches!(self, Resend::No)
    }
}

/// For an answer of Finch's, or the lack of one, after a call was sent.
pub fn of_outcome(endpoint: Option<&Endpoint>, class: Class, wait: Option<Duration>) -> Resend {
    let may_have_happened = endpoint.is_none_or(|e| e.effect == Effect::Writes);
    match class {
        Class::Ok | Class::Partial | Class::NotReady => Resend::AsYouLike,
        // What Finch refused for a limit it has not carried out, a write neither.
        Class::RateLimited => wait.map_or(Resend::Later, Resend::after),
        // Finch asks for hours after its own faults, and a provider needs more than the seconds of a client's loop.
        Class::FinchError | Class::ProviderError | Class::FinchUnreachable => match may_have_happened {
            true => Resend::No,
            false => Resend::Later,
        },
        Class::ReauthenticationRequired
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
    fn every_class_has_its_verdict_for_a_read_a_write_and_a_call_unknown() {
        let read = find(Method::Get, "/employer/company");
        let batch = find(Method::Post, "/employer/individual");
        let write = find(Method::Post, "/employer/benefits");
        assert!(read.is_some() && batch.is_some() && write.is_some());
        for class in Class::ALL {
            let (reads, writes) = match class {
                Class::Ok | Class::Partial | Class::NotReady => (Resend::AsYouLike, Resend::AsYouLike),
                Class::RateLimited => (Resend::Later, Resend::Later),
                Class::FinchError | Class::ProviderError | Class::FinchUnreachable => {
                    (Resend::Later, Resend::No)
                }
                _ => (Resend::No, Resend::No),
            };
            let told = [read, batch, write, None].map(|endpoint| of_outcome(endpoint, class, None));
            assert_eq!(told, [reads, reads, writes, writes], "{class:?}");
        }
    }

    #[test]
    fn a_limit_says_when() {
        let write = find(Method::Post, "/employer/benefits");
        let told = |secs| of_outcome(write, Class::RateLimited, Some(Duration::from_secs(secs)));
        assert_eq!((told(9), told(3_600)), (Resend::After(9), Resend::Later));
    }

    #[test]
    fn only_what_may_succeed_is_worth_another_call() {
        let worth = [Resend::Later, Resend::Yes, Resend::After(1), Resend::AsYouLike];
        assert!(worth.into_iter().all(Resend::is_retryable) && !Resend::No.is_retryable());
    }

    #[test]
    fn only_a_short_wait_is_told_to_a_client() {
        assert_eq!(Resend::after(Duration::ZERO), Resend::After(1));
        assert_eq!(Resend::after(Duration::from_millis(1001)), Resend::After(2));
        assert_eq!(Resend::after(Duration::from_secs(60)), Resend::After(60));
        assert_eq!(Resend::after(Duration::from_millis(60_001)), Resend::Later);
        assert_eq!(Resend::after(Duration::MAX), Resend::Later);
    }
}
