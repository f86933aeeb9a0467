//! `docs/install.md`: its commands carried out in their order, with real processes in the place of pods; and what it says of the
//! way back to an older perch.

use crate::support::manifests::{root, said};
use crate::support::manual::{Desk, blocks};
use crate::support::postgres::PostgresServer;
use crate::support::redis::RedisServer;
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
    let (server, redis) = (PostgresServer::start().await, RedisServer::with_password("redis-secret").await);
    // As docs/postgres.md has it.
    server.sql("postgres", "CREATE DATABASE perch").await;
    server.sql("postgres", "CREATE ROLE tables_owner LOGIN; CREATE ROLE perch LOGIN").await;
    server
        .sql(
            "perch",
            "GRANT ALL ON DATABASE perch TO tables_owner; GRANT ALL ON SCHEMA public TO tables_owner",
        )
        .await;
    let at = |user: &str| {
        [format!("postgres://{user}@postgres.databases.svc:5432/perch"), server.url(user, "perch")]
    };
    let shared = ["rediss://redis.databases.svc:6379".to_owned(), redis.url()];
    let mut cluster = Cluster::beside(&world, &[at("perch"), at("tables_owner"), shared]);
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
    let (first, grow) = (under("Ten minutes: beside one app"), under("Grow: PostgreSQL and Redis"));
    assert_eq!((first.len(), grow.len()), (4, 2), "a block that nobody carries out");
    assert_eq!(all.len(), 6, "a block that nobody carries out");

    let mut told = String::new();
    for commands in first {
        told = cluster.desk.does(commands).await;
    }
    assert!(told.contains("\"access_token\":\"connection:"), "{told}");
    assert!(told.contains("\"individuals\""), "the directory of the customer: {told}");
    assert!(told.contains("acme") && told.contains("active"), "{told}");
    assert_eq!(cluster.doors().len(), 1);

    for commands in grow {
        told = cluster.desk.does(commands).await;
    }
    assert!(told.contains("acme") && told.contains("active"), "the connection has moved: {told}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_perch_refuses_a_newer_store_and_changes_nothing() {
    for (file, words) in [
        ("perch.db", "its schema is version 99 and this perch knows up to"),
        ("perch.db.requests", "the ledger of a newer perch (version 99 of its schema)"),
    ] {
        let mut world = World::with().without_gateway().await;
        let perch = world.serve().await;
        world.connect("acme", "gusto").await;
        assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
        let newer = Connection::open(world.path(file)).expect("it is there");
        newer.pragma_update(None, "user_version", 99).expect("a writable file");
        drop(newer);
        let before = fs::read(world.path(file)).expect("it is there");
        let refused = world.perch(&["serve"]).await;
        assert_eq!(refused.code, Some(69), "{file}: {}", refused.err);
        assert!(refused.err.contains(words), "{file}: {}", refused.err);
        assert!(fs::read(world.path(file)).expect("it is there") == before, "{file} was changed");
        // Away with the ledger: what was connected is still served.
        if file == "perch.db.requests" {
            fs::rename(world.path(file), world.path("away")).expect("a writable folder");
            let perch = world.serve().await;
            assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
            drop(perch);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_perch_sets_a_newer_journal_apart_and_starts() {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let newer = Connection::open(world.path("perch.db.quota")).expect("it is there");
    newer.pragma_update(None, "user_version", 99).expect("a writable file");
    drop(newer);
    let perch = world.serve().await;
    assert!(world.path("perch.db.quota.damaged").exists(), "{}", perch.err.text());
    drop(perch);
}
