//! A store copied row by row, from wherever it is to wherever it shall be: how a server is backed up into a file, how a
//! backup comes back to a server, and how connections move from a file to a server. Ciphertext stays as it is.

use super::StoreError;
use super::sql::{Kind, Tx, Value, values};
use Kind::{Blob, Int, Text};

/// A table and its columns.
type Table = (&'static str, &'static [(&'static str, Kind)]);

/// What is copied, in an order in which rows come after those they refer to. Which gateways run, and who holds which
/// lease, is of the place and not of the store.
pub(super) const TABLES: &[Table] = &[
    ("vault_meta", &[("only", Int), ("store_id", Blob), ("generation", Int)]),
    (
        "vault_key",
        &[
            ("dek_id", Int),
            ("purpose", Text),
            ("state", Text),
            ("kek_id", Text),
            ("kek_fp", Blob),
            ("wrapped", Blob),
            ("created_at", Int),
            ("retired_at", Int),
        ],
    ),
    (
        "connection",
        &[
            ("app", Text),
            ("env", Text),
            ("connection_id", Text),
            ("customer_id", Text),
            ("company_id", Text),
            ("provider_id", Text),
            ("products", Text),
            ("entity_ids", Text),
            ("client_type", Text),
            ("account_status", Text),
            ("status", Text),
            ("held_reason", Text),
            ("sealed", Blob),
            ("dek_id", Int),
            ("token_bidx", Blob),
            ("row_version", Int),
            ("change_seq", Int),
            ("created_at", Int),
            ("updated_at", Int),
            ("last_used_at", Int),
            ("status_at", Int),
            ("introspected_at", Int),
            ("note", Text),
        ],
    ),
    (
        "app",
        &[
            ("application", Text),
            ("env", Text),
            ("name", Text),
            ("key_id", Text),
            ("key_hash", Blob),
            ("policy", Text),
            ("created_at", Int),
            ("revoked_at", Int),
            ("certificate", Text),
            ("uid", Int),
        ],
    ),
    (
        "pause",
        &[
            ("app", Text),
            ("env", Text),
            ("scope", Text),
            ("name", Text),
            ("paused_at", Int),
            ("actor", Text),
            ("reason", Text),
        ],
    ),
    (
        "exchange",
        &[
            ("app", Text),
            ("env", Text),
            ("code_hash", Blob),
            ("state", Text),
            ("asked_by", Text),
            ("connection_id", Text),
            ("started_at", Int),
            ("finished_at", Int),
        ],
    ),
    (
        "audit",
        &[
            ("seq", Int),
            ("at", Int),
            ("actor", Text),
            ("action", Text),
            ("app", Text),
            ("env", Text),
            ("connection_id", Text),
            ("row_version", Int),
            ("prev_mac", Blob),
            ("mac", Blob),
        ],
    ),
    (
        "webhook",
        &[
            ("seq", Int),
            ("app", Text),
            ("env", Text),
            ("event_id", Text),
            ("event_type", Text),
            ("connection_id", Text),
            ("company_id", Text),
            ("entity_id", Text),
            ("lane", Text),
            ("sent_text", Text),
            ("sent_at", Int),
            ("signature", Text),
            ("body", Blob),
            ("state", Text),
            ("received_at", Int),
            ("attempts", Int),
            ("due_at", Int),
            ("failure", Text),
        ],
    ),
];

/// Copies every row of the tables and columns that the file has, which is one of the two: a copy of an older store is a
/// store of that version. `to` has no rows.
///
/// # Errors
/// [`StoreError`]; what is in `to` then must be rolled back.
pub(super) fn all(from: &Tx<'_>, to: &Tx<'_>) -> Result<(), StoreError> {
    let file = if let Tx::Sqlite(_) = to { to } else { from };
    for (table, columns) in TABLES {
        let there =
            file.rows("SELECT name FROM pragma_table_info(?1)", values![*table], |row| row.get::<String>(0))?;
        let columns: Vec<_> =
            columns.iter().filter(|(name, _)| there.iter().any(|one| one == name)).collect();
        if columns.is_empty() {
            continue;
        }
        // Quoted: one of them is a word of PostgreSQL's.
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "));
        from.stream(&format!("SELECT {} FROM {table}", names.join(", ")), |row| {
            let mut cells = Vec::with_capacity(columns.len());
            for at in 0..columns.len() {
                cells.push(row.cell(at)?);
            }
            let values: Vec<Value<'_>> =
                cells.iter().zip(columns.iter()).map(|(cell, (_, kind))| cell.value(*kind)).collect();
            to.execute(&insert, &values).map(drop)
        })?;
    }
    Ok(())
}

/// Takes every row out of a store, so that another's can come in.
///
/// # Errors
/// [`StoreError`].
pub(super) fn clear(tx: &Tx<'_>) -> Result<(), StoreError> {
    TABLES.iter().rev().try_for_each(|(table, _)| tx.execute(&format!("DELETE FROM {table}"), &[]).map(drop))
}
