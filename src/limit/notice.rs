//! What replicas tell each other besides the quota itself: what must not be called for a while, and which logins are
//! known to be dead. A notice is one line of JSON. What a later version of perch says and this one does not understand
//! is no notice here: replicas of two versions run side by side during every roll-out.

use crate::types::{ConnectionId, EntityId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest text of a notice, in bytes: two ids of which every character is escaped, and the words around them.
pub const TEXT_BYTES_MAX: usize = 2_048;

/// What replicas tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Notice {
    /// A scope beyond the ledger's must not be called for this long.
    Hold {
        /// What must not be called.
        subject: Subject,
        /// For how long from the moment it was said. Whoever hears it later is told what is left.
        #[serde(with = "micros")]
        span: Duration,
    },
    /// A login is dead, or awaits setup, or its connection is gone: its calls are answered here.
    Ill {
        /// Whose login.
        connection: ConnectionId,
        /// Of which legal entity; `None` for the whole connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entity: Option<EntityId>,
        /// What is wrong with it.
        ailment: Ailment,
        /// The version of the token it was found with: a newer token may be well.
        version: u64,
    },
    /// It is well again.
    Well {
        /// Whose login.
        connection: ConnectionId,
        /// Of which legal entity; `None` for the whole connection and all its entities.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entity: Option<EntityId>,
    },
}

/// What a hold is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The whole application at Finch.
    Application,
    /// One connection.
    Connection(ConnectionId),
    /// The data refreshes that one connection is allowed.
    RefreshQuota(ConnectionId),
}

/// What is wrong with a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// The employer has to sign in again.
    Reauthentication,
    /// The connection waits for its account to be set up.
    AccountSetup,
    /// The connection is gone.
    Disconnected,
}

impl Ailment {
    /// Every ailment.
    pub const ALL: [Ailment; 3] = [Ailment::Reauthentication, Ailment::AccountSetup, Ailment::Disconnected];
}

impl Notice {
    /// The notice as one line.
    pub fn to_text(&self) -> String {
        // Every part is text or a number, so it always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a notice; `None` when it is damaged, or of a kind that this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        serde_json::from_str(text).ok()
    }
}

/// A span as whole microseconds.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connection() -> impl Strategy<Value = ConnectionId> {
        // Anything that an id may be: quotes, backslashes and letters of any script too.
        "[^\\p{Cc}\\p{Z}]([^\\p{Cc}]{0,60}[^\\p{Cc}\\p{Z}])?"
            .prop_filter_map("not an id", |text| ConnectionId::new(text).ok())
    }

    fn entity() -> impl Strategy<Value = Option<EntityId>> {
        prop::option::of(connection().prop_filter_map("not an id", |id| EntityId::new(id.as_str()).ok()))
    }

    fn notice() -> impl Strategy<Value = Notice> {
        let subject = prop_oneof![
            Just(Subject::Application),
            connection().prop_map(Subject::Connection),
            connection().prop_map(Subject::RefreshQuota),
        ];
        let span = any::<u64>().prop_map(Duration::from_micros);
        let ailment = prop::sample::select(&Ailment::ALL[..]);
        prop_oneof![
            (subject, span).prop_map(|(subject, span)| Notice::Hold { subject, span }),
            (connection(), entity(), ailment, any::<u64>()).prop_map(
                |(connection, entity, ailment, version)| Notice::Ill { connection, entity, ailment, version }
            ),
            (connection(), entity()).prop_map(|(connection, entity)| Notice::Well { connection, entity }),
        ]
    }

    proptest! {
        #[test]
        fn a_notice_is_read_as_it_was_written(notice in notice()) {
            let text = notice.to_text();
            prop_assert!(!text.chars().any(char::is_control), "one line: {text}");
            prop_assert_eq!(Notice::parse(&text), Some(notice));
        }

        #[test]
        fn no_text_is_too_much(text in ".*") {
            let _ = Notice::parse(&text);
        }

        #[test]
        fn a_notice_that_was_cut_is_none(notice in notice(), share in 0.0..1.0) {
            let text = notice.to_text();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let at = (text.len() as f64 * share) as usize;
            prop_assert_eq!(text.get(..at).and_then(Notice::parse), None);
        }
    }

    #[test]
    fn the_longest_ids_fit() {
        let id = "\"".repeat(255);
        let notice = Notice::Ill {
            connection: ConnectionId::new(&id).expect("an id"),
            entity: Some(EntityId::new(&id).expect("an id")),
            ailment: Ailment::Reauthentication,
            version: u64::MAX,
        };
        assert_eq!(Notice::parse(&notice.to_text()), Some(notice));
    }

    #[test]
    fn what_is_not_known_here_is_no_notice() {
        for text in [
            "",
            "{}",
            "null",
            r#"{"is":"moved","connection":"c"}"#,
            r#"{"is":"hold","subject":"moon","span":1}"#,
            r#"{"is":"hold","subject":"application","span":-1}"#,
            r#"{"is":"ill","connection":"c","ailment":"flu","version":1}"#,
            r#"{"is":"well","connection":" c"}"#,
            r#"{"is":"well","connection":"c"} x"#,
        ] {
            assert_eq!(Notice::parse(text), None, "{text}");
        }
        let padded = format!(r#"{{"is":"well","connection":"c","more":"{}"}}"#, "x".repeat(TEXT_BYTES_MAX));
        assert_eq!(Notice::parse(&padded), None, "longer than any notice");
    }

    #[test]
    fn a_later_version_may_say_more_of_what_is_known() {
        let text = r#"{"is":"well","connection":"c","since":7}"#;
        let connection = ConnectionId::new("c").expect("an id");
        assert_eq!(Notice::parse(text), Some(Notice::Well { connection, entity: None }));
    }
}
