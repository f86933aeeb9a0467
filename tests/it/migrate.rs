//! `docs/migrate.md`: its commands carried out in their order, for an app that keeps tokens in a table of its own.

use crate::support::manual::{Desk, blocks};
use crate::support::postgres::PostgresServer;
use crate::support::{Answer, TOKEN_MARKER, World, until};
use serde_json::Value;
use std::fs;
use tokio_postgres::Client;

const SCENARIO: &str =
    "[[customer]]\nid = \"acme\"\n[[customer]]\nid = \"birch\"\nproviders = [\"adp_run\"]\n";

/// The app of before: it sends what its table says.
struct OldApp {
    table: Client,
}

impl OldApp {
    /// With a table of the tokens that Finch gave it.
    async fn with(server: &PostgresServer, world: &World) -> Self {
        server.sql("postgres", "CREATE DATABASE app").await;
        let table = server.client("app").await;
        let create = "CREATE TABLE finch_tokens (customer_id TEXT PRIMARY KEY, connection_id TEXT, access_token TEXT NOT NULL)";
        table.batch_execute(create).await.expect("a table");
        let app = Self { table };
        for kept in world.connections().await {
            let text = |name: &str| kept[name].as_str().expect("text").to_owned();
            app.keep(&text("customer_id"), &text("connection_id"), &text("access_token")).await;
        }
        app
    }

    async fn keep(&self, customer: &str, connection: &str, token: &str) {
        let insert = "INSERT INTO finch_tokens VALUES ($1, $2, $3)";
        self.table.execute(insert, &[&customer, &connection, &token]).await.expect("a row");
    }

    async fn token(&self, customer: &str) -> String {
        let ask = "SELECT access_token FROM finch_tokens WHERE customer_id = $1";
        self.table.query_one(ask, &[&customer]).await.expect("a row").get(0)
    }

    async fn call(&self, world: &World, customer: &str) -> Answer {
        let token = self.token(customer).await;
        world.app().with("authorization", &format!("Bearer {token}")).get("/employer/company").await
    }
}

/// How many calls have brought a token along.
async fn brought(world: &World) -> f64 {
    let metrics = world.operator().get("/metrics").await.text();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("perch_passed_through_total "))
        .expect("it is told");
    line.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_take_every_token_out_of_the_app_and_each_step_can_be_taken_back() {
    let server = PostgresServer::start().await;
    let settings = "apps.pass_through = true\nmerge.coalesce = false";
    let mut world = World::with().scenario(SCENARIO).settings(settings).without_gateway().await;
    let app = OldApp::with(&server, &world).await;
    let perch = world.serve().await;
    let mut desk = Desk::at(world.dir.path());
    desk.program("perch", &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_perch")));
    for (name, value) in world.command(&[]).get_envs() {
        let text = |text: &std::ffi::OsStr| text.to_str().expect("text").to_owned();
        desk.set(&text(name), &text(value.expect("it is set")));
    }
    desk.set("APP_DB", &server.url("postgres", "app"));
    desk.set("PERCH_ADMIN", &format!("http://{}", world.admin));
    let all = blocks("docs/migrate.md");
    let commands: Vec<&str> = all.iter().map(|(_, commands)| commands.as_str()).collect();
    let [counted, import, first, rest, back, forward, check, left, delete] = commands[..] else {
        panic!("a block that nobody carries out: {commands:?}")
    };

    // 1: the tokens go through as they are, and a customer who connects meanwhile is done already.
    for customer in ["acme", "birch"] {
        assert_eq!(app.call(&world, customer).await.status, 200);
    }
    assert_eq!(desk.does(counted).await, "perch_passed_through_total 2\n");
    let connected: Value = world.connect("cedar", "gusto").await;
    let text = |name: &str| connected[name].as_str().expect("text");
    app.keep("cedar", text("connection_id"), text("access_token")).await;
    assert_eq!(app.call(&world, "cedar").await.status, 200);

    // 2: the vault has them, too; nothing changes for anybody. Twice does no harm.
    for outcome in ["2 new, 0 replaced", "0 new, 2 replaced"] {
        let told = desk.does(import).await;
        assert!(told.contains(outcome) && told.contains("acme") && told.contains("birch"), "{told}");
        assert!(!told.contains(TOKEN_MARKER), "{told}");
    }
    assert_eq!(app.call(&world, "acme").await.status, 200);
    assert!((brought(&world).await - 3.0).abs() < 0.1);

    // 3: one, then all; and back.
    desk.does(first).await;
    assert!(app.token("acme").await.starts_with("connection:"));
    until("the gateway knows what was imported", async || app.call(&world, "acme").await.status == 200).await;
    assert_eq!(app.call(&world, "birch").await.status, 200);
    assert!((brought(&world).await - 4.0).abs() < 0.1, "only the other one's");
    app.table
        .execute("INSERT INTO finch_tokens VALUES ('dahlia', NULL, 'whose connection nobody knows')", &[])
        .await
        .expect("a row");
    desk.does(rest).await;
    assert_eq!(app.token("dahlia").await, "whose connection nobody knows", "its only token");
    for customer in ["acme", "birch", "cedar"] {
        assert_eq!(app.call(&world, customer).await.status, 200, "{customer}");
    }
    assert!((brought(&world).await - 4.0).abs() < 0.1, "nobody's");
    desk.does(back).await;
    assert!(app.token("acme").await.contains(TOKEN_MARKER), "its own again");
    assert_eq!(app.call(&world, "acme").await.status, 200);
    assert!((brought(&world).await - 5.0).abs() < 0.1);
    desk.does(forward).await;

    // 4: who still has a token is told.
    let kept: String = {
        let ask = "SELECT access_token FROM finch_tokens_before WHERE customer_id = 'acme'";
        app.table.query_one(ask, &[]).await.expect("a row").get(0)
    };
    let settings = fs::read_to_string(world.path("perch.toml")).expect("settings");
    fs::write(world.path("perch.new"), settings.replace("pass_through = true", "pass_through = false"))
        .and_then(|()| fs::rename(world.path("perch.new"), world.path("perch.toml")))
        .expect("a writable folder");
    desk.does(check).await;
    let old = world.app().with("authorization", &format!("Bearer {kept}"));
    let taken = "perch_config_reloads_total{outcome=\"changed\"} 1\n";
    until("perch takes it over", async || world.operator().get("/metrics").await.text().contains(taken))
        .await;
    let refused = old.get("/employer/company").await;
    assert_eq!(refused.code(), "perch_raw_token_refused");
    assert!(!refused.text().contains(TOKEN_MARKER), "{}", refused.text());

    // 5: a row that was passed over is told; then the app has none left, and works.
    assert_eq!(desk.does(left).await, "1\n");
    app.table.execute("DELETE FROM finch_tokens WHERE customer_id = 'dahlia'", &[]).await.expect("a row");
    assert_eq!(desk.does(left).await, "0\n");
    let told = desk.does(delete).await;
    assert!(told.ends_with("\n0\n"), "no row holds a token: {told}");
    let gone = app.table.query_one("SELECT count(*) FROM finch_tokens_before", &[]).await;
    assert!(gone.is_err(), "the table beside is still there");
    for customer in ["acme", "birch", "cedar"] {
        assert_eq!(app.call(&world, customer).await.status, 200, "{customer}");
    }
    drop(perch);
}
