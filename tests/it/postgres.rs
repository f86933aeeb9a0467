//! A vault on a server that several gateways share: what they tell each other, what one of them does for all, who may do
//! what there, and what happens when the server is gone. The rules of the vault itself are tested on both kinds of store
//! elsewhere.

use crate::support::database::postgres;
use crate::support::hooks::{event, seconds, send, told};
use crate::support::postgres::PostgresServer;
use crate::support::process::{doors, within};
use crate::support::raw::RawFinch;
use crate::support::tls::Authority;
use crate::support::{App, Process, World, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use perch::config::Store;
use perch::store::requests::Requests;
use perch::types::{
    AccessToken, ApplicationId, ConnectionId, CustomerId, Environment, Kek, ProviderId, UnixMillis,
};
use perch::vault::{NewConnection, Status, Vault, VaultError, VaultOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Barrier, OnceCell};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const LONG: Duration = Duration::from_secs(3600);

fn options(store: Store, cache_ttl: Duration, is_gateway: bool) -> VaultOptions {
    VaultOptions {
        store,
        keys: Kek::new([1; 32]).into(),
        application: ApplicationId::new("app-1").expect("an id"),
        environment: Environment::Sandbox,
        cache_ttl,
        is_gateway,
        generation_file: None,
        accept_rollback: false,
        now: NOW,
    }
}

async fn open(store: Store, cache_ttl: Duration) -> Arc<Vault> {
    Vault::open(options(store, cache_ttl, true)).await.unwrap_or_else(|error| panic!("{error}"))
}

fn id(text: &str) -> ConnectionId {
    ConnectionId::new(text).expect("an id")
}

fn new(connection: &str, token: &str) -> NewConnection {
    NewConnection {
        connection_id: id(connection),
        customer_id: Some(CustomerId::new("acme").expect("an id")),
        company_id: None,
        provider_id: Some(ProviderId::new("gusto").expect("an id")),
        products: Vec::new(),
        entity_ids: Vec::new(),
        client_type: Environment::Sandbox,
        account_status: None,
        token: AccessToken::new(token.to_owned()),
        status: Status::Active,
        held_reason: None,
    }
}

/// Whether calls of this replica would use the connection.
async fn uses(vault: &Vault, connection: &str) -> bool {
    let entry = vault.connection(&id(connection)).await.expect("it is there");
    entry.facts.status == Status::Active && entry.token.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_have_the_same_tables() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("perch.db");
    drop(Vault::open(options(Store::Sqlite(file.clone()), LONG, false)).await.expect("a vault"));
    let server = PostgresServer::start().await;
    let url = server.database("perch").await;
    drop(open(postgres(&url), LONG).await);

    type Columns = BTreeMap<(String, String), (String, bool)>;
    let scope = perch::store::connections::Scope {
        application: ApplicationId::new("ours").expect("an id"),
        environment: Environment::Sandbox,
    };
    drop(Requests::open(&Store::Sqlite(file.clone()), scope).await.expect("a ledger"));
    let mut of_file = Columns::new();
    // The request ledger is a file beside it.
    for name in ["perch.db", "perch.db.requests"] {
        let sqlite = rusqlite::Connection::open(dir.path().join(name)).expect("the file");
        let mut columns = sqlite
            .prepare(
                "SELECT t.name, c.name, c.type, c.\"notnull\" OR c.pk > 0 FROM sqlite_schema t, pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'quota_journal'",
            )
            .expect("a question");
        let mut rows = columns.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let kind: String = row.get(2).expect("a kind");
            let kind = match kind.as_str() {
                "INTEGER" => "bigint",
                "TEXT" => "text",
                "BLOB" => "bytea",
                other => panic!("{other}"),
            };
            let place = (row.get(0).expect("a table"), row.get(1).expect("a column"));
            of_file.insert(place, (kind.to_owned(), row.get(3).expect("a truth")));
        }
    }
    let client = server.client("perch").await;
    let told = client
        .query(
            "SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'NO' \
             FROM information_schema.columns WHERE table_schema = 'public' \
             AND table_name NOT IN ('perch_schema', 'vault_lease')",
            &[],
        )
        .await
        .expect("rows");
    let of_server: Columns =
        told.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect();
    assert!(of_file.len() > 80, "{}", of_file.len());
    assert_eq!(of_file, of_server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v8_a_disconnect_is_obeyed_by_ten_replicas_at_their_next_look_and_told_to_them_before() {
    let server = PostgresServer::start().await;
    let url = server.database("perch").await;
    let mut replicas = Vec::new();
    for _ in 0..10 {
        replicas.push(open(postgres(&url), LONG).await);
    }
    replicas[0].seal(new("c1", "t1"), NOW).await.expect("sealed");
    replicas[0].seal(new("c2", "t2"), NOW).await.expect("sealed");
    for replica in &replicas {
        replica.refresh().await.expect("it answers");
        assert!(uses(replica, "c1").await && uses(replica, "c2").await);
    }
    // The server says so at once.
    for replica in &replicas[1..] {
        // What was said of the sealing is over.
        while tokio::time::timeout(Duration::from_millis(1), replica.told()).await.is_ok() {}
    }
    replicas[0].set_status(&id("c1"), Status::Disconnecting, None, NOW).await.expect("noted");
    for replica in &replicas[1..] {
        within("the server tells of the change", replica.told()).await;
        replica.refresh().await.expect("it answers");
        assert!(!uses(replica, "c1").await, "it was told and looked");
    }
    // The line is cut: nobody is told any more. The next look finds out, which comes every two seconds.
    server.sql("perch", "ALTER TABLE vault_meta DISABLE TRIGGER tell_change").await;
    replicas[0].set_status(&id("c2"), Status::Disconnecting, None, NOW).await.expect("noted");
    assert!(!uses(&replicas[0], "c2").await, "who did it knows");
    for replica in &replicas[1..] {
        assert!(uses(replica, "c2").await, "nobody has told it");
        assert_eq!(replica.refresh().await, Ok(true));
        assert!(!uses(replica, "c2").await, "it has looked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v8_without_any_look_a_disconnect_is_obeyed_when_the_cache_s_time_is_over() {
    let server = PostgresServer::start().await;
    let url = server.database("perch").await;
    let (one, other) =
        (open(postgres(&url), LONG).await, open(postgres(&url), Duration::from_millis(20)).await);
    one.seal(new("c1", "t1"), NOW).await.expect("sealed");
    assert!(uses(&other, "c1").await);
    one.set_status(&id("c1"), Status::Disconnecting, None, NOW).await.expect("noted");
    until("the cache's time is over", async || !uses(&other, "c1").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_server_take_turns_and_lose_nothing() {
    const EACH: usize = 20;
    let server = PostgresServer::start().await;
    let url = server.database("perch").await;
    let mut writers = tokio::task::JoinSet::new();
    let (turn, reader) = (Arc::new(Barrier::new(6)), Arc::new(OnceCell::new()));
    // Which token was acknowledged under which version.
    let journal = Arc::new(Mutex::new(BTreeMap::new()));
    // All at once, on a server that has no tables yet.
    for writer in 0..6 {
        let journal = Arc::clone(&journal);
        let store = postgres(&url);
        let (turn, reader, url) = (Arc::clone(&turn), Arc::clone(&reader), url.clone());
        writers.spawn(async move {
            let vault = open(store, LONG).await;
            for n in 0..EACH {
                vault
                    .seal(new(&format!("c{writer}-{n}"), &format!("t{writer}-{n}")), NOW)
                    .await
                    .expect("sealed");
                // And one that all of them fight for, each with a token of its own.
                let token = format!("shared-{writer}-{n}");
                let sealed = vault.seal(new("c", &token), NOW).await.expect("sealed");
                let before = journal.lock().expect("nobody panics in here").insert(sealed.version, token);
                assert_eq!(before, None, "a version is given once");
                // When all are done with this round, the newest that was acknowledged is what is stored.
                if turn.wait().await.is_leader() {
                    let newest = journal
                        .lock()
                        .expect("nobody panics in here")
                        .last_key_value()
                        .map(|(version, token)| (*version, token.clone()));
                    let stored = reader
                        .get_or_init(|| open(postgres(&url), Duration::ZERO))
                        .await
                        .connection(&id("c"))
                        .await
                        .expect("there");
                    let token = stored.token.as_ref().map(|token| token.expose().to_owned());
                    assert_eq!(token.map(|token| (stored.facts.version, token)), newest, "round {n}");
                }
                turn.wait().await;
            }
        });
    }
    writers.join_all().await;
    let vault = open(postgres(&url), LONG).await;
    assert_eq!(vault.list().await.expect("a list").len(), 6 * EACH + 1);
    assert_eq!(vault.connection(&id("c")).await.expect("it is there").facts.version, 6 * EACH as u64);
    let chain = vault.verify_audit().await.expect("the trail holds");
    assert_eq!(chain.rows, 2 * 6 * EACH as u64, "one deed for each");
    let verified = vault.verify(|_| ()).await.expect("it answers");
    assert_eq!((verified.opened, verified.unsound.len()), (6 * EACH as u64 + 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_gone_what_was_opened_serves_and_nothing_is_written() {
    let mut server = PostgresServer::start().await;
    let url = server.database("perch").await;
    let vault = open(postgres(&url), Duration::ZERO).await;
    vault.seal(new("c1", "t1"), NOW).await.expect("sealed");
    assert!(uses(&vault, "c1").await);
    server.kill().await;
    assert!(uses(&vault, "c1").await, "the last good answer serves");
    assert!(
        matches!(vault.connection(&id("c2")).await, Err(VaultError::Store(_))),
        "what is not known is not guessed"
    );
    let refused = vault.seal(new("c2", "t2"), NOW).await;
    assert!(matches!(refused, Err(VaultError::Store(_))), "{refused:?}");
    assert!(vault.refresh().await.is_err() && vault.ping().await.is_err());
    server.open().await;
    until("it answers again", async || vault.refresh().await.is_ok()).await;
    vault.seal(new("c2", "t2"), NOW).await.expect("sealed");
    assert!(uses(&vault, "c1").await && uses(&vault, "c2").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_any_more_holds_nobody_up_for_ever() {
    let server = PostgresServer::start().await;
    let url = server.database("perch").await;
    let vault = open(postgres(&url), LONG).await;
    vault.seal(new("c1", "t1"), NOW).await.expect("sealed");
    server.freeze();
    let refused = within("the silence has an end", vault.seal(new("c2", "t2"), NOW)).await;
    assert!(matches!(refused, Err(VaultError::Store(_))), "{refused:?}");
    server.thaw();
    until("it answers again", async || vault.seal(new("c2", "t2"), NOW).await.is_ok()).await;
    assert_eq!(vault.verify_audit().await.expect("the trail holds").rows, 2, "what was refused was not done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_s_role_needs_no_right_to_change_tables_and_is_told_who_does() {
    let mut world = World::with().on_a_server().without_gateway().await;
    let server = world.database.server();
    server.sql("perch", "CREATE ROLE gateway LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let (owner, gateway) = (server.url("postgres", "perch"), server.url("gateway", "perch"));
    let as_role = |url: &str| format!("PERCH_VAULT__STORE={url}");
    let run = async |world: &World, url: &str, words: &[&str]| {
        let mut command = world.command(words);
        let assignment = as_role(url);
        let (name, value) = assignment.split_once('=').expect("an assignment");
        command.env(name, value);
        world.run(command).await
    };
    let refused = run(&world, &gateway, &["serve"]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert!(refused.err.contains("perch vault migrate --grant ROLE"), "{}", refused.err);
    let looked = run(&world, &gateway, &["check", "--online"]).await;
    assert!(looked.out.contains("not there yet"), "{}", looked.all());

    let migrated = run(&world, &owner, &["vault", "migrate", "--grant", "gateway", "-o", "json"]).await;
    assert_eq!(
        (migrated.code, &migrated.json()["granted"]),
        (Some(0), &json!(["gateway"])),
        "{}",
        migrated.err
    );
    let again = run(&world, &owner, &["vault", "migrate", "--grant", "gateway"]).await;
    assert_eq!(again.code, Some(0), "{}", again.err);

    let mut command = world.command(&["serve"]);
    command.env("PERCH_VAULT__STORE", &gateway);
    let process = Process::spawn(command, None);
    (world.proxy, world.admin) = doors(&process).await;
    world.connect("acme", "gusto").await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    for words in [&["keys", "rotate"] as &[&str], &["apps", "add", "crm"], &["vault", "verify"]] {
        let ended = run(&world, &gateway, words).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.err);
    }
    assert!(!process.err.text().contains("superuser"), "{}", process.err.text());
    assert!(!process.err.text().contains("request ledger"), "{}", process.err.text());
    assert_eq!(process.end_by(SIGTERM).await.code, Some(0));
    let kept = run(&world, &gateway, &["requests", "--customer", "acme", "-o", "json"]).await;
    assert!(kept.lines().iter().any(|call| call["path"] == "/employer/company"), "{}", kept.all());
    let (client, connection) =
        tokio_postgres::connect(&gateway, tokio_postgres::NoTls).await.expect("it may");
    tokio::spawn(async move { drop(connection.await) });
    for forbidden in [
        "CREATE TABLE mine (n int)",
        "DROP TABLE audit",
        "DELETE FROM connection",
        "DELETE FROM vault_key",
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE perch_schema SET version = 0",
        "UPDATE request SET facts = ''",
    ] {
        let refused = client.batch_execute(forbidden).await.expect_err(forbidden);
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{forbidden}: {refused:?}");
    }
    // What is too old goes.
    let old = "DELETE FROM request; DELETE FROM finch_request; DELETE FROM usage";
    client.batch_execute(old).await.expect("it may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_and_a_password_comes_from_a_file() {
    let authority = Authority::new();
    let (server, port) = loop {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let server = PostgresServer::folder();
        let identity = authority.certify("localhost", (2020, 2099));
        let (chain, key) = identity.pem();
        let (chain, key) = (server.put("chain.pem", &chain), server.put("key.pem", &key));
        server.admit("hostssl all gateway 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 reject");
        let files = [format!("ssl_cert_file={}", chain.display()), format!("ssl_key_file={}", key.display())];
        let mut server = server.on_port(port, &["ssl=on", &files[0], &files[1]]);
        // Another may have taken the port meanwhile.
        if server.try_open().await {
            break (server, port);
        }
    };
    server.database("perch").await;
    server
        .sql(
            "perch",
            "CREATE ROLE gateway LOGIN PASSWORD 'CANARY-password'; GRANT ALL ON SCHEMA public TO gateway",
        )
        .await;
    let world = World::new().await;
    std::fs::write(world.path("ca.pem"), &authority.pem).expect("a writable folder");
    std::fs::write(world.path("other.pem"), &Authority::new().pem).expect("a writable folder");
    std::fs::write(world.path("password"), "CANARY-password\n").expect("a writable folder");
    let check = async |url: &str, ca: &str, password: &str| {
        let mut command = world.command(&["check", "--online"]);
        command.env("PERCH_VAULT__STORE", url).env("PERCH_LIMITS__STORE", "redis://127.0.0.1:1");
        command.env("PERCH_VAULT__CA_FILE", ca).env("PERCH_VAULT__PASSWORD", password);
        let ended = world.run(command).await;
        assert!(!ended.all().contains("CANARY-password"), "{}", ended.all());
        ended.all()
    };
    let good = format!("postgres://gateway@localhost:{port}/perch?sslmode=verify-full");
    let told = check(&good, "ca.pem", "file:password").await;
    assert!(told.contains("is not there yet"), "{told}");
    for (url, ca, password, complaint) in [
        (good.as_str(), "other.pem", "file:password", "certificate"),
        (&good, "ca.pem", "", "password"),
        (
            &format!("postgres://gateway@127.0.0.1:{port}/perch?sslmode=require"),
            "ca.pem",
            "file:password",
            "certificate",
        ),
        (
            &format!("postgres://gateway@localhost:{port}/perch?sslmode=disable"),
            "ca.pem",
            "file:password",
            "no encryption",
        ),
    ] {
        let told = check(url, ca, password).await;
        assert!(told.contains(complaint) && told.contains("cannot be opened"), "{url} {ca}: {told}");
    }
}

/// A world on a server with gateways that run as processes, and where each is called.
async fn gateways(settings: &str, count: usize) -> (World, Vec<(Process, SocketAddr, SocketAddr)>) {
    let world = World::with().on_a_server().settings(settings).without_gateway().await;
    let mut running = Vec::new();
    for number in 0..count {
        let mut command = world.command(&["serve"]);
        command
            .env("PERCH_LIMITS__MEMBER", format!("g{number}"))
            .env("PERCH_LIMITS__REPLICAS", count.to_string());
        let process = Process::spawn(command, None);
        let (proxy, admin) = doors(&process).await;
        running.push((process, proxy, admin));
    }
    (world, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_reaches_two_replicas_at_once_is_exchanged_once() {
    let (mut world, gateways) = gateways("", 2).await;
    world.proxy = gateways[0].1;
    for round in 0..3 {
        let code = world.code(&format!("c{round}"), "gusto").await;
        let body = json!({ "client_id": "x", "client_secret": "y", "code": code });
        world.fault(json!({ "operation": "create_access_token", "delay": "300ms", "times": 1 })).await;
        let (one, other) = (App::at(gateways[0].1), App::at(gateways[1].1));
        let (one, other) = tokio::join!(one.post("/auth/token", &body), other.post("/auth/token", &body));
        assert_eq!((one.status, other.status), (200, 200), "{} {}", one.text(), other.text());
        assert_eq!(one.json()["connection_id"], other.json()["connection_id"]);
    }
    let sent = world.report().await["operations"]["CreateAccessToken"].clone();
    assert_eq!(sent, json!({ "200": 3 }), "each code went to Finch once");
    let leases = world.database.ask("SELECT count(*) FROM vault_lease WHERE name LIKE 'code %'").await;
    assert_eq!(leases.as_deref(), Some("0"), "every right was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_to_any_replica_is_delivered_once_and_by_another_when_that_one_is_gone() {
    let app = RawFinch::start().await;
    let (world, mut gateways) = gateways(&told(&app.url()), 2).await;
    let hooks: Vec<SocketAddr> = gateways.iter().map(|(process, _, _)| hook_door(process)).collect();
    for n in 0..6_usize {
        let (body, id, at) = (event("test", &format!("c{n}")).to_string(), format!("m{n}"), seconds());
        let tell = |door| send(App::at(door), &id, at, body.as_bytes());
        // The very same at both doors at once.
        let (one, other) = tokio::join!(tell(hooks[0]), tell(hooks[1]));
        assert_eq!((one.status, other.status), (200, 200), "{} {}", one.text(), other.text());
    }
    app.arrived(6).await;
    let waiting = async || world.database.ask("SELECT count(*) FROM webhook WHERE state <> 'done'").await;
    until("all are delivered", async || waiting().await.as_deref() == Some("0")).await;
    // A replay of what was delivered is thanked for, and nothing comes of it.
    for n in 0..6_usize {
        let body = event("test", &format!("c{n}")).to_string();
        for door in &hooks {
            let again = send(App::at(*door), &format!("m{n}"), seconds(), body.as_bytes()).await;
            assert_eq!(again.status, 200, "{}", again.text());
        }
    }
    let kept = world.database.ask("SELECT count(*) FROM webhook").await;
    assert_eq!(kept.as_deref(), Some("6"), "each is kept once");
    assert_eq!(waiting().await.as_deref(), Some("0"), "none waits again");
    assert_eq!(app.requests().len(), 6, "each once");
    // The one that delivers dies; as soon as its silence counts, the other goes on.
    let delivered = |process: &Process| process.err.text().contains("is delivered");
    let of_each: Vec<bool> = gateways.iter().map(|(process, _, _)| delivered(process)).collect();
    let holder = of_each.iter().position(|did| *did).expect("one of them says so");
    assert_eq!(of_each.iter().filter(|did| **did).count(), 1, "one did it for both");
    let (process, _, _) = gateways.remove(holder);
    process.end_by(SIGKILL).await;
    let left = hooks[1 - holder];
    let body = event("test", "c9").to_string();
    assert_eq!(send(App::at(left), "m9", seconds(), body.as_bytes()).await.status, 200);
    // A minute of silence passes.
    world.database.silence_passes().await;
    app.arrived(7).await;
    until("the other says so", async || delivered(&gateways[0].0)).await;
}

/// Finch's door at a gateway that is a process: where it says that it listens.
fn hook_door(gateway: &Process) -> SocketAddr {
    let log = gateway.err.text();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut told = lines.filter_map(|line| line["webhooks"].as_str()?.parse().ok());
    told.next().unwrap_or_else(|| panic!("no door in {log}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_from_a_file_to_a_server_and_back_with_everything_they_are() {
    let mut world = World::with().on_a_server().without_gateway().await;
    let on_server = world.database.setting();
    let file = format!("sqlite:{}", world.path("perch.db").display());
    let run = async |world: &World, store: &str, words: &[&str]| {
        let mut command = world.command(words);
        command.env("PERCH_VAULT__STORE", store);
        let ended = world.run(command).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.err);
        ended
    };
    // A life in a file.
    let mut command = world.command(&["serve"]);
    command.env("PERCH_VAULT__STORE", &file);
    let process = Process::spawn(command, None);
    (world.proxy, world.admin) = doors(&process).await;
    world.connect("acme", "gusto").await;
    world.connect("zeta", "gusto").await;
    assert_eq!(process.end_by(SIGTERM).await.code, Some(0));
    run(&world, &file, &["apps", "add", "crm"]).await;
    run(&world, &file, &["keys", "rotate"]).await;
    let listed = run(&world, &file, &["connections", "list", "-o", "json"]).await.json();

    run(&world, &file, &["vault", "backup", "out.db"]).await;
    run(&world, &on_server, &["vault", "restore", "out.db"]).await;
    assert_eq!(run(&world, &on_server, &["connections", "list", "-o", "json"]).await.json(), listed);
    run(&world, &on_server, &["vault", "verify"]).await;
    let process = world.serve().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    let connected = world.connect("late", "gusto").await;
    let beside = world.perch(&["vault", "restore", "out.db"]).await;
    assert_eq!(beside.code, Some(1), "{}", beside.err);
    assert!(beside.err.contains("stop them first"), "{}", beside.err);
    assert_eq!(process.end_by(SIGTERM).await.code, Some(0));

    // Going back would lose what came since, which is said; and what is replaced is kept.
    let older = world.perch(&["vault", "restore", "out.db"]).await;
    let late = connected["connection_id"].as_str().expect("an id");
    assert!(older.code == Some(1) && older.err.contains(late), "{}", older.all());
    run(&world, &on_server, &["vault", "backup", "back.db"]).await;
    let accepted =
        run(&world, &on_server, &["vault", "restore", "out.db", "--accept-rollback", "-o", "json"]).await;
    assert_eq!(accepted.json()["lost"], json!([late]));
    assert!(
        accepted.json()["kept"].as_str().is_some_and(|kept| kept.contains("replaced")),
        "{}",
        accepted.out
    );

    // And the copy of a server is a file that serves.
    std::fs::rename(world.path("back.db"), world.path("again.db")).expect("it is there");
    let again = format!("sqlite:{}", world.path("again.db").display());
    run(&world, &again, &["vault", "verify"]).await;
    let told = run(&world, &again, &["connections", "list", "-o", "json"]).await.json();
    assert_eq!(told.as_array().map(Vec::len), Some(3));
}
