//! perch stands between a company's apps and the Finch API. ARCHITECTURE.md is the map.

pub mod engine;
pub mod finch;
pub mod policy;
pub mod telemetry;
pub mod types;
pub mod upstream;
