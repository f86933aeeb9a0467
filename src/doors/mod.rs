//! FLOOR 4: the doors. pingora listens and speaks HTTP; behind the doors is the engine.

pub mod admin;
mod admin_webhooks;
mod guard;
mod listen;
mod page;
mod peer;
pub mod proxy;
mod receive;
pub mod tls;
mod visitor;
pub mod webhooks;
mod wire;

pub use guard::{Guarded, Pace, Patience};
pub use listen::{Bound, ListenError};
pub use visitor::{Names, Visitors, proof};

use crate::types::RequestId;

/// A fresh id for a call: ordered by time, so that a log sorts by it.
pub(crate) fn new_request_id() -> RequestId {
    let text = uuid::Uuid::now_v7().simple().to_string();
    RequestId::new(text).expect("thirty-two hex digits are an id")
}
