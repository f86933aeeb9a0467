//! By what an app is known at the proxy door, and what it is told when it is not.

use super::certificate::CertificateName;
use super::{Class, Problem};
use serde::Serialize;
use std::fmt;

/// By what an app is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A key that it shows with every call.
    Key,
    /// The certificate of its connection.
    Certificate,
    /// The user whose process holds the other end of its Unix socket.
    Uid,
}

impl Proof {
    /// The answer to a call whose proof is nobody's, or nobody's any more: the same for both.
    pub fn refused(self) -> Problem {
        let (code, why) = match self {
            Proof::Key => (
                "perch_app_key_refused",
                "this Perch-App-Key is not one that perch accepts; an operator sees with `perch apps list` which are",
            ),
            Proof::Certificate => (
                "perch_certificate_refused",
                "this client certificate is not one that perch accepts: it names no app, or has expired; an operator sees \
                 with `perch apps list` which names do",
            ),
            Proof::Uid => (
                "perch_uid_refused",
                "this process runs as a user who is no app to perch; an operator sees with `perch apps list` who is",
            ),
        };
        Problem::new(403, code, Class::CallerRefused, why.to_owned()).closing()
    }
}

/// A user of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Uid(u32);

impl Uid {
    /// A user that can be an app.
    ///
    /// # Errors
    /// 65534 stands for every user whom the system cannot name here, and 4294967295 for none.
    pub fn new(uid: u32) -> Result<Self, &'static str> {
        match uid {
            65_534 => {
                Err("stands for every user of another user namespace; run the app as a user of its own")
            }
            u32::MAX => Err("is no user"),
            uid => Ok(Self(uid)),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an app is known by in the place of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// A name in its certificate.
    pub certificate: Option<CertificateName>,
    /// The user it runs as.
    pub uid: Option<Uid>,
}

impl Marks {
    /// Whether there are none.
    pub const fn are_none(&self) -> bool {
        self.certificate.is_none() && self.uid.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_could_be_anybody_is_no_app() {
        assert!(Uid::new(65_534).is_err() && Uid::new(u32::MAX).is_err());
        assert_eq!(
            [0, 1000, 65_533, 65_535].map(|uid| Uid::new(uid).map(Uid::get)),
            [0, 1000, 65_533, 65_535].map(Ok)
        );
    }
}
