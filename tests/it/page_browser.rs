//! The page in a real browser: every view with the keyboard, deeds, pages of others, and whether everybody can read it.

use crate::support::browser::{Browser, ENTER, TAB};
use crate::support::hooks::{event, told};
use crate::support::page::{ADMIN_TOKEN, guarded};
use crate::support::raw::{RawFinch, answer};
use crate::support::{World, until};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;

const COMPANY: &str = "/employer/company";
/// Who sets this to a folder gets pictures of every view there.
const PICTURES: &str = "PERCH_SCREENSHOTS";

fn id_of(connected: &Value) -> String {
    connected["connection_id"].as_str().expect("an id").to_owned()
}

/// Signs in with the keyboard alone.
async fn sign_in(browser: &Browser, world: &World) {
    browser.open(&format!("{}/", world.origin())).await;
    let focused = browser.focused().await;
    assert_eq!(focused.property("name").await, "token", "one may begin to type at once");
    focused.keys(&format!("{ADMIN_TOKEN}{ENTER}")).await;
    arrive(browser, &format!("{}/", world.origin())).await;
}

async fn arrive(browser: &Browser, url: &str) {
    until(url, async || browser.url().await == url && is_loaded(browser).await).await;
}

async fn is_loaded(browser: &Browser) -> bool {
    browser.script("return document.readyState", json!([])).await == "complete"
}

async fn says(browser: &Browser, words: &str) {
    until(words, async || is_loaded(browser).await && browser.text().await.contains(words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_does_everything_in_a_browser_with_the_keyboard() {
    let (world, _token) = guarded(World::with()).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    world.connect("globex", "gusto").await;
    let company = world.for_customer("acme").get(COMPANY).await;
    let finch_id = company.header("finch-request-id").to_owned();
    let browser = Browser::start().await;
    browser.allow_clipboard(&world.origin()).await;
    sign_in(&browser, &world).await;

    // The first stop is the way past the navigation.
    browser.press(TAB).await;
    assert_eq!(browser.focused().await.text().await, "Skip to content");
    browser.press(ENTER).await;
    assert!(browser.url().await.ends_with("/#main"));
    for (link, title) in [
        ("Connections", "Connections"),
        ("Quota", "Quota"),
        ("Requests", "Requests"),
        ("Webhooks", "Webhooks"),
        ("Pauses", "Pauses"),
        ("Configuration", "Configuration"),
        ("Overview", "Overview"),
    ] {
        browser.link(link).await.keys(ENTER).await;
        until(link, async || {
            let heading = browser.script("return document.querySelector('h1')?.textContent", json!([])).await;
            is_loaded(&browser).await && heading == title
        })
        .await;
        let current = browser.find("nav a[aria-current=page]").await.text().await;
        assert_eq!(current, link, "the navigation says where one is");
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // A call is found by Finch's id of it.
    browser.open(&format!("{}/requests", world.origin())).await;
    until("the call is in the ledger", async || {
        browser.open(&format!("{}/requests", world.origin())).await;
        browser.text().await.contains(&finch_id)
    })
    .await;
    browser.find("#id").await.keys(&format!("{finch_id}{ENTER}")).await;
    until("the search is answered", async || browser.url().await.contains(&format!("id={finch_id}"))).await;
    says(&browser, "/employer/company").await;
    let rows = browser.script("return document.querySelectorAll('tbody tr').length", json!([])).await;
    assert_eq!(rows, 1, "{}", browser.text().await);
    browser.find("tbody a").await.keys(ENTER).await;
    says(&browser, "Step by step").await;
    says(&browser, "asked Finch (company): 200").await;

    // A link to renew the login is made, and copied.
    browser.open(&format!("{}/connections/{connection}", world.origin())).await;
    browser.link("Reauth link").await.keys(ENTER).await;
    says(&browser, "Make a link to renew this login?").await;
    browser.find("main button[type=submit]").await.keys(ENTER).await;
    says(&browser, "The link is made.").await;
    let link = browser.find("#link").await.property("value").await;
    assert!(link.as_str().is_some_and(|link| link.starts_with("http")), "{link}");
    browser.find("button[data-copy]").await.keys(ENTER).await;
    says(&browser, "Copied").await;
    let copied = browser.script_that_waits("return await navigator.clipboard.readText()").await;
    assert_eq!(copied, link);
    let selected =
        "const i = document.getElementById('link'); return i.value.slice(i.selectionStart, i.selectionEnd)";
    assert_eq!(
        browser.script(selected, json!([])).await,
        link,
        "it is selected for those whose clipboard is closed"
    );

    // Quota renews itself.
    browser.open(&format!("{}/quota", world.origin())).await;
    until("the script has renewed it", async || {
        let renewed =
            browser.script("return document.getElementById('live').dataset.renewed ?? null", json!([])).await;
        !renewed.is_null()
    })
    .await;
    says(&browser, "egress IP").await;

    // A customer is paused, and goes on.
    browser.open(&format!("{}/connections/{connection}", world.origin())).await;
    browser.link("Pause customer").await.keys(ENTER).await;
    says(&browser, "Pause this customer?").await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200, "asking pauses nobody");
    browser.find("#reason").await.keys(&format!("their payroll is being moved{ENTER}")).await;
    says(&browser, "Calls of customer acme are refused").await;
    says(&browser, "their payroll is being moved").await;
    let paused = world.for_customer("acme").get(COMPANY).await;
    assert_eq!((paused.status, paused.code().as_str()), (503, "perch_paused"), "{}", paused.text());
    assert_eq!(world.for_customer("globex").get(COMPANY).await.status, 200);
    browser.link("Resume").await.keys(ENTER).await;
    says(&browser, "Resume this customer?").await;
    browser.find("main button[type=submit]").await.keys(ENTER).await;
    says(&browser, "Nothing is paused.").await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);

    // What is final has to be typed.
    browser.open(&format!("{}/connections/{connection}/disconnect", world.origin())).await;
    browser.find("#typed").await.keys(&format!("something else{ENTER}")).await;
    says(&browser, "is not the id").await;
    browser.find("#typed").await.keys(&format!("{connection}{ENTER}")).await;
    says(&browser, "Finch has ended the connection").await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.code(), "perch_disconnected");

    // The refusal above was answered with 422, which Chromium notes; nothing else went wrong.
    let complaints = browser.complaints().await;
    let others: Vec<&String> = complaints.iter().filter(|said| !said.contains("422")).collect();
    assert!(others.is_empty(), "{others:?}");

    browser.find(".sign-out button").await.keys(ENTER).await;
    arrive(&browser, &format!("{}/sign-in", world.origin())).await;
    browser.open(&format!("{}/quota", world.origin())).await;
    arrive(&browser, &format!("{}/sign-in?next=%2Fquota", world.origin())).await;
    browser.close().await;
}

/// A page of somebody else's: a form, and what a script of its can send.
fn evil_page(target: &str, connection: &str) -> String {
    format!(
        "<!doctype html><title>kittens</title><body>\
         <form id=f method=post action=\"{target}\"><input name=typed value=\"{connection}\"><input name=seal value=x>\
         <button id=go>Win a kitten</button></form>\
         <script>\
         const send = (mode) => fetch({target:?}, {{ method: 'POST', mode, credentials: 'include', \
           headers: {{ 'Content-Type': 'application/x-www-form-urlencoded' }}, body: 'typed={connection}&seal=x' }})\
           .then(a => a.type + ' ' + a.status, e => 'refused');\
         const read = () => fetch({target:?}, {{ credentials: 'include' }}).then(a => a.text(), e => 'refused');\
         window.tried = Promise.all([send('no-cors'), send('cors'), read()]);\
         </script><iframe src=\"{target}\"></iframe></body>"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_can_do_nothing_with_a_session_in_the_same_browser() {
    let (world, _token) = guarded(World::with()).await;
    let connection = id_of(&world.connect("acme", "gusto").await);
    let evil = RawFinch::start().await;
    let browser = Browser::start().await;
    sign_in(&browser, &world).await;
    let target = format!("{}/connections/{connection}/disconnect", world.origin());
    let before = world.known().get(&format!("/api/connections/{connection}")).await.json();
    // The same site: another port of the same address, to which the browser does send the cookie. And another site.
    for from in [
        format!("http://127.0.0.1:{}/", evil.address.port()),
        format!("http://localhost:{}/", evil.address.port()),
    ] {
        evil.forget();
        evil.next([answer("200 OK", "Content-Type: text/html\r\n", &evil_page(&target, &connection))]);
        browser.open(&from).await;
        let tried = browser.script_that_waits("return await window.tried").await;
        let tried: Vec<&str> =
            tried.as_array().expect("three").iter().map(|t| t.as_str().unwrap_or("?")).collect();
        assert!(tried[1] == "refused" && tried[2] == "refused", "it reads nothing: {tried:?}");
        assert!(matches!(tried[0], "refused" | "opaque 0"), "{tried:?}");
        let framed = browser.script("try { return document.querySelector('iframe').contentDocument === null } catch { return true }", json!([])).await;
        assert_eq!(framed, true);
        browser.find("#go").await.click().await;
        says(&browser, "That form is not from this page").await;
        assert!(browser.url().await.starts_with(&target));
        let facts = world.known().get(&format!("/api/connections/{connection}")).await.json();
        assert_eq!((&facts["status"], &facts["deeds"]), (&json!("active"), &before["deeds"]), "{from}");
    }
    // The session was there all the time.
    browser.open(&format!("{}/quota", world.origin())).await;
    says(&browser, "egress IP").await;
    browser.close().await;
}

/// A world in which something is going on: what the pictures show, and what has to be readable.
async fn busy_world() -> (World, NamedTempFile, Arc<RawFinch>, String) {
    let app = RawFinch::start().await;
    let setup = World::with()
        .scenario("employees = 40\n")
        .settings(&told(&app.url()))
        .settings(
            "webhooks.attempts = 1\nretry.attempts = 1\nlimits.pacing = false\nlimits.products.payment = 4",
        )
        .connection("unassigned-no-more <co> & sons", "token-of-nobody");
    let (world, token) = guarded(setup).await;
    let mut acme = String::new();
    for (customer, provider) in
        [("acme", "gusto"), ("globex", "bamboo_hr"), ("initech", "adp_run"), ("umbrella", "gusto")]
    {
        let id = id_of(&world.connect(customer, provider).await);
        if customer == "acme" {
            acme = id;
        }
    }
    for customer in ["acme", "initech", "umbrella"] {
        let app = world.for_customer(customer);
        let people = app.get("/employer/directory").await.json();
        let first = people["individuals"][0]["id"].clone();
        let body = json!({ "requests": [{ "individual_id": first }, { "individual_id": "nobody" }] });
        app.post("/employer/individual", &body).await;
        app.get(COMPANY).await;
    }
    world.fault(json!({ "operation": "get_company", "preset": "reauth", "times": 1 })).await;
    world.for_customer("globex").get(COMPANY).await;
    world.fault(json!({ "operation": "get_company", "preset": "server_error", "times": 1 })).await;
    world.for_customer("umbrella").get(COMPANY).await;
    world.app().with("perch-customer", "nobody").get(COMPANY).await;
    for nth in 0..7 {
        let app = world.for_customer("initech").with("perch-priority", "batch").with("perch-max-wait", "300");
        let path = format!("/employer/payment?start_date=2020-01-0{}&end_date=2020-02-01", nth + 1);
        tokio::spawn(async move { drop(app.try_call("GET", &path, "".into()).await) });
    }
    app.next([answer("500 Internal Server Error", "", "")]);
    world.tell("msg_2f9c1e", &event("test", &acme)).await;
    app.arrived(1).await;
    let operator = world.sign_in().await;
    until("the letter is dead", async || operator.app.get("/webhooks").await.text().contains("msg_2f9c1e"))
        .await;
    until("somebody waits", async || {
        let quota = world.known().get("/metrics").await.text();
        quota.contains("perch_queue_depth{priority=\"batch\",product=\"payment\"} 3")
    })
    .await;
    (world, token, app, acme)
}

/// What is wrong with the page that is open, for people who see little, use no mouse, or hold a phone. In the page's own
/// words and colours, as they were computed.
const FLAWS: &str = r#"
const flaws = [];
const name = (e) => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + (e.className ? '.' + e.className : '') + ' "' + (e.textContent || '').trim().slice(0, 30) + '"';
const isSeen = (e) => e.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true });
if (document.querySelectorAll('h1').length !== 1) flaws.push('not one h1');
if (!document.documentElement.lang || !document.title) flaws.push('no language or no title');
for (const landmark of ['header', 'main', 'footer']) if (document.querySelectorAll(landmark).length !== 1) flaws.push('not one ' + landmark);
let level = 0;
for (const h of document.querySelectorAll('h1,h2,h3')) { const l = Number(h.tagName[1]); if (l > level + 1) flaws.push('skipped to ' + name(h)); level = l; }
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) flaws.push('two are called ' + id);
for (const e of document.querySelectorAll('input:not([type=hidden]):not([hidden]),select,textarea')) if (!(e.labels && e.labels.length)) flaws.push('no label: ' + name(e));
for (const e of document.querySelectorAll('a,button')) if (isSeen(e) && !e.textContent.trim()) flaws.push('no words: ' + name(e));
for (const e of document.querySelectorAll('[aria-labelledby],[aria-describedby],label[for]')) for (const a of ['aria-labelledby', 'aria-describedby', 'for']) if (e.getAttribute(a) && !document.getElementById(e.getAttribute(a))) flaws.push(a + ' leads nowhere: ' + name(e));
for (const t of document.querySelectorAll('table')) { if (!t.caption) flaws.push('a table without a caption'); if (t.querySelector('th:not([scope])')) flaws.push('a head without a scope'); }
for (const t of document.querySelectorAll('time')) if (!t.dateTime.endsWith('Z')) flaws.push('no UTC: ' + name(t));
for (const e of document.querySelectorAll('meter')) if (!e.getAttribute('aria-label')) flaws.push('a bar without a name');
if (document.querySelector('[style]')) flaws.push('a style in line');
const room = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > room) flaws.push('wider than the screen: ' + document.documentElement.scrollWidth + ' > ' + room
  + [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > room + 1 && isSeen(e)).slice(0, 3).map(name).join(', '));
const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 }; };
const light = ({ r, g, b }) => { const f = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a > 0) { if (c.a < 1) flaws.push('half transparent: ' + name(e)); return c; } } return { r: 255, g: 255, b: 255 }; };
let looked = 0;
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const e = node.parentElement;
  if (!node.textContent.trim() || !isSeen(e) || e.closest('.skip,option,script,meter')) continue;
  const s = getComputedStyle(e), size = parseFloat(s.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(s.fontWeight) >= 700);
  const [a, b] = [light(parse(s.color)), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  looked += 1;
  if (ratio < (isLarge ? 3 : 4.5)) flaws.push('contrast ' + ratio.toFixed(2) + ': ' + name(e));
}
if (looked < 10) flaws.push('only ' + looked + ' texts were looked at');
return [...new Set(flaws)];
"#;

async fn flaws(browser: &Browser) -> Value {
    browser.script(FLAWS, json!([])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_can_be_read_light_and_dark_and_on_a_phone() {
    let (world, _token, _app, acme) = busy_world().await;
    let browser = Browser::start().await;
    let pictures = std::env::var_os(PICTURES);
    if let Some(folder) = &pictures {
        std::fs::create_dir_all(folder).expect("a folder for the pictures");
    }
    // The search for flaws finds them where they are.
    browser
        .open("data:text/html,<body style='background:white'><h1>a</h1><h1>b</h1><p style='color:%23999;width:5000px'>pale</p><input></body>")
        .await;
    let found = flaws(&browser).await.to_string();
    for flaw in ["not one h1", "contrast 2.8", "no label", "wider than the screen", "no language"] {
        assert!(found.contains(flaw), "{flaw}: {found}");
    }

    let mut views = vec![("sign-in".to_owned(), "/sign-in".to_owned())];
    browser.resize(1280, 900, false).await;
    browser.open(&format!("{}/sign-in", world.origin())).await;
    let mut found = Vec::new();
    let mut look = async |name: &str, path: &str| {
        for (how, width, scheme, is_phone) in [
            ("light", 1280, "light", false),
            ("dark", 1280, "dark", false),
            ("phone", 360, "light", true),
            ("phone-dark", 360, "dark", true),
        ] {
            browser.prefer(scheme).await;
            browser.resize(width, 900, is_phone).await;
            browser.open(&format!("{}{path}", world.origin())).await;
            let flaws = flaws(&browser).await;
            if flaws != json!([]) {
                found.push(format!("{name} {how}: {flaws:#}"));
            }
            if let Some(folder) = pictures.as_ref().filter(|_| how != "phone-dark") {
                let high = browser.script("return document.documentElement.scrollHeight", json!([])).await;
                let high = u32::try_from(high.as_u64().unwrap_or(900)).unwrap_or(900).clamp(500, 3000);
                browser.resize(width, high, is_phone).await;
                browser.screenshot(&Path::new(folder).join(format!("{name}-{how}.png"))).await;
            }
        }
    };
    for (name, path) in views.drain(..) {
        look(&name, &path).await;
    }
    sign_in(&browser, &world).await;
    let operator = world.sign_in().await;
    let why = [("reason", "their payroll is being moved")];
    let paused = world.confirm(&operator, "/pauses/pause?scope=customer&name=umbrella", &why).await;
    assert_eq!(paused.status, 303, "{}", paused.text());
    let calls = operator.app.get("/requests?class=partial").await.text();
    let call =
        calls.split("href=\"/requests/").nth(1).and_then(|rest| rest.split('"').next()).expect("a call");
    for (name, path) in [
        ("overview", "/".to_owned()),
        ("connections", "/connections".to_owned()),
        ("connection", format!("/connections/{acme}")),
        ("disconnect", format!("/connections/{acme}/disconnect")),
        ("reauth-link", format!("/connections/{acme}/reauth-link")),
        ("quota", "/quota".to_owned()),
        ("requests", "/requests".to_owned()),
        ("call", format!("/requests/{call}")),
        ("webhooks", "/webhooks".to_owned()),
        ("support", format!("/support/{acme}")),
        ("replay", "/webhooks/replay".to_owned()),
        ("pauses", "/pauses".to_owned()),
        ("pause", "/pauses/pause?scope=customer&name=acme".to_owned()),
        ("configuration", "/configuration".to_owned()),
        ("configuration-whole", "/configuration?show=all".to_owned()),
        ("nothing-found", "/connections?q=zzz".to_owned()),
        ("not-there", "/connections/zzz".to_owned()),
    ] {
        look(name, &path).await;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let complaints = browser.complaints().await;
    let others: Vec<&String> = complaints.iter().filter(|said| !said.contains("404")).collect();
    assert!(others.is_empty(), "{others:?}");
    browser.close().await;
}
