//! What operators do with connections: at the admin door, and at the command line beside a gateway and without one.

use crate::support::{App, Ended, TOKEN_MARKER, World};
use nix::sys::signal::Signal::SIGTERM;
use perch::config::Address;
use serde_json::{Value, json};

const LIST: &str = "/api/connections";

fn id_of(connected: &Value) -> String {
    connected["connection_id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_door_shows_connections_and_does_what_operators_want_of_finch() {
    let world = World::new().await;
    let acme = id_of(&world.connect("acme", "gusto").await);
    let globex = id_of(&world.connect("globex", "gusto").await);
    let operator = world.operator();
    let all = operator.get(LIST).await;
    assert_eq!((all.status, all.json().as_array().map(Vec::len)), (200, Some(2)), "{}", all.text());
    let of_acme = operator.get(&format!("{LIST}?customer=ac%6De")).await.json();
    assert_eq!(of_acme.as_array().map(Vec::len), Some(1));
    assert_eq!(of_acme[0]["connection_id"], acme);
    assert_eq!(operator.get(&format!("{LIST}?customer=nobody")).await.json(), json!([]));

    let shown = operator.get(&format!("{LIST}/{acme}")).await;
    assert_eq!(shown.json()["customer_id"], "acme", "{}", shown.text());
    assert_eq!(shown.json()["deeds"][0]["action"], "seal");
    let asked = operator.post(&format!("{LIST}/{acme}/introspect"), &json!({})).await;
    assert_eq!(
        (asked.status, asked.json()["account_status"].clone()),
        (200, json!("connected")),
        "{}",
        asked.text()
    );
    assert_eq!(asked.json()["deeds"][0], {
        let deed = &asked.json()["deeds"][0];
        json!({ "seq": deed["seq"], "at": deed["at"], "actor": "operator", "action": "introspect",
                "connection_id": acme, "version": deed["version"] })
    });
    for body in [json!({}), json!({ "redirect_uri": "https://app.example.com/back" })] {
        let link = operator.post(&format!("{LIST}/{acme}/reauth-link"), &body).await;
        assert_eq!((link.status, &link.json()["connection_id"]), (200, &json!(acme)), "{}", link.text());
        assert!(
            link.json()["reauth_url"].as_str().is_some_and(|url| url.starts_with("http")),
            "{}",
            link.text()
        );
    }
    let ended = operator.post(&format!("{LIST}/{acme}/disconnect"), &json!({})).await;
    assert_eq!(
        (ended.status, ended.json()["status"].clone()),
        (200, json!("disconnected")),
        "{}",
        ended.text()
    );
    let refused = world.for_customer("acme").get("/employer/company").await;
    assert_eq!(refused.code(), "perch_disconnected");
    assert_eq!(world.for_customer("globex").get("/employer/company").await.status, 200, "{globex}");
    for (method, path, status) in [
        ("GET", format!("{LIST}/nope"), 404),
        ("POST", format!("{LIST}/nope/introspect"), 404),
        ("POST", format!("{LIST}/{globex}/explode"), 404),
        ("GET", format!("{LIST}/a/b/c"), 404),
    ] {
        let answer = operator.call(method, &path, "".into()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    for (method, path, allowed) in [
        ("POST", LIST.to_owned(), "GET, HEAD"),
        ("DELETE", format!("{LIST}/{globex}"), "GET, HEAD"),
        ("GET", format!("{LIST}/{globex}/introspect"), "POST"),
        ("HEAD", format!("{LIST}/{globex}/disconnect"), "POST"),
        ("GET", "/api/webhooks/replay?id=m1".to_owned(), "POST"),
        ("POST", "/api/webhooks".to_owned(), "GET, HEAD"),
        ("POST", "/metrics".to_owned(), "GET, HEAD"),
    ] {
        let answer = operator.call(method, &path, "".into()).await;
        assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{method} {path}");
    }
    let said = format!("{}{}{}{}", all.text(), shown.text(), asked.text(), ended.text());
    assert!(!said.contains(TOKEN_MARKER), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_strangers_and_the_unknown_change_nothing_at_the_admin_door() {
    let mut world = World::with().settings("admin.token = \"file:operators\"").without_gateway().await;
    // Relative paths start where a process starts, so this gateway is one.
    std::fs::write(world.path("operators"), "let-me-in\n").expect("a writable folder");
    let perch = world.serve().await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    let path = format!("{LIST}/{connection}/disconnect");
    let known = world.operator().with("authorization", "Bearer let-me-in");
    for (who, status) in [
        (known.clone().with("origin", "http://localhost:4601"), 403),
        (known.clone().with("host", "evil.example"), 421),
        (world.operator(), 401),
        (world.operator().with("authorization", "Bearer let-me-out"), 401),
    ] {
        let answer = who.post(&path, &json!({})).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(world.operator().get(LIST).await.status, 401, "who the customers are is not for everybody");
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(known.post(&path, &json!({})).await.status, 200);
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_orchestrators_door_tells_whether_perch_lives_and_nothing_about_anybody() {
    let world = World::with()
        .settings("listen.probes = \"127.0.0.1:0\"\nadmin.token = \"env:FINCH_CLIENT_SECRET\"")
        .start()
        .await;
    world.connect("acme", "gusto").await;
    let Some(Address::Tcp(door)) = world.gateway.as_ref().expect("it runs").probes() else {
        panic!("a door of its own")
    };
    let kubelet = App::at(*door);
    assert_eq!(kubelet.get("/livez").await.text(), "ok\n");
    assert_eq!(kubelet.get("/readyz").await.text(), "ok\nlimiter: memory\n");
    let said = kubelet.get("/readyz?verbose").await;
    assert_eq!(
        (said.status, said.text().as_str()),
        (
            200,
            "[+] serving: ok\n[+] vault: ok\n[+] limiter: memory: quota is counted in this process\n[+] limits: ok\nready\n"
        )
    );
    let metrics = kubelet.get("/metrics").await;
    assert!(metrics.status == 200 && metrics.text().contains("perch_build_info"), "{}", metrics.text());
    assert!(!metrics.text().contains("acme"), "{}", metrics.text());
    // The operators' door asks for their token; here there is nothing to ask it for.
    assert_eq!(world.operator().get("/metrics").await.status, 401);
    for path in ["/", "/api/connections", "/api/holds", "/api/webhooks", "/employer/company"] {
        for method in ["GET", "POST"] {
            let answer = kubelet.call(method, path, "".into()).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(kubelet.call("POST", "/readyz", "".into()).await.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_through_the_gateway_that_runs_and_without_one_by_themselves() {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    let (acme, globex) =
        (id_of(&world.connect("acme", "gusto").await), id_of(&world.connect("globex", "gusto").await));
    let beside = async |world: &World, words: &[&str]| -> Ended {
        let mut command = world.command(words);
        command.env("PERCH_LISTEN__ADMIN", world.admin.to_string());
        world.run(command).await
    };
    let asked = beside(&world, &["connections", "introspect", &acme, "-o", "json"]).await;
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    assert_eq!(asked.json()["account_status"], "connected");
    let link = beside(&world, &["connections", "reauth-link", &acme]).await;
    assert!(link.code == Some(0) && link.out.starts_with("http"), "{link:?}");
    let unsure = beside(&world, &["connections", "disconnect", &acme]).await;
    assert!(unsure.code == Some(1) && unsure.err.contains("--yes"), "{unsure:?}");
    let ended = beside(&world, &["connections", "disconnect", &acme, "--yes"]).await;
    assert!(ended.code == Some(0) && ended.out.contains("is disconnected"), "{ended:?}");
    let unknown = beside(&world, &["connections", "introspect", "nope"]).await;
    assert!(unknown.code == Some(1) && unknown.err.contains("no such connection"), "{unknown:?}");
    // The gateway is there, and not where the settings say.
    let lost = world.perch(&["connections", "introspect", &globex]).await;
    assert!(lost.code == Some(69) && lost.err.contains("another perch gateway is using"), "{lost:?}");
    let stopped = perch.end_by(SIGTERM).await;
    let lines = stopped.lines();
    assert!(lines.iter().any(|line| line["by"] == "operator" && line["path"] == "/introspect"), "{lines:#?}");

    let alone = world.perch(&["connections", "introspect", "--all", "-o", "json"]).await;
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(alone.err.contains("no gateway answers"), "{}", alone.err);
    assert_eq!(alone.json()["connections"][0]["connection_id"], globex);
    assert_eq!(alone.json()["failed"], json!([]));
    let alone = world.perch(&["connections", "disconnect", &globex, "--yes"]).await;
    assert_eq!(alone.code, Some(0), "{alone:?}");
    let shown = world.perch(&["connections", "show", &globex]).await;
    assert!(
        shown.out.contains("disconnect  by operator") && shown.out.contains("disconnected  by perch"),
        "{shown:?}"
    );
    let neither = world.perch(&["connections", "introspect"]).await;
    assert_eq!(neither.code, Some(2), "{neither:?}");
    for ended in [&asked, &link, &ended, &alone, &shown] {
        assert!(!ended.all().contains(TOKEN_MARKER), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_that_were_disconnected_are_no_longer_reached() {
    let world = World::with().scenario("[[customer]]\nid = \"many\"\nentities = 3").start().await;
    world.import().await;
    let connection = id_of(&world.connections().await[0]);
    let entities = world.stored(&connection).await.expect("it is there").facts.entity_ids.clone();
    assert_eq!(entities.len(), 3);
    let body = json!({ "entity_ids": [entities[0]] });
    let parted = world.for_customer("many").post("/disconnect-entity", &body).await;
    assert_eq!((parted.status, parted.class()), (200, "ok"), "{}", parted.text());
    assert_eq!(world.stored(&connection).await.expect("it is there").facts.entity_ids, entities[1..]);
    // Finch still lists the one that is gone, as gone.
    let asked = world.operator().post(&format!("{LIST}/{connection}/introspect"), &json!({})).await;
    assert_eq!(asked.json()["entity_ids"], json!(entities[1..]), "{}", asked.text());
    assert_eq!(asked.json()["status"], "active");
}
