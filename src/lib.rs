//! perch stands between a company's apps and the Finch API. ARCHITECTURE.md is the map.

pub mod app;
pub mod cli;
pub mod config;
pub mod doors;
pub mod engine;
pub mod finch;
pub mod limit;
pub mod load;
pub mod policy;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod upstream;
pub mod vault;
