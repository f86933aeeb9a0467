//! Names of things. Each id is a type of its own, so that one cannot be passed for another.
//!
//! An id that comes from outside is 1 to 255 bytes of printable text without blanks at its ends:
//! it may stand in a header, a log line and a SQL parameter without further thought.

use std::fmt;

/// The longest id accepted. Finch's own bound on `customer_id` (Finch Connect guide).
pub const ID_BYTES_MAX: usize = 255;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidId {
    /// No text at all.
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    TooLong,
    /// A control character, or a blank at either end.
    Unprintable,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidId::Empty => "is empty",
            InvalidId::TooLong => "is longer than 255 bytes",
            InvalidId::Unprintable => "has control characters or blanks at its ends",
        })
    }
}

impl std::error::Error for InvalidId {}

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(InvalidId::TooLong);
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(InvalidId::Unprintable);
    }
    Ok(())
}

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {$(
        $(#[$doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and keeps the text.
            ///
            /// # Errors
            /// [`InvalidId`] says what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&text).map_err(|why| {
                    serde::de::Error::custom(format_args!(concat!(stringify!($name), " {}"), why))
                })
            }
        }
    )+};
}

ids! {
    /// The company's own name for one of its clients; Finch's `customer_id`.
    CustomerId,
    /// One customer's link to one employment system; Finch's `connection_id`.
    ConnectionId,
    /// Finch's `company_id`.
    CompanyId,
    /// A legal entity inside a connection; Finch's `entity_id`.
    EntityId,
    /// An employment system, such as `gusto`; Finch's `provider_id`.
    ProviderId,
    /// The Finch application: its `client_id`.
    ApplicationId,
    /// One of the company's own services that call perch.
    AppName,
    /// perch's own name for a call.
    RequestId,
    /// Finch's name for an attempt, from `Finch-Request-ID`.
    FinchRequestId,
    /// Finch's name for an event, from `Finch-Event-Id`: the same when it is sent again.
    EventId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_break_a_header_or_a_log_line_is_refused() {
        for (text, why) in [
            ("", InvalidId::Empty),
            (" acme", InvalidId::Unprintable),
            ("acme\n", InvalidId::Unprintable),
            ("ac\u{0}me", InvalidId::Unprintable),
            (&"x".repeat(256), InvalidId::TooLong),
        ] {
            assert_eq!(CustomerId::new(text), Err(why), "{text:?}");
        }
        for text in ["acme", "Müller & Söhne", "a b", &"x".repeat(255)] {
            assert_eq!(CustomerId::new(text).map(|id| id.to_string()), Ok(text.to_owned()));
        }
    }
}
