//! `docs/install.md`: its commands carried out in their order, with real processes in the place of pods; and what it says of the
//! way back to an older perch.

use crate::support::manifests::{root, said};
use crate::support::manual::{Desk, blocks};
use crate::support::postgres::PostgresServer;
use crate::support::redis::RedisServer;
use crate::support::tls::Authority;
use crate::support::{App, World, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use tokio::net::{TcpListener, UnixStream};

/// A window that a test can wait for, at Finch.
const SCENARIO: &str = "[limits]\nwindow = \"2s\"\n[limits.ip]\nwindow = \"3s\"\n";

/// What stands for a cluster. Its gateways end with it.
struct Cluster {
    folder: PathBuf,
    desk: Desk,
}

impl Cluster {
    fn beside(world: &World, replace: &[[String; 2]]) -> Self {
        let folder = world.path("cluster");
        fs::create_dir(&folder).expect("a writable folder");
        let kubectl = said(Command::new("bash").args(["-c", "command -v kubectl"]));
        let here = json!({
            "kubectl": kubectl.trim(),
            "perch": env!("CARGO_BIN_EXE_perch"),
            "replace": replace,
            "images": ["registry.internal/perch:0.1.0", "registry.internal/app:1.0.0"],
            "environment": {
                "PERCH_FINCH__BASE_URL": format!("http://{}", world.finch),
                "PERCH_LISTEN__PROXY": "127.0.0.1:0",
                "PERCH_LISTEN__ADMIN": "127.0.0.1:0",
                "PERCH_LISTEN__PROBES": "127.0.0.1:0",
                "PERCH_LIMITS__WINDOW": "2s",
                "PERCH_LIMITS__ARRIVAL_BOUND": "1s",
                "PERCH_LIMITS__IP__WINDOW": "3s",
            },
        });
        fs::write(folder.join("here.json"), here.to_string()).expect("a writable folder");
        let work = world.path("work");
        fs::create_dir(&work).expect("a writable folder");
        for part in ["config", "dashboards"] {
            said(Command::new("cp").arg("-r").arg(root().join(part)).arg(&work));
        }
        let mut desk = Desk::at(&work);
        let python = root().join(".cache/sdk/kubernetes/bin/python");
        let script = root().join("tests/kubernetes/cluster.py");
        desk.set("CLUSTER", &folder.display().to_string());
        desk.program("kubectl", &format!("exec {} {} \"$@\"", python.display(), script.display()));
        desk.program("perch", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_perch")));
        // Where the document says 4600 and 4601, the pod's own doors on this machine.
        desk.program(
            "curl",
            "door() { python3 -c 'import json, os, sys\nwith open(os.environ[\"CLUSTER\"] + \"/doors.json\") as doors:\n    \
             print(json.load(doors)[0][sys.argv[1]])' \"$1\"; }\n\
             args=(\"${@//127.0.0.1:4600/$(door proxy)}\")\nargs=(\"${args[@]//127.0.0.1:4601/$(door admin)}\")\n\
             PATH=${PATH#*:} exec curl --fail \"${args[@]}\"",
        );
        Self { folder, desk }
    }

    /// Writes the names of one's own images into an overlay, as the document says.
    fn names_images(&self, overlay: &str) {
        let file = self.folder.with_file_name("work").join("config/kubernetes/overlays").join(overlay);
        let file = file.join("settings/kustomization.yaml");
        let text = fs::read_to_string(&file).expect("settings");
        fs::write(&file, text.replace("registry.example.com", "registry.internal"))
            .expect("a writable folder");
    }

    /// Carries out what must not succeed, and says why it did not.
    async fn refuses(&self, command: &str) -> String {
        let ended = self.desk.carry_out(command).await;
        assert_ne!(ended.code, Some(0), "{command}: {}", ended.out);
        ended.err
    }

    /// Where each gateway listens for apps.
    fn doors(&self) -> Vec<SocketAddr> {
        let doors = fs::read(self.folder.join("doors.json")).expect("they are known");
        let doors: Vec<Value> = serde_json::from_slice(&doors).expect("JSON");
        doors.iter().map(|pod| pod["proxy"].as_str().expect("text").parse().expect("an address")).collect()
    }

    /// The gateways, by their process ids.
    fn running(&self) -> Vec<Pid> {
        let pods = fs::read_dir(self.folder.join("pods")).into_iter().flatten().flatten();
        pods.filter_map(|pod| {
            fs::read_to_string(pod.path().join("pid")).ok()?.parse().ok().map(Pid::from_raw)
        })
        .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for pid in self.running() {
            let _ = kill(pid, SIGKILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_install_it_connect_a_customer_and_move_it_to_servers_with_three_pods() {
    let world = World::with().scenario(SCENARIO).without_gateway().await;
    let authority = Authority::new();
    let (server, port) = postgres(&authority).await;
    // As docs/postgres.md has it.
    server.sql("postgres", "CREATE DATABASE perch").await;
    server.sql("postgres", "CREATE ROLE tables_owner LOGIN; CREATE ROLE perch LOGIN").await;
    server
        .sql(
            "perch",
            "GRANT ALL ON DATABASE perch TO tables_owner; GRANT ALL ON SCHEMA public TO tables_owner",
        )
        .await;
    let redis = RedisServer::with_password("redis-secret").await;
    let quota = behind_tls(&redis, &authority).await;
    let replace = [
        [
            "postgres.databases.svc:5432/perch".to_owned(),
            format!("localhost:{port}/perch?sslmode=verify-full"),
        ],
        ["redis.databases.svc:6379".to_owned(), format!("localhost:{quota}")],
    ];
    let mut cluster = Cluster::beside(&world, &replace);
    fs::write(world.path("databases.pem"), &authority.pem).expect("a writable folder");
    cluster.desk.set("DATABASES_CA", &world.path("databases.pem").display().to_string());
    for (name, value) in [
        ("FINCH_CLIENT_ID", "sim-client"),
        ("FINCH_CLIENT_SECRET", crate::support::CLIENT_SECRET),
        ("POSTGRES_PASSWORD", "one"),
        ("POSTGRES_OWNER_PASSWORD", "two"),
        ("REDIS_PASSWORD", "redis-secret"),
    ] {
        cluster.desk.set(name, value);
    }
    let all = blocks("docs/install.md");
    let under = |heading: &str| -> Vec<&str> {
        all.iter().filter(|(at, _)| at == heading).map(|(_, commands)| commands.as_str()).collect()
    };
    let first = under("Ten minutes: beside one app");
    let (grow, upgrade, back) = (under("Grow: PostgreSQL and Redis"), under("Upgrade"), under("Roll back"));
    let [copy, secrets, start, call] = first[..] else { panic!("{first:?}") };
    let ([before, renew], [restore]) = (&upgrade[..], &back[..]) else { panic!("{upgrade:?} {back:?}") };
    let [copy_shared, more_secrets, moved, tables] = grow[..] else { panic!("{grow:?}") };
    assert_eq!(all.len(), 11, "a block that nobody carries out");

    cluster.desk.does(copy).await;
    cluster.desk.does(secrets).await;
    let why = cluster.refuses(start).await;
    assert!(why.contains("nobody has pushed registry.example.com/"), "{why}");
    cluster.names_images("mine");
    cluster.desk.does(start).await;
    let told = cluster.desk.does(call).await;
    assert!(told.contains("\"access_token\":\"connection:"), "{told}");
    assert!(told.contains("\"individuals\""), "the directory of the customer: {told}");
    assert!(told.contains("acme") && told.contains("active"), "{told}");
    assert_eq!(cluster.doors().len(), 1);

    // What comes after the backup is lost by the way back, and told.
    let list = "kubectl -n app exec deploy/app -c perch -- /perch connections list";
    cluster.desk.does(before).await;
    cluster.desk.does(renew).await;
    cluster.desk.does(&call.replace("acme", "birch")).await;
    let told = cluster.desk.does(list).await;
    let birch = told.lines().find(|line| line.contains("birch")).expect("it is connected");
    let birch = birch.split_whitespace().find(|word| word.len() == 36).expect("the id of its connection");
    let told = cluster.desk.does(restore).await;
    let lost = format!("lost: the token of connection {birch}");
    assert!(told.contains(&lost), "the log names what has to be connected again: {told}");
    let told = cluster.desk.does(list).await;
    assert!(told.contains("acme") && !told.contains("birch"), "{told}");

    cluster.desk.does(copy_shared).await;
    cluster.names_images("ours");
    let why = cluster.refuses("kubectl apply -k config/kubernetes/overlays/ours/tables").await;
    assert!(why.contains("secrets perch-owner not found"), "{why}");
    cluster.desk.does("kubectl -n app delete job perch-tables --ignore-not-found").await;
    cluster.desk.does(more_secrets).await;
    let told = cluster.desk.does(moved).await;
    assert!(told.contains("acme") && told.contains("active"), "the connection has moved: {told}");
    let why = cluster.refuses("kubectl apply -k config/kubernetes/overlays/ours/move").await;
    assert!(why.contains("cannot be changed"), "{why}");
    let why = cluster.refuses("kubectl apply -k config/kubernetes/overlays/gateway/tables").await;
    assert!(why.contains("namespaces \"perch\" not found"), "{why}");
    // As before an upgrade that renews them, beside gateways that run; and once more.
    for _ in 0..2 {
        cluster.desk.does(tables).await;
    }
    let doors = cluster.doors();
    assert_eq!(doors.len(), 3);
    for door in doors {
        let answer = App::at(door).with("perch-customer", "acme").get("/employer/company").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for pid in cluster.running() {
        kill(pid, SIGTERM).expect("it is ours");
    }
    let zombies_aside = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    until("they end", async || !cluster.running().iter().any(zombies_aside)).await;
}

/// A server that takes nobody but over TLS, and where on `localhost` it is.
async fn postgres(authority: &Authority) -> (PostgresServer, u16) {
    loop {
        let port =
            TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
        let server = PostgresServer::folder();
        let (chain, key) = authority.certify("localhost", (2020, 2099)).pem();
        let (chain, key) = (server.put("chain.pem", &chain), server.put("key.pem", &key));
        server.admit("hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject");
        let files = [format!("ssl_cert_file={}", chain.display()), format!("ssl_key_file={}", key.display())];
        let mut server = server.on_port(port, &["ssl=on", &files[0], &files[1]]);
        // Another may have taken the port meanwhile.
        if server.try_open().await {
            return (server, port);
        }
    }
}

/// Puts TLS in front of a server, and says at which port of `localhost`.
async fn behind_tls(server: &RedisServer, authority: &Authority) -> u16 {
    let acceptor = authority.certify("localhost", (2000, 2100)).acceptor(&[]);
    let at =
        tokio::net::lookup_host(("localhost", 0)).await.expect("it resolves").next().expect("an address");
    let listener = TcpListener::bind(at).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let socket = server.socket();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut inner = UnixStream::connect(&socket).await.expect("it listens");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut inner).await;
            });
        }
    });
    port
}

/// A world that a newer perch has served, as far as this file tells: its tables are of a version that nobody here knows.
async fn served_by_a_newer_one(file: &str) -> World {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let newer = Connection::open(world.path(file)).expect("it is there");
    newer.pragma_update(None, "user_version", 99).expect("a writable file");
    drop(newer);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_perch_refuses_a_newer_store_and_changes_nothing() {
    let world = served_by_a_newer_one("perch.db").await;
    let before = fs::read(world.path("perch.db")).expect("it is there");
    let refused = world.perch(&["serve"]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    let words = "its schema is version 99 and this perch knows up to";
    assert!(refused.err.contains(words), "{}", refused.err);
    assert!(fs::read(world.path("perch.db")).expect("it is there") == before, "it was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_perch_serves_beside_a_newer_request_ledger_and_leaves_it_alone() {
    let mut world = served_by_a_newer_one("perch.db.requests").await;
    let before = fs::read(world.path("perch.db.requests")).expect("it is there");
    let perch = world.serve().await;
    assert!(perch.err.text().contains("calls are served and kept nowhere"), "{}", perch.err.text());
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    assert!(fs::read(world.path("perch.db.requests")).expect("it is there") == before, "it was changed");
    // Away with it.
    fs::rename(world.path("perch.db.requests"), world.path("away")).expect("a writable folder");
    let perch = world.serve().await;
    assert!(!perch.err.text().contains("kept nowhere"), "{}", perch.err.text());
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_perch_sets_a_newer_journal_apart_and_starts() {
    let mut world = served_by_a_newer_one("perch.db.quota").await;
    let perch = world.serve().await;
    assert!(world.path("perch.db.quota.damaged").exists(), "{}", perch.err.text());
    drop(perch);
}
