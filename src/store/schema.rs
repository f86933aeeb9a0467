//! The tables of the store, of the quota's journal and of the request ledger, and how an older file becomes a newer one.
//!
//! `PRAGMA user_version` counts the migrations a file has had. A file from a newer perch is refused
//! rather than guessed at.

use super::{Older, StoreError};
use rusqlite::{Connection, TransactionBehavior};

/// A kind of file.
#[derive(Debug)]
pub(super) struct Kind {
    /// Marks the file, so that another program's database is not written into.
    application_id: i32,
    /// Migration `n` brings a file from version `n` to `n + 1`. Entries are only ever appended.
    migrations: &'static [&'static str],
}

/// The store ("perc").
pub(super) const STORE: Kind = Kind {
    application_id: 0x7065_7263,
    migrations: &[V1, V2, V3_APPS, V4_LIFE, V5_WEBHOOKS, V6_RING, V7_DOORS, V8_PAUSES],
};

/// The quota's journal ("perq").
pub(super) const JOURNAL: Kind = Kind { application_id: 0x7065_7271, migrations: &[JOURNAL_V1] };

/// The request ledger ("perl").
pub(super) const REQUESTS: Kind = Kind { application_id: 0x7065_726c, migrations: &[REQUESTS_V1] };

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

/// Whether the quota's journal was ever begun: from then on, one that is not there was lost. An older perch
/// may have sent something without one.
const V2: &str = "
CREATE TABLE quota_journal (only INTEGER PRIMARY KEY CHECK (only = 1)) STRICT;
INSERT INTO quota_journal SELECT only FROM vault_meta;
";

/// Apps and the digests of their keys. A name has one good key; revoked ones stay for the record.
const V3_APPS: &str = "
CREATE TABLE app (
    application TEXT NOT NULL,
    env         TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    name        TEXT NOT NULL,
    key_id      TEXT NOT NULL CHECK (length(key_id) = 16),
    key_hash    BLOB NOT NULL CHECK (length(key_hash) = 32),
    policy      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    PRIMARY KEY (application, env, key_id)
) STRICT;
CREATE UNIQUE INDEX app_name ON app (application, env, name) WHERE revoked_at IS NULL;
";

/// What a connection goes through: when Finch's last word on it was learnt, codes on their way, and who did what.
const V4_LIFE: &str = "
ALTER TABLE connection ADD COLUMN status_at INTEGER;
ALTER TABLE connection ADD COLUMN introspected_at INTEGER;
ALTER TABLE connection ADD COLUMN note TEXT;
CREATE INDEX conn_status ON connection (app, env, status);

CREATE TABLE exchange (
    app           TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    code_hash     BLOB NOT NULL CHECK (length(code_hash) = 32),
    state         TEXT NOT NULL CHECK (state IN ('started', 'done', 'unknown')),
    asked_by      TEXT NOT NULL,
    connection_id TEXT,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    PRIMARY KEY (app, env, code_hash),
    CHECK ((state = 'started') = (finished_at IS NULL)),
    CHECK ((state = 'done') = (connection_id IS NOT NULL))
) STRICT;
CREATE INDEX exchange_age ON exchange (started_at);

CREATE TABLE audit (
    seq           INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    app           TEXT NOT NULL,
    env           TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    row_version   INTEGER NOT NULL,
    prev_mac      BLOB NOT NULL CHECK (length(prev_mac) = 32),
    mac           BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT;
CREATE INDEX audit_connection ON audit (app, env, connection_id, seq);
";

/// What Finch told by webhook. `lane` is what is delivered one after the other: a connection, or an event alone.
/// A column that is `connection`'s namesake refers to none: Finch may speak of connections that are not here.
const V5_WEBHOOKS: &str = "
CREATE TABLE webhook (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    app           TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    event_id      TEXT NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
    event_type    TEXT NOT NULL,
    connection_id TEXT,
    company_id    TEXT,
    entity_id     TEXT,
    lane          TEXT NOT NULL,
    sent_text     TEXT NOT NULL,
    sent_at       INTEGER NOT NULL,
    signature     TEXT NOT NULL,
    body          BLOB NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('new', 'waiting', 'done', 'dead')),
    received_at   INTEGER NOT NULL,
    attempts      INTEGER NOT NULL CHECK (attempts >= 0),
    due_at        INTEGER,
    failure       TEXT,
    UNIQUE (app, env, event_id),
    CHECK ((state = 'waiting') = (due_at IS NOT NULL))
) STRICT;
CREATE INDEX webhook_due ON webhook (app, env, state, due_at);
";

/// The life of the ring's keys: when one was retired, how many rows each has sealed, and which keys the
/// gateway has opened, so that none seals before the gateway can open what it sealed.
const V6_RING: &str = "
ALTER TABLE vault_key ADD COLUMN retired_at INTEGER;
CREATE INDEX conn_key ON connection (dek_id);
CREATE TABLE vault_gateway (
    gateway    TEXT PRIMARY KEY,
    newest_key INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
";

/// What apps are known by at the door in the place of a key. A mark is one good app's.
const V7_DOORS: &str = "
ALTER TABLE app ADD COLUMN certificate TEXT;
ALTER TABLE app ADD COLUMN uid INTEGER;
CREATE UNIQUE INDEX app_certificate ON app (application, env, certificate)
    WHERE revoked_at IS NULL AND certificate IS NOT NULL;
CREATE UNIQUE INDEX app_uid ON app (application, env, uid) WHERE revoked_at IS NULL AND uid IS NOT NULL;
";

/// Whose calls an operator has stopped until further notice. A name is a customer's, a product's or a provider's.
const V8_PAUSES: &str = "
CREATE TABLE pause (
    app       TEXT NOT NULL,
    env       TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    scope     TEXT NOT NULL CHECK (scope IN ('customer', 'product', 'provider')),
    name      TEXT NOT NULL,
    paused_at INTEGER NOT NULL,
    actor     TEXT NOT NULL,
    reason    TEXT,
    PRIMARY KEY (app, env, scope, name)
) STRICT;
";

/// One row about the journal itself, the permits granted, the holds that last. Times are milliseconds of
/// the epoch's steady clock, or of the wall clock where they are called so.
const JOURNAL_V1: &str = "
CREATE TABLE journal (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    epoch  TEXT NOT NULL,
    run    INTEGER NOT NULL,
    untold INTEGER
) STRICT;

CREATE TABLE permit (
    run      INTEGER NOT NULL,
    ticket   INTEGER NOT NULL,
    product  TEXT NOT NULL,
    priority TEXT NOT NULL,
    granted  INTEGER NOT NULL,
    arrived  INTEGER,
    wall     INTEGER NOT NULL,
    PRIMARY KEY (run, ticket)
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
    scope      TEXT PRIMARY KEY,
    until      INTEGER NOT NULL,
    until_wall INTEGER NOT NULL,
    span       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Calls, Finch's ids of their attempts, and what each connection was used for by month. `facts` is the whole of a call as
/// JSON; the other columns are what is searched for: `app` is who called, `application` the one at Finch. A number is never given twice.
const REQUESTS_V1: &str = "
CREATE TABLE request (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    ts            INTEGER NOT NULL,
    application   TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    request_id    TEXT NOT NULL,
    customer      TEXT,
    connection_id TEXT,
    company_id    TEXT,
    app           TEXT,
    product       TEXT NOT NULL,
    class         TEXT NOT NULL,
    status        INTEGER NOT NULL,
    facts         TEXT NOT NULL
) STRICT;
CREATE INDEX request_time ON request (application, env, ts);
CREATE INDEX request_name ON request (request_id, application, env);
CREATE INDEX request_customer ON request (application, env, customer, ts) WHERE customer IS NOT NULL;
CREATE INDEX request_connection ON request (application, env, connection_id, ts) WHERE connection_id IS NOT NULL;
CREATE INDEX request_company ON request (application, env, company_id, ts) WHERE company_id IS NOT NULL;

CREATE TABLE finch_request (
    finch_request_id TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    PRIMARY KEY (finch_request_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX finch_request_seq ON finch_request (seq);

CREATE TABLE usage (
    application   TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    month         TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    company_id    TEXT,
    customer      TEXT,
    provider      TEXT,
    calls         INTEGER NOT NULL,
    own_calls     INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    PRIMARY KEY (application, env, month, connection_id)
) STRICT, WITHOUT ROWID;
";

/// Whether a file that is only read is one of this kind, of the version known here.
///
/// # Errors
/// A sentence when it is not, or `SQLite`'s own error.
pub(super) fn check(db: &Connection, kind: &Kind) -> Result<(), StoreError> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if owner != kind.application_id {
        return Err(StoreError::Damaged("this is the database of another program".to_owned()));
    }
    match usize::try_from(version).is_ok_and(|version| version == kind.migrations.len()) {
        true => Ok(()),
        false => Err(StoreError::Refused(format!(
            "its schema is version {version} and this perch reads version {}; use the perch of the gateway that writes it",
            kind.migrations.len()
        ))),
    }
}

impl Kind {
    /// How many migrations there are: the version known here.
    pub(super) fn newest(&self) -> usize {
        self.migrations.len()
    }

    /// The same kind of file as it was at an earlier version.
    pub(super) fn at(&self, version: usize) -> Kind {
        Kind { migrations: &self.migrations[..version.min(self.newest())], ..*self }
    }
}

/// The version of a file of this kind, whoever made it: 0 where there are no tables yet.
///
/// # Errors
/// [`StoreError::Damaged`] when it is another program's, or `SQLite`'s own error.
pub(super) fn version(db: &Connection, kind: &Kind) -> Result<usize, StoreError> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (owner, tables) != (0, 0) && owner != kind.application_id {
        return Err(StoreError::Damaged(
            "this is the database of another program; point vault.store at a file of its own".to_owned(),
        ));
    }
    usize::try_from(version).map_err(|_| StoreError::Damaged(format!("its schema is version {version}")))
}

/// That a newer perch made it.
pub(super) fn newer_than_known(version: usize, kind: &Kind) -> StoreError {
    StoreError::Newer(format!(
        "its schema is version {version} and this perch knows up to {}; use the newer perch that wrote it",
        kind.newest()
    ))
}

/// The version of a file of this kind that is newer than what is known here.
pub(super) fn newer(db: &Connection, kind: &Kind) -> Option<i64> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).ok()?;
    let owner: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).ok()?;
    let is_newer = usize::try_from(version).is_ok_and(|version| version > kind.migrations.len());
    (owner == kind.application_id && is_newer).then_some(version)
}

/// Makes the tables where there are none; what becomes of older ones `older` says. In one transaction.
///
/// # Errors
/// A sentence when the file is another program's, a newer perch's or an older one's that is not to be renewed, or
/// `SQLite`'s own error.
pub(super) fn migrate(db: &mut Connection, kind: &Kind, older: Older) -> Result<(), StoreError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (done, newest) = (version(&tx, kind)?, kind.newest());
    if done > newest {
        return Err(newer_than_known(done, kind));
    }
    if done == newest || (done > 0 && older == Older::Keep) {
        return Ok(());
    }
    if done > 0 && older == Older::Refuse {
        return Err(StoreError::Refused(format!(
            "its schema is version {done} and this perch writes version {newest}; only a gateway renews it: use the perch \
             of the gateway that runs, or start this perch's gateway first"
        )));
    }
    for step in &kind.migrations[done..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", kind.application_id)?;
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
        migrate(&mut db, &STORE, Older::Renew).unwrap();
        let changes = db.total_changes();
        migrate(&mut db, &STORE, Older::Renew).unwrap();
        assert_eq!(db.total_changes(), changes);
    }

    #[test]
    fn a_newer_schema_and_another_programs_file_are_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &STORE, Older::Renew).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let said = migrate(&mut db, &STORE, Older::Renew).unwrap_err().to_string();
        assert!(said.contains("version 99") && said.contains("newer perch"), "{said}");

        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
        let said = migrate(&mut db, &STORE, Older::Renew).unwrap_err().to_string();
        assert!(said.contains("another program"), "{said}");
    }

    #[test]
    fn an_older_file_is_renewed_only_where_that_is_meant() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &STORE.at(7), Older::Refuse).unwrap();
        assert_eq!(version(&db, &STORE), Ok(7), "where there is nothing the tables are made");
        let said = migrate(&mut db, &STORE, Older::Refuse).unwrap_err().to_string();
        assert!(said.contains("version 7") && said.contains("start this perch's gateway"), "{said}");
        migrate(&mut db, &STORE, Older::Keep).unwrap();
        assert_eq!(version(&db, &STORE), Ok(7));
        migrate(&mut db, &STORE, Older::Renew).unwrap();
        assert_eq!(version(&db, &STORE), Ok(STORE.newest()));
    }

    #[test]
    fn a_store_that_an_older_perch_has_used_counts_as_one_whose_journal_is_lost() {
        let begun = |before: &str| -> i64 {
            let mut db = Connection::open_in_memory().unwrap();
            migrate(&mut db, &STORE.at(1), Older::Renew).unwrap();
            db.execute_batch(before).unwrap();
            migrate(&mut db, &STORE, Older::Renew).unwrap();
            db.query_row("SELECT count(*) FROM quota_journal", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(begun("INSERT INTO vault_meta VALUES (1, zeroblob(16), 1)"), 1);
        assert_eq!(begun(""), 0);
    }

    #[test]
    fn the_schema_holds_that_a_token_is_erased_exactly_when_disconnected() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &STORE, Older::Renew).unwrap();
        db.execute_batch(
            "INSERT INTO vault_key VALUES (1, 'record', 'primary', 'local', zeroblob(8), x'00', 0, NULL)",
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
                 NULL, '{status}', NULL, {with}, 1, 1, 0, 0, NULL, NULL, NULL, NULL)"
            ))
        };
        assert!(insert("01", "active", "x'00'").is_ok());
        assert!(insert("02", "disconnected", "NULL").is_ok());
        assert!(insert("03", "active", "NULL").is_err());
        assert!(insert("04", "disconnected", "x'00'").is_err());
        assert!(insert("05", "lost", "x'00'").is_err());
    }
}
