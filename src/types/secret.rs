//! Secrets. A secret prints its name, is wiped when dropped, and leaves by one door: `expose`.
//! `tests/tidy.rs` counts the places that open it.

use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

macro_rules! secrets {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {$(
        $(#[$doc])+
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes the text over; the caller's copy is moved, not left behind.
            pub fn new(text: String) -> Self {
                Self(Zeroizing::new(text))
            }

            /// The secret itself. Every call of this is counted by a test.
            pub fn expose(&self) -> &str {
                &self.0
            }

            /// Whether it is the same as another, found in a time that tells nothing about either but their lengths.
            pub fn is(&self, other: &Self) -> bool {
                self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )+};
}

secrets! {
    /// What Finch gives for one connection. Reads payroll data: the most dangerous string here.
    AccessToken,
    /// The Finch application's secret.
    ClientSecret,
    /// The key of Finch's webhook signatures.
    WebhookSecret,
    /// What an operator shows at the admin door.
    AdminToken,
    /// What an app shows at the proxy door.
    AppKey,
    /// As whom perch signs in at the shared quota store.
    StoreUser,
    /// What it shows there.
    StorePassword,
    /// What perch shows, or signs with, at a key service.
    KeyToken,
    /// What perch shows at a collector of traces.
    CollectorKey,
}

/// The key encryption key: wraps the keys that seal tokens. 32 bytes from outside the store.
pub struct Kek([u8; 32]);

impl Kek {
    /// Takes a copy and wipes the original.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let kek = Self(bytes);
        bytes.zeroize();
        kek
    }

    /// The key itself. Every call of this is counted by a test.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Kek {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_its_name_only() {
        let token = AccessToken::new("7e965183".to_owned());
        assert_eq!(format!("{token:?}"), "AccessToken(…)");
        assert_eq!(format!("{:?}", Kek::new([7; 32])), "Kek(…)");
        assert_eq!(token.expose(), "7e965183");
    }
}
