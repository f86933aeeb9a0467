//! The request ledger: what became of a call is found within a moment of its end, by whatever is known of it; what is lost
//! is counted; nothing waits for it.

mod killed;
mod model;
mod out;

use crate::support::{World, until};
use serde_json::{Value, json};

/// Every call that the ledger tells for a search, newest first, page by page.
async fn found(world: &World, query: &str) -> Vec<Value> {
    let (mut calls, mut next) = (Vec::new(), Value::Null);
    loop {
        let before = next.as_i64().map(|next| format!("&before={next}")).unwrap_or_default();
        let page = world.operator().get(&format!("/api/requests?limit=7&{query}{before}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        assert_eq!((&page["is_cut"], &page["unreadable"]), (&json!(false), &json!(0)), "{page}");
        calls.extend(page["requests"].as_array().expect("a list").clone());
        next = page["next"].clone();
        if next.is_null() {
            return calls;
        }
    }
}

fn names(calls: &[Value]) -> Vec<&str> {
    calls.iter().map(|call| call["request_id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_found_by_finchs_id_of_it_with_all_that_its_access_line_says() {
    let world = World::new().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id");
    let answer = world.for_customer("acme").get("/employer/directory?limit=5").await;
    let (finch, perch) = (answer.header("finch-request-id"), answer.header("perch-request-id"));
    until("it is found", async || !found(&world, &format!("finch_request_id={finch}")).await.is_empty())
        .await;
    let by_id = found(&world, &format!("finch_request_id={finch}")).await;
    assert_eq!(names(&by_id), [perch]);
    for query in [
        format!("request_id={perch}"),
        format!("customer=acme&product=directory&finch_request_id={finch}"),
        "customer=acme&product=directory&class=ok&since=1h".to_owned(),
        format!("connection={connection}&product=directory"),
        format!("company={}&product=directory", by_id[0]["company_id"].as_str().expect("an id")),
        "product=directory".to_owned(),
    ] {
        assert_eq!(names(&found(&world, &query).await), [perch], "{query}");
    }
    for query in
        ["customer=nobody", "customer=acme&product=payment", "product=directory&until=1h", "class=partial"]
    {
        assert_eq!(found(&world, query).await, [] as [Value; 0], "{query}");
    }

    // The access line, its steps besides, and nothing else.
    let whole = world.operator().get(&format!("/api/requests/{perch}")).await.json();
    let lines = world.lines.all();
    let line = lines.iter().find(|line| line["request_id"] == perch).expect("a line");
    for (name, value) in whole.as_object().expect("an object") {
        match name.as_str() {
            "seq" => assert!(value.as_i64().is_some_and(|seq| seq > 0)),
            "steps" => assert!(by_id[0].get("steps").is_none()),
            _ => assert_eq!(*value, line[name], "{name}"),
        }
    }
    let steps = whole["steps"].as_array().expect("steps");
    let sent = steps.iter().find(|step| step["did"] == "attempt").expect("an attempt");
    assert_eq!((&sent["status"], &sent["finch_request_id"]), (&json!(200), &json!(finch)));
    assert_eq!(world.operator().get("/api/requests/nobody").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_a_row_whoever_called_and_whatever_became_of_it() {
    let mut world = World::new().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id");
    world.for_customer("acme").get("/employer/company").await;
    world.for_customer("nobody").get("/employer/company").await;
    world.app().get("/no/such/path?secret=CANARY-query-2b7f").await;
    world
        .app()
        .raw(b"POST /employer/company HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1x\r\n\r\n")
        .await;
    let asked = format!("/api/connections/{connection}/introspect");
    assert_eq!(world.operator().post(&asked, &json!({})).await.status, 200);
    world.gateway.as_ref().expect("it runs").settle().await;
    let lines = world.lines.all();
    let mut told: Vec<&str> = names(&lines);
    let calls = found(&world, "").await;
    let mut kept = names(&calls);
    told.sort_unstable();
    kept.sort_unstable();
    assert_eq!(kept, told);
    assert!(calls.iter().any(|call| call["by"] == "operator"), "{calls:#?}");
    assert!(calls.iter().any(|call| call["class"] == "unknown_customer" && call["attempts"] == 0));
    assert!(calls.iter().any(|call| call["product"] == "unknown"));
    assert!((world.metric("perch_ledger_written_total").await - lines.len() as f64).abs() < 0.5);
    assert!(world.metric("perch_ledger_dropped_total").await.abs() < 0.5);
    assert!(world.metric("perch_ledger_queue").await.abs() < 0.5);

    // The next gateway knows them, too, and what the last one said at its end.
    world.for_customer("acme").get("/employer/company").await;
    world.restart().await;
    assert_eq!(found(&world, "").await.len(), lines.len() + 1);

    // Use is counted by month and connection; what perch and operators asked for is counted apart.
    let ledger = perch::store::requests::Requests::look(
        &world.config().vault.store,
        perch::app::scope(&world.config()),
    )
    .await;
    let ledger = ledger.expect("it answers").expect("a ledger");
    let month = perch::telemetry::clock::unix_now().month();
    let used = ledger.usage(&month).await.expect("it answers");
    let [used] = used.as_slice() else { panic!("one connection: {used:?}") };
    assert_eq!(
        (used.connection_id.as_str(), used.customer.as_ref().map(|id| id.as_str())),
        (connection, Some("acme"))
    );
    let of_it = |own: bool| {
        let lines = world.lines.all().into_iter();
        lines
            .filter(|line| line["connection_id"] == connection && line.get("by").is_some() == own)
            .collect::<Vec<_>>()
    };
    assert_eq!((used.calls, used.own_calls), (of_it(false).len() as u64, of_it(true).len() as u64));
    assert!(used.own_calls >= 1 && used.calls >= 2);
    let sent: u64 =
        [of_it(false), of_it(true)].concat().iter().filter_map(|line| line["attempts"].as_u64()).sum();
    assert_eq!(used.attempts, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_finds_calls_beside_a_gateway_and_without_key_or_secret() {
    let mut world = World::new().await;
    let none = world.perch(&["requests", "-o", "json"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    world.connect("acme", "gusto").await;
    let answer = world.for_customer("acme").get("/employer/directory").await;
    world.for_customer("acme").get("/employer/company").await;
    let (finch, perch) = (answer.header("finch-request-id"), answer.header("perch-request-id"));
    world.gateway.as_ref().expect("it runs").settle().await;
    std::fs::remove_file(world.path("perch.key")).expect("a key");
    for is_running in [true, false] {
        let mut command = world.command(&["requests", "--finch-request-id", finch]);
        command.env_remove("FINCH_CLIENT_SECRET");
        let table = world.run(command).await;
        assert_eq!(table.code, Some(0), "{table:?}");
        let [heading, row] = table.out.lines().collect::<Vec<_>>()[..] else { panic!("{}", table.out) };
        assert!(heading.starts_with("CAME IN") && heading.ends_with("FINCH-REQUEST-ID"), "{heading}");
        for part in ["200", "ok", "acme", "GET /employer/directory", perch, finch] {
            assert!(row.contains(part), "{part}: {row}");
        }
        let steps = world.perch(&["requests", "--request-id", perch, "--steps"]).await;
        assert!(steps.out.contains("sent to Finch (directory): 200, "), "{}", steps.out);
        assert!(steps.out.contains(&format!("Finch-Request-ID {finch}")), "{}", steps.out);
        let lines =
            world.perch(&["requests", "--customer", "acme", "--limit", "2", "-o", "json"]).await.lines();
        let paths: Vec<&Value> = lines.iter().map(|line| &line["path"]).collect();
        assert_eq!(paths, ["/employer/company", "/employer/directory"], "newest first");
        let lines = world
            .perch(&["requests", "--since", "2h", "--class", "ok", "--product", "directory", "-o", "json"])
            .await;
        assert_eq!(names(&lines.lines()), [perch]);
        let unknown = world.perch(&["requests", "--finch-request-id", "never-seen"]).await;
        assert_eq!(unknown.code, Some(1), "{unknown:?}");
        assert!(unknown.err.contains("no call with Finch-Request-ID never-seen"), "{}", unknown.err);
        let empty = world.perch(&["requests", "--until", "2h"]).await;
        assert_eq!((empty.code, empty.out.as_str()), (Some(0), "the ledger has no such calls\n"));
        for wrong in [["--since", "yesterday"], ["--class", "fine"], ["--limit", "0"], ["--customer", ""]] {
            assert_eq!(world.perch(&["requests", wrong[0], wrong[1]]).await.code, Some(2), "{wrong:?}");
        }
        if is_running {
            world.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_calls_go_on_and_who_asks_is_told_so() {
    let world = World::with().settings("ledger.keep = \"off\"").start().await;
    world.connect("acme", "gusto").await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    let told = world.operator().get("/api/requests").await;
    assert_eq!((told.status, told.text().contains("ledger.keep")), (409, true), "{}", told.text());
    if !world.database.is_server() {
        assert!(!world.path("perch.db.requests").exists());
        let told = world.perch(&["requests"]).await;
        assert_eq!((told.code, told.err.contains("ledger.keep")), (Some(69), true), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_operators_search_and_only_for_what_is_understood() {
    let world = World::with().settings("admin.token = \"env:PERCH_TEST_TOKEN\"").without_gateway().await;
    // The token stands in the environment of a process.
    let mut world = world;
    let mut command = world.command(&["serve"]);
    command.env("PERCH_TEST_TOKEN", "CANARY-admin-77aa");
    let gateway = crate::support::Process::spawn(command, None);
    (world.proxy, world.admin) = crate::support::process::doors(&gateway).await;
    for path in ["/api/requests", "/api/requests/r1"] {
        assert_eq!(world.operator().get(path).await.status, 401, "{path}");
    }
    let operator = world.operator().with("authorization", "Bearer CANARY-admin-77aa");
    assert_eq!(operator.get("/api/requests").await.status, 200);
    for query in ["custmer=acme", "customer=%zz", "class=fine", "limit=1001", "since=soon", "before=x"] {
        let told = operator.get(&format!("/api/requests?{query}")).await;
        assert_eq!(told.status, 400, "{query}: {}", told.text());
    }
    assert_eq!(operator.post("/api/requests", &json!({})).await.status, 405);
}
