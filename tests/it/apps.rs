//! Who may call, and for whom: keys, policies, and what nobody may learn of others.

use crate::identity::assert_refused;
use crate::support::canary::find;
use crate::support::{Answer, App, Lines, World, until};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

pub const COMPANY: &str = "/employer/company";
const SESSION: &str = "/connect/sessions";
const EXCHANGE: &str = "/auth/token";

pub const SCENARIO: &str = r#"
    limits.window = "1ms"

    [[customer]]
    id = "acme"
    providers = ["gusto", "bamboo_hr"]

    [[customer]]
    id = "globex"

    [[customer]]
    id = "initech-1"
"#;

const KEYS: &str = "apps.auth = \"key\"\n";

/// A world whose customers are connected and whose apps have keys, before its gateway starts.
async fn quiet_world(settings: &str) -> World {
    let settings = format!("{KEYS}limits.products.default = 1000\n{settings}");
    let world = World::with().scenario(SCENARIO).settings(&settings).without_gateway().await;
    world.import().await;
    world
}

/// The same, with its gateway, and one app of these options.
async fn world(settings: &str, options: &[&str]) -> (World, String) {
    let mut world = quiet_world(settings).await;
    let key = world.add_app("payroll", options).await;
    world.open().await;
    (world, key)
}

pub async fn connection_of(world: &World, customer: &str, provider: &str) -> String {
    let all = world.connections().await;
    let own = all.iter().find(|c| c["customer_id"] == customer && c["provider_id"] == provider);
    own.and_then(|c| c["connection_id"].as_str()).expect("it is connected").to_owned()
}

/// An answer without what is every answer's own, and with `names` in it made alike.
fn shape(answer: &Answer, names: &[&str]) -> (u16, BTreeMap<String, String>, String) {
    let id = answer.header("perch-request-id").to_owned();
    let alike = |text: &str| {
        let text = text.replace(&id, "ID");
        names.iter().fold(text, |text, name| text.replace(name, "NAME"))
    };
    let headers =
        answer.headers.iter().filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()));
    let text = |name: &str, value: &str| match name {
        // In how many seconds there is more depends on when one asks.
        "ratelimit" => alike(value.split(";t=").next().unwrap_or_default()),
        _ => alike(value),
    };
    let headers = headers
        .map(|(name, value)| (name.to_string(), text(name.as_str(), value.to_str().expect("text"))))
        .collect();
    (answer.status, headers, alike(&answer.text()))
}

pub fn assert_alike(one: (&Answer, &[&str]), other: (&Answer, &[&str])) {
    assert_eq!(shape(one.0, one.1), shape(other.0, other.1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_shows_the_key_of_an_app_or_gets_nothing() {
    let mut world = quiet_world("").await;
    let key = world.add_app("payroll", &[]).await;
    let revoked = world.add_app("old", &[]).await;
    world.revoke_app("old").await;
    world.open().await;
    let named = |app: App| app.with("perch-customer", "acme").with("perch-connection", "gusto");
    let silent = named(world.app()).get(COMPANY).await;
    assert_refused(&silent, 403, "perch_app_key_required", "caller_refused");
    assert_eq!(silent.header("x-should-retry"), "false");
    let last = if key.ends_with('A') { "E" } else { "A" };
    let wrong = format!("{}{last}", &key[..key.len() - 1]);
    let unknown = format!("perch_{}", "0123456789abcdef_") + &key[key.len() - 43..];
    let refused = named(world.with_key(&revoked)).get(COMPANY).await;
    assert_refused(&refused, 403, "perch_app_key_refused", "caller_refused");
    assert_eq!(refused.header("x-should-retry"), "false");
    for bad in [wrong.as_str(), &unknown, "", "perch", &key.to_uppercase(), &format!("{key}x")] {
        let answer = named(world.with_key(bad)).get(COMPANY).await;
        assert_alike((&answer, &[]), (&refused, &[]));
        let posted = world.with_key(bad).post("/employer/individual", &json!({ "requests": [] })).await;
        assert_eq!(posted.code(), "perch_app_key_refused");
    }
    let twice = named(world.with_key(&key)).with("perch-app-key", &key).get(COMPANY).await;
    assert_eq!((twice.status, twice.code().as_str()), (400, "perch_duplicate_header"));
    for path in ["/providers", "/nowhere", SESSION, EXCHANGE] {
        assert_eq!(world.app().get(path).await.code(), "perch_app_key_required", "{path}");
    }
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
    let served = named(world.with_key(&key)).get(COMPANY).await;
    assert_eq!((served.status, served.class()), (200, "ok"), "{}", served.text());
    world.stop().await;
    let lines = world.lines.all();
    let apps: Vec<&Value> = lines.iter().map(|line| &line["app"]).collect();
    assert!(apps.iter().rev().skip(1).all(|app| app.is_null()), "{apps:?}");
    assert_eq!(apps.last(), Some(&&json!("payroll")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_sees_only_its_connections_of_a_customer() {
    let mut world = quiet_world("").await;
    let gusto = connection_of(&world, "acme", "gusto").await;
    let key = world.add_app("payroll", &["--customers", "acme", "--connections", &gusto]).await;
    world.open().await;
    let app = world.with_key(&key).with("perch-customer", "acme");
    let answer = app.get(COMPANY).await;
    assert_eq!(answer.status, 200, "one connection is left, so nothing is ambiguous: {}", answer.text());
    let other = app.with("perch-connection", "bamboo_hr").get(COMPANY).await;
    assert_eq!((other.status, other.code().as_str()), (404, "perch_unknown_connection"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_does_what_its_policy_has_in_it() {
    let mut world = quiet_world("apps.writes = \"allow\"\n").await;
    let reader = world.add_app("reader", &["--products", "company,benefits"]).await;
    let writer = world.add_app("writer", &["--products", "benefits", "--writes", "--batch-only"]).await;
    world.open().await;
    let of = |key: &str| world.with_key(key).with("perch-customer", "globex");
    let benefit = json!({ "type": "401k", "description": "401(k)", "frequency": "every_paycheck" });
    for (key, method, path) in [
        (&reader, "GET", "/employer/directory"),
        (&reader, "POST", "/employer/individual"),
        (&reader, "GET", "/introspect"),
        (&reader, "GET", "/providers"),
        (&reader, "POST", SESSION),
        (&reader, "POST", "/employer/benefits"),
        (&writer, "GET", COMPANY),
        (&writer, "POST", "/disconnect"),
    ] {
        let body = if method == "POST" { benefit.to_string() } else { String::new() };
        let answer = of(key).call(method, path, body.into()).await;
        assert_refused(&answer, 403, "perch_app_forbidden", "caller_refused");
        assert_eq!(answer.header("x-should-retry"), "false", "{method} {path}");
    }
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
    for (key, path) in [(&reader, COMPANY), (&reader, "/employer/benefits"), (&writer, "/employer/benefits")]
    {
        assert_eq!(of(key).get(path).await.status, 200, "{path}");
    }
    assert!(of(&writer).post("/employer/benefits", &benefit).await.status < 300);

    let (denied, key) = self::world("", &["--writes"]).await;
    let answer =
        denied.with_key(&key).with("perch-customer", "globex").post("/employer/benefits", &benefit).await;
    assert_refused(&answer, 403, "perch_writes_denied", "caller_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_opened_for_an_apps_own_customers_only() {
    let (world, key) = world("", &["--customers", "acme,new-*"]).await;
    let app = world.with_key(&key);
    let session = |customer: &str| json!({ "customer_id": customer, "customer_name": "x", "products": ["company"], "integration": { "provider": "gusto" } });
    let (globex, acme) =
        (connection_of(&world, "globex", "gusto").await, connection_of(&world, "acme", "gusto").await);
    let twice = r#"{"customer_id":"globex","customer_name":"x","products":["company"],"customer_id":"acme"}"#;
    let forbidden = [
        app.post(SESSION, &session("globex")).await,
        app.post(SESSION, &session("nobody")).await,
        app.post(SESSION, &json!({ "customer_name": "x", "products": ["company"] })).await,
        app.post(SESSION, &json!({ "customer_id": 7, "customer_name": "x" })).await,
        app.post(SESSION, &json!({ "customer_id": "", "customer_name": "x" })).await,
        app.call("POST", SESSION, twice.into()).await,
        app.clone().with("perch-customer", "globex").post(EXCHANGE, &json!({ "code": "any" })).await,
    ];
    for answer in &forbidden {
        assert_refused(answer, 403, "perch_app_forbidden", "caller_refused");
    }
    assert_alike((&forbidden[0], &["globex"]), (&forbidden[1], &["nobody"]));
    let renew = |connection: &str| json!({ "connection_id": connection });
    let path = "/connect/sessions/reauthenticate";
    let (theirs, none) = (app.post(path, &renew(&globex)).await, app.post(path, &renew("c-none")).await);
    assert_eq!((theirs.status, theirs.code().as_str()), (404, "perch_unknown_connection"));
    assert_alike((&theirs, &[&globex]), (&none, &["c-none"]));
    assert_eq!(app.post(path, &json!({})).await.status, 404);
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");

    for (path, body) in [(SESSION, session("acme")), (SESSION, session("new-1")), (path, renew(&acme))] {
        let answer = app.post(path, &body).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_of_another_apps_customer_gives_a_sealed_token_and_no_reference() {
    let mut world = quiet_world("").await;
    let everyone = world.add_app("onboarding", &[]).await;
    let mine = world.add_app("mine", &["--customers", "acme"]).await;
    world.open().await;
    // As the employer's browser brings it, whoever asked for the session.
    let code = async |customer: &str| {
        let session = json!({
            "customer_id": customer, "customer_name": "x", "products": ["company"], "integration": { "provider": "gusto" },
        });
        let session = world.with_key(&everyone).post(SESSION, &session).await;
        assert_eq!(session.status, 201, "{}", session.text());
        world.log_in(&session).await
    };
    let app = world.with_key(&mine);
    let stolen = app.post(EXCHANGE, &json!({ "code": code("hooli").await })).await;
    let body = stolen.json();
    assert_eq!((stolen.status, stolen.code().as_str()), (403, "perch_exchange_customer_mismatch"), "{body}");
    assert!(body["access_token"].is_null() && body["perch"]["connection_id"].is_null(), "{body}");
    assert!(!stolen.text().contains("hooli") && body["perch"]["customer"].is_null(), "{body}");
    let held = world.connections().await;
    let held =
        held.iter().find(|c| c["customer_id"] == "hooli").expect("it is connected")["connection_id"].clone();
    let held = held.as_str().expect("an id");
    assert!(!stolen.text().contains(held), "{body}");
    let stored = world.stored(held).await.expect("the token was kept");
    assert_eq!(stored.facts.status.as_str(), "held");
    assert_eq!(stored.facts.customer_id.as_ref().map(|c| c.as_str()), Some("hooli"));
    let refused = app.clone().with("authorization", &format!("Bearer connection:{held}")).get(COMPANY).await;
    assert_eq!((refused.status, refused.code().as_str()), (404, "perch_unknown_connection"));
    // An operator decides.
    world.assign(held, "hooli").await;
    let served =
        async || world.with_key(&everyone).with("perch-customer", "hooli").get(COMPANY).await.status == 200;
    until("the gateway sees it assigned", served).await;

    let own = app.post(EXCHANGE, &json!({ "code": code("acme").await })).await;
    assert_eq!(own.status, 200, "{}", own.text());
    let reference = own.json()["access_token"].as_str().expect("a reference").to_owned();
    let served = app.with("authorization", &format!("Bearer {reference}")).get(COMPANY).await;
    assert_eq!(served.status, 200, "{}", served.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_its_own_is_for_an_app_that_may_act_for_everyone() {
    let mut world = quiet_world("apps.pass_through = true\n").await;
    let everyone = world.add_app("old", &[]).await;
    let mine = world.add_app("mine", &["--customers", "acme"]).await;
    world.open().await;
    let token = world.connections().await[0]["access_token"].as_str().expect("a token").to_owned();
    let with = |key: &str| world.with_key(key).with("authorization", &format!("Bearer {token}"));
    assert_eq!(with(&everyone).get(COMPANY).await.status, 200);
    let refused = with(&mine).get(COMPANY).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "perch_raw_token_refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_app_is_told_what_another_one_was_answered() {
    let mut world = quiet_world("apps.writes = \"allow\"\n").await;
    let (one, two) = (world.add_app("one", &["--writes"]).await, world.add_app("two", &["--writes"]).await);
    world.open().await;
    let benefit = json!({ "type": "401k", "description": "401(k)", "frequency": "every_paycheck" });
    for (key, retry) in [(&one, "0"), (&one, "1"), (&two, "1"), (&two, "2")] {
        let app = world.with_key(key).with("perch-customer", "globex").with("x-stainless-retry-count", retry);
        let answer = app.with("perch-idempotency-key", "k").post("/employer/benefits", &benefit).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }
    assert_eq!(world.report().await["carried_out"]["CreateBenefit"], 2, "each its own");
    world.stop().await;
    let lines = world.lines.all();
    // A line is written when its answer has left, so two may change places.
    for app in ["one", "two"] {
        let told = lines.iter().filter(|line| line["app"] == app).map(|line| line["resend_of"].is_string());
        assert_eq!(told.filter(|is_resend| *is_resend).count(), 1, "{lines:#?}");
    }
    assert_eq!(lines.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_notices_apps_that_come_and_go() {
    let (mut world, _) = world("", &[]).await;
    let late = world.add_app("late", &[]).await;
    let call = |world: &World| world.with_key(&late).with("perch-customer", "globex");
    let app = call(&world);
    until("the new key is good", async || app.get("/nowhere").await.status == 404).await;
    assert_eq!(app.get(COMPANY).await.status, 200);
    world.revoke_app("late").await;
    until("the key has ended", async || app.get("/nowhere").await.status == 403).await;
    assert_eq!(app.get(COMPANY).await.code(), "perch_app_key_refused");
    world.restart().await;
    assert_eq!(call(&world).get(COMPANY).await.code(), "perch_app_key_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_app_may_do_changes_under_its_key() {
    let (world, key) = world("", &["--customers", "acme", "--writes"]).await;
    let app = world.with_key(&key).with("perch-customer", "globex");
    assert_eq!(app.get(COMPANY).await.status, 404);
    let changed =
        world.perch(&["apps", "change", "payroll", "--customers", "acme,globex", "-o", "json"]).await.json();
    assert_eq!(changed["policy"]["customers"], json!(["acme", "globex"]));
    assert_eq!(changed["policy"]["writes"], true, "what is not named stays");
    until("globex is one of its customers", async || app.get(COMPANY).await.status == 200).await;
    let changed =
        world.perch(&["apps", "change", "payroll", "--writes=false", "--products", "directory"]).await;
    assert!(changed.out.contains("read, connect\n") && changed.out.contains("directory"), "{changed:?}");
    // Named for nobody, so that nothing is sent while it is looked for.
    let unnamed = world.with_key(&key);
    until("the company is none of its products", async || unnamed.get(COMPANY).await.status == 403).await;
    let online = world.perch(&["check", "--online"]).await;
    assert!(online.out.contains("; one app has a key"), "{online:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_while_its_app_is_revoked_is_not_sent() {
    let settings = "limits.products.company = 1\nlimits.window = \"5s\"\nlimits.pacing = false\nmerge.coalesce = false\n";
    let (mut world, key) = world(settings, &[]).await;
    let app = world.with_key(&key).with("perch-customer", "globex").with("perch-max-wait", "60");
    assert_eq!(app.get(COMPANY).await.status, 200);
    let waiting = {
        let app = app.clone();
        tokio::spawn(async move { app.get(COMPANY).await })
    };
    until("it waits", async || {
        world.metric("perch_queue_depth{priority=\"interactive\",product=\"company\"}").await > 0.0
    })
    .await;
    world.revoke_app("payroll").await;
    until("the key has ended", async || app.get("/nowhere").await.status == 403).await;
    let refused = waiting.await.expect("it was answered");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "perch_app_key_refused"),
        "{}",
        refused.text()
    );
    assert_eq!(world.report().await["operations"]["GetCompany"], json!({ "200": 1 }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_browser_and_a_foreign_name_get_nothing() {
    for settings in ["", KEYS] {
        let settings = format!("{settings}limits.products.default = 1000");
        let mut world = World::with().scenario(SCENARIO).settings(&settings).without_gateway().await;
        world.import().await;
        let key = world.add_app("payroll", &[]).await;
        world.open().await;
        let app = world.with_key(&key).with("perch-customer", "globex");
        for (name, value) in [
            ("origin", "https://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            for (method, path) in [("GET", COMPANY), ("POST", "/employer/individual"), ("OPTIONS", COMPANY)] {
                let answer = app.clone().with(name, value).call(method, path, "".into()).await;
                assert_refused(&answer, 403, "perch_browser_refused", "caller_refused");
                assert!(!answer.headers.keys().any(|k| k.as_str().starts_with("access-control")));
            }
        }
        let preflight = app
            .clone()
            .with("access-control-request-method", "GET")
            .call("OPTIONS", COMPANY, "".into())
            .await;
        assert_eq!((preflight.status, preflight.code().as_str()), (403, "perch_browser_refused"));
        for host in
            ["evil.test", "evil.test:4600", "127.0.0.1.evil.test", "localhost.evil.test", "perch.evil.test"]
        {
            let answer = app.clone().with("host", host).get(COMPANY).await;
            assert_refused(&answer, 421, "perch_wrong_host", "caller_refused");
        }
        assert_eq!(world.report().await["requests"], 0, "nothing was sent");
        for host in
            ["localhost", "LOCALHOST:9", "127.0.0.1", "10.0.0.7:80", "[::1]:4600", "perch", "Perch:80"]
        {
            assert_eq!(app.clone().with("host", host).get(COMPANY).await.status, 200, "{host}");
        }
        for (name, value) in
            [("sec-fetch-site", "none"), ("sec-fetch-mode", "cors"), ("referer", "https://x.test/")]
        {
            assert_eq!(app.clone().with(name, value).get(COMPANY).await.status, 200, "{name}: {value}");
        }
        assert_eq!(world.operator().with("host", "perch:4601").get("/livez").await.status, 200);
        assert_eq!(world.operator().with("host", "evil.test").get("/livez").await.status, 421);
    }
}

/// A refusal that comes before the body must arrive all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_heard_over_a_body_that_still_comes() {
    let (world, _) = world("", &[]).await;
    let body = vec![b'x'; 4 << 20];
    for app in [world.app(), world.app().with("host", "evil.test"), world.app().with("origin", "null")] {
        let answer = app.call("POST", "/employer/individual", body.clone().into()).await;
        assert_eq!(answer.class(), "caller_refused", "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_loopback_a_door_needs_keys() {
    let mut world = quiet_world("").await;
    let key = world.add_app("payroll", &[]).await;
    let file = world.path("perch.toml");
    let text = std::fs::read_to_string(&file).expect("settings");
    let open = text.replace("listen.proxy = \"127.0.0.1:0\"", "listen.proxy = \"0.0.0.0:0\"");
    assert_ne!(open, text);
    std::fs::write(&file, open.replace(KEYS, "")).expect("a writable folder");
    let refused = world.perch(&["serve"]).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(
        refused.err.contains("`listen.proxy`") && refused.err.contains("set apps.auth to"),
        "{refused:?}"
    );
    std::fs::write(&file, open).expect("a writable folder");
    let gateway = world.serve().await;
    world.proxy.set_ip([127, 0, 0, 1].into());
    assert_eq!(world.for_customer("globex").get(COMPANY).await.code(), "perch_app_key_required");
    assert_eq!(world.with_key(&key).with("perch-customer", "globex").get(COMPANY).await.status, 200);
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_what_each_app_may_do_and_never_a_key() {
    let world = World::with().without_gateway().await;
    assert!(world.perch(&["apps", "list"]).await.out.contains("no apps yet"));
    let key = world
        .add_app("payroll", &["--customers", "acme,globex-*", "--products", "company", "--batch-only"])
        .await;
    let (key_id, secret) = (&key[6..22], &key[23..]);
    let added = world.perch(&["apps", "add", "hr", "--writes", "--key-file", "hr.key", "-o", "json"]).await;
    let file = world.path("hr.key");
    let written = std::fs::read_to_string(&file).expect("the key");
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(!added.all().contains(written.trim()) && added.json()["key"].is_null(), "{added:?}");
    assert_eq!((&added.json()["name"], &added.json()["key_file"]), (&json!("hr"), &json!("hr.key")));

    let shown = world.perch(&["apps", "show", "payroll", "-o", "json"]).await.json();
    assert_eq!(shown["key_id"], key_id);
    assert_eq!(
        shown["policy"],
        json!({
            "customers": ["acme", "globex-*"], "connections": "all", "products": ["company"], "writes": false,
            "priority": "batch",
        })
    );
    let mut said = Vec::new();
    for words in [
        &["list"][..],
        &["list", "-o", "json"],
        &["show", "payroll"],
        &["show", "hr"],
        &["revoke", "hr"],
        &["show", "hr"],
    ] {
        let ended = world.perch(&[&["apps"], words].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        said.push(ended.all());
    }
    assert!(said[0].contains("globex-*") && said[3].contains("read, connect, write"), "{said:#?}");
    assert!(said[4].contains("two seconds") && said[5].contains("revoked 20"), "{said:#?}");
    for text in &said {
        assert!(!text.contains(secret) && !text.contains(written.trim()), "{text}");
    }
    for (words, why) in [
        (&["add", "payroll"][..], "there is an app payroll already"),
        (&["add", "x", "--products", "payrol"], "is no product of Finch's"),
        (&["add", "x", "--customers", "all,acme"], "says all and names some"),
        (&["add", "x", "--key-file", "hr.key"], "cannot be written"),
        (&["add", "payroll", "--key-file", "new.key"], "there is an app payroll already"),
        (&["revoke", "hr"], "there is no app hr"),
        (&["change", "hr", "--writes"], "there is no app hr"),
        (&["change", "payroll", "--customers", ""], "is empty"),
        (&["show", "nobody"], "there is no app nobody"),
    ] {
        let ended = world.perch(&[&["apps"], words].concat()).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
    }
    assert!(!world.path("new.key").exists(), "no key, no file");
    assert_eq!(world.perch(&["apps", "list", "-o", "json"]).await.json().as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_turns_up_nowhere_but_where_it_was_made() {
    let mut world = quiet_world("log.level = \"trace\"\n").await;
    let (key, other) =
        (world.add_app("payroll", &["--customers", "globex"]).await, world.add_app("old", &[]).await);
    world.revoke_app("old").await;
    world.heard = Some(Lines::default());
    let gateway = world.serve().await;
    for key in [&key, &other, &format!("{key}x")] {
        for path in [COMPANY, "/nowhere", "/providers", "/introspect"] {
            for customer in ["globex", "acme", "nobody"] {
                world.with_key(key).with("perch-customer", customer).get(path).await;
            }
        }
        world.with_key(key).with("origin", "null").get(COMPANY).await;
        world.with_key(key).with("host", "evil.test").get(COMPANY).await;
        world.with_key(key).with("perch-app-key", key).get(COMPANY).await;
    }
    let echo =
        json!({ "operation": "get_company", "status": 400, "body": { "message": "{headers}" }, "times": 1 });
    world.fault(echo).await;
    world.with_key(&key).with("perch-customer", "globex").get(COMPANY).await;
    world.operator().get("/metrics").await;
    let listed = world.perch(&["apps", "list", "-o", "json"]).await;
    let found = find(&world.artefacts(&gateway, &[listed]), &[&key[23..], &other[23..]]);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let ended = gateway.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}
