//! perch as it is measured: one connection, and limits that no call reaches.

use super::brood::free_port;
use super::home::Home;
use super::{Outcome, upstream};
use std::net::SocketAddr;
use std::path::Path;

/// Whose connection the vault holds.
pub(crate) const CUSTOMER: &str = "acme";

/// Makes the folder of one gateway.
pub(crate) fn furnish(folder: &Path, finch: SocketAddr) -> Outcome<Home> {
    let (door, admin) = (free_port()?, free_port()?);
    let connection = serde_json::json!({
        "customer_id": CUSTOMER,
        "connection_id": "5f4b7c1e-0000-4000-8000-000000000001",
        "access_token": upstream::TOKEN,
        "company_id": "5f4b7c1e-0000-4000-8000-000000000002",
        "provider_id": "gusto",
    });
    Home::furnish(folder, door, &settings(finch, door, admin), &[connection])
}

/// Limits that nothing here reaches, in a window of a second: the ledger keeps one permit for each
/// call of a window, so its memory stays that of a second's calls. It still holds thousands where
/// Finch's own limits would let it hold twenty, so what it costs here is an upper bound. The calls are
/// alike, and each is meant to be a call of its own.
fn settings(finch: SocketAddr, door: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[finch]
base_url = "http://{finch}"
environment = "sandbox"
client_id = "bench"

[listen]
proxy = "{door}"
admin = "{admin}"

[merge]
coalesce = false

[limits]
window = "1s"
[limits.products]
default = 100000
[limits.ip]
requests = 100000
window = "1s"
"#
    )
}
