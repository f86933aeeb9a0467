//! The tables, and how an older file becomes a newer one.
//!
//! `PRAGMA user_version` counts the migrations a file has had. A file from a newer perch is refused
//! rather than guessed at.

use super::StoreError;
use rusqlite::{Connection, TransactionBehavior};

/// Migration `n` brings a file from version `n` to `n + 1`. Entries are only ever appended.
const MIGRATIONS: [&str; 1] = [V1];

/// Marks the file as perch's ("perc"), so that another program's database is not written into.
const APPLICATION_ID: i32 = 0x7065_7263;

const V1: &str = "
CREATE TABLE vault_meta (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    store_id   BLOB NOT NULL CHECK (length(store_id) = 16),
    generation INTEGER NOT NULL
) STRICT;

CREATE TABLE vault_key (
    dek_id     INTEGER PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('record', 'index')),
    state      TEXT NOT NULL CHECK (state IN ('pending', 'primary', 'decrypt_only', 'destroyed')),
    kek_id     TEXT NOT NULL,
    kek_fp     BLOB NOT NULL CHECK (length(kek_fp) = 8),
    wrapped    BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_primary ON vault_key (purpose) WHERE state = 'primary';

CREATE TABLE connection (
    app            TEXT NOT NULL,
    env            TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    connection_id  TEXT NOT NULL,
    customer_id    TEXT,
    company_id     TEXT,
    provider_id    TEXT,
    products       TEXT NOT NULL,
    entity_ids     TEXT NOT NULL,
    client_type    TEXT NOT NULL CHECK (client_type IN ('production', 'development', 'sandbox')),
    account_status TEXT,
    status         TEXT NOT NULL
                   CHECK (status IN ('active', 'needs_reauth', 'held', 'disconnecting', 'disconnected')),
    held_reason    TEXT,
    sealed         BLOB,
    dek_id         INTEGER REFERENCES vault_key,
    token_bidx     BLOB,
    row_version    INTEGER NOT NULL,
    change_seq     INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_used_at   INTEGER,
    PRIMARY KEY (app, env, connection_id),
    CHECK ((status = 'disconnected') = (sealed IS NULL)),
    CHECK ((sealed IS NULL) = (dek_id IS NULL) AND (sealed IS NULL) = (token_bidx IS NULL))
) STRICT;
CREATE INDEX conn_customer ON connection (app, env, customer_id);
CREATE UNIQUE INDEX conn_token ON connection (app, env, token_bidx);
";

/// Brings the file to the newest version, in one transaction.
///
/// # Errors
/// A sentence when the file is another program's or a newer perch's, or `SQLite`'s own error.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (owner, tables) != (0, 0) && owner != APPLICATION_ID {
        return Err(StoreError::Damaged(
            "this is the database of another program; point vault.store at a file of its own".to_owned(),
        ));
    }
    let newest = MIGRATIONS.len();
    let done = usize::try_from(version).ok().filter(|done| *done <= newest).ok_or_else(|| {
        StoreError::Damaged(format!(
            "its schema is version {version} and this perch knows up to {newest}; use the newer perch that wrote it"
        ))
    })?;
    if done == newest {
        return Ok(());
    }
    for step in &MIGRATIONS[done..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", newest as i64)?;
    tx.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_gets_every_table_and_an_up_to_date_one_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        let changes = db.total_changes();
        migrate(&mut db).unwrap();
        assert_eq!(db.total_changes(), changes);
    }

    #[test]
    fn a_newer_schema_and_another_programs_file_are_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let said = migrate(&mut db).unwrap_err().to_string();
        assert!(said.contains("version 99") && said.contains("newer perch"), "{said}");

        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
        let said = migrate(&mut db).unwrap_err().to_string();
        assert!(said.contains("another program"), "{said}");
    }

    #[test]
    fn the_schema_holds_that_a_token_is_erased_exactly_when_disconnected() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        db.execute_batch(
            "INSERT INTO vault_key VALUES (1, 'record', 'primary', 'local', zeroblob(8), x'00', 0)",
        )
        .unwrap();
        let insert = |id: &str, status: &str, sealed: &str| {
            let with = if sealed == "NULL" {
                "NULL, NULL, NULL".to_owned()
            } else {
                format!("{sealed}, 1, x'{id}'")
            };
            db.execute_batch(&format!(
                "INSERT INTO connection VALUES ('a', 'sandbox', '{id}', NULL, NULL, NULL, '[]', '[]', 'sandbox', \
                 NULL, '{status}', NULL, {with}, 1, 1, 0, 0, NULL)"
            ))
        };
        assert!(insert("01", "active", "x'00'").is_ok());
        assert!(insert("02", "disconnected", "NULL").is_ok());
        assert!(insert("03", "active", "NULL").is_err());
        assert!(insert("04", "disconnected", "x'00'").is_err());
        assert!(insert("05", "lost", "x'00'").is_err());
    }
}
