//! What is left of a call when it is over: its line, and what it added to the metrics.

use crate::support::{Answer, CLIENT_SECRET, TOKEN_MARKER, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SCENARIO: &str = "[[customer]]\nid = \"acme\"\nemployees = 4\n[[customer]]\nid = \"globex\"\n";
const COMPANY: &str = "/employer/company";
/// A word that only a query or a body holds.
const PRIVATE: &str = "CANARY-query-value";

async fn world() -> World {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    world
}

/// The line of an answer.
fn line_of(lines: &[Value], answer: &Answer) -> Value {
    let id = answer.header("perch-request-id");
    let own: Vec<&Value> = lines.iter().filter(|l| l["request_id"] == id).collect();
    assert_eq!(own.len(), 1, "one line for {id}: {lines:?}");
    own[0].clone()
}

/// What every line has, whatever became of the call.
fn assert_whole(line: &Value, answer: &Answer) {
    for name in [
        "ts",
        "request_id",
        "finch_request_id",
        "app",
        "customer",
        "connection_id",
        "company_id",
        "provider",
        "product",
        "method",
        "path",
        "status",
        "class",
        "attempts",
        "wait_ms",
        "finch_ms",
        "total_ms",
        "bytes_in",
        "bytes_out",
    ] {
        assert!(line.get(name).is_some(), "{name} is missing in {line}");
    }
    assert_eq!(line["target"], "perch.access");
    assert_eq!(line["status"], answer.status, "{line}");
    assert_eq!(line["class"], answer.class(), "{line}");
    assert_eq!(line["bytes_out"], answer.bytes.len(), "{line}");
    assert_eq!(line["attempts"].to_string(), answer.header("perch-attempts"), "{line}");
    let (total, parts) = (line["total_ms"].as_u64(), [&line["wait_ms"], &line["finch_ms"]]);
    assert!(
        parts.into_iter().filter_map(Value::as_u64).sum::<u64>() <= total.expect("a number") + 1,
        "{line}"
    );
}

/// The ids of a batch.
async fn people(world: &World) -> Vec<String> {
    let directory = world.for_customer("acme").get("/employer/directory").await.json();
    let people = directory["individuals"].as_array().expect("people");
    people.iter().map(|p| p["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_leaves_one_whole_line() {
    let mut world = world().await;
    let app = world.for_customer("acme");
    let people = people(&world).await;
    let some = json!({ "requests": [{ "individual_id": people[0] }, { "individual_id": PRIVATE }] });
    let benefit = format!("/employer/benefits/{PRIVATE}");
    let payments = format!("/employer/payment?start_date=2024-01-01&end_date=2024-02-01&x={PRIVATE}");
    for fault in [
        json!({ "operation": "list_documents", "preset": "accepted", "times": 1 }),
        json!({ "operation": "list_pay_groups", "rubbish": true, "times": 1 }),
        json!({ "operation": "read_employments", "preset": "item_202", "times": 1 }),
    ] {
        world.fault(fault).await;
    }
    let one = json!({ "requests": [{ "individual_id": people[0] }] });
    let calls = [
        ("good", app.get(COMPANY).await),
        ("good", app.get(&payments).await),
        ("partial", app.post("/employer/individual", &some).await),
        ("pending", app.post("/employer/employment", &one).await),
        ("not ready", app.get("/employer/documents").await),
        ("error", app.get(&benefit).await),
        ("unanswered", app.get("/employer/pay-groups").await),
        ("refused", app.clone().with("perch-connection", "nope").get(COMPANY).await),
        ("denied", app.post("/employer/benefits", &json!({ "description": PRIVATE })).await),
        ("nobody", world.app().get(COMPANY).await),
        ("lost", app.get(&format!("/employer/{PRIVATE}")).await),
        ("strange", app.call("BREW", COMPANY, "".into()).await),
    ];
    let exchange = world.exchange("newcomer", "gusto").await;
    world.stop().await;
    let lines = world.lines.all();
    let of = |kind: &str| {
        let answer = &calls.iter().find(|(k, _)| *k == kind).expect("such a call").1;
        (line_of(&lines, answer), answer)
    };
    for (kind, answer) in &calls {
        let line = line_of(&lines, answer);
        assert_whole(&line, answer);
        let was_answered = matches!(*kind, "good" | "partial" | "pending" | "not ready" | "error");
        let ids = line["finch_request_id"].as_array().expect("a list");
        match was_answered {
            true => assert_eq!(*ids, [json!(answer.header("finch-request-id"))], "{kind}"),
            false => assert!(ids.is_empty(), "{kind}: {line}"),
        }
        if was_answered || *kind == "unanswered" {
            assert_eq!((&line["customer"], &line["provider"]), (&json!("acme"), &json!("gusto")), "{kind}");
            assert!(line["connection_id"].is_string() && line["company_id"].is_string(), "{kind}: {line}");
            assert_eq!(line["attempts"], 1, "{kind}");
        }
    }
    let (good, answer) = of("good");
    assert_eq!(good["company_id"], answer.json()["id"]);
    assert_eq!(
        (&good["product"], &good["method"], &good["path"]),
        (&json!("company"), &json!("GET"), &json!(COMPANY))
    );
    let (partial, answer) = of("partial");
    assert_eq!((partial["class"].as_str(), answer.status), (Some("partial"), 200));
    assert_eq!(partial["batch"], json!({ "total": 2, "failed": 1, "pending": 0, "codes": { "404": 1 } }));
    assert_eq!(answer.header("perch-batch"), "total=2, failed=1, pending=0");
    assert_eq!(partial["bytes_in"], some.to_string().len());
    let (pending, answer) = of("pending");
    assert_eq!(pending["batch"], json!({ "total": 1, "failed": 0, "pending": 1 }), "{}", answer.text());
    let (not_ready, answer) = of("not ready");
    assert_eq!((not_ready["status"].as_u64(), not_ready["class"].as_str()), (Some(202), Some("not_ready")));
    assert_eq!((answer.bytes.len(), answer.header("content-type")), (0, ""), "an empty body has no type");
    let (error, _) = of("error");
    assert_eq!(
        (error["class"].as_str(), error["finch_code"].as_str()),
        (Some("invalid_request"), Some("benefit_not_found"))
    );
    assert_eq!(error["path"], "/employer/benefits/{benefit_id}");
    let (unanswered, _) = of("unanswered");
    assert_eq!(
        (unanswered["class"].as_str(), &unanswered["status"]),
        (Some("finch_unreachable"), &json!(502))
    );
    for (kind, refusal, path, product) in [
        ("refused", "perch_unknown_connection", COMPANY, "company"),
        ("denied", "perch_writes_denied", "/employer/benefits", "benefits"),
        ("nobody", "perch_customer_missing", COMPANY, "company"),
        ("lost", "perch_unknown_path", "", "unknown"),
        ("strange", "perch_wrong_method", "", "unknown"),
    ] {
        let (line, _) = of(kind);
        let shown = (line["refusal"].as_str(), line["path"].as_str(), line["product"].as_str());
        assert_eq!(shown, (Some(refusal), Some(path), Some(product)), "{kind}");
        assert_eq!((&line["attempts"], &line["finch_ms"]), (&json!(0), &json!(0)), "{kind}");
    }
    assert_eq!(of("refused").0["customer"], "acme");

    // An exchange makes two attempts, and both ids are kept.
    let line = line_of(&lines, &exchange);
    assert_whole(&line, &exchange);
    assert_eq!((&line["attempts"], &line["customer"]), (&json!(2), &json!("newcomer")));
    let ids = line["finch_request_id"].as_array().expect("a list");
    assert_eq!((ids.len(), &ids[0]), (2, &json!(exchange.header("finch-request-id"))));
    assert_eq!(line["company_id"], exchange.json()["company_id"]);
    assert_eq!(line["connection_id"], exchange.json()["connection_id"]);

    let text = String::from_utf8(world.lines.bytes()).expect("text");
    for secret in [PRIVATE, TOKEN_MARKER, CLIENT_SECRET, people[0].as_str()] {
        assert!(!text.contains(secret), "{secret} stands in the access log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_tell_what_was_done() {
    let world = world().await;
    let app = world.for_customer("acme");
    let people = people(&world).await;
    let some = json!({ "requests": [{ "individual_id": people[0] }, { "individual_id": "stranger" }] });
    assert_eq!(app.get(COMPANY).await.status, 200);
    assert_eq!(app.get(COMPANY).await.status, 200);
    assert_eq!(app.post("/employer/individual", &some).await.class(), "partial");
    assert_eq!(world.for_customer("stranger").get(COMPANY).await.status, 404);
    assert_eq!(app.get("/nowhere").await.status, 404);
    world.fault(json!({ "operation": "get_company", "rubbish": true, "times": 1 })).await;
    assert_eq!(world.for_customer("globex").get(COMPANY).await.status, 502);
    let samples = world.metrics().await;
    for (sample, value) in [
        ("perch_calls_total{class=\"ok\",product=\"company\"}", 2.0),
        ("perch_calls_total{class=\"unknown_customer\",product=\"company\"}", 1.0),
        ("perch_calls_total{class=\"finch_unreachable\",product=\"company\"}", 1.0),
        ("perch_calls_total{class=\"partial\",product=\"individual\"}", 1.0),
        ("perch_calls_total{class=\"invalid_request\",product=\"unknown\"}", 1.0),
        ("perch_attempts_total{product=\"company\",status=\"200\"}", 2.0),
        ("perch_attempts_total{product=\"company\",status=\"none\"}", 1.0),
        ("perch_attempts_total{product=\"individual\",status=\"200\"}", 1.0),
        ("perch_quota_used{product=\"company\"}", 3.0),
        ("perch_quota_limit{product=\"company\"}", 20.0),
        ("perch_quota_limit{product=\"payment\"}", 12.0),
        ("perch_quota_used{product=\"egress-ip\"}", 5.0),
        ("perch_quota_limit{product=\"egress-ip\"}", 800.0),
        ("perch_queue_depth{priority=\"interactive\",product=\"company\"}", 0.0),
        ("perch_queue_depth{priority=\"batch\",product=\"directory\"}", 0.0),
        ("perch_holds{scope=\"product\"}", 0.0),
        ("perch_holds{scope=\"ip\"}", 0.0),
        ("perch_connections{provider=\"gusto\",status=\"active\"}", 2.0),
        ("perch_batch_items_total{outcome=\"ok\",product=\"individual\"}", 1.0),
        ("perch_batch_items_total{outcome=\"failed\",product=\"individual\"}", 1.0),
        ("perch_batch_items_total{outcome=\"pending\",product=\"individual\"}", 0.0),
        ("perch_finch_429_total{finch_code=\"finch_application_rl\"}", 0.0),
        ("perch_limiter_mode{mode=\"memory\"}", 1.0),
        ("perch_limiter_mode{mode=\"redis\"}", 0.0),
        ("perch_limiter_mode{mode=\"degraded\"}", 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in {samples:#?}");
    }
    for phase in ["total", "wait", "finch", "perch"] {
        let count = format!("perch_call_duration_seconds_count{{phase=\"{phase}\",product=\"company\"}}");
        assert_eq!(samples.get(&count), Some(&4.0), "{count}");
    }
    let build = format!("perch_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(samples.get(&build), Some(&1.0));
    let text = world.operator().get("/metrics").await.text();
    for private in ["acme", "globex", "stranger", "/nowhere", people[0].as_str()] {
        assert!(!text.contains(private), "{private} is in the metrics");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_paths_and_customers_add_no_series() {
    let world = world().await;
    let load = async |salt: usize| {
        let name = format!("c{}", salt.wrapping_mul(2_654_435_761));
        world.for_customer(&name).get(COMPANY).await;
        world.for_customer(&name).get(&format!("/employer/benefits/{name}")).await;
        world.for_customer("acme").get(&format!("/{name}/{name}")).await;
        world.for_customer("acme").call("GET", &format!("/employer/{name}?{name}={name}"), "".into()).await;
        world.for_customer("acme").call(&name.to_uppercase(), "/providers", "".into()).await;
        world.for_customer("acme").with("perch-connection", &name).get("/employer/directory").await;
    };
    let series = async || world.metrics().await.into_keys().collect::<BTreeSet<_>>();
    load(1).await;
    // A call is counted when its answer has left: the last one's may be read before that.
    world.gateway.as_ref().expect("it runs").settle().await;
    let before = series().await;
    for salt in 2..=60 {
        load(salt).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_door_answers_to_its_own_name_and_changes_nothing() {
    let world = world().await;
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4601", ""] {
        for path in ["/metrics", "/livez", "/readyz", "/"] {
            let answer = world.operator().with("host", host).get(path).await;
            assert_eq!(answer.status, 421, "{host:?} {path}: {}", answer.text());
            assert!(!answer.text().contains("perch_"), "{host:?} {path}");
        }
    }
    for host in ["localhost", "LOCALHOST:4601", "127.0.0.1", "[::1]:4601"] {
        assert_eq!(world.operator().with("host", host).get("/metrics").await.status, 200, "{host}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = world.operator().call(method, "/metrics", "".into()).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    for path in ["/metrics", "/livez", "/readyz", "/nowhere"] {
        let answer = world.operator().get(path).await;
        assert_eq!(answer.status, if path == "/nowhere" { 404 } else { 200 }, "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
    }
    let head = world.operator().call("HEAD", "/livez", "".into()).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_admin_token_only_probes_go_without() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "a-long-admin-token-for-tests").expect("writable");
    let setting = format!("admin.token = \"file:{}\"", secret.path().display());
    let world = World::with().settings(&setting).start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(world.operator().get(path).await.status, 200, "{path}");
    }
    for shown in ["", "Bearer", "Bearer ", "Bearer a-long-admin-token", "Basic a-long-admin-token-for-tests"]
    {
        for path in ["/metrics", "/nowhere", "/api/connections"] {
            let answer = world.operator().with("authorization", shown).get(path).await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, "Bearer"),
                "{shown:?} {path}"
            );
            assert!(!answer.text().contains("perch_"), "{shown:?} {path}");
        }
    }
    assert_eq!(world.operator().get("/metrics").await.status, 401);
    let known = world.operator().with("authorization", "Bearer a-long-admin-token-for-tests");
    assert_eq!(known.get("/metrics").await.status, 200);
    // A name that is not this door's is refused even to somebody who is known (DNS rebinding).
    assert_eq!(known.with("host", "perch.internal:4601").get("/metrics").await.status, 421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_perch_stops_it_is_alive_and_not_ready() {
    let mut world = World::with().scenario(SCENARIO).settings("drain.grace = \"2s\"").start().await;
    world.import().await;
    assert_eq!(world.operator().get("/readyz").await.status, 200);
    world.fault(json!({ "operation": "get_company", "stall": true })).await;
    let stalled = world.for_customer("acme");
    let stalled = tokio::spawn(async move { stalled.try_call("GET", COMPANY, "".into()).await.is_ok() });
    while world.report().await["requests"] != 1 {
        tokio::task::yield_now().await;
    }
    let gateway = world.gateway.take().expect("it runs");
    let stopping = tokio::spawn(gateway.stop());
    let not_ready = loop {
        let answer = world.operator().get("/readyz").await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((not_ready.status, not_ready.text().trim()), (503, "stopping"));
    assert_eq!(world.operator().get("/livez").await.status, 200);
    let refused = world.for_customer("globex").get(COMPANY).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "perch_draining"), "{}", refused.text());
    assert_eq!((refused.class(), refused.header("x-should-retry")), ("perch_unavailable", "true"));
    assert_eq!(stopping.await.expect("it stopped"), 1, "the stalled call was cut off");
    stalled.abort();
}
