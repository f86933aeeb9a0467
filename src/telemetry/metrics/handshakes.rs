//! Handshakes at the proxy door that led to no connection.

use super::{MetricsError, counters};
use prometheus::{IntCounterVec, Registry};

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The client has no certificate.
    NoCertificate,
    /// Nobody who is believed has signed it.
    UnknownIssuer,
    /// Its time is over, or has not come.
    Expired,
    /// Something else is wrong with it: its purpose, its form.
    BadCertificate,
    /// It took too long.
    TimedOut,
    /// No TLS, no common version, a client that does not believe perch, or one that left.
    Broken,
}

impl Handshake {
    const ALL: [Handshake; 6] = [
        Handshake::NoCertificate,
        Handshake::UnknownIssuer,
        Handshake::Expired,
        Handshake::BadCertificate,
        Handshake::TimedOut,
        Handshake::Broken,
    ];

    /// The metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Handshake::NoCertificate => "no_certificate",
            Handshake::UnknownIssuer => "unknown_issuer",
            Handshake::Expired => "expired",
            Handshake::BadCertificate => "bad_certificate",
            Handshake::TimedOut => "timed_out",
            Handshake::Broken => "broken",
        }
    }
}

/// What was refused before it could speak.
#[derive(Debug, Clone)]
pub struct Handshakes(IntCounterVec);

impl Handshakes {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let refused = counters(
            r,
            "perch_handshakes_refused_total",
            "TLS handshakes at the proxy door that failed",
            &["why"],
        )?;
        for why in Handshake::ALL {
            refused.with_label_values(&[why.as_str()]).inc_by(0);
        }
        Ok(Self(refused))
    }

    /// One that failed.
    pub fn refused(&self, why: Handshake) {
        self.0.with_label_values(&[why.as_str()]).inc();
    }
}
