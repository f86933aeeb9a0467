//! FLOOR 1: decisions. Pure functions of facts: no I/O, no clock, no randomness of their own.

pub mod app_key;
pub mod apps;
pub mod batch;
pub mod brake;
pub mod cache;
pub mod caller;
pub mod certificate;
pub mod class;
pub mod drift;
pub mod exchange;
pub mod freshness;
pub mod headers;
pub mod join;
pub mod life;
pub mod merge;
pub mod paging;
pub mod problem;
pub mod proof;
pub mod redact;
pub mod redeliver;
pub mod refusal;
pub mod resend;
pub mod resolve;
pub mod retry;
pub mod rollout;
pub mod route;
pub mod shield;
pub mod sync;
pub mod trace;
pub mod wire;

pub use apps::{App, Policy};
pub use caller::Selector;
pub use class::Class;
pub use problem::Problem;
pub use proof::Proof;
pub use refusal::Refusal;
