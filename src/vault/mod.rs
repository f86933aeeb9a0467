//! x
mod cache;
pub mod kek;
pub mod ring;
pub mod seal;
