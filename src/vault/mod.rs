//! x
pub mod kek;
pub mod seal;
