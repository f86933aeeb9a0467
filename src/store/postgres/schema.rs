//! The tables on a server: the file's, in PostgreSQL's words. A test holds the two against each other.

use crate::store::{Older, StoreError};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Migration `n` brings the tables from version `n` to `n + 1`. Entries are only ever appended.
const MIGRATIONS: &[&str] = &[V1, V2_REQUESTS, V3_PAUSES];

/// The version of a file's tables that are what these are after each migration: the request ledger is a file of its own.
const FILE_VERSIONS: [usize; 3] = [7, 7, 8];
const _: () = assert!(FILE_VERSIONS.len() == MIGRATIONS.len(), "which version of a file has the same tables");

/// The version of a file's tables that are what these are at this version.
pub(super) fn file_version(version: usize) -> usize {
    version.checked_sub(1).and_then(|at| FILE_VERSIONS.get(at)).copied().unwrap_or(usize::MAX)
}

/// What a gateway does with each table; the right to delete from the trail is for its oldest rows.
const GRANTS: &[(&str, &str)] = &[
    ("perch_schema", "SELECT"),
    ("vault_meta", "SELECT, INSERT, UPDATE"),
    ("vault_key", "SELECT, INSERT, UPDATE"),
    ("vault_gateway", "SELECT, INSERT, UPDATE, DELETE"),
    ("vault_lease", "SELECT, INSERT, UPDATE, DELETE"),
    ("connection", "SELECT, INSERT, UPDATE"),
    ("app", "SELECT, INSERT, UPDATE, DELETE"),
    ("exchange", "SELECT, INSERT, UPDATE, DELETE"),
    ("pause", "SELECT, INSERT, UPDATE, DELETE"),
    ("audit", "SELECT, INSERT, DELETE"),
    ("webhook", "SELECT, INSERT, UPDATE, DELETE"),
    ("webhook_seq_seq", "USAGE, SELECT"),
    ("request", "SELECT, INSERT, DELETE"),
    ("request_seq_seq", "USAGE, SELECT"),
    ("finch_request", "SELECT, INSERT, DELETE"),
    ("usage", "SELECT, INSERT, UPDATE, DELETE"),
];

/// Text that is compared or ordered is so byte by byte, as in the file.
const V1: &str = r#"
CREATE TABLE vault_meta (
    "only"     BIGINT PRIMARY KEY CHECK ("only" = 1),
    store_id   BYTEA NOT NULL CHECK (length(store_id) = 16),
    generation BIGINT NOT NULL
);

CREATE TABLE vault_key (
    dek_id     BIGINT PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('record', 'index')),
    state      TEXT NOT NULL CHECK (state IN ('pending', 'primary', 'decrypt_only', 'destroyed')),
    kek_id     TEXT NOT NULL,
    kek_fp     BYTEA NOT NULL CHECK (length(kek_fp) = 8),
    wrapped    BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX one_primary ON vault_key (purpose) WHERE state = 'primary';

CREATE TABLE vault_gateway (
    gateway    TEXT PRIMARY KEY,
    newest_key BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);

CREATE TABLE vault_lease (
    name    TEXT PRIMARY KEY,
    holder  TEXT NOT NULL,
    ends_at BIGINT NOT NULL
);

CREATE TABLE connection (
    app            TEXT COLLATE "C" NOT NULL,
    env            TEXT COLLATE "C" NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    connection_id  TEXT COLLATE "C" NOT NULL,
    customer_id    TEXT COLLATE "C",
    company_id     TEXT,
    provider_id    TEXT,
    products       TEXT NOT NULL,
    entity_ids     TEXT NOT NULL,
    client_type    TEXT NOT NULL CHECK (client_type IN ('production', 'development', 'sandbox')),
    account_status TEXT,
    status         TEXT NOT NULL
                   CHECK (status IN ('active', 'needs_reauth', 'held', 'disconnecting', 'disconnected')),
    held_reason    TEXT,
    sealed         BYTEA,
    dek_id         BIGINT REFERENCES vault_key,
    token_bidx     BYTEA,
    row_version    BIGINT NOT NULL,
    change_seq     BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    last_used_at   BIGINT,
    status_at      BIGINT,
    introspected_at BIGINT,
    note           TEXT,
    PRIMARY KEY (app, env, connection_id),
    CHECK ((status = 'disconnected') = (sealed IS NULL)),
    CHECK ((sealed IS NULL) = (dek_id IS NULL) AND (sealed IS NULL) = (token_bidx IS NULL))
);
CREATE INDEX conn_customer ON connection (app, env, customer_id);
CREATE UNIQUE INDEX conn_token ON connection (app, env, token_bidx);
CREATE INDEX conn_status ON connection (app, env, status);
CREATE INDEX conn_key ON connection (dek_id);
CREATE INDEX conn_change ON connection (app, env, change_seq);

CREATE TABLE app (
    application TEXT COLLATE "C" NOT NULL,
    env         TEXT COLLATE "C" NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    name        TEXT COLLATE "C" NOT NULL,
    key_id      TEXT COLLATE "C" NOT NULL CHECK (length(key_id) = 16),
    key_hash    BYTEA NOT NULL CHECK (length(key_hash) = 32),
    policy      TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT,
    certificate TEXT COLLATE "C",
    uid         BIGINT,
    PRIMARY KEY (application, env, key_id)
);
CREATE UNIQUE INDEX app_certificate ON app (application, env, certificate)
    WHERE revoked_at IS NULL AND certificate IS NOT NULL;
CREATE UNIQUE INDEX app_uid ON app (application, env, uid) WHERE revoked_at IS NULL AND uid IS NOT NULL;
CREATE UNIQUE INDEX app_name ON app (application, env, name) WHERE revoked_at IS NULL;

CREATE TABLE exchange (
    app           TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    code_hash     BYTEA NOT NULL CHECK (length(code_hash) = 32),
    state         TEXT NOT NULL CHECK (state IN ('started', 'done', 'unknown')),
    asked_by      TEXT NOT NULL,
    connection_id TEXT,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT,
    PRIMARY KEY (app, env, code_hash),
    CHECK ((state = 'started') = (finished_at IS NULL)),
    CHECK ((state = 'done') = (connection_id IS NOT NULL))
);
CREATE INDEX exchange_age ON exchange (started_at);

CREATE TABLE audit (
    seq           BIGINT PRIMARY KEY,
    at            BIGINT NOT NULL,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    app           TEXT NOT NULL,
    env           TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    row_version   BIGINT NOT NULL,
    prev_mac      BYTEA NOT NULL CHECK (length(prev_mac) = 32),
    mac           BYTEA NOT NULL CHECK (length(mac) = 32)
);
CREATE INDEX audit_connection ON audit (app, env, connection_id, seq);

CREATE TABLE webhook (
    seq           BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    app           TEXT NOT NULL,
    env           TEXT NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    event_id      TEXT NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
    event_type    TEXT NOT NULL,
    connection_id TEXT,
    company_id    TEXT,
    entity_id     TEXT,
    lane          TEXT NOT NULL,
    sent_text     TEXT NOT NULL,
    sent_at       BIGINT NOT NULL,
    signature     TEXT NOT NULL,
    body          BYTEA NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('new', 'waiting', 'done', 'dead')),
    received_at   BIGINT NOT NULL,
    attempts      BIGINT NOT NULL CHECK (attempts >= 0),
    due_at        BIGINT,
    failure       TEXT,
    UNIQUE (app, env, event_id),
    CHECK ((state = 'waiting') = (due_at IS NOT NULL))
);
CREATE INDEX webhook_due ON webhook (app, env, state, due_at);

-- Others hear of a change when it commits.
CREATE FUNCTION perch_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('perch_vault', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
CREATE TRIGGER tell_change AFTER UPDATE OF generation ON vault_meta FOR EACH ROW EXECUTE FUNCTION perch_tell();
CREATE TRIGGER tell_webhook AFTER INSERT ON webhook FOR EACH STATEMENT EXECUTE FUNCTION perch_tell();
"#;

/// The request ledger; the file has it beside it. An id is looked for and never ordered.
const V2_REQUESTS: &str = r#"
CREATE TABLE request (
    seq           BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    ts            BIGINT NOT NULL,
    application   TEXT COLLATE "C" NOT NULL,
    env           TEXT COLLATE "C" NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    request_id    TEXT COLLATE "C" NOT NULL,
    customer      TEXT COLLATE "C",
    connection_id TEXT COLLATE "C",
    company_id    TEXT COLLATE "C",
    app           TEXT COLLATE "C",
    product       TEXT COLLATE "C" NOT NULL,
    class         TEXT COLLATE "C" NOT NULL,
    status        BIGINT NOT NULL,
    facts         TEXT NOT NULL
);
CREATE INDEX request_time ON request (application, env, ts, seq);
CREATE INDEX request_name ON request (request_id, application, env);
CREATE INDEX request_customer ON request (application, env, customer, ts, seq) WHERE customer IS NOT NULL;
CREATE INDEX request_connection ON request (application, env, connection_id, ts, seq) WHERE connection_id IS NOT NULL;
CREATE INDEX request_company ON request (application, env, company_id, ts, seq) WHERE company_id IS NOT NULL;

CREATE TABLE finch_request (
    finch_request_id TEXT COLLATE "C" NOT NULL,
    seq              BIGINT NOT NULL,
    PRIMARY KEY (finch_request_id, seq)
);
CREATE INDEX finch_request_seq ON finch_request (seq);

CREATE TABLE usage (
    application   TEXT COLLATE "C" NOT NULL,
    env           TEXT COLLATE "C" NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    month         TEXT COLLATE "C" NOT NULL,
    connection_id TEXT COLLATE "C" NOT NULL,
    company_id    TEXT COLLATE "C",
    customer      TEXT COLLATE "C",
    provider      TEXT,
    calls         BIGINT NOT NULL,
    own_calls     BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    first_at      BIGINT NOT NULL,
    last_at       BIGINT NOT NULL,
    PRIMARY KEY (application, env, month, connection_id)
);
"#;

/// Whose calls an operator has stopped until further notice.
const V3_PAUSES: &str = r#"
CREATE TABLE pause (
    app       TEXT COLLATE "C" NOT NULL,
    env       TEXT COLLATE "C" NOT NULL CHECK (env IN ('production', 'development', 'sandbox')),
    scope     TEXT COLLATE "C" NOT NULL CHECK (scope IN ('customer', 'product', 'provider')),
    name      TEXT COLLATE "C" NOT NULL,
    paused_at BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    reason    TEXT,
    PRIMARY KEY (app, env, scope, name)
);
"#;

/// Makes the tables where there are none, in one transaction, and lets these roles use them; what becomes of older ones
/// `older` says. Answers the version.
///
/// # Errors
/// A sentence when they are a newer perch's, or an older one's that are not to be renewed, or when the role that signed
/// in may not change them.
pub(super) async fn prepare(client: &Client, older: Older, roles: &[String]) -> Result<usize, StoreError> {
    let (there, newest) = versions(client).await?;
    match older {
        Older::Keep if there > 0 => return Ok(there),
        Older::Refuse if there > 0 && there < newest => return Err(not_renewed(there)),
        Older::Keep | Older::Refuse | Older::Renew if there == newest && roles.is_empty() => {
            return Ok(newest);
        }
        Older::Keep | Older::Refuse | Older::Renew => {}
    }
    client
        .batch_execute(
            "BEGIN; SET LOCAL statement_timeout = '60s'; \
             SELECT pg_advisory_xact_lock(hashtextextended('perch ' || current_schema(), 0))",
        )
        .await?;
    let done = renew(client, older, roles).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let there = done?;
    ended?;
    Ok(there)
}

/// The version of the tables, 0 where there are none, and the one known here.
///
/// # Errors
/// [`StoreError::Newer`] when it is beyond what is known.
pub(super) async fn versions(client: &Client) -> Result<(usize, usize), StoreError> {
    Ok((version(client).await?, MIGRATIONS.len()))
}

/// That the tables are left to those who use them.
fn not_renewed(there: usize) -> StoreError {
    StoreError::Refused(format!(
        "its tables are of version {there} and this perch writes version {}; use the perch of the gateways that run, or \
         start this perch's gateway or run \"perch vault migrate\" first",
        MIGRATIONS.len()
    ))
}

/// Whether the tables are of the version known here, which is answered; changes nothing.
///
/// # Errors
/// A sentence when they are not.
pub(super) async fn check(client: &Client) -> Result<usize, StoreError> {
    match versions(client).await? {
        (there, known) if there == known => Ok(known),
        (there, known) => Err(StoreError::Refused(format!(
            "its tables are of version {there} and this perch reads version {known}; start this perch's gateway or run \
             \"perch vault migrate\" first"
        ))),
    }
}

async fn renew(client: &Client, older: Older, roles: &[String]) -> Result<usize, StoreError> {
    // Somebody may have been faster.
    let done = version(client).await?;
    match older {
        Older::Keep if done > 0 => return Ok(done),
        Older::Refuse if done > 0 && done < MIGRATIONS.len() => return Err(not_renewed(done)),
        Older::Keep | Older::Refuse | Older::Renew => {}
    }
    if done == 0 {
        let table = "CREATE TABLE perch_schema (version BIGINT NOT NULL)";
        client.batch_execute(table).await.map_err(may_not)?;
        client.batch_execute("INSERT INTO perch_schema VALUES (0)").await?;
    }
    for step in &MIGRATIONS[done..] {
        client.batch_execute(step).await.map_err(may_not)?;
    }
    if done < MIGRATIONS.len() {
        let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        client
            .batch_execute(&format!("UPDATE perch_schema SET version = {newest}"))
            .await
            .map_err(may_not)?;
    }
    for role in roles {
        grant(client, role).await?;
    }
    Ok(MIGRATIONS.len())
}

/// Lets a role use the tables, and the schema they are in.
async fn grant(client: &Client, role: &str) -> Result<(), StoreError> {
    let mut wanted = vec!["SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), $1)".to_owned()];
    wanted.extend(GRANTS.iter().map(|(table, rights)| {
        let kind = if table.ends_with("_seq") { "SEQUENCE" } else { "TABLE" };
        format!("SELECT format('GRANT {rights} ON {kind} %I.{table} TO %I', current_schema(), $1)")
    }));
    for question in wanted {
        let quoted = client.query_typed(&question, &[(&role, tokio_postgres::types::Type::TEXT)]).await?;
        let Some(sentence) = quoted.first() else { continue };
        client.batch_execute(sentence.try_get(0)?).await.map_err(may_not)?;
    }
    Ok(())
}

/// Whether the tables are there and hold a store.
pub(super) async fn is_used(client: &Client) -> Result<bool, StoreError> {
    if version(client).await? == 0 {
        return Ok(false);
    }
    let named = client.query_typed("SELECT 1 FROM vault_meta", &[]).await.map_err(may_not)?;
    Ok(!named.is_empty())
}

/// The version of the tables; 0 where there are none.
async fn version(client: &Client) -> Result<usize, StoreError> {
    // Read from the catalogue itself: a name that was looked up before another made the table is remembered as missing.
    let there = client
        .query_typed(
            "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname = 'perch_schema' AND n.nspname = ANY (current_schemas(false)))",
            &[],
        )
        .await?;
    if !there.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(0);
    }
    let rows = client.query_typed("SELECT version FROM perch_schema", &[]).await.map_err(may_not)?;
    let version: i64 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let newest = MIGRATIONS.len();
    usize::try_from(version).ok().filter(|version| *version <= newest).ok_or_else(|| {
        StoreError::Newer(format!(
            "its tables are of version {version} and this perch knows up to {newest}; use the newer perch that made them"
        ))
    })
}

/// That a role may not is the operator's wish: say who should.
fn may_not(cause: tokio_postgres::Error) -> StoreError {
    if cause.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return StoreError::Unavailable(format!(
            "its tables are missing, older than this perch or not granted, and the role of vault.store may not change \
             that: {}; run \"perch vault migrate --grant ROLE\" once as a role that may",
            cause.as_db_error().map_or("permission denied", |said| said.message())
        ));
    }
    cause.into()
}

/// Says so when perch signs in as somebody who may do anything.
pub(super) async fn warn_of_power(client: &Client) {
    let asked = client.query_typed("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[]).await;
    let is_super =
        asked.ok().and_then(|rows| rows.first().and_then(|row| row.try_get(0).ok())).unwrap_or(false);
    if is_super {
        tracing::warn!(
            "vault.store signs in as a superuser of the server; give perch a role of its own (\"perch vault migrate --grant \
             ROLE\")"
        );
    }
}
