//! FLOOR 0: what Finch is. Endpoints, header names, error bodies. Facts only, no decisions.

pub mod catalogue;
pub mod endpoints;
pub mod error;
pub mod headers;
pub mod shape;
mod table;
pub mod webhook;

pub use endpoints::{Auth, Batch, Effect, Endpoint, Method, Operation, Replay};
