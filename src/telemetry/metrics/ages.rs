//! What grows old and is renewed by somebody: the certificate at the proxy door, and the key that seals.

use super::{MetricsError, gauges};
use crate::types::UnixMillis;
use prometheus::{IntGaugeVec, Registry};

/// Whose certificate runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// The proxy door's own, or one between it and its authority: whichever ends first.
    Proxy,
    /// Those who vouch for apps: the one that ends last.
    ClientCa,
}

impl Certificate {
    const fn as_str(self) -> &'static str {
        match self {
            Certificate::Proxy => "proxy",
            Certificate::ClientCa => "client_ca",
        }
    }
}

/// Moments as Unix time. What perch does not have has no sample. A clone tells into the same metrics.
#[derive(Debug, Clone)]
pub struct Ages {
    certificate: IntGaugeVec,
    sealing_key: IntGaugeVec,
}

impl Ages {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            certificate: gauges(
                r,
                "perch_certificate_expiry_timestamp_seconds",
                "When a certificate of the proxy door ends, as Unix time",
                &["which"],
            )?,
            sealing_key: gauges(
                r,
                "perch_sealing_key_created_timestamp_seconds",
                "When the key that seals was made, as Unix time",
                &[],
            )?,
        })
    }

    /// A certificate ends at this Unix second.
    pub fn certificate_ends(&self, which: Certificate, at: i64) {
        self.certificate.with_label_values(&[which.as_str()]).set(at);
    }

    /// The key that seals was made then.
    pub fn sealing_key_made(&self, at: UnixMillis) {
        self.sealing_key.with_label_values::<&str>(&[]).set(at.0 / 1000);
    }
}
