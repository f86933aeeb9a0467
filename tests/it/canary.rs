//! The canaries: access tokens and the client secret are marked, everything interesting is done with
//! them, and then they are searched for in everything that perch has written or said.

use crate::support::canary::{Artefacts, find};
use crate::support::raw::{RawFinch, answer};
use crate::support::{CLIENT_SECRET, Ended, Lines, Process, TOKEN_MARKER, World};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Both, as they are searched for.
const CANARIES: [&str; 2] = [TOKEN_MARKER, CLIENT_SECRET];

const SCENARIO: &str = "employees = 12\nlimits.window = \"1ms\"\n\
    [[customer]]\nid = \"kept\"\n[[customer]]\nid = \"old\"\nproviders = [\"adp_run\"]\n";

/// Room for everything; small enough bounds that a large answer is streamed.
const SETTINGS: &str = "limits.products.default = 1000\nlimits.window = \"1s\"\nlog.level = \"trace\"\n\
    apps.writes = \"allow\"\nlisten.inspect_bytes_max = \"2KiB\"\nshield.probe = \"off\"\nretry.attempts = 1\n";

/// How Finch fails, and in which words; each answers one call for the company.
fn failures() -> Vec<Value> {
    let presets = [
        "reauth",
        "account_setup_required",
        "invalid_token",
        "invalid_client",
        "unauthorized",
        "invalid_grant",
        "bad_request",
        "invalid_request",
        "invalid_request401",
        "permissions",
        "insufficient_scope",
        "not_found",
        "client_closed",
        "unprocessable",
        "not_supported_by_provider",
        "refresh_quota",
        "server_error",
        "not_implemented",
        "bad_gateway",
        "gateway_timeout",
        "unknown_code",
        "very_old",
        "old_names",
        "accepted",
        "accepted_json",
        "stale",
    ];
    let mut all: Vec<Value> = presets.iter().map(|preset| json!({ "preset": preset })).collect();
    for status in [200, 201, 204, 302, 400, 401, 403, 404, 422, 500, 501, 502, 503, 504, 599] {
        let echo = json!({
            "message": "your {authorization} is wrong", "name": "{authorization}", "finch_code": "{authorization}",
            "id": "{authorization}", "nested": [{ "deep": ["{authorization}{authorization}"] }],
        });
        all.push(json!({ "status": status, "body": echo }));
        all.push(json!({ "status": status, "body": "you said {authorization}" }));
    }
    all.extend([json!({ "reset": true }), json!({ "truncated": true }), json!({ "rubbish": true })]);
    for fault in &mut all {
        fault["headers"] = json!({
            "finch-echo": "{authorization}", "finch-request-id": "{authorization}", "etag": "{authorization}",
            "x-echo": "{authorization}", "retry-after": "{authorization}", "location": "http://x/{authorization}",
            "set-cookie": "a={authorization}", "content-language": "{authorization}",
        });
    }
    all
}

/// Does one call under a fault.
async fn under(world: &World, operation: &str, mut fault: Value, call: impl AsyncFnOnce()) {
    fault["operation"] = json!(operation);
    fault["times"] = json!(1);
    world.fault(fault).await;
    call().await;
    world.straight().call("DELETE", "/_sim/faults", "".into()).await;
}

async fn token_of(world: &World, customer: &str) -> Value {
    let all = world.straight().get("/_sim/connections").await.json();
    let all = all["connections"].as_array().expect("a list").clone();
    all.into_iter().find(|c| c["customer_id"] == customer).expect("the customer is connected")
}

/// Reads, writes, refusals and failures of a connected customer.
async fn call_for(world: &World, customer: &str) {
    let app = world.for_customer(customer);
    let directory = app.get("/employer/directory").await.json();
    let id = directory["individuals"][0]["id"].clone();
    let body = json!({ "requests": [{ "individual_id": id }, { "individual_id": "nobody" }] });
    for path in ["/employer/individual", "/employer/employment"] {
        assert_eq!(app.post(path, &body).await.class(), "partial", "{path}");
    }
    for path in
        ["/introspect", "/employer/company", "/employer/payment?start_date=2020-01-01&end_date=2099-01-01"]
    {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    for fault in failures() {
        // The lost ones are seen by their class.
        under(world, "get_company", fault, async || drop(app.get("/employer/company").await)).await;
    }
    let partial = json!({ "preset": "partial", "items": [0], "item_status": 401, "headers": { "finch-echo": "{authorization}" } });
    under(world, "read_individuals", partial, async || drop(app.post("/employer/individual", &body).await))
        .await;
    let large = json!({ "status": 200, "body": format!("{}{{authorization}}", "x".repeat(200_000)) });
    under(world, "get_company", large, async || {
        let answer = app.get("/employer/company").await;
        assert!(answer.text().contains("xBearer ***"), "the end of a streamed answer is masked");
    })
    .await;
}

/// Calls that perch refuses, some with a real token in the wrong place.
async fn be_refused(world: &World, token: &str) {
    for app in [
        world.app(),
        world.for_customer("nobody"),
        world.app().with("authorization", &format!("Bearer {token}")),
        world.app().with("authorization", &format!("bearer  {token}")),
        world.app().with("authorization", &format!("Basic {token}")),
        world.app().with("authorization", token),
        world.for_customer("acme").with("authorization", &format!("Bearer {token}")),
        world.for_customer("acme").with("x-access-token", token).with("cookie", token),
    ] {
        for path in ["/employer/company", &format!("/employer/company?access_token={token}"), "/nowhere"] {
            app.get(path).await;
        }
        app.post("/employer/directory", &json!({ "access_token": token })).await;
    }
}

/// Exchanges that go well, go wrong and reflect; sandbox connections; a disconnect.
async fn exchange(world: &World) {
    let echo =
        json!({ "headers": { "finch-echo": "{authorization}", "content-language": "{authorization}" } });
    under(world, "create_session", echo.clone(), async || drop(world.code("birch", "gusto").await)).await;
    let spill = json!({ "status": 400, "body": { "message": "{authorization}" } });
    under(world, "create_session", spill, async || {
        let session = json!({ "customer_id": "birch", "customer_name": "b", "products": ["company"] });
        assert_eq!(world.app().post("/connect/sessions", &session).await.status, 400);
    })
    .await;
    let wrong = json!({ "client_id": "x", "client_secret": "x", "code": "wrong" });
    assert_eq!(world.app().post("/auth/token", &wrong).await.status, 400);
    for fault in [
        json!({ "status": 500, "body": "{authorization}" }),
        json!({ "status": 200, "body": {
            "connection_id": "{authorization}", "customer_id": "{authorization}", "company_id": "{authorization}",
            "provider_id": "{authorization}", "products": ["{authorization}"], "client_type": "sandbox",
            "connection_status": { "status": "{authorization}" }, "entities": [{ "id": "{authorization}" }],
        } }),
        json!({ "reset": true }),
    ] {
        under(world, "introspect", fault, async || drop(world.exchange("cedar", "gusto").await)).await;
    }
    let sandbox = json!({ "provider_id": "gusto", "products": ["company", "directory"] });
    under(world, "sandbox_create_connection", echo, async || {
        let made = world.app().post("/sandbox/connections", &sandbox).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let id = made.json()["connection_id"].as_str().expect("an id").to_owned();
        let app = world.app().with("authorization", &format!("Bearer connection:{id}"));
        assert_eq!(app.get("/employer/company").await.status, 200);
        assert_eq!(app.post("/disconnect", &json!({})).await.status, 200);
        assert_eq!(app.get("/employer/company").await.class(), "disconnected");
    })
    .await;
}

/// The commands an operator runs beside it.
async fn operate(world: &World) -> Vec<Ended> {
    let (kept, old) = (token_of(world, "kept").await, token_of(world, "old").await);
    let line = |of: &Value, token: &Value| {
        json!({ "customer_id": of["customer_id"], "connection_id": of["connection_id"], "access_token": token })
            .to_string()
    };
    let good = line(&kept, &kept["access_token"]);
    let mut ended = vec![world.perch_reading(&good, &["connections", "import"]).await];
    assert_eq!(ended[0].code, Some(0), "{}", ended[0].err);
    let token = &old["access_token"];
    for bad in [
        line(&old, &kept["access_token"]),
        line(&old, token).replace("\"access_token\"", "\"acess_token\""),
        line(&old, token).replace('}', ""),
        token.to_string(),
        format!("{{{token}:1}}"),
        format!("{{\"customer_id\":[{token}],\"connection_id\":{token},\"access_token\":{token}}}"),
    ] {
        ended.push(world.perch_reading(&bad, &["connections", "import"]).await);
        assert_eq!(ended.last().and_then(|e| e.code), Some(1), "{bad}");
    }
    let believed = line(&old, token);
    ended.push(world.perch_reading(&believed, &["connections", "import", "--no-verify"]).await);
    let id = kept["connection_id"].as_str().expect("an id");
    for words in [
        &["connections", "list"] as &[&str],
        &["connections", "list", "-o", "json"],
        &["connections", "show", id],
        &["connections", "show", id, "-o", "json"],
        &["connections", "show", "nope"],
        &["config"],
        &["config", "-o", "json"],
        &["check"],
        &["check", "-o", "json"],
        &["serve"],
    ] {
        ended.push(world.perch(words).await);
    }
    ended
}

/// An app of before, whose own token is let through.
async fn pass_through(world: &World, token: &str) {
    let app = world.app().with("authorization", &format!("Bearer {token}"));
    assert_eq!(app.get("/employer/company").await.class(), "ok");
    for fault in failures() {
        under(world, "get_company", fault, async || drop(app.get("/employer/company").await)).await;
    }
}

/// The life was as full as it should be: every kind of end was met.
fn assert_met(ended: &Ended) {
    let lines = ended.lines();
    let met: BTreeSet<&str> = lines.iter().filter_map(|line| line["class"].as_str()).collect();
    for class in [
        "ok",
        "partial",
        "not_ready",
        "reauthentication_required",
        "account_setup_required",
        "disconnected",
        "permission_denied",
        "invalid_request",
        "not_supported",
        "rate_limited",
        "provider_error",
        "finch_error",
        "finch_unreachable",
        "application_blocked",
        "unknown_customer",
        "caller_refused",
    ] {
        assert!(met.contains(class), "no call ended as {class}; met were {met:?}");
    }
}

/// Both gateways' work, and everything that is left of it.
async fn a_life(world: &mut World) -> (Artefacts, Vec<String>) {
    world.heard = Some(Lines::default());
    let gateway = world.serve().await;
    world.connect("acme", "gusto").await;
    call_for(world, "acme").await;
    exchange(world).await;
    let commands = operate(world).await;
    let token = token_of(world, "acme").await["access_token"].as_str().expect("a token").to_owned();
    be_refused(world, &token).await;
    // The limits come last: they hold everything for an hour.
    let echo = json!({ "finch-echo": "{authorization}" });
    for preset in ["app_limit", "ip_limit"] {
        let fault = json!({ "preset": preset, "headers": echo });
        let app = world.for_customer("acme").with("perch-max-wait", "0");
        under(world, "list_directory", fault, async || drop(app.get("/employer/directory").await)).await;
    }
    for path in [
        "/metrics",
        "/readyz",
        "/livez",
        "/nowhere",
        "/",
        "/connections",
        "/requests",
        "/configuration?show=all",
    ] {
        world.operator().get(path).await;
    }
    assert!(world.report().await["rate_limited"].is_object());
    let metrics = world.operator().get("/metrics").await.text();
    let redactions = metrics.lines().find_map(|line| line.strip_prefix("perch_redactions_total "));
    assert!(redactions.is_some_and(|n| n.parse::<u32>().expect("a number") > 50), "{metrics}");
    let mut artefacts = world.artefacts(&gateway, &commands);
    let ended = gateway.end_by(SIGTERM).await;
    assert_met(&ended);
    artefacts.insert("access lines at the end".to_owned(), ended.out.into_bytes());
    artefacts.insert("log at the end".to_owned(), ended.err.into_bytes());
    world.set("apps.pass_through = true");
    // The next run would know that the address is blocked for an hour.
    world.journal().execute("DELETE FROM hold", []).expect("a second hand");
    let gateway = world.serve().await;
    pass_through(world, &token).await;
    let more = world.artefacts(&gateway, &[]).into_iter();
    artefacts.extend(more.map(|(name, bytes)| (format!("{name} with pass-through"), bytes)));
    assert_eq!(gateway.end_by(SIGTERM).await.code, Some(0));
    artefacts.extend(world.files().into_iter().map(|(name, bytes)| (format!("{name} at the end"), bytes)));
    let all = world.straight().get("/_sim/connections").await.json();
    let tokens = all["connections"].as_array().expect("a list").iter();
    let tokens = tokens.flat_map(|c| c["access_tokens"].as_array().expect("a list").clone());
    (artefacts, tokens.map(|t| t["access_token"].as_str().expect("a token").to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_secret_turns_up_anywhere() {
    let mut world = World::with().scenario(SCENARIO).settings(SETTINGS).without_gateway().await;
    let (mut artefacts, tokens) = a_life(&mut world).await;
    assert!(tokens.len() >= 5 && tokens.iter().all(|token| token.contains(TOKEN_MARKER)), "{tokens:?}");
    for name in [
        "access lines",
        "log",
        "answers",
        "command line",
        "perch.db",
        "perch.db-wal",
        "perch.db-shm",
        "perch.db.requests",
        "perch.db.requests-wal",
    ] {
        assert!(!artefacts[name].is_empty(), "{name} is empty");
    }
    let mut secrets: Vec<&str> = CANARIES.to_vec();
    // The part of each token that is its own, in case the marked part was cut off.
    let own: Vec<String> = tokens.iter().map(|token| token.replace(TOKEN_MARKER, " ")).collect();
    secrets.extend(own.iter().flat_map(|token| token.split(' ')).filter(|part| part.len() >= 8));
    assert!(secrets.len() > CANARIES.len(), "{tokens:?}");
    let found = find(&artefacts, &secrets);
    assert!(found.is_empty(), "{} leaks\n{}", found.len(), found.join("\n"));
    let report = world.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{:#}", report["suspicious"]);

    // And a search that finds nothing is one that could have.
    let basic = format!("Basic {}", base64_of(&format!("sim-client:{CLIENT_SECRET}")));
    for (secret, hidden) in [(TOKEN_MARKER, tokens[0].as_str()), (CLIENT_SECRET, basic.as_str())] {
        for name in [
            "perch.db",
            "perch.db-wal",
            "perch.db.requests",
            "perch.db.requests-wal",
            "log",
            "access lines",
            "answers",
        ] {
            let clean = artefacts[name].clone();
            let half = clean.len() / 2;
            artefacts.insert(name.to_owned(), [&clean[..half], hidden.as_bytes(), &clean[half..]].concat());
            let found = find(&artefacts, &CANARIES);
            let is_it = |hit: &String| hit.starts_with(&format!("{name}: {secret}"));
            assert!(!found.is_empty() && found.iter().all(is_it), "{found:?}");
            artefacts.insert(name.to_owned(), clean);
        }
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_looks_at_the_files_as_they_are() {
    let mut world = World::with().without_gateway().await;
    world.heard = Some(Lines::default());
    let gateway: Process = world.serve().await;
    assert_eq!(find(&world.artefacts(&gateway, &[]), &CANARIES), Vec::<String>::new());
    std::fs::write(world.path("left-behind.log"), format!("Bearer {TOKEN_MARKER}"))
        .expect("a writable folder");
    let found = find(&world.artefacts(&gateway, &[]), &CANARIES);
    assert!(found.len() == 1 && found[0].starts_with("left-behind.log: "), "{found:?}");
}

/// A Finch that repeats the token where perch looks for other things: in what an exchange and an
/// introspection tell of a connection, and in the id of a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_finch_repeats_is_neither_kept_nor_told() {
    let finch = RawFinch::start().await;
    let mut world =
        World::with().settings("log.level = \"trace\"").finch(&finch.url()).without_gateway().await;
    world.heard = Some(Lines::default());
    let gateway = world.serve().await;
    let facts = |connection: &str, token: &str| {
        json!({
            "connection_id": connection, "customer_id": format!("of {token}"), "company_id": token,
            "provider_id": token, "products": [token, "company"], "entity_ids": [token],
            "entities": [{ "id": token }], "client_type": "sandbox", "connection_status": { "status": token },
        })
    };
    let echo = |token: &str| format!("Finch-Request-Id: {token}\r\nFinch-Echo: {token}\r\nEtag: {token}\r\n");
    let told = |token: &str, body: &Value| [answer("200 OK", &echo(token), &body.to_string())];
    let mut ended = Vec::new();
    for (nth, is_told) in [true, true, false].into_iter().enumerate() {
        let token = format!("{TOKEN_MARKER}-repeated-{nth}");
        // The second time even the connection is called like its token.
        let connection = if nth == 1 { token.clone() } else { format!("c-{nth}") };
        let mut exchanged = facts(&connection, &token);
        exchanged["access_token"] = json!(token);
        finch.next(told(&token, &exchanged));
        match is_told {
            true => finch.next(told(&token, &facts(&connection, &token))),
            false => finch.next([answer("401 Unauthorized", &echo(&token), &token)]),
        }
        let code = json!({ "client_id": "x", "client_secret": "x", "code": format!("any-{nth}") });
        let kept = world.app().post("/auth/token", &code).await;
        assert_eq!(kept.status, 200, "{}", kept.text());
        let line = json!({ "customer_id": "kept", "connection_id": "kept", "access_token": token });
        finch.next(told(&token, &facts("another", &token)));
        ended.push(world.perch_reading(&line.to_string(), &["connections", "import"]).await);
        assert_eq!(ended.last().and_then(|e| e.code), Some(1));
    }
    for words in [
        &["connections", "list"] as &[&str],
        &["connections", "list", "-o", "json"],
        &["connections", "show", "c-0"],
    ] {
        ended.push(world.perch(words).await);
    }
    let shown = &ended.last().expect("it was run").out;
    assert!(shown.contains("company       ****"), "the connection is kept: {shown}");
    let artefacts = world.artefacts(&gateway, &ended);
    let found = find(&artefacts, &CANARIES);
    assert!(found.is_empty(), "{} leaks\n{}", found.len(), found.join("\n"));
    drop(gateway);
}
