//! Each rule of `members` by itself.
