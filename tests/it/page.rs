//! The page of the admin door, by its answers alone: who gets in, who may do what, and what stands in it.

use crate::support::hooks::{event, told};
use crate::support::page::{ADMIN_TOKEN, Operator, VIEWS, form, guarded, hidden};
use crate::support::raw::{RawFinch, answer};
use crate::support::{Answer, CLIENT_SECRET, TOKEN_MARKER, World, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const COMPANY: &str = "/employer/company";

fn id_of(connected: &Value) -> String {
    connected["connection_id"].as_str().expect("an id").to_owned()
}

async fn status_of(world: &World, connection: &str) -> Value {
    world.known().get(&format!("/api/connections/{connection}")).await.json()["status"].clone()
}

/// What was done to a connection, newest first: who, and what.
async fn trail(world: &World, connection: &str) -> Vec<(String, String)> {
    let facts = world.known().get(&format!("/api/connections/{connection}")).await.json();
    let text = |deed: &Value, name: &str| deed[name].as_str().expect("a text").to_owned();
    facts["deeds"].as_array().expect("a list").iter().map(|d| (text(d, "actor"), text(d, "action"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_view_before_signing_in_and_a_session_ends_for_good() {
    let (world, _token) = guarded(World::with()).await;
    for path in VIEWS {
        let answer = world.operator().get(path).await;
        let next = path.replace('/', "%2F");
        assert_eq!(answer.status, 303, "{path}");
        assert_eq!(answer.header("location"), format!("/sign-in?next={next}"), "{path}");
        assert!(answer.bytes.is_empty());
        for cookie in ["perch=", "perch=0000", "perch=x; __Host-perch=y", &format!("perch={ADMIN_TOKEN}")] {
            assert_eq!(world.operator().with("cookie", cookie).get(path).await.status, 303, "{cookie}");
        }
    }
    let asked = world.operator().get("/sign-in?next=%2Fquota").await;
    assert_eq!((asked.status, hidden(&asked.text(), "next").as_deref()), (200, Some("/quota")));
    for style in ["/page/style.css", "/page/page.js", "/page/icon.svg"] {
        assert_eq!(world.operator().get(style).await.status, 200, "{style}");
    }

    let page = world.operator().with("origin", &world.origin());
    let body = form(&[("token", ADMIN_TOKEN), ("next", "/quota")]);
    let inside = page.call("POST", "/sign-in", body.into()).await;
    assert_eq!((inside.status, inside.header("location")), (303, "/quota"));
    let cookie = inside.header("set-cookie").to_owned();
    let (pair, rest) = cookie.split_once("; ").expect("attributes");
    assert_eq!(rest, "Path=/; HttpOnly; SameSite=Strict");
    assert_eq!(pair.strip_prefix("perch=").map(str::len), Some(64), "256 bits");
    assert!(inside.bytes.is_empty());

    let (one, other) = (world.sign_in().await, world.sign_in().await);
    assert_ne!(one.cookie, other.cookie, "each sign-in is a session of its own");
    for path in VIEWS {
        assert_eq!(one.app.get(path).await.status, 200, "{path}");
    }
    let seal = hidden(&one.app.get("/").await.text(), "seal").expect("a button to leave");
    let stolen = world.submit(&other, "/sign-out", &[("seal", &seal)]).await;
    assert_eq!(stolen.status, 403, "a form of another session");
    let left = world.submit(&one, "/sign-out", &[("seal", &seal)]).await;
    assert_eq!((left.status, left.header("location")), (303, "/sign-in"));
    assert!(
        left.header("set-cookie").starts_with("perch=; ") && left.header("set-cookie").ends_with("Max-Age=0")
    );
    assert_eq!(one.app.get("/quota").await.status, 303, "the name is worth nothing any more");
    assert_eq!(other.app.get("/quota").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_are_slowed_and_the_right_one_still_works() {
    let (world, _token) = guarded(World::with()).await;
    let mut met = BTreeSet::new();
    for nth in 0..300 {
        let answer = match nth % 2 {
            0 => world.show_token(&format!("{ADMIN_TOKEN}{nth}")).await,
            _ => world.operator().with("authorization", &format!("Bearer {nth}")).get("/metrics").await,
        };
        assert!(answer.header("set-cookie").is_empty());
        if answer.status == 429 {
            assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().expect("seconds")));
        }
        met.insert((nth > 100, answer.status));
    }
    assert!(met.contains(&(false, 401)) && met.contains(&(true, 429)), "{met:?}");
    assert!(met.iter().all(|(_, status)| matches!(status, 401 | 429)), "{met:?}");
    let operator = world.sign_in().await;
    assert_eq!(operator.app.get("/").await.status, 200);
    assert_eq!(world.known().get("/metrics").await.status, 200);
    assert_eq!(world.operator().get("/metrics").await.status, 401, "who shows nothing has not guessed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_keeps_other_pages_out() {
    let (world, _token) = guarded(World::with()).await;
    let operator = world.sign_in().await;
    let stranger = world.operator();
    let evil = operator.app.clone().with("origin", "http://evil.test");
    let mut all: Vec<(String, Answer)> = Vec::new();
    for path in [
        "/",
        "/connections/nope",
        "/nowhere/../quota",
        "/quota/now",
        "/page/style.css",
        "/connections/a/explode",
    ] {
        all.push((path.to_owned(), operator.app.get(path).await));
        all.push((format!("HEAD {path}"), operator.app.call("HEAD", path, "".into()).await));
        all.push((format!("PUT {path}"), operator.app.call("PUT", path, "".into()).await));
        all.push((format!("evil {path}"), evil.call("POST", path, "".into()).await));
    }
    for path in ["/", "/sign-in", "/sign-out"] {
        all.push((format!("stranger {path}"), stranger.get(path).await));
    }
    all.push(("too large".to_owned(), evil.call("POST", "/sign-in", vec![b'x'; 100_000].into()).await));
    for (what, answer) in all.iter().filter(|(what, _)| !what.contains("nowhere")) {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{what}: {}", answer.status);
        }
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{what}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{what}: {policy}");
        let text = answer.text();
        assert!(
            !text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick"),
            "{what}"
        );
        assert!(!text.contains("<script>") && !text.contains("javascript:"), "{what}");
    }
    let find = |what: &str| &all.iter().find(|(name, _)| name == what).expect("it was asked").1;
    assert_eq!((find("HEAD /").status, find("HEAD /").bytes.len()), (200, 0));
    assert_eq!((find("PUT /").status, find("PUT /").header("allow")), (405, "GET, HEAD, POST"));
    assert_eq!((find("evil /").status, find("/connections/nope").status), (403, 404));
    assert_eq!(find("/connections/a/explode").status, 404);
    assert!(matches!(find("too large").status, 403 | 413));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_text_on_every_view() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;";
    let (world, _token) =
        guarded(World::with().connection(HOSTILE, "token-1").connection("per%cent_", "token-2")).await;
    let company = world.for_customer(HOSTILE).get(COMPANY).await;
    assert_ne!(company.status, 400, "the name is one: {}", company.text());
    let operator = world.sign_in().await;
    until("the call is in the ledger", async || {
        operator.app.get("/requests").await.text().contains("alert(1)")
    })
    .await;
    let id = crate::support::page::encoded(&format!("c-{HOSTILE}"));
    let odd = crate::support::page::encoded(HOSTILE);
    for path in [
        "/".to_owned(),
        "/connections".to_owned(),
        format!("/connections?q={odd}"),
        format!("/connections/{id}"),
        format!("/connections/{id}/disconnect"),
        format!("/requests?customer={odd}"),
        format!("/requests?id={odd}"),
        format!("/webhooks/replay?id={odd}"),
        format!("/connections?q={odd}&status={odd}&after={odd}"),
    ] {
        let page = operator.app.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        let text = page.text();
        for bad in ["<script>", "<img", "onerror=alert(2)>\"", "\"'><"] {
            assert!(!text.contains(bad), "{path} has {bad}: {text}");
        }
        if path.starts_with("/connections/") {
            assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{path}: {text}");
        }
    }
    // And what means something in a search is searched for as it is.
    let found = async |q: &str| operator.app.get(&format!("/connections?q={q}")).await.text();
    assert!(found("per%25").await.contains("c-per%cent_") && !found("per%25").await.contains("alert"));
    assert!(found("%25").await.contains("c-per%cent_") && !found("%25").await.contains("alert"));
    assert!(
        found("T_").await.contains("c-per%cent_") && found("z_").await.contains("No connection is like that")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_from_anywhere_else_does_anything() {
    let (world, _token) = guarded(World::with()).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    let (operator, other) = (world.sign_in().await, world.sign_in().await);
    let path = format!("/connections/{connection}/disconnect");
    let before = trail(&world, &connection).await;
    let seal_of = async |operator: &Operator, path: &str| {
        let page = operator.app.get(path).await.text();
        hidden(page.split("<main").nth(1).expect("a page"), "seal").expect("a form")
    };
    let (good, foreign) = (seal_of(&operator, &path).await, seal_of(&other, &path).await);
    let of_another_deed = seal_of(&operator, &format!("/connections/{connection}/reauth-link")).await;
    let post = async |seal: &str, headers: &[(&str, &str)]| {
        let app = headers.iter().fold(operator.app.clone(), |app, (name, value)| app.with(name, value));
        let fields = form(&[("typed", &connection), ("seal", seal)]);
        app.call("POST", &path, fields.into()).await.status
    };
    let origin = world.origin();
    let ours = ("origin", origin.as_str());
    let another_port = format!("http://127.0.0.1:{}", world.proxy.port());
    for (what, seal, headers) in [
        ("no origin", good.as_str(), &[] as &[(&str, &str)]),
        ("another port, the same site", &good, &[("origin", another_port.as_str())]),
        ("a page without an origin", &good, &[("origin", "null")]),
        ("another site", &good, &[("origin", "http://evil.test")]),
        ("the browser says so", &good, &[ours, ("sec-fetch-site", "same-site")]),
        ("no seal", "", &[ours]),
        ("a wrong seal", &"0".repeat(64), &[ours]),
        ("another session's", &foreign, &[ours]),
        ("another deed's", &of_another_deed, &[ours]),
    ] {
        assert_eq!(post(seal, headers).await, 403, "{what}");
    }
    // The API takes no cookie, and nothing of a page's.
    let api = format!("/api{path}");
    assert_eq!(operator.app.call("POST", &api, "".into()).await.status, 401);
    assert_eq!(operator.app.clone().with("origin", &origin).call("POST", &api, "".into()).await.status, 403);
    // Without a session the way in is shown, whatever else is right.
    let stranger = world.operator().with("origin", &origin);
    let turned_away =
        stranger.call("POST", &path, form(&[("typed", &connection), ("seal", &good)]).into()).await;
    assert!(turned_away.status == 303 && turned_away.header("location").starts_with("/sign-in"));
    assert_eq!(status_of(&world, &connection).await, "active");
    assert_eq!(trail(&world, &connection).await, before, "nothing was done");
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    // And the very same form from the page itself works.
    assert_eq!(post(&good, &[ours, ("sec-fetch-site", "same-origin")]).await, 303);
    assert_eq!(status_of(&world, &connection).await, "disconnected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deeds_are_asked_about_done_told_once_and_written_down() {
    let (world, _token) = guarded(World::with()).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    let operator = world.sign_in().await;
    let home = format!("/connections/{connection}");
    let asked = world.confirm(&operator, &format!("{home}/introspect"), &[]).await;
    assert_eq!((asked.status, asked.header("location")), (303, home.as_str()), "{}", asked.text());
    assert!(operator.app.get(&home).await.text().contains("Finch was asked"));

    let made = world.confirm(&operator, &format!("{home}/reauth-link"), &[("redirect_uri", "")]).await;
    assert_eq!((made.status, made.header("location")), (303, home.as_str()), "{}", made.text());
    let other = world.sign_in().await;
    assert!(!other.app.get(&home).await.text().contains("id=\"link\""), "it is told to who asked");
    assert!(!operator.app.call("HEAD", &home, "".into()).await.text().contains("link"));
    let page = operator.app.get(&home).await.text();
    assert!(page.contains("id=\"link\" type=\"text\" readonly value=\"http"), "{page}");
    assert!(!operator.app.get(&home).await.text().contains("id=\"link\""), "it is told once");

    let path = format!("{home}/disconnect");
    for typed in ["", "acme", "c-other"] {
        let refused = world.confirm(&operator, &path, &[("typed", typed)]).await;
        assert_eq!(refused.status, 422, "{typed}");
        assert!(refused.text().contains("is not the id"), "{}", refused.text());
    }
    assert_eq!(status_of(&world, &connection).await, "active");
    let done = world.confirm(&operator, &path, &[("typed", &connection)]).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let page = operator.app.get(&home).await.text();
    assert!(page.contains("Finch has ended the connection") && !page.contains("/disconnect\""), "{page}");
    assert_eq!(world.for_customer("acme").get(COMPANY).await.code(), "perch_disconnected");
    let trail = trail(&world, &connection).await;
    for action in ["introspect", "reauth_link", "disconnect"] {
        let by: Vec<&str> =
            trail.iter().filter(|(_, did)| did == action).map(|(by, _)| by.as_str()).collect();
        assert_eq!(by, ["operator"], "{action}: {trail:?}");
    }
    // What cannot be done is said, and nothing pretends that it was.
    let again = world.confirm(&operator, &format!("{home}/reauth-link"), &[]).await;
    assert_eq!(again.status, 303);
    assert!(operator.app.get(&home).await.text().contains("Not done."));
    assert_eq!(operator.app.get("/connections/nope/disconnect").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_and_offered_again() {
    let app = RawFinch::start().await;
    let setup = World::with().settings(&told(&app.url())).settings("webhooks.attempts = 1");
    let (world, _token) = guarded(setup).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    for (nth, of) in ["m1", "m2"].into_iter().enumerate() {
        app.next([answer("302 Found", "Location: /elsewhere\r\n", "")]);
        world.tell(of, &event("test", &connection)).await;
        app.arrived(nth + 1).await;
    }
    let operator = world.sign_in().await;
    until("both are dead", async || {
        let page = operator.app.get("/webhooks").await.text();
        page.contains("m1") && page.contains("m2") && page.contains("it answered 302")
    })
    .await;
    assert!(operator.app.get("/").await.text().contains("dead letters</a>, which the app did not take"));
    let one = world.confirm(&operator, "/webhooks/replay?id=m1", &[]).await;
    assert_eq!((one.status, one.header("location")), (303, "/webhooks"), "{}", one.text());
    app.arrived(3).await;
    assert!(operator.app.get("/webhooks").await.text().contains("One event is offered"));
    let all = world.confirm(&operator, "/webhooks/replay", &[]).await;
    assert_eq!(all.status, 303, "{}", all.text());
    app.arrived(4).await;
    until("none is left", async || operator.app.get("/webhooks").await.text().contains("No dead letters"))
        .await;
    assert!(operator.app.get("/webhooks?show=all").await.text().contains("m1"));
    let nothing = world.confirm(&operator, "/webhooks/replay?id=m9", &[]).await;
    assert_eq!(nothing.status, 303);
    assert!(operator.app.get("/webhooks").await.text().contains("No event of this id"));
    assert!(trail(&world, &connection).await.contains(&("operator".to_owned(), "replay".to_owned())));
    let audited = world.vault().await.verify_audit().await;
    assert!(audited.is_ok(), "{audited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_products_and_providers_are_paused_and_go_on() {
    let (world, _token) = guarded(World::with().settings("pause.providers = [\"adp_run\"]")).await;
    world.connect("acme", "gusto").await;
    let operator = world.sign_in().await;
    assert!(operator.app.get("/pauses").await.text().contains("ends in the configuration"));
    for (scope, name) in [("customer", "acme"), ("product", "company"), ("provider", "gusto")] {
        let asked = format!("/pauses/pause?scope={scope}&name={name}");
        let done = world.confirm(&operator, &asked, &[("reason", "<b>because</b>")]).await;
        assert_eq!((done.status, done.header("location")), (303, "/pauses"), "{}", done.text());
        let page = operator.app.get("/pauses").await.text();
        assert!(
            page.contains("&lt;b&gt;because") && page.contains("operator") && !page.contains("<b>"),
            "{page}"
        );
        assert_eq!(world.for_customer("acme").get(COMPANY).await.code(), "perch_paused", "{scope}");
        assert!(operator.app.get("/").await.text().contains("href=\"/pauses\">paused"));
        let resumed =
            world.confirm(&operator, &format!("/pauses/resume?scope={scope}&name={name}"), &[]).await;
        assert_eq!(resumed.status, 303, "{}", resumed.text());
        assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200, "{scope}");
    }
    for (path, words) in [
        ("/pauses/pause?scope=product&name=auth", "is no product that can be paused"),
        ("/pauses/pause?scope=customer&name=", "is empty"),
        ("/pauses/resume?scope=customer&name=acme", "is not paused"),
        ("/pauses/resume?scope=provider&name=adp_run", "the configuration pauses"),
    ] {
        assert_eq!(world.confirm(&operator, path, &[]).await.status, 303, "{path}");
        operator.app.call("HEAD", "/pauses", "".into()).await;
        let page = operator.app.get("/pauses").await.text();
        assert!(page.contains("Not done.") && page.contains(words), "{path}: {page}");
    }
    // A seal for one customer is none for another.
    let seal = operator.app.get("/pauses/pause?scope=customer&name=acme").await.text();
    let seal = hidden(seal.split("<main").nth(1).expect("a page"), "seal").expect("a form");
    let fields = [("seal", seal.as_str()), ("scope", "customer"), ("name", "globex")];
    assert_eq!(world.submit(&operator, "/pauses/pause", &fields).await.status, 403);
    assert_eq!(operator.app.get("/pauses/pause?scope=planet&name=x").await.status, 404);
    let audited = world.vault().await.verify_audit().await;
    assert!(audited.is_ok(), "{audited:?}");
}

/// Every path of this door that a page leads to.
fn links(page: &str) -> Vec<String> {
    let all = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    all.filter(|path| path.starts_with('/')).map(|path| path.replace("&amp;", "&")).collect()
}

/// Reads all that can be reached from the overview by following links.
async fn crawl(operator: &Operator) -> Vec<(String, Answer)> {
    let (mut seen, mut queue) = (BTreeSet::new(), vec!["/".to_owned()]);
    let mut read = Vec::new();
    while let Some(path) = queue.pop() {
        if !seen.insert(path.clone()) || path.starts_with("/api") || path == "/metrics" {
            continue;
        }
        operator.app.call("HEAD", &path, "".into()).await;
        let answer = operator.app.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        queue.extend(links(&answer.text()));
        read.push((path, answer));
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_changes_nothing_and_shows_no_secret() {
    let app = RawFinch::start().await;
    let setup = World::with().settings(&told(&app.url())).settings("webhooks.attempts = 1");
    let (world, _token) = guarded(setup).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    world.connect("globex", "gusto").await;
    app.next([answer("302 Found", "Location: /elsewhere\r\n", "")]);
    world.tell("m1", &event("test", &connection)).await;
    app.arrived(1).await;
    let company = world.for_customer("acme").get(COMPANY).await;
    let finch_id = company.header("finch-request-id").to_owned();
    let operator = world.sign_in().await;
    let found = format!("/requests?id={finch_id}");
    until("the call is found by Finch's id of it", async || {
        operator.app.get(&found).await.text().contains("/employer/company")
    })
    .await;
    until("the letter is dead", async || {
        operator.app.get("/webhooks").await.text().contains("it answered 302")
    })
    .await;
    let state = async || {
        let facts = world.known().get(&format!("/api/connections/{connection}")).await.json();
        let webhooks = world.known().get("/api/webhooks").await.json();
        (facts, webhooks, world.report().await["requests"].clone(), world.generation().await)
    };
    let before = state().await;
    let read = crawl(&operator).await;
    assert_eq!(state().await, before);
    let paths: Vec<&str> = read.iter().map(|(path, _)| path.as_str()).collect();
    for part in [
        "/support/",
        "/pauses/pause",
        "/configuration?show=all",
        "/disconnect",
        "/reauth-link",
        "/introspect",
        "/webhooks/replay",
        "/requests/",
        "/quota",
    ] {
        assert!(paths.iter().any(|path| path.contains(part)), "{part}: {paths:?}");
    }
    let cookie = operator.cookie.strip_prefix("perch=").expect("its name");
    for (path, page) in &read {
        let text = page.text();
        for secret in [TOKEN_MARKER, CLIENT_SECRET, ADMIN_TOKEN, cookie] {
            assert!(!text.contains(secret), "{path} shows {secret}");
        }
        assert_eq!(text.matches("<h1").count(), usize::from(!path.starts_with("/page/")), "{path}");
    }
    let one = world.confirm(&operator, &format!("/connections/{connection}/reauth-link"), &[]).await;
    assert_eq!(one.status, 303);
    let told = operator.app.get(&format!("/connections/{connection}")).await.text();
    assert!(told.contains("id=\"link\"") && !told.contains(TOKEN_MARKER), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_one_may_look_and_do_nothing() {
    let world = World::new().await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    for path in VIEWS {
        let page = world.operator().get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.text().contains("method=\"post\""), "{path}");
    }
    assert!(world.operator().get("/").await.text().contains("Read only."));
    let home = format!("/connections/{connection}");
    let before = world.operator().get(&format!("/api{home}")).await.json();
    let page = world.operator().get(&home).await.text();
    assert!(page.contains("acme") && !page.contains("/disconnect"), "{page}");
    let ours = world.operator().with("origin", &world.origin());
    for deed in ["disconnect", "reauth-link", "introspect"] {
        let path = format!("{home}/{deed}");
        let refused = world.operator().get(&path).await;
        assert_eq!(refused.status, 403, "{deed}");
        assert!(
            refused.text().contains(&format!("perch connections {deed} {connection}")),
            "{}",
            refused.text()
        );
        let body = form(&[("typed", &connection), ("seal", "")]);
        assert_eq!(ours.call("POST", &path, body.into()).await.status, 403, "{deed}");
    }
    assert_eq!(ours.call("POST", "/sign-in", form(&[("token", "")]).into()).await.header("location"), "/");
    let after = world.operator().get(&format!("/api{home}")).await.json();
    assert_eq!((&after["status"], &after["deeds"]), (&json!("active"), &before["deeds"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_come_in_pages_on_the_page_and_in_the_api() {
    let many = (0..105)
        .fold(World::with(), |setup, n| setup.connection(&format!("cust-{n:03}"), &format!("token-{n}")));
    let (world, _token) = guarded(many).await;
    let operator = world.sign_in().await;
    let (mut path, mut seen) = ("/connections?q=CUST".to_owned(), Vec::new());
    loop {
        let page = operator.app.get(&path).await.text();
        let ids =
            page.split("class=\"id\" href=\"/connections/").skip(1).filter_map(|rest| rest.split('"').next());
        seen.push(ids.map(str::to_owned).collect::<Vec<_>>());
        match links(&page).into_iter().find(|link| link.contains("after=")) {
            Some(next) => path = next,
            None => break,
        }
    }
    let sizes: Vec<usize> = seen.iter().map(Vec::len).collect();
    let all: BTreeSet<&String> = seen.iter().flatten().collect();
    assert_eq!((sizes, all.len()), (vec![100, 5], 105));
    let first = world.known().get("/api/connections?limit=2").await.json();
    let after = first[1]["connection_id"].as_str().expect("an id");
    let next = world.known().get(&format!("/api/connections?limit=1&after={after}")).await.json();
    assert_eq!((first.as_array().map(Vec::len), next.as_array().map(Vec::len)), (Some(2), Some(1)));
    assert_ne!(first[1], next[0]);
    let all = world.known().get("/api/connections").await.json();
    assert_eq!((all.as_array().map(Vec::len), &all[2]), (Some(105), &next[0]), "in the same order");
    let held = world.known().get("/api/connections?status=held").await.json();
    assert_eq!(held, json!([]));
    for bad in ["limit=0", "limit=1001", "limit=x", "status=odd", "after=", "customer=%00", "order=up"] {
        assert_eq!(world.known().get(&format!("/api/connections?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_is_said_in_its_place() {
    let (world, _token) = guarded(World::with()).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    let operator = world.sign_in().await;
    world.database.sql("ALTER TABLE audit RENAME TO elsewhere").await;
    let page = operator.app.get(&format!("/connections/{connection}")).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("The audit trail cannot be shown") && page.text().contains("What is known"));
    world.database.sql("ALTER TABLE connection RENAME TO nowhere").await;
    for (path, words) in
        [("/", "The connections cannot be shown"), ("/connections", "The connections cannot be shown")]
    {
        let page = operator.app.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(words) && page.text().contains("</html>"), "{path}: {}", page.text());
    }
}
