//! FLOOR 1: the arithmetic of Finch's rate limits. Who may send now, who waits until when, who is
//! refused, and how that reads in headers. Pure: `now` is an argument everywhere.
//!
//! The rule: a limit of L is L permits. A permit is busy while its request is in flight and for
//! one window and a pad after the response headers arrive, so at any instant at most L requests
//! can have reached Finch within the last window, whatever the network did to them on the way.
//! Counting *sends* cannot promise that: a slow request and a quick one may arrive together.

mod admission;
pub mod beat;
mod bucket;
mod claims;
pub mod fairness;
pub mod forecast;
mod foreign;
pub mod headers;
mod history;
pub mod holds;
mod ledger;
mod line;
mod members;
pub mod notice;
pub mod patience;
mod per_product;
mod pools;
mod recall;
mod replica;
mod rules;
mod shares;

pub use admission::{Admission, Ask, Reason, Scope, Standing, Tag, Ticket, Would};
pub use claims::Claims;
pub use ledger::Ledger;
pub use notice::{Ailment, Notice, Subject};
pub use per_product::PerProduct;
pub use replica::{Mode, OnOutage, Replica};
pub use rules::{IpRule, Rules};
