//! What happens to connections beside the calls of a moment: codes that must be spent once, disconnects that must
//! come to their end, what Finch tells by itself, and the round that asks it.

mod code;
mod disconnect;
mod errand;
mod round;
mod told;

pub(super) use code::code_of;
pub use errand::Errand;

use code::Codes;
use tokio::sync::Notify;

/// What a connection's life needs to remember between calls.
#[derive(Debug, Default)]
pub struct Life {
    codes: Codes,
    /// Something is to be disconnected.
    wake: Notify,
}

impl Life {
    /// Another process changed the store: there may be something to disconnect.
    pub fn look(&self) {
        self.wake.notify_one();
    }
}
