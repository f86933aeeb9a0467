//! Tables that an older perch has made: a gateway's start renews them, and nothing that runs beside an older gateway does.

use crate::support::World;
use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;

impl World {
    /// Takes the tables back to the version before the pauses came.
    async fn make_older(&self) {
        let statements = match self.database.is_server() {
            true => "DROP TABLE pause; UPDATE perch_schema SET version = 2",
            false => "DROP TABLE pause; PRAGMA user_version = 7",
        };
        self.database.sql(statements).await;
    }

    async fn tables(&self) -> String {
        let question = match self.database.is_server() {
            true => "SELECT version FROM perch_schema",
            false => "PRAGMA user_version",
        };
        self.database.ask(question).await.expect("a version")
    }
}

async fn older_tables_are_left_to_those_who_use_them(mut world: World) {
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    world.database.silence_passes().await;
    let newest = world.tables().await;
    world.make_older().await;
    let older = world.tables().await;
    let before = world.database.image().await;

    let looked = world.perch(&["check", "--online"]).await;
    let told = format!(
        "(its tables: version {older}); the first start of this one's gateway renews it to version {newest}"
    );
    assert!(looked.out.contains(&told), "{}", looked.all());
    assert_eq!(looked.code, Some(0), "{}", looked.all());
    let told = format!("version {older} and this perch writes version {newest}");
    for words in [
        &["connections", "list"] as &[&str],
        &["vault", "verify"],
        &["apps", "add", "crm"],
        &["keys", "list"],
    ] {
        let refused = world.perch(words).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(69), ""), "{words:?}: {}", refused.err);
        assert!(
            refused.err.contains(&told) && refused.err.contains("start this perch's gateway"),
            "{}",
            refused.err
        );
    }
    let copied = world.perch(&["vault", "backup", "copy.db", "-o", "json"]).await;
    assert_eq!(copied.code, Some(0), "{}", copied.err);
    assert_eq!(copied.json()["generation"], json!(world.generation().await));
    assert_eq!(world.tables().await, older);
    assert_eq!(world.database.image().await, before, "something was changed");
    let copy = rusqlite::Connection::open(world.path("copy.db")).expect("a copy");
    let version: i64 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
    assert_eq!(version, 7, "the copy of an older store is an older store");
    drop(copy);

    // A restore renews what it puts there, and only then.
    let restored = world.perch(&["vault", "restore", "copy.db"]).await;
    assert_eq!(restored.code, Some(0), "{}", restored.err);
    assert_eq!(world.tables().await, newest);
    let listed = world.perch(&["connections", "list"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    assert!(listed.out.contains("acme"), "{}", listed.out);

    world.make_older().await;
    let perch = world.serve().await;
    assert_eq!(world.tables().await, newest, "a gateway renews them");
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_leave_an_older_perch_s_tables_to_the_gateways_that_run_on_them() {
    older_tables_are_left_to_those_who_use_them(World::with().without_gateway().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_leave_an_older_perch_s_tables_on_a_server_to_its_gateways() {
    older_tables_are_left_to_those_who_use_them(World::with().on_a_server().without_gateway().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_refused_leaves_a_server_s_older_tables_as_they_are() {
    let mut world = World::with().on_a_server().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    let copied = world.perch(&["vault", "backup", "copy.db"]).await;
    assert_eq!(copied.code, Some(0), "{}", copied.err);
    // Only the number: the gateway that runs has to find what it looks for.
    world.database.sql("UPDATE perch_schema SET version = 2").await;
    let refused = world.perch(&["vault", "restore", "copy.db"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("gateways use"), "{}", refused.err);
    assert_eq!(world.tables().await, "2");
    drop(perch);
    world.database.sql("UPDATE perch_schema SET version = 99").await;
    let refused = world.perch(&["vault", "restore", "copy.db", "--accept-rollback"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    for told in ["tables are of version 99", "Nothing was changed", "perch apps list"] {
        assert!(refused.err.contains(told), "{told}: {}", refused.err);
    }
}
