//! Where a test's vault is: in a file, or, when `PERCH_TEST_STORE` is `postgres`, on a server of the test's own. The same
//! tests run on both.

use super::postgres::PostgresServer;
use super::redis::RedisServer;
use perch::config::{self, PostgresUrl};
use std::path::{Path, PathBuf};

/// The database's name on a server.
const NAME: &str = "perch";

/// A store, with a second hand on it.
pub enum Database {
    /// A file.
    File(PathBuf),
    /// A server, and one of Redis beside it for the quota that its gateways share.
    Server(Box<(PostgresServer, RedisServer)>),
}

impl Database {
    /// The kind of store that this run is about.
    pub async fn of_this_run(folder: &Path) -> Self {
        match std::env::var("PERCH_TEST_STORE").as_deref() {
            Ok("postgres") => Self::on_a_server().await,
            Ok(other) => panic!("PERCH_TEST_STORE is {other:?}: leave it out, or say postgres"),
            Err(_) => Database::File(folder.join("perch.db")),
        }
    }

    /// A server, whatever this run is about.
    pub async fn on_a_server() -> Self {
        let (server, redis) = tokio::join!(PostgresServer::start(), RedisServer::start());
        server.database(NAME).await;
        Database::Server(Box::new((server, redis)))
    }

    /// For `vault.store`.
    pub fn setting(&self) -> String {
        match self {
            Database::File(path) => format!("sqlite:{}", path.display()),
            Database::Server(servers) => servers.0.url("postgres", NAME),
        }
    }

    /// What perch's environment says besides, where the settings do not.
    pub fn environment(&self, settings: &str) -> Vec<(&'static str, String)> {
        match self {
            Database::File(_) => Vec::new(),
            // A shared ledger that is new lets nothing through for a window: let it be a short one.
            Database::Server(servers) => [
                ("limits.store", "PERCH_LIMITS__STORE", servers.1.url()),
                ("limits.window", "PERCH_LIMITS__WINDOW", "1s".to_owned()),
                ("limits.arrival_bound", "PERCH_LIMITS__ARRIVAL_BOUND", "1s".to_owned()),
                ("limits.ip.window", "PERCH_LIMITS__IP__WINDOW", "1s".to_owned()),
            ]
            .into_iter()
            .filter(|(key, _, _)| !settings.contains(key))
            .map(|(_, variable, value)| (variable, value))
            .collect(),
        }
    }

    /// For a vault that is opened without a configuration.
    pub fn store(&self) -> config::Store {
        match self {
            Database::File(path) => config::Store::Sqlite(path.clone()),
            Database::Server(_) => postgres(&self.setting()),
        }
    }

    /// Carries statements out as somebody with an SQL shell. How many rows the last one concerned.
    pub async fn sql(&self, statements: &str) -> u64 {
        match self {
            Database::File(path) => {
                let file = rusqlite::Connection::open(path).expect("the store's file");
                file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
                file.changes()
            }
            Database::Server(servers) => {
                let client = servers.0.client(NAME).await;
                let said = client.simple_query(statements).await;
                let said = said.unwrap_or_else(|error| panic!("{statements}: {:?}", error.as_db_error()));
                let count = |message: &tokio_postgres::SimpleQueryMessage| match message {
                    tokio_postgres::SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
                    _ => None,
                };
                said.iter().rev().find_map(count).unwrap_or_default()
            }
        }
    }

    /// The first value that a question answers, as text; `None` when it is null or there is no row.
    pub async fn ask(&self, question: &str) -> Option<String> {
        match self {
            Database::File(path) => ask_file(path, question),
            Database::Server(servers) => {
                let client = servers.0.client(NAME).await;
                let said = client.simple_query(question).await;
                let said = said.unwrap_or_else(|error| panic!("{question}: {:?}", error.as_db_error()));
                said.iter().find_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        Some(row.get(0).map(|text| text.strip_prefix("\\x").unwrap_or(text).to_owned()))
                    }
                    _ => None,
                })?
            }
        }
    }

    /// So much time that a gateway which is not heard of counts as gone. One that has a file to itself is gone at once.
    pub async fn silence_passes(&self) {
        if let Database::Server(_) = self {
            let passes = "DO $$ BEGIN IF to_regclass('vault_gateway') IS NOT NULL THEN \
                          UPDATE vault_gateway SET seen_at = seen_at - 61000; END IF; END $$";
            self.sql(passes).await;
        }
    }

    /// Keeps every writer out until the answer is dropped.
    pub async fn lock(&self) -> Box<dyn std::any::Any> {
        match self {
            Database::File(path) => {
                let file = rusqlite::Connection::open(path).expect("the store's file");
                file.execute_batch("BEGIN IMMEDIATE").expect("the store's lock");
                Box::new(file)
            }
            Database::Server(servers) => {
                let client = servers.0.client(NAME).await;
                let lock = "SELECT pg_advisory_lock('vault_meta'::regclass::oid::bigint)";
                client.batch_execute(lock).await.expect("the store's lock");
                Box::new(client)
            }
        }
    }

    /// Whether it is a server.
    pub fn is_server(&self) -> bool {
        matches!(self, Database::Server(_))
    }

    /// The request ledger, as somebody with an SQL shell opens it.
    fn ledger_file(path: &Path) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(format!("{}.requests", path.display()));
        file.expect("the ledger's file")
    }

    /// The first value that a question to the request ledger answers, as text.
    pub async fn ask_ledger(&self, question: &str) -> Option<String> {
        match self {
            Database::File(path) => ask_file(Path::new(&format!("{}.requests", path.display())), question),
            Database::Server(_) => self.ask(question).await,
        }
    }

    /// Keeps every writer of the request ledger out until the answer is dropped.
    pub async fn lock_ledger(&self) -> Box<dyn std::any::Any> {
        match self {
            Database::File(path) => {
                let file = Self::ledger_file(path);
                file.execute_batch("BEGIN IMMEDIATE").expect("the ledger's lock");
                Box::new(file)
            }
            Database::Server(servers) => {
                let client = servers.0.client(NAME).await;
                client.batch_execute("BEGIN; LOCK TABLE request IN EXCLUSIVE MODE").await.expect("a lock");
                Box::new(client)
            }
        }
    }

    /// From now on the request ledger takes no call of this customer.
    pub async fn refuse_in_ledger(&self, customer: &str) {
        match self {
            Database::File(path) => Self::ledger_file(path)
                .execute_batch(&format!(
                    "CREATE TRIGGER refuse BEFORE INSERT ON request WHEN NEW.customer = '{customer}' \
                     BEGIN SELECT RAISE(ABORT, 'not this one'); END"
                ))
                .expect("a trigger"),
            Database::Server(_) => {
                self.sql(&format!("ALTER TABLE request ADD CHECK (customer <> '{customer}')")).await;
            }
        }
    }

    /// How many changes the store has had.
    pub async fn generation(&self) -> i64 {
        let told = self.ask("SELECT generation FROM vault_meta").await.expect("a count");
        told.parse().expect("a number")
    }

    /// All that is in it.
    pub async fn image(&self) -> Vec<u8> {
        match self {
            Database::File(path) => std::fs::read(path).expect("the store's file"),
            Database::Server(_) => {
                let mut image = String::new();
                for table in ["vault_meta", "vault_key", "connection", "app", "exchange", "audit", "webhook"]
                {
                    let rows = format!("SELECT string_agg(t::text, '\n' ORDER BY t::text) FROM {table} t");
                    image.push_str(&self.ask(&rows).await.unwrap_or_default());
                }
                image.into_bytes()
            }
        }
    }

    /// The files it lies in; `folder` is the file's.
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let folder = match self {
            Database::File(_) => folder,
            Database::Server(servers) => servers.0.path(),
        };
        let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                let kind = entry.file_type().expect("a kind");
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files
    }

    /// How it writes these bytes, given in hexadecimal.
    pub fn bytes(&self, hexadecimal: &str) -> String {
        match self {
            Database::File(_) => format!("x'{hexadecimal}'"),
            Database::Server(_) => format!("'\\x{hexadecimal}'::bytea"),
        }
    }

    /// The server.
    pub fn server(&mut self) -> &mut PostgresServer {
        match self {
            Database::File(path) => panic!("{} is a file", path.display()),
            Database::Server(servers) => &mut servers.0,
        }
    }
}

/// A server's store, by its URL.
pub fn postgres(url: &str) -> config::Store {
    let url: PostgresUrl = url.parse().unwrap_or_else(|error| panic!("{error}"));
    config::Store::Postgres(config::Postgres { url, ca_file: None })
}

/// The first value that a question to a file answers, as text.
fn ask_file(path: &Path, question: &str) -> Option<String> {
    let file = rusqlite::Connection::open(path).expect("the store's file");
    let mut statement = file.prepare(question).unwrap_or_else(|error| panic!("{question}: {error}"));
    let mut rows = statement.query([]).expect("rows");
    let row = rows.next().expect("a row or none")?;
    match row.get_ref(0).expect("a value") {
        rusqlite::types::ValueRef::Null => None,
        rusqlite::types::ValueRef::Integer(number) => Some(number.to_string()),
        rusqlite::types::ValueRef::Real(number) => Some(number.to_string()),
        rusqlite::types::ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        rusqlite::types::ValueRef::Blob(bytes) => {
            Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }
}
