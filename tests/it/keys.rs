//! The life of the sealing keys: rotation under load, killed at every step; the wrapping key; retirement.

use crate::support::process::doors;
use crate::support::{App, Database, Ended, Process, Setup, World};
use nix::sys::signal::Signal::SIGTERM;
use perch::app;
use perch::types::{ConnectionId, CustomerId, UnixMillis};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::task::JoinSet;

const NOW: UnixMillis = UnixMillis(0);
/// More than two batches of a rotation.
const CUSTOMERS: usize = 250;
/// Apps that call all the time.
const WORKERS: usize = 4;
/// Where a rotation may be killed.
const STEPS: [&str; 6] =
    ["add:before", "add:after", "promote:inside", "promote:after", "reseal:inside", "reseal:after"];
/// Quota is not the subject here, and every call shall open its row.
const SETTINGS: &str = "limits.window = \"1s\"\nlimits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"\n\
     limits.ip.requests = 100000\nlimits.products.company = 100000\nlimits.queue.per_customer = 1000\n\
     merge.coalesce = false\nmerge.resend_memory = \"0s\"\nvault.cache_ttl = \"0s\"";

/// A world whose store has connections and whose gateway was never started.
pub async fn world(customers: usize) -> World {
    let world = described(customers).without_gateway().await;
    if customers > 0 {
        world.import().await;
    }
    world
}

fn described(customers: usize) -> Setup {
    let mut scenario = String::new();
    for n in 0..customers {
        writeln!(scenario, "[[customer]]\nid = \"c{n}\"\nemployees = 1").expect("room");
    }
    scenario.push_str(
        "[limits]\nwindow = \"1ms\"\n[limits.products]\ncompany = 0\n[limits.ip]\nrequests = 1000000\n",
    );
    World::with().scenario(&scenario).settings(SETTINGS)
}

impl World {
    pub async fn keys(&self) -> Vec<Value> {
        let listed = self.perch(&["keys", "list", "-o", "json"]).await;
        assert_eq!(listed.code, Some(0), "{}", listed.err);
        listed.json().as_array().expect("a list").clone()
    }

    /// The key's state and rows.
    async fn key(&self, id: u64) -> (String, u64) {
        let keys = self.keys().await;
        let key = keys.iter().find(|key| key["key"] == id).unwrap_or_else(|| panic!("{keys:?}"));
        (key["state"].as_str().expect("a word").to_owned(), key["rows"].as_u64().expect("a count"))
    }

    /// Names another key in the settings.
    pub fn set_key(&self, source: &str) {
        let settings = fs::read_to_string(self.path("perch.toml")).expect("settings");
        let with = |line: &str| match line.starts_with("vault.key =") {
            true => format!("vault.key = \"{source}\"\n"),
            false => format!("{line}\n"),
        };
        fs::write(self.path("perch.toml"), settings.lines().map(with).collect::<String>())
            .expect("a writable folder");
    }

    /// Runs a command that dies at this place.
    async fn perch_dying(&self, place: &str, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.env("PERCH_FAILPOINT", place);
        self.run(command).await
    }

    pub async fn assert_every_token_opens(&self, count: usize) {
        let verified = self.perch(&["vault", "verify", "-o", "json"]).await;
        assert_eq!((verified.code, &verified.json()["opened"]), (Some(0), &json!(count)), "{}", verified.out);
    }
}

/// Calls that go on until they are stopped.
struct Load {
    is_over: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    workers: JoinSet<Vec<String>>,
    began: Instant,
}

impl Load {
    fn on(world: &World, customers: usize) -> Self {
        Self::on_doors(&[world.proxy], customers)
    }

    /// The workers take the doors in turn.
    fn on_doors(doors: &[SocketAddr], customers: usize) -> Self {
        let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let door = doors[worker % doors.len()];
            let apps: Vec<_> = (0..customers)
                .map(|n| App::at(door).with("perch-customer", &format!("c{}", (n * 7 + worker) % customers)))
                .collect();
            let (is_over, calls) = (Arc::clone(&is_over), Arc::clone(&calls));
            workers.spawn(async move {
                let mut failed = Vec::new();
                for app in apps.iter().cycle() {
                    if is_over.load(Relaxed) {
                        break;
                    }
                    let answer = app.get("/employer/company").await;
                    calls.fetch_add(1, Relaxed);
                    if answer.status != 200 {
                        failed.push(format!("{}: {}", answer.status, answer.text()));
                    }
                }
                failed
            });
        }
        Self { is_over, calls, workers, began: Instant::now() }
    }

    /// Every call so far was served.
    #[allow(clippy::print_stdout, reason = "the rate is for whoever asks how much load it was")]
    async fn end(self) {
        self.is_over.store(true, Relaxed);
        let failed = self.workers.join_all().await.concat();
        let (calls, seconds) = (self.calls.load(Relaxed), self.began.elapsed().as_secs_f64());
        println!(
            "{calls} calls in {seconds:.1} s, {:.0} a second, {} failed",
            calls as f64 / seconds,
            failed.len()
        );
        assert_eq!(failed, Vec::<String>::new(), "of {calls}");
        assert!(calls > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v4_rotation_under_load_fails_no_read() {
    let mut world = world(CUSTOMERS).await;
    let perch = world.serve().await;
    let load = Load::on(&world, CUSTOMERS);
    for step in STEPS {
        let killed = world.perch_dying(step, &["keys", "rotate"]).await;
        assert_eq!(killed.code, None, "{step}: it did not die: {}", killed.all());
        let ended = world.perch(&["keys", "rotate", "-o", "json"]).await;
        assert_eq!(ended.code, Some(0), "{step}: {}", ended.err);
        assert_eq!(ended.json()["left"], 0, "{step}");
        let keys = world.keys().await;
        let (new, old): (Vec<&Value>, Vec<&Value>) =
            keys.iter().filter(|key| key["purpose"] == "record").partition(|key| key["state"] == "primary");
        assert_eq!((new.len(), &new[0]["rows"]), (1, &json!(CUSTOMERS)), "{step}");
        assert!(old.iter().all(|key| key["rows"] == 0 && key["state"] == "decrypt_only"), "{step}: {keys:?}");
    }
    load.end().await;
    world.assert_every_token_opens(CUSTOMERS).await;
    // Those that were cut off before the new key sealed have made no second one.
    assert_eq!(world.keys().await.len(), 2 + STEPS.len(), "one key for each rotation");
    let log = perch.err.text();
    assert!(!log.contains("is refused") && !log.contains("is not used here"), "{log}");
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
}

/// Rows of the rotation on a server, and gateways that use it meanwhile.
const ROWS: usize = 400;
const GATEWAYS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the rate is what is asked for")]
async fn v4_rotation_under_load_with_three_gateways_on_one_server_fails_no_read() {
    let world = described(ROWS).on_a_server().without_gateway().await;
    world.import().await;
    let mut gateways = Vec::new();
    for number in 0..GATEWAYS {
        let mut command = world.command(&["serve"]);
        command.env("PERCH_LIMITS__MEMBER", format!("g{number}"));
        command.env("PERCH_LIMITS__REPLICAS", GATEWAYS.to_string());
        let process = Process::spawn(command, None);
        let (proxy, _) = doors(&process).await;
        gateways.push((process, proxy));
    }
    let proxies: Vec<SocketAddr> = gateways.iter().map(|(_, proxy)| *proxy).collect();
    let load = Load::on_doors(&proxies, ROWS);
    let began = Instant::now();
    let ended = world.perch(&["keys", "rotate", "-o", "json"]).await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    println!(
        "{ROWS} rows under {GATEWAYS} gateways in {seconds:.1} s, {:.0} a second",
        ROWS as f64 / seconds
    );
    assert_eq!((&ended.json()["resealed"], &ended.json()["left"]), (&json!(ROWS), &json!(0)));
    // Killed at every step, it is finished by the next one.
    for step in STEPS {
        let killed = world.perch_dying(step, &["keys", "rotate"]).await;
        assert_eq!(killed.code, None, "{step}: it did not die: {}", killed.all());
        let ended = world.perch(&["keys", "rotate", "-o", "json"]).await;
        assert_eq!((ended.code, &ended.json()["left"]), (Some(0), &json!(0)), "{step}: {}", ended.err);
    }
    load.end().await;
    let old = "SELECT count(*) FROM connection WHERE dek_id <> (SELECT dek_id FROM vault_key \
               WHERE purpose = 'record' AND state = 'primary')";
    assert_eq!(world.database.ask(old).await.as_deref(), Some("0"), "no row is on an old key");
    world.assert_every_token_opens(ROWS).await;
    for (process, _) in gateways {
        let log = process.err.text();
        assert!(!log.contains("is refused") && !log.contains("is not used here"), "{log}");
        assert_eq!(process.end_by(SIGTERM).await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v4_a_key_seals_only_after_the_gateway_has_opened_it() {
    let mut world = world(3).await;
    let perch = world.serve().await;
    let killed = world.perch_dying("add:after", &["keys", "rotate"]).await;
    assert_eq!(killed.code, None, "{}", killed.all());
    assert_eq!(world.key(3).await, ("pending".to_owned(), 0));
    assert_eq!(world.key(1).await, ("primary".to_owned(), 3));
    let resumed = world.perch(&["keys", "rotate", "-o", "json"]).await.json();
    assert_eq!(
        (&resumed["key"], &resumed["resumed"], &resumed["resealed"]),
        (&json!(3), &json!(true), &json!(3))
    );
    let newest = world.database.ask("SELECT newest_key FROM vault_gateway").await;
    assert_eq!(newest.as_deref(), Some("3"), "the gateway has told");
    // What the gateway itself seals from now on is under the new key.
    world.connect("new", "gusto").await;
    assert_eq!(world.key(3).await, ("primary".to_owned(), 4));
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_changes_while_rows_are_sealed_anew_is_not_overwritten() {
    let world = world(2).await;
    let vault = world.vault().await;
    let key = vault.add_key(NOW).await.expect("a key");
    assert!(vault.promote_key(key).await.expect("no gateway runs"));
    // As if another command had replaced the token between the reading and the writing of its row.
    let update = "UPDATE connection SET row_version = 7 WHERE customer_id = 'c0' AND row_version = 1";
    let trigger = match world.database {
        Database::File(_) => {
            format!("CREATE TRIGGER meanwhile BEFORE UPDATE ON vault_meta BEGIN {update}; END")
        }
        Database::Server(_) => format!(
            "CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {update}; RETURN NEW; END $$; \
             CREATE TRIGGER meanwhile BEFORE UPDATE ON vault_meta FOR EACH ROW EXECUTE FUNCTION meanwhile()"
        ),
    };
    world.database.sql(&trigger).await;
    let step = vault.reseal(None).await.expect("the store answers");
    assert_eq!((step.done, step.raced, step.unreadable), (1, 1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_does_not_open_is_named_and_left_and_stands_in_nobody_s_way() {
    let world = world(3).await;
    let nonsense = world.database.bytes(&"00".repeat(120));
    world.database.sql(&format!("UPDATE connection SET sealed = {nonsense} WHERE customer_id = 'c1'")).await;
    let id = world.database.ask("SELECT connection_id FROM connection WHERE customer_id = 'c1'").await;
    let id = id.expect("a row");
    for key in [3, 4] {
        let ended = world.perch(&["keys", "rotate", "-o", "json"]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        let told = ended.json();
        assert_eq!((&told["key"], &told["resealed"], &told["left"]), (&json!(key), &json!(2), &json!(1)));
        assert_eq!(told["unreadable"], json!([id]));
    }
    let verified = world.perch(&["vault", "verify"]).await;
    assert_eq!(verified.code, Some(1));
    assert!(verified.out.contains(&id) && verified.out.contains("2 tokens open"), "{}", verified.out);
    let refused = world.perch(&["keys", "retire", "1"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("still has 1 rows"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_retired_and_destroyed_only_when_nothing_needs_it() {
    let mut world = world(2).await;
    let perch = world.serve().await;
    for (words, told) in [
        (&["keys", "retire", "1"] as &[&str], "is the one that seals"),
        (&["keys", "retire", "2"], "index keys are not rotated"),
        (&["keys", "retire", "9"], "there is no key 9"),
        (&["keys", "destroy", "1", "--confirm"], "is in use"),
        (&["keys", "destroy", "1"], "add --confirm"),
    ] {
        let ended = world.perch(words).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{words:?}");
        assert!(ended.err.contains(told), "{words:?}: {}", ended.err);
    }
    assert_eq!(world.perch(&["keys", "rotate"]).await.code, Some(0));
    assert_eq!(world.perch(&["keys", "retire", "1"]).await.code, Some(0));
    assert_eq!(world.perch(&["keys", "retire", "1"]).await.code, Some(0), "again changes nothing");
    assert_eq!(world.key(1).await.0, "retired");
    let wrapped =
        async || world.database.ask("SELECT wrapped FROM vault_key WHERE dek_id = 1").await.expect("a row");
    let before = wrapped().await;
    assert_eq!(world.perch(&["keys", "destroy", "1", "--confirm"]).await.code, Some(0));
    assert_eq!((world.key(1).await.0.as_str(), wrapped().await.len()), ("destroyed", 0));
    let rotated = world.perch(&["keys", "rotate", "-o", "json"]).await.json();
    assert_eq!(rotated["key"], 4, "a number is never given again");
    assert_eq!(world.for_customer("c0").get("/employer/company").await.status, 200);
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    if let Database::File(path) = &world.database {
        let file = fs::read(path).expect("the store");
        let hexadecimal: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!hexadecimal.contains(&before), "its bytes are in the file still");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v5_the_wrapping_key_changes_in_one_step_and_a_crash_leaves_one_of_the_two() {
    let mut world = world(2).await;
    let perch = world.serve().await;
    fs::rename(world.path("perch.key"), world.path("old.key")).expect("it is there");
    let made = world.perch(&["keys", "generate", "perch.key"]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let refused = world.perch(&["keys", "rotate-kek"]).await;
    assert_eq!(refused.code, Some(78), "{}", refused.err);

    world.set("vault.key_previous = \"file:old.key\"");
    for place in ["rewrap:before", "rewrap:inside"] {
        assert_eq!(world.perch_dying(place, &["keys", "rotate-kek"]).await.code, None, "{place}");
        let wrapped: Vec<Value> =
            world.keys().await.iter().map(|key| key["kek_fingerprint"].clone()).collect();
        assert_eq!(wrapped[0], wrapped[1], "{place}: both or none");
        world.assert_every_token_opens(2).await;
    }
    assert_eq!(world.perch_dying("rewrap:after", &["keys", "rotate-kek"]).await.code, None);
    let again = world.perch(&["keys", "rotate-kek", "-o", "json"]).await;
    assert_eq!((again.code, &again.json()["rewrapped"]), (Some(0), &json!(0)), "it was done");
    assert_eq!(
        world.for_customer("c0").get("/employer/company").await.status,
        200,
        "the gateway did not notice"
    );
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));

    let settings = fs::read_to_string(world.path("perch.toml")).expect("settings");
    fs::write(world.path("perch.toml"), settings.replace("vault.key_previous", "# "))
        .expect("a writable folder");
    fs::rename(world.path("old.key"), world.path("away.key")).expect("it is there");
    let perch = world.serve().await;
    assert_eq!(world.for_customer("c1").get("/employer/company").await.status, 200);
    drop(perch);

    fs::rename(world.path("perch.key"), world.path("right.key")).expect("it is there");
    for name in ["perch.key", "third.key"] {
        assert_eq!(world.perch(&["keys", "generate", name]).await.code, Some(0));
    }
    world.set("vault.key_previous = \"file:third.key\"");
    let refused = world.perch(&["keys", "list"]).await;
    assert_eq!(refused.code, Some(78));
    assert!(refused.err.contains("wrong key, expected") && refused.err.contains(" and "), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_come_from_a_program() {
    let mut world = world(1).await;
    fs::rename(world.path("perch.key"), world.path("hidden.key")).expect("it is there");
    world.set_key(&format!("command:/bin/cat {}", world.path("hidden.key").display()));
    let perch = world.serve().await;
    assert_eq!(world.for_customer("c0").get("/employer/company").await.status, 200);
    drop(perch);
    world.set_key("command:/bin/cat /no/such/key");
    let refused = world.perch(&["serve"]).await;
    assert_eq!(refused.code, Some(78));
    assert!(refused.err.contains("/bin/cat ended with exit code 1"), "{}", refused.err);
    assert!(!refused.err.contains("No such file"), "what it says is not repeated: {}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v4_who_has_not_heard_of_a_rotation_opens_and_seals_with_the_new_key_all_the_same() {
    let world = world(2).await;
    let ids: Vec<ConnectionId> = world
        .connections()
        .await
        .iter()
        .map(|c| c["connection_id"].as_str().expect("an id"))
        .map(id)
        .collect();
    let gateway = app::open_vault(&world.config(), true).await.expect("no other runs");
    let (bystander, command) = (world.vault().await, world.vault().await);
    let key = command.add_key(NOW).await.expect("a key");
    assert_eq!(command.promote_key(key).await, Ok(false), "the gateway has not opened it");
    assert_eq!(command.add_key(NOW).await, Ok(key), "no second one is made");
    assert_eq!(gateway.refresh().await, Ok(true));
    assert_eq!(command.promote_key(key).await, Ok(true));
    assert_eq!(command.reseal(None).await.expect("the store answers").done, 2);
    // Nobody has told these two what became of the keys.
    for vault in [&gateway, &bystander] {
        let entry = vault.read_anew(&ids[0]).await.expect("it opens");
        assert!(entry.token.is_some());
        vault.assign(&ids[1], &CustomerId::new("c1").expect("an id"), NOW).await.expect("it is c1's");
    }
    assert_eq!(world.key(key).await, ("primary".to_owned(), 2));
    assert_eq!(command.retire_key(1, NOW).await, Ok(()));
    let erased = bystander.mark_disconnected(&ids[1], NOW).await;
    assert_eq!(erased, Ok(()));
    assert_eq!(gateway.stats().await.expect("the store answers").unreadable_total, 0);
}

fn id(text: &str) -> ConnectionId {
    ConnectionId::new(text).expect("an id")
}
