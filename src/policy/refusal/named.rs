//! What refusals name.

use crate::types::Product;
use serde::Serialize;

/// The code of the refusal while perch stops.
pub const DRAINING: &str = "perch_draining";

/// One of several connections that a call could mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What to put into `Perch-Connection`.
    pub connection_id: String,
    /// Or this, when it is the only one of that provider.
    pub provider_id: Option<String>,
}

/// What an app's policy has not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// This product.
    Product(Product),
    /// Doing more than reading and connecting customers.
    Effect,
    /// Connecting or exchanging for whoever was named.
    Customer,
}
