//! The store copied beside a running gateway, put back, and older than somebody remembers.

use crate::support::{World, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A world with two connected customers whose gateway has gone.
async fn world() -> World {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    world.connect("zeta", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    world
}

impl World {
    async fn done(&self, words: &[&str]) -> Value {
        let ended = self.perch(&[words, &["-o", "json"]].concat()).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.err);
        ended.json()
    }

    async fn refused(&self, words: &[&str], code: i32, told: &[&str]) {
        let before = self.store_bytes();
        let ended = self.perch(words).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{words:?}: {}", ended.err);
        for words in told {
            assert!(ended.err.contains(words), "{words:?} is not in: {}", ended.err);
        }
        assert_eq!(self.store_bytes(), before, "a refusal has changed the store");
        assert!(!self.path("perch.db.restoring").exists(), "a copy was left behind");
    }

    fn store_bytes(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let read = |name: &str| fs::read(self.path(name)).ok().filter(|bytes| !bytes.is_empty());
        (read("perch.db").unwrap_or_default(), read("perch.db-wal"))
    }

    fn connection_of(&self, customer: &str) -> String {
        self.sqlite()
            .query_row("SELECT connection_id FROM connection WHERE customer_id = ?1", [customer], |row| {
                row.get(0)
            })
            .expect("a row")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_a_running_gateway_is_whole_sealed_and_its_owners_alone() {
    // Without its journal a gateway does not know what it has sent, and sits out a window.
    let mut world = World::with().settings("limits.window = \"1s\"").without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    let told = world.done(&["vault", "backup", "copy.db"]).await;
    assert_eq!(told["generation"], world.generation().await);
    let mode = fs::metadata(world.path("copy.db")).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let bytes = fs::read(world.path("copy.db")).expect("it is there");
    let marker = crate::support::TOKEN_MARKER.as_bytes();
    assert!(!bytes.windows(marker.len()).any(|part| part == marker), "a token stands in the backup");
    world.refused(&["vault", "backup", "copy.db"], 69, &["perch: copy.db exists already"]).await;
    world.refused(&["vault", "backup", "no/such/copy.db"], 69, &["no/such/copy.db cannot be made"]).await;
    world.refused(&["vault", "restore", "copy.db"], 69, &["perch: another perch gateway is using"]).await;
    assert_eq!(perch.end_by(SIGKILL).await.code, None);

    // Everything but the backup and the key is gone.
    for name in ["perch.db", "perch.db-wal", "perch.db-shm", "perch.db.quota"] {
        let _ = fs::remove_file(world.path(name));
    }
    world.refused(&["vault", "verify"], 69, &["there is no store at", "perch vault restore"]).await;
    world.refused(&["vault", "backup", "nothing.db"], 69, &["there is no store at"]).await;
    world.done(&["vault", "restore", "copy.db"]).await;
    assert_eq!(world.done(&["vault", "verify"]).await["opened"], 1);
    let perch = world.serve().await;
    let hello = world.for_customer("acme").get("/employer/company").await;
    assert_eq!(hello.status, 200, "{}", hello.text());
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v7_an_older_backup_is_restored_only_with_leave_and_names_what_is_lost() {
    let mut world = world().await;
    for name in ["leaver", "stayer"] {
        assert_eq!(world.perch(&["apps", "add", name]).await.code, Some(0));
    }
    world.done(&["vault", "backup", "copy.db"]).await;
    let perch = world.serve().await;
    world.connect("late", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let (late, zeta) = (world.connection_of("late"), world.connection_of("zeta"));
    let gone = perch::types::ConnectionId::new(zeta.clone()).expect("an id");
    world.vault().await.mark_disconnected(&gone, perch::types::UnixMillis(0)).await.expect("it is there");
    let leaver = world.perch(&["apps", "revoke", "leaver"]).await;
    assert_eq!(leaver.code, Some(0), "{}", leaver.err);
    // A rotation changes every row and loses nobody.
    world.done(&["keys", "rotate"]).await;
    let before = world.generation().await;

    world.refused(&["vault", "restore", "copy.db"], 1, &["--accept-rollback", "loses 1 tokens", &late]).await;
    let told = world.done(&["vault", "restore", "copy.db", "--accept-rollback"]).await;
    assert_eq!((&told["lost"], &told["back"]), (&json!([late]), &json!([zeta])));
    assert_eq!(told["revoked"], json!(["leaver"]), "a revoked key does not become good again");
    let apps = world.done(&["apps", "list"]).await;
    let good = apps.as_array().expect("a list").iter().filter(|app| app["revoked_at"].is_null());
    assert_eq!(good.map(|app| app["name"].clone()).collect::<Vec<_>>(), [json!("stayer")]);
    assert!(world.generation().await > before, "it goes on counting from beyond what was");
    assert_eq!(told["kept"], json!(world.path("perch.db.replaced-0").display().to_string()));
    assert_eq!(world.done(&["vault", "verify"]).await["opened"], 2);
    let perch = world.serve().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(world.for_customer("late").get("/employer/company").await.status, 404);
    drop(perch);
}

/// Going back to an older perch: what it finds in the store's place is a newer one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v7_the_store_of_a_newer_perch_is_compared_like_any_other_before_a_backup_takes_its_place() {
    let mut world = world().await;
    for name in ["leaver", "stayer"] {
        assert_eq!(world.perch(&["apps", "add", name]).await.code, Some(0));
    }
    world.done(&["vault", "backup", "copy.db"]).await;
    let perch = world.serve().await;
    world.connect("late", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let (late, zeta) = (world.connection_of("late"), world.connection_of("zeta"));
    let gone = perch::types::ConnectionId::new(zeta.clone()).expect("an id");
    world.vault().await.mark_disconnected(&gone, perch::types::UnixMillis(0)).await.expect("it is there");
    assert_eq!(world.perch(&["apps", "revoke", "leaver"]).await.code, Some(0));
    let before = world.generation().await;
    world.sqlite().pragma_update(None, "user_version", 99).expect("a writable file");

    world.refused(&["vault", "restore", "copy.db"], 1, &["--accept-rollback", "loses 1 tokens", &late]).await;
    // What it cannot read it does not take for nothing.
    let renamed = |from: &str, to: &str| {
        world
            .sqlite()
            .execute_batch(&format!("ALTER TABLE app RENAME COLUMN {from} TO {to}"))
            .expect("a column");
    };
    renamed("revoked_at", "ended_at");
    let told = ["schema is version 99", "cannot be compared", "newer perch", "Nothing was changed"];
    world.refused(&["vault", "restore", "copy.db", "--accept-rollback"], 1, &told).await;
    renamed("ended_at", "revoked_at");

    let told = world.done(&["vault", "restore", "copy.db", "--accept-rollback"]).await;
    assert_eq!((&told["lost"], &told["back"]), (&json!([late]), &json!([zeta])));
    assert_eq!((&told["revoked"], &told["generation_before"]), (&json!(["leaver"]), &json!(before)));
    let apps = world.done(&["apps", "list"]).await;
    let good = apps.as_array().expect("a list").iter().filter(|app| app["revoked_at"].is_null());
    assert_eq!(good.map(|app| app["name"].clone()).collect::<Vec<_>>(), [json!("stayer")]);
    assert!(world.generation().await > before, "it goes on counting from beyond what was");
    let kept = rusqlite::Connection::open(world.path("perch.db.replaced-0")).expect("what was there");
    let version: i64 = kept.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
    assert_eq!(version, 99, "what was there is kept as it was");
    let perch = world.serve().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_store_another_application_another_key_and_another_file_are_refused() {
    let (world, other) = (world().await, world().await);
    other.done(&["vault", "backup", "copy.db"]).await;
    fs::copy(other.path("copy.db"), world.path("other.db")).expect("room");
    world.refused(&["vault", "restore", "other.db"], 78, &["wrong key, expected fingerprint"]).await;
    fs::copy(world.path("perch.key"), world.path("mine.key")).expect("room");
    fs::copy(other.path("perch.key"), world.path("perch.key")).expect("room");
    world.refused(&["vault", "restore", "other.db"], 1, &["is a backup of another store"]).await;
    fs::copy(world.path("mine.key"), world.path("perch.key")).expect("room");

    world.done(&["vault", "backup", "copy.db"]).await;
    let mut command = world.command(&["vault", "restore", "copy.db"]);
    command.env("FINCH_CLIENT_ID", "another");
    let ended = world.run(command).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("another Finch application than another"), "{}", ended.err);
    fs::write(world.path("notes.txt"), "this is no store at all ".repeat(400)).expect("room");
    world.refused(&["vault", "restore", "notes.txt"], 69, &["not a database"]).await;
    world.refused(&["vault", "restore", "missing.db"], 69, &["missing.db cannot be copied"]).await;
    fs::write(world.path("empty.db"), "").expect("room");
    world.refused(&["vault", "restore", "empty.db"], 1, &["was never used"]).await;
    assert_eq!(world.done(&["vault", "verify"]).await["opened"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v7_a_store_that_is_older_than_remembered_is_refused_at_start() {
    let mut world = world().await;
    world.set("vault.generation_file = \"elsewhere\"");
    let perch = world.serve().await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    fs::copy(world.path("perch.db"), world.path("older.db")).expect("room");
    let perch = world.serve().await;
    world.connect("late", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let remembered = fs::read_to_string(world.path("elsewhere")).expect("it was written");
    assert!(remembered.trim_end().ends_with(&format!(" {}", world.generation().await)), "{remembered}");

    fs::copy(world.path("older.db"), world.path("perch.db")).expect("room");
    for words in [&["serve"] as &[&str], &["connections", "list"]] {
        world.refused(words, 69, &["it is an older copy", "elsewhere", "--accept-rollback"]).await;
    }
    fs::rename(world.path("perch.db"), world.path("away.db")).expect("it is there");
    fs::copy(world.path("older.db"), world.path("copy.db")).expect("room");
    let restored = world.perch(&["vault", "restore", "copy.db"]).await;
    assert_eq!(restored.code, Some(1), "{}", restored.err);
    assert!(restored.err.contains("cannot be told without the store itself"), "{}", restored.err);
    let lost = world.perch(&["serve"]).await;
    assert_eq!(lost.code, Some(69), "{}", lost.err);
    assert!(lost.err.contains("the store is empty"), "a lost store is no new one: {}", lost.err);
    for name in ["perch.db", "perch.db-wal", "perch.db-shm"] {
        let _ = fs::remove_file(world.path(name));
    }
    fs::rename(world.path("away.db"), world.path("perch.db")).expect("it is there");
    let perch = world.serve_with(&["serve", "--accept-rollback"]).await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let perch = world.serve().await;
    drop(perch);
}

/// It would go on writing into a file that is no longer the store.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_another_command_has_open_is_not_replaced() {
    let world = world().await;
    world.done(&["vault", "backup", "copy.db"]).await;
    let import = world.perch_waiting(&["connections", "import"]);
    let open = format!("/proc/{}/fd", import.id());
    until("the import has opened the store", async || {
        let files = fs::read_dir(&open).into_iter().flatten().flatten();
        files.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.ends_with("perch.db-wal"))
    })
    .await;
    world.refused(&["vault", "restore", "copy.db"], 69, &["another perch command is using"]).await;
    drop(import);
    world.done(&["vault", "restore", "copy.db"]).await;
}

/// Where a restore can be cut off, in its order.
const STEPS: [&str; 7] = [
    "restore:copied",
    "restore:checked",
    "restore:counted",
    "restore:closed",
    "restore:linked",
    "restore:replaced",
    "restore:remembered",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v7_a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one_whole() {
    let mut world = world().await;
    world.set("vault.generation_file = \"elsewhere\"");
    world.done(&["vault", "backup", "copy.db"]).await;
    let (perch, mut before) = (world.serve().await, 0);
    world.connect("late", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    fs::copy(world.path("perch.db"), world.path("newest.db")).expect("room");
    for step in STEPS {
        // Each time from the newest store, which has one connection more than the backup.
        let generation = world.generation().await;
        let mut command = world.command(&["vault", "restore", "copy.db", "--accept-rollback"]);
        command.env("PERCH_FAILPOINT", step);
        let killed = world.run(command).await;
        assert_eq!(killed.code, None, "{step}: it did not die: {}", killed.all());
        let is_old = world.generation().await == generation;
        assert_eq!(is_old, !matches!(step, "restore:replaced" | "restore:remembered"), "{step}");
        let opened = world.done(&["vault", "verify"]).await["opened"].clone();
        assert_eq!(opened, json!(if is_old { 3 } else { 2 }), "{step}");
        let perch = world.serve().await;
        let known = world.for_customer("late").get("/employer/company").await.status;
        assert_eq!(known, if is_old { 200 } else { 404 }, "{step}");
        assert_eq!(perch.end_by(SIGTERM).await.code, Some(0), "{step}");
        // The same command again does the rest, and the store that was there is kept under a name of its own.
        world.done(&["vault", "restore", "copy.db", "--accept-rollback"]).await;
        assert_eq!(world.done(&["vault", "verify"]).await["opened"], 2, "{step}");
        assert!(!world.path("perch.db.restoring").exists(), "{step}: a copy was left behind");
        assert!(world.generation().await > before, "{step}: it has gone back");
        before = world.generation().await;
        let kept = fs::read_dir(world.dir.path()).expect("a folder").flatten();
        let kept = kept.filter(|file| file.file_name().to_string_lossy().starts_with("perch.db.replaced-"));
        assert!(kept.count() >= 1, "{step}");
        world.done(&["vault", "restore", "newest.db", "--accept-rollback"]).await;
        assert_eq!(world.done(&["vault", "verify"]).await["opened"], 3, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_cut_off_or_damaged_anywhere_takes_nobodys_place() {
    let world = world().await;
    world.done(&["vault", "backup", "copy.db"]).await;
    let whole = fs::read(world.path("copy.db")).expect("it is there");
    fs::write(world.path("half.db"), &whole[..whole.len() - 4096]).expect("room");
    world.refused(&["vault", "restore", "half.db"], 69, &["half.db", "is damaged"]).await;
    // A page of what no check of a connection would look at.
    let page = |name: &str| -> usize {
        let db = rusqlite::Connection::open(world.path("copy.db")).expect("a store");
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0))
            .expect("it")
    };
    for table in ["audit", "webhook", "exchange"] {
        let mut damaged = whole.clone();
        let at = (page(table) - 1) * 4096;
        damaged[at..at + 4096].fill(0x5a);
        fs::write(world.path("damaged.db"), damaged).expect("room");
        world.refused(&["vault", "restore", "damaged.db"], 69, &["damaged.db", "is damaged"]).await;
    }
    assert_eq!(world.done(&["vault", "verify"]).await["opened"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_does_not_eat_what_it_is_given() {
    let world = world().await;
    world.done(&["vault", "backup", "perch.db.restoring"]).await;
    let ended = world.perch(&["vault", "restore", "perch.db.restoring"]).await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(ended.err.contains("rename it"), "{}", ended.err);
    assert!(world.path("perch.db.restoring").exists(), "the backup is gone");
}
