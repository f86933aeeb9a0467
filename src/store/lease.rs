//! Who of several gateways does what only one should: a lease with an end, so that work goes on when its holder dies.
//! Only a store that several gateways share has them.

use super::StoreError;
use super::sql::{Tx, values};
use crate::types::UnixMillis;
use std::time::Duration;

/// Takes a lease, or keeps it, until `span` from now. Another's counts only while that gateway was heard of since
/// `alive_since`. Answers whether `holder` has it.
///
/// # Errors
/// [`StoreError`].
pub fn take(
    tx: &Tx<'_>,
    name: &str,
    holder: &str,
    (span, alive_since): (Duration, UnixMillis),
    now: UnixMillis,
) -> Result<bool, StoreError> {
    tx.execute(
        "DELETE FROM vault_lease WHERE ends_at <= ?2 OR (name = ?1 \
         AND holder NOT IN (SELECT gateway FROM vault_gateway WHERE seen_at >= ?3))",
        values![name, now.0, alive_since.0],
    )?;
    let ends_at = now.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    let taken = tx.execute(
        "INSERT INTO vault_lease (name, holder, ends_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at \
         WHERE vault_lease.holder = ?2",
        values![name, holder, ends_at],
    )?;
    Ok(taken == 1)
}

/// Gives a lease back; what another holds stays.
///
/// # Errors
/// [`StoreError`].
pub fn give_back(tx: &Tx<'_>, name: &str, holder: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM vault_lease WHERE name = ?1 AND holder = ?2", values![name, holder])?;
    Ok(())
}

/// Gives back all that a gateway holds.
///
/// # Errors
/// [`StoreError`].
pub fn give_back_all(tx: &Tx<'_>, holder: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM vault_lease WHERE holder = ?1", values![holder])?;
    Ok(())
}
