//! FLOOR 3: a call's life.

pub mod quota;
