//! The body of a Finch error, read for the three members programs may rely on.
//!
//! Names vary with the age of the endpoint (Finch error guide): very old bodies say `error` or
//! `error_name`. Nothing here decides; `policy::class` does.

use crate::types::json::RawObject;

/// What an error body says, as far as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinchError {
    /// The broad class, such as `authentication_error`.
    pub name: Option<String>,
    /// The finer class, such as `reauthenticate_user`.
    pub finch_code: Option<String>,
    /// For developers; never matched on, except for the one bare text Finch is known to send.
    pub message: Option<String>,
    /// When the refresh quota of a connection is whole again, as Finch wrote it.
    pub retry_at: Option<String>,
}

impl FinchError {
    /// Reads a body. One that is no JSON object yields its text as the message.
    pub fn read(body: &[u8]) -> Self {
        match RawObject::parse(body) {
            Some(object) => Self::of(&object),
            None => Self {
                message: std::str::from_utf8(body).ok().map(|t| t.trim().chars().take(200).collect()),
                ..Self::default()
            },
        }
    }

    /// Reads the members of an object that is already parsed: a whole body or one batch item's.
    pub fn of(object: &RawObject) -> Self {
        let text = |names: &[&str]| names.iter().find_map(|n| object.text(n));
        Self {
            name: text(&["name", "error_name", "error"]),
            finch_code: text(&["finch_code"]),
            message: text(&["message", "error_message"]),
            retry_at: text(&["retry_at"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_shapes_are_read() {
        let new = FinchError::read(
            br#"{"code":401,"name":"authentication_error","finch_code":"reauthenticate_user","message":"m"}"#,
        );
        assert_eq!(new.name.as_deref(), Some("authentication_error"));
        assert_eq!(new.finch_code.as_deref(), Some("reauthenticate_user"));
        let old = FinchError::read(br#"{"error_name":"server_error","error_message":"m"}"#);
        assert_eq!((old.name.as_deref(), old.message.as_deref()), (Some("server_error"), Some("m")));
        assert_eq!(FinchError::read(b"Unauthorized\n").message.as_deref(), Some("Unauthorized"));
        assert_eq!(FinchError::read(b"\xff\xfe"), FinchError::default());
        assert_eq!(FinchError::read(br#"{"name":7}"#).name, None);
    }
}
