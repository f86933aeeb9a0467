//! The vault over a real file: what survives, what is refused, what is never written.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use crate::support::Database;
use perch::types::{
    AccessToken, ApplicationId, ConnectionId, CustomerId, Environment, Kek, ProviderId, UnixMillis,
};
use perch::vault::{NewConnection, OpenError, Status, Vault, VaultError, VaultOptions};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const LONG: Duration = Duration::from_secs(3600);
const NEVER: Duration = Duration::ZERO;

struct Bench {
    dir: tempfile::TempDir,
    database: Database,
    vault: Arc<Vault>,
}

impl Bench {
    async fn new(cache_ttl: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::of_this_run(dir.path()).await;
        let vault = Vault::open(options(&database, 1, cache_ttl)).await.unwrap();
        Self { dir, database, vault }
    }

    /// A vault in a file, whatever this run is about.
    async fn on_a_file(cache_ttl: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::File(dir.path().join("perch.db"));
        let vault = Vault::open(options(&database, 1, cache_ttl)).await.unwrap();
        Self { dir, database, vault }
    }

    /// Someone with an SQL shell.
    async fn sql(&self, statement: &str) -> u64 {
        self.database.sql(statement).await
    }

    async fn token(&self, connection: &str) -> Result<Option<String>, VaultError> {
        let entry = self.vault.connection(&id(connection)).await?;
        Ok(entry.token.as_ref().map(|token| token.expose().to_owned()))
    }

    async fn unreadable(&self) -> u64 {
        self.vault.stats().await.unwrap().unreadable_total
    }
}

fn options(database: &Database, key: u8, cache_ttl: Duration) -> VaultOptions {
    VaultOptions {
        store: database.store(),
        keys: Kek::new([key; 32]).into(),
        application: ApplicationId::new("app-1").unwrap(),
        environment: Environment::Sandbox,
        cache_ttl,
        is_gateway: false,
        generation_file: None,
        accept_rollback: false,
        now: NOW,
    }
}

fn id(text: &str) -> ConnectionId {
    ConnectionId::new(text).unwrap()
}

fn customer(text: &str) -> CustomerId {
    CustomerId::new(text).unwrap()
}

fn new(connection: &str, owner: Option<&str>, token: &str) -> NewConnection {
    NewConnection {
        connection_id: id(connection),
        customer_id: owner.map(customer),
        company_id: None,
        provider_id: Some(ProviderId::new("gusto").unwrap()),
        products: vec!["directory".to_owned()],
        entity_ids: Vec::new(),
        client_type: Environment::Sandbox,
        account_status: None,
        token: AccessToken::new(token.to_owned()),
        status: Status::Active,
        held_reason: None,
    }
}

fn refused(connection: &str) -> Result<Option<String>, VaultError> {
    Err(VaultError::Unreadable { connection: id(connection) })
}

fn some(token: &str) -> Result<Option<String>, VaultError> {
    Ok(Some(token.to_owned()))
}

#[tokio::test]
async fn a_sealed_token_comes_back_after_a_restart_and_the_newest_wins() {
    let bench = Bench::new(LONG).await;
    let first = bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    assert_eq!((first.version, first.replaced), (1, false));
    let second = bench.vault.seal(new("c1", Some("acme"), "t2"), UnixMillis(NOW.0 + 5)).await.unwrap();
    assert_eq!((second.version, second.replaced), (2, true));

    let again = Vault::open(options(&bench.database, 1, LONG)).await.unwrap();
    let entry = again.connection(&id("c1")).await.unwrap();
    assert_eq!(entry.token.as_ref().unwrap().expose(), "t2");
    assert_eq!((entry.facts.created_at, entry.facts.updated_at), (NOW, UnixMillis(NOW.0 + 5)));
    assert_eq!(format!("{:?}", entry.token), "Some(AccessToken(…))");
    assert_eq!(again.connection(&id("c2")).await.err(), Some(VaultError::UnknownConnection));
    assert!(again.of_customer(&customer("nobody")).await.unwrap().is_empty());
}

#[tokio::test]
async fn v5_a_wrong_key_refuses_to_open_and_leaves_the_store_untouched() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    let Bench { dir: _dir, database, vault } = bench;
    drop(vault);
    let before = database.image().await;

    let refused = Vault::open(options(&database, 2, LONG)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Key(_)));
    let said = refused.to_string();
    assert!(said.contains("wrong key, expected fingerprint"), "{said}");
    assert_eq!(database.image().await, before);

    let vault = Vault::open(options(&database, 1, LONG)).await.unwrap();
    assert_eq!(vault.connection(&id("c1")).await.unwrap().token.as_ref().unwrap().expose(), "t1");
}

#[tokio::test]
async fn a_store_whose_keys_were_deleted_is_not_given_new_ones() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench.sql("DELETE FROM vault_meta").await;
    let refused = Vault::open(options(&bench.database, 1, LONG)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Store(_)), "{refused}");
    assert!(matches!(refused, OpenError::Store(_)), "{refused}");
}

#[tokio::test]
async fn a_second_gateway_on_one_file_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = Database::File(dir.path().join("perch.db"));
    let gateway = || VaultOptions { is_gateway: true, ..options(&file, 1, LONG) };
    let _first = Vault::open(gateway()).await.unwrap();
    let said = Vault::open(gateway()).await.err().unwrap().to_string();
    assert!(said.contains("another perch gateway is using"), "{said}");
}

#[tokio::test]
async fn v6_two_swapped_rows_are_both_refused_and_counted() {
    let bench = Bench::new(NEVER).await;
    for (connection, owner, token) in [("c1", "acme", "t1"), ("c2", "acme", "t2"), ("c3", "zeta", "t3")] {
        bench.vault.seal(new(connection, Some(owner), token), NOW).await.unwrap();
    }
    bench.sql("CREATE TABLE kept AS SELECT connection_id, sealed FROM connection").await;
    for (to, from) in [("c1", "c2"), ("c2", "c1")] {
        bench
            .sql(&format!(
                "UPDATE connection SET sealed = (SELECT sealed FROM kept WHERE connection_id = '{from}') \
             WHERE connection_id = '{to}'"
            ))
            .await;
    }
    assert_eq!(bench.token("c1").await, refused("c1"));
    assert_eq!(bench.token("c2").await, refused("c2"));
    assert_eq!(bench.unreadable().await, 2);
    assert_eq!(bench.token("c3").await, some("t3"));
}

#[tokio::test]
async fn v6_a_row_given_to_another_customer_in_sql_opens_for_nobody() {
    let bench = Bench::new(NEVER).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench.vault.seal(new("c2", Some("mallory"), "t2"), NOW).await.unwrap();
    bench.sql("UPDATE connection SET customer_id = 'mallory' WHERE connection_id = 'c1'").await;
    let entries = bench.vault.of_customer(&customer("mallory")).await.unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.facts.connection_id.as_str(), e.is_unreadable, e.token.is_some()))
        .collect();
    assert_eq!(seen, [("c1", true, false), ("c2", false, true)]);
    assert_eq!(bench.token("c1").await, refused("c1"));
    // Nor does a new token make the forged owner a real one.
    let sealed = bench.vault.seal(new("c1", None, "t3"), NOW).await.unwrap();
    assert!(sealed.replaced);
    assert_eq!(bench.vault.connection(&id("c1")).await.unwrap().facts.customer_id, None);
}

#[tokio::test]
async fn s02_a_flipped_bit_fails_its_own_row_only() {
    let bench = Bench::new(NEVER).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench.vault.seal(new("c2", Some("acme"), "t2"), NOW).await.unwrap();
    let sealed =
        bench.database.ask("SELECT sealed FROM connection WHERE connection_id = 'c1'").await.unwrap();
    for byte in [0, 1, 9, 20, 50, 80, sealed.len() / 2 - 1] {
        let mut bad = sealed.clone();
        // The upper digit of the byte, with its lowest bit flipped.
        let digit = u8::from_str_radix(&sealed[2 * byte..=2 * byte], 16).unwrap() ^ 1;
        bad.replace_range(2 * byte..=2 * byte, &format!("{digit:x}"));
        let bad = bench.database.bytes(&bad);
        bench.sql(&format!("UPDATE connection SET sealed = {bad} WHERE connection_id = 'c1'")).await;
        assert_eq!(bench.token("c1").await, refused("c1"), "byte {byte}");
        assert_eq!(bench.token("c2").await, some("t2"));
    }
}

#[tokio::test]
async fn v7_an_older_version_put_back_is_refused_until_a_new_token_comes() {
    let bench = Bench::new(NEVER).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench.sql("CREATE TABLE kept AS SELECT * FROM connection").await;
    bench.vault.seal(new("c1", Some("acme"), "t2"), NOW).await.unwrap();
    assert_eq!(bench.token("c1").await, some("t2"));
    bench.sql("DELETE FROM connection; INSERT INTO connection SELECT * FROM kept").await;
    assert_eq!(bench.token("c1").await, refused("c1"));
    let assigned = bench.vault.assign(&id("c1"), &customer("acme"), NOW).await;
    assert_eq!(assigned, Err(VaultError::Unreadable { connection: id("c1") }));

    assert_eq!(bench.vault.seal(new("c1", Some("acme"), "t3"), NOW).await.unwrap().version, 3);
    assert_eq!(bench.token("c1").await, some("t3"));
}

#[tokio::test]
async fn v7_an_erased_token_cannot_be_brought_back() {
    let bench = Bench::new(NEVER).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench.sql("CREATE TABLE kept AS SELECT * FROM connection").await;
    bench.vault.mark_disconnected(&id("c1"), NOW).await.unwrap();
    bench.vault.mark_disconnected(&id("c1"), NOW).await.unwrap();
    assert_eq!(bench.token("c1").await, Ok(None));
    bench.sql("DELETE FROM connection; INSERT INTO connection SELECT * FROM kept").await;
    assert_eq!(bench.token("c1").await, refused("c1"));
}

#[tokio::test]
async fn v10_a_hundred_calls_for_a_connection_are_one_question_to_the_store() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let vault = Arc::clone(&bench.vault);
            tokio::spawn(async move { vault.connection(&id("c1")).await.unwrap().facts.version })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
    assert_eq!(bench.vault.stats().await.unwrap().loads_total, 1);
    for _ in 0..100 {
        assert_eq!(bench.token("ghost").await, Err(VaultError::UnknownConnection));
    }
    assert_eq!(bench.vault.stats().await.unwrap().loads_total, 2);
}

#[tokio::test]
async fn a_change_made_by_another_process_is_obeyed_after_a_refresh() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    assert_eq!(bench.token("c1").await, some("t1"));
    assert_eq!(bench.token("c2").await, Err(VaultError::UnknownConnection));
    let is_file = matches!(bench.database, Database::File(_));
    // A server counts every change, whoever made it.
    assert_eq!(bench.vault.refresh().await, Ok(!is_file), "its own writes are no news of a file");

    let command = Vault::open(options(&bench.database, 1, LONG)).await.unwrap();
    command.set_status(&id("c1"), Status::Disconnecting, None, NOW).await.unwrap();
    command.seal(new("c2", Some("acme"), "t2"), NOW).await.unwrap();
    assert_eq!(bench.vault.refresh().await, Ok(true));
    let entry = bench.vault.connection(&id("c1")).await.unwrap();
    assert_eq!(entry.facts.status, Status::Disconnecting);
    assert_eq!(entry.token.as_ref().unwrap().expose(), "t1", "Finch's disconnect needs it");
    assert_eq!(bench.token("c2").await, some("t2"));
    assert_eq!(bench.vault.of_customer(&customer("acme")).await.unwrap().len(), 2);
    assert_eq!(bench.vault.refresh().await, Ok(false));
}

#[tokio::test]
async fn a_change_is_obeyed_at_once_by_the_vault_that_made_it() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", None, "t1"), NOW).await.unwrap();
    assert!(bench.vault.of_customer(&customer("acme")).await.unwrap().is_empty());
    assert_eq!(bench.token("c1").await, some("t1"));
    bench.vault.assign(&id("c1"), &customer("acme"), NOW).await.unwrap();
    let entries = bench.vault.of_customer(&customer("acme")).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].facts.version, entries[0].token.as_ref().unwrap().expose()), (2, "t1"));
    bench.vault.mark_disconnected(&id("c1"), NOW).await.unwrap();
    assert_eq!(bench.token("c1").await, Ok(None));
}

#[tokio::test]
async fn v13_a_token_or_connection_of_another_customer_is_refused() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    let stolen = bench.vault.seal(new("c2", Some("mallory"), "t1"), NOW).await;
    assert_eq!(
        stolen,
        Err(VaultError::TokenElsewhere { connection: id("c2"), stored_under: "c1".to_owned() })
    );
    let theirs = bench.vault.seal(new("c1", Some("mallory"), "t9"), NOW).await.unwrap_err();
    assert_eq!(theirs, VaultError::BelongsToAnother { connection: id("c1") });
    assert!(!theirs.to_string().contains("acme"));
    let assigned = bench.vault.assign(&id("c1"), &customer("mallory"), NOW).await;
    assert_eq!(assigned, Err(VaultError::BelongsToAnother { connection: id("c1") }));

    assert_eq!(bench.token("c1").await, some("t1"));
    assert_eq!(bench.token("c2").await, Err(VaultError::UnknownConnection));
    // A reauthentication that names nobody keeps the owner.
    bench.vault.seal(new("c1", None, "t2"), NOW).await.unwrap();
    let entry = bench.vault.connection(&id("c1")).await.unwrap();
    assert_eq!(entry.facts.customer_id, Some(customer("acme")));
}

#[tokio::test]
async fn an_import_stores_all_or_nothing() {
    let bench = Bench::new(LONG).await;
    let lines = vec![new("c1", Some("a"), "t1"), new("c2", Some("b"), "t2"), new("c3", Some("c"), "t1")];
    let refused = bench.vault.import(lines, NOW).await.unwrap_err();
    assert_eq!(refused.at, Some(2));
    assert!(matches!(refused.error, VaultError::TokenElsewhere { .. }));
    assert!(bench.vault.list().await.unwrap().is_empty());

    let lines = vec![new("c1", Some("a"), "t1"), new("c2", Some("b"), "t2")];
    assert_eq!(bench.vault.import(lines, NOW).await.unwrap().len(), 2);
    assert_eq!(bench.vault.list().await.unwrap().len(), 2);
    let counted = bench.vault.stats().await.unwrap().connections;
    assert_eq!(counted, [(Status::Active, Some(ProviderId::new("gusto").unwrap()), 2)]);
}

#[tokio::test]
async fn a_token_of_another_environment_is_kept_and_held() {
    let bench = Bench::new(LONG).await;
    let foreign = NewConnection { client_type: Environment::Production, ..new("c1", Some("acme"), "t1") };
    assert_eq!(bench.vault.seal(foreign, NOW).await.unwrap().status, Status::Held);
    let entry = bench.vault.connection(&id("c1")).await.unwrap();
    assert!(entry.facts.held_reason.as_deref().unwrap().contains("environment mismatch"));
    let freed = bench.vault.set_status(&id("c1"), Status::Active, None, NOW).await;
    assert_eq!(freed, Err(VaultError::OtherEnvironment { stored: Environment::Production }));
    bench.vault.assign(&id("c1"), &customer("other"), NOW).await.unwrap();
    assert_eq!(bench.vault.connection(&id("c1")).await.unwrap().facts.status, Status::Held);

    let production =
        VaultOptions { environment: Environment::Production, ..options(&bench.database, 1, LONG) };
    let production = Vault::open(production).await.unwrap();
    assert_eq!(
        production.connection(&id("c1")).await.err(),
        Some(VaultError::OtherEnvironment { stored: Environment::Sandbox })
    );
}

#[tokio::test]
async fn an_operator_frees_a_held_connection_and_late_news_does_not() {
    let bench = Bench::new(LONG).await;
    let held = NewConnection {
        status: Status::Held,
        held_reason: Some("customer mismatch".to_owned()),
        ..new("c1", Some("acme"), "t1")
    };
    bench.vault.seal(held, NOW).await.unwrap();
    bench.vault.set_status(&id("c1"), Status::NeedsReauth, None, NOW).await.unwrap();
    let entry = bench.vault.connection(&id("c1")).await.unwrap();
    assert_eq!(
        (entry.facts.status, entry.facts.held_reason.as_deref()),
        (Status::Held, Some("customer mismatch"))
    );

    bench.vault.assign(&id("c1"), &customer("zeta"), NOW).await.unwrap();
    let entry = bench.vault.connection(&id("c1")).await.unwrap();
    assert_eq!((entry.facts.status, entry.facts.held_reason.as_deref()), (Status::Active, None));
    assert_eq!(entry.facts.customer_id, Some(customer("zeta")));

    bench.vault.set_status(&id("c1"), Status::Disconnected, None, NOW).await.unwrap();
    let back = bench.vault.set_status(&id("c1"), Status::Active, None, NOW).await;
    assert_eq!(back, Err(VaultError::Disconnected { connection: id("c1") }));
}

#[tokio::test]
async fn what_is_not_a_token_is_not_stored() {
    let bench = Bench::new(LONG).await;
    for token in ["", "two words", "line\n", "täken", &"x".repeat(4097)] {
        let refused = bench.vault.seal(new("c1", None, token), NOW).await.unwrap_err();
        assert!(matches!(refused, VaultError::Invalid { .. }), "{token:?}");
    }
    assert!(bench.vault.seal(new("c1", None, &"x".repeat(4096)), NOW).await.is_ok());
}

#[tokio::test]
async fn v11_no_file_of_the_store_holds_a_token() {
    let bench = Bench::new(LONG).await;
    let marker = format!("canary-{:016x}", std::collections::hash_map::RandomState::new().hash_one(7));
    for n in 0..20 {
        let token = format!("{marker}-{n}");
        bench.vault.seal(new(&format!("c{n}"), Some("acme"), &token), NOW).await.unwrap();
    }
    bench.vault.seal(new("c1", Some("acme"), &format!("{marker}-again")), NOW).await.unwrap();
    bench.vault.assign(&id("c2"), &customer("acme"), NOW).await.unwrap();
    bench.vault.mark_disconnected(&id("c3"), NOW).await.unwrap();
    // What was just written is there to be searched: in the log of the file, or of the server, which leaves out what the
    // row's older version begins with as well.
    let sealed =
        bench.database.ask("SELECT sealed FROM connection WHERE connection_id = 'c2'").await.unwrap();
    let sealed: Vec<u8> =
        (0..sealed.len()).step_by(2).map(|at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap()).collect();
    let (sealed, mut has_sealed, mut searched) = (&sealed[20..], 0, 0);
    for file in bench.database.files(bench.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(marker.len()).any(|w| w == marker.as_bytes()), "{file:?}");
        has_sealed += usize::from(bytes.windows(sealed.len()).any(|w| w == sealed));
        searched += 1;
    }
    assert!(has_sealed >= 1 && searched >= 3, "{has_sealed} of {searched}");
}

#[tokio::test]
async fn s08_a_token_acknowledged_is_there_when_the_file_is_copied_at_that_instant() {
    let bench = Bench::on_a_file(LONG).await;
    for n in 0..10 {
        bench.vault.seal(new(&format!("c{n}"), Some("acme"), &format!("t{n}")), NOW).await.unwrap();
        // What a killed process leaves: the files as they are, no farewell.
        let left = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("perch.db{suffix}");
            std::fs::copy(bench.dir.path().join(&name), left.path().join(&name)).unwrap();
        }
        let copy = Database::File(left.path().join("perch.db"));
        let found = Vault::open(options(&copy, 1, LONG)).await.unwrap();
        for m in 0..=n {
            let entry = found.connection(&id(&format!("c{m}"))).await.unwrap();
            assert_eq!(entry.token.as_ref().unwrap().expose(), format!("t{m}"));
        }
    }
}

#[tokio::test]
async fn uses_and_finch_s_word_are_kept_without_making_a_new_version() {
    let bench = Bench::new(LONG).await;
    bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap();
    bench
        .vault
        .note_used(vec![(id("c1"), UnixMillis(9)), (id("c1"), UnixMillis(8)), (id("no"), UnixMillis(1))])
        .await
        .unwrap();
    bench.vault.set_account_status(&id("c1"), Some("connected".to_owned()), NOW).await.unwrap();
    let facts = bench.vault.connection(&id("c1")).await.unwrap().facts.clone();
    assert_eq!((facts.version, facts.last_used_at), (1, Some(UnixMillis(9))));
    assert_eq!(facts.account_status.as_deref(), Some("connected"));
    assert_eq!(bench.vault.ping().await, Ok(()));
}

/// A slow call with the first token may be refused after the second one came.
#[tokio::test]
async fn a_refusal_of_an_older_token_says_nothing_of_the_newer_one() {
    let bench = Bench::new(LONG).await;
    let status = async || bench.vault.connection(&id("c1")).await.unwrap().facts.status;
    let first = bench.vault.seal(new("c1", Some("acme"), "t1"), NOW).await.unwrap().version;
    let second = bench.vault.seal(new("c1", Some("acme"), "t2"), NOW).await.unwrap().version;
    bench.vault.note_reauthentication(&id("c1"), first, NOW).await.unwrap();
    assert_eq!(status().await, Status::Active);
    bench.vault.note_reauthentication(&id("c1"), second, NOW).await.unwrap();
    assert_eq!(status().await, Status::NeedsReauth);
}
