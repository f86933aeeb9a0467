//! What happens to connections beside the calls of a moment: codes that must be spent once, disconnects that must
//! come to their end, what Finch tells by itself, and the round that asks it.

mod code;

pub(super) use code::code_of;

use code::Codes;

/// What a connection's life needs to remember between calls.
#[derive(Debug, Default)]
pub struct Life {
    codes: Codes,
}
