//! A webhook as it is remembered. No secret is in it.

use crate::types::{CompanyId, ConnectionId, EntityId, EventId, UnixMillis};
use serde::{Serialize, Serializer};

/// Where an event is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Kept; perch has not acted on it.
    New,
    /// The app shall have it.
    Waiting,
    /// All that was to be done is done; only its id is of use.
    Done,
    /// The app did not take it; an operator decides.
    Dead,
}

impl State {
    const ALL: [State; 4] = [State::New, State::Waiting, State::Done, State::Dead];

    /// The word in the store and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::New => "new",
            State::Waiting => "waiting",
            State::Done => "done",
            State::Dead => "dead",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// An event as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Finch's name for it.
    pub event_id: EventId,
    /// `Finch-Timestamp`, as it stands in the header.
    pub timestamp: String,
    /// The moment that the timestamp names.
    pub sent_at: UnixMillis,
    /// `Finch-Signature`, as it stands in the header.
    pub signature: String,
    /// Finch's word for what happened.
    pub event_type: String,
    /// The connection, when Finch names it.
    pub connection_id: Option<ConnectionId>,
    /// The company, when Finch names it.
    pub company_id: Option<CompanyId>,
    /// The legal entity, when Finch names it.
    pub entity_id: Option<EntityId>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrived").field("event_id", &self.event_id).finish_non_exhaustive()
    }
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number here.
    pub seq: i64,
    /// What came.
    pub arrived: Arrived,
    /// How often it was offered to the app.
    pub attempts: u32,
    /// Events of one lane are offered one after the other.
    pub lane: String,
}

/// What an operator sees of an event. Not its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Finch's name for it.
    pub event_id: String,
    /// Finch's word for what happened.
    pub event_type: String,
    /// Where it is in its life.
    pub state: State,
    /// The connection, when Finch names it.
    pub connection_id: Option<String>,
    /// The company, when Finch names it.
    pub company_id: Option<String>,
    /// The legal entity, when Finch names it.
    pub entity_id: Option<String>,
    /// When Finch sent it.
    pub sent_at: UnixMillis,
    /// When it came.
    pub received_at: UnixMillis,
    /// How often it was offered to the app.
    pub attempts: u32,
    /// When it is offered next.
    pub due_at: Option<UnixMillis>,
    /// Why the app did not take it last time.
    pub failure: Option<String>,
}

/// What became of an event that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is kept, and so many old ones were given up for it.
    Kept {
        /// Dead letters that are gone for good.
        dropped: u64,
    },
    /// It is here already.
    Duplicate,
    /// As many as may be kept are here, and none of them can be given up.
    Full,
}

/// How many events are in each state that still asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Not acted on.
    pub new: u64,
    /// To be delivered.
    pub waiting: u64,
    /// Given up.
    pub dead: u64,
}
