//! perch stands between a company's apps and the Finch API. ARCHITECTURE.md is the map.

pub mod cli;
pub mod finch;
pub mod sim;
pub mod types;
