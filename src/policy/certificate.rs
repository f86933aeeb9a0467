//! The names in an app's certificate: which of them count, and how an operator writes them.
//!
//! A workload's URI (`spiffe://…`, at most one: SPIFFE X509-SVID §2) and its DNS names count; the subject's common name
//! only where there is neither (RFC 9525 §2), and only for an app that is registered by one (`cn:…`).

use crate::types::UnixMillis;
use serde::{Serialize, Serializer};
use std::fmt;

/// The most names looked at; a certificate with more is nobody's.
pub const NAMES_MAX: usize = 32;
/// The longest name.
const NAME_BYTES_MAX: usize = 255;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// A URI among the alternative names, as it stands there.
    Uri(Box<str>),
    /// A DNS name among them, in lower case.
    Dns(Box<str>),
    /// The subject's common name.
    Common(Box<str>),
}

impl CertificateName {
    /// Reads `spiffe://…` or another URI, `payroll.internal`, or `cn:payroll`.
    ///
    /// # Errors
    /// What is wrong with it. A star is refused: one app has one name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > NAME_BYTES_MAX {
            return Err("is longer than 255 bytes");
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err("has control characters or blanks at its ends");
        }
        if let Some(name) = text.strip_prefix("cn:") {
            return match name.trim() == name && !name.is_empty() {
                true => Ok(Self::Common(name.into())),
                false => Err("names nobody after cn:"),
            };
        }
        match text.split_once(':') {
            Some((scheme, rest)) => {
                let is_scheme = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                    && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
                match is_scheme && !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()) {
                    true => Ok(Self::Uri(text.into())),
                    false => Err("is no URI; write spiffe://…, a DNS name, or cn:NAME"),
                }
            }
            None => Self::dns(text).ok_or("is no DNS name; write spiffe://…, a DNS name, or cn:NAME"),
        }
    }

    /// A DNS name; `None` when it is not one whole host's.
    pub fn dns(text: &str) -> Option<Self> {
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let is_address = || text.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()));
        (text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label) && !is_address())
            .then(|| Self::Dns(text.to_ascii_lowercase().into()))
    }
}

/// As [`CertificateName::parse`] reads it.
impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) | Self::Dns(name) => f.write_str(name),
            Self::Common(name) => write!(f, "cn:{name}"),
        }
    }
}

impl Serialize for CertificateName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A certificate that its owner has proved to be his, signed by an authority that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The names that count.
    pub names: Vec<CertificateName>,
    /// From when on it is worth nothing.
    pub expires: UnixMillis,
}

impl Certificate {
    /// Whether it is worth something: a connection may outlive the certificate that opened it.
    pub fn is_good(&self, now: UnixMillis) -> bool {
        now < self.expires
    }
}

/// What stands in a certificate where names are.
#[derive(Debug, Default)]
pub struct Written<'a> {
    /// URIs among the alternative names.
    pub uris: Vec<&'a str>,
    /// DNS names among them.
    pub dns: Vec<&'a str>,
    /// The subject's common names.
    pub common: Vec<&'a str>,
}

impl Written<'_> {
    /// The names that count; none for a certificate that could be read as two apps' by its form alone.
    pub fn names(&self) -> Vec<CertificateName> {
        if self.uris.len() > 1 || self.dns.len() >= NAMES_MAX {
            return Vec::new();
        }
        if self.uris.is_empty() && self.dns.is_empty() {
            return match self.common.as_slice() {
                [one] => CertificateName::parse(&format!("cn:{one}")).into_iter().collect(),
                _ => Vec::new(),
            };
        }
        let uri = |text: &&str| match CertificateName::parse(text) {
            Ok(name @ CertificateName::Uri(_)) => Some(name),
            Ok(CertificateName::Dns(_) | CertificateName::Common(_)) | Err(_) => None,
        };
        let dns = self.dns.iter().filter_map(|text| CertificateName::dns(text));
        self.uris.iter().filter_map(uri).chain(dns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_shown() {
        for text in [
            "spiffe://example.org/ns/pay/sa/payroll",
            "urn:uuid:7e965183",
            "payroll.internal",
            "cn:Payroll 7",
        ] {
            assert_eq!(CertificateName::parse(text).map(|name| name.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(CertificateName::parse("Payroll.Internal"), CertificateName::parse("payroll.internal"));
        assert_ne!(CertificateName::parse("cn:payroll"), CertificateName::parse("payroll"));
    }

    #[test]
    fn what_could_be_several_apps_or_none_is_no_name() {
        let long = format!("spiffe://x/{}", "y".repeat(250));
        for text in [
            "",
            " payroll",
            "cn:",
            "cn: x",
            "*.internal",
            "10.0.0.7",
            "a..b",
            "payroll.",
            "pay roll",
            "spiffe:",
            "://x",
            "spiffe://x\u{7f}",
            "spiffe://é",
            &long,
        ] {
            assert!(CertificateName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_certificate_is_worth_nothing_from_its_end_on() {
        let shown = Certificate { names: Vec::new(), expires: UnixMillis(7) };
        assert_eq!([6, 7, 8].map(|now| shown.is_good(UnixMillis(now))), [true, false, false]);
    }

    #[test]
    fn a_common_name_counts_only_where_there_is_no_other() {
        let named = |uris: &[&str], dns: &[&str], common: &[&str]| -> Vec<String> {
            let written = Written { uris: uris.to_vec(), dns: dns.to_vec(), common: common.to_vec() };
            written.names().iter().map(ToString::to_string).collect()
        };
        assert_eq!(named(&["spiffe://a/b"], &["x.y"], &["z"]), ["spiffe://a/b", "x.y"]);
        assert_eq!(named(&[], &["X.y", "*.z", "10.0.0.7"], &["z"]), ["x.y"]);
        assert_eq!(named(&[], &[], &["z"]), ["cn:z"]);
        assert_eq!(named(&[], &[], &["y", "z"]), [""; 0]);
        assert_eq!(named(&["spiffe://a/b", "spiffe://a/c"], &["x.y"], &["z"]), [""; 0]);
        assert_eq!(named(&[], &["*.x"], &["z"]), [""; 0], "it has a DNS name, though not one that counts");
        // What looks like another kind of name is still of its own.
        assert_eq!(named(&["cn:root"], &[], &[]), [""; 0]);
        assert_eq!(named(&[], &[], &["spiffe://a/b"]), ["cn:spiffe://a/b"]);
        assert_eq!(named(&[], &["a.b"; NAMES_MAX], &[]), [""; 0]);
    }
}
