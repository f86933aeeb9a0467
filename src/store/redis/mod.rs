//! The way to the shared quota: one connection to the one server that holds it.
//!
//! Redis or Valkey, alone or as a cluster. perch keeps all its keys under one hash tag, so exactly one server of a
//! cluster is concerned, and one script call there is atomic. A [`Link`] is bound to one *run* of that server and never
//! reconnects by itself: another connection may mean another server, or the same one with an empty memory, and whoever
//! spends quota has to know. So every failure is told, and the caller makes a new link, which names its run anew.
//!
//! `connect` finds the server, `link` calls the script, `codec` puts the ledger into the script's words, `socket` opens
//! connections, `reply` is what comes back, `info` what the server says of itself, `survey` and `advice` what
//! `perch check --online` says of it. `answers` is another script, on a connection of its own: what replicas pass to each
//! other, which must not stand in the quota's way.

pub mod advice;
pub mod answers;
pub mod codec;
mod connect;
pub mod info;
mod link;
mod reply;
mod socket;
pub mod survey;

pub use super::trust::TrustError;
pub use connect::Redis;
pub use link::{Link, Server};
pub use reply::{LinkError, Reply};
