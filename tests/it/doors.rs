//! Apps that are known by their certificate, or by the user they run as.

use crate::apps::{COMPANY, SCENARIO, assert_alike};
use crate::identity::assert_refused;
use crate::strangers::spiffe;
use crate::support::tls::{Authority, Identity};
use crate::support::{App, World, until};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use tokio_rustls::TlsConnector;

/// A world whose door asks for certificates of `authority`, before its gateway starts.
async fn quiet(authority: &Authority) -> World {
    let settings = "limits.products.default = 1000";
    let world = World::with().scenario(SCENARIO).settings(settings).without_gateway().await;
    world.import().await;
    world.set_mtls(authority, &authority.certify("localhost", (2020, 2100)));
    world
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

impl World {
    fn certified(&self, tls: &TlsConnector) -> App {
        self.app().over(tls).with("perch-customer", "globex")
    }

    async fn refused_handshakes(&self, why: &str) -> f64 {
        self.metric(&format!("perch_handshakes_refused_total{{why=\"{why}\"}}")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_known_by_a_name_in_its_certificate() {
    let authority = Authority::new();
    let mut world = quiet(&authority).await;
    world.add_marked("uri", ["--certificate", "spiffe://example.org/payroll"], &[]).await;
    world.add_marked("dns", ["--certificate", "Payroll.Internal"], &[]).await;
    world.add_marked("common", ["--certificate", "cn:payroll"], &[]).await;
    world.open().await;
    let client = |names: &[SanType], common: Option<&str>| {
        authority.client(Some(&authority.vouch(names, common, |_| {})))
    };
    let good = [
        ("uri", client(&[spiffe("payroll")], None)),
        ("uri", client(&[spiffe("payroll"), dns("x.internal")], Some("payroll"))),
        ("dns", client(&[dns("x.internal"), dns("payroll.internal")], Some("payroll"))),
        ("common", client(&[], Some("payroll"))),
    ];
    for (_, tls) in &good {
        let answer = world.certified(tls).get(COMPANY).await;
        assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    }
    let sent = world.report().await["requests"].clone();
    let nobodys = [
        client(&[spiffe("other")], None),
        client(&[dns("other.internal")], Some("payroll")),
        client(&[spiffe("payroll"), spiffe("other")], None),
        client(&[spiffe("payroll"), dns("payroll.internal")], None),
        client(&[dns("*.internal")], None),
        client(&[], Some("spiffe://example.org/payroll")),
        client(&[], Some("payroll.internal")),
        client(&[], None),
    ];
    let first = world.certified(&nobodys[0]).get(COMPANY).await;
    assert_refused(&first, 403, "perch_certificate_refused", "caller_refused");
    assert_eq!(first.header("x-should-retry"), "false");
    for tls in &nobodys {
        // With somebody's key, and for whomever: a key is not asked for here.
        for (name, value) in [("perch-customer", "nobody"), ("perch-app-key", "perch_x")] {
            let answer = world.app().over(tls).with(name, value).get(COMPANY).await;
            assert_alike((&answer, &[]), (&first, &[]));
        }
    }
    assert_eq!(world.report().await["requests"], sent, "nothing was sent");
    world.stop().await;
    let lines = world.lines.all();
    let apps: Vec<&str> = lines.iter().filter_map(|line| line["app"].as_str()).collect();
    assert_eq!(apps, good.map(|(app, _)| app));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_certificate_that_is_believed_gets_no_connection() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut world = quiet(&authority).await;
    world.add_marked("payroll", ["--certificate", "spiffe://example.org/payroll"], &[]).await;
    world.open().await;
    let vouched =
        |change: &dyn Fn(&mut CertificateParams)| authority.vouch(&[spiffe("payroll")], None, change);
    let expired = vouched(&|p| p.not_after = date_time_ymd(2021, 1, 1));
    let early = vouched(&|p| p.not_before = date_time_ymd(2099, 1, 1));
    let servers = vouched(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let foreign = stranger.vouch(&[spiffe("payroll")], None, |_| {});
    let try_as = async |identity: Option<&Identity>| {
        let answer = world.certified(&authority.client(identity)).try_call("GET", COMPANY, "".into()).await;
        assert!(answer.is_err(), "{answer:?}");
    };
    let cases = [
        ("no_certificate", None),
        ("unknown_issuer", Some(&foreign)),
        ("expired", Some(&expired)),
        ("expired", Some(&early)),
        ("bad_certificate", Some(&servers)),
    ];
    for (why, identity) in cases {
        let before = world.refused_handshakes(why).await;
        try_as(identity).await;
        until(why, async || world.refused_handshakes(why).await > before).await;
    }
    // Who speaks no TLS, and who does not believe this door.
    assert!(world.for_customer("globex").try_call("GET", COMPANY, "".into()).await.is_err());
    let disbelieving = stranger.client(Some(&vouched(&|_| {})));
    assert!(world.certified(&disbelieving).try_call("GET", COMPANY, "".into()).await.is_err());
    until("both are counted", async || world.refused_handshakes("broken").await >= 2.0).await;
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
    assert!(world.lines.bytes().is_empty());
    let good = vouched(&|_| {});
    assert_eq!(world.certified(&authority.client(Some(&good))).get(COMPANY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_with_a_certificate_is_changed_and_revoked_beside_the_gateway() {
    let authority = Authority::new();
    let mut world = quiet(&authority).await;
    world.add_marked("payroll", ["--certificate", "spiffe://example.org/v1"], &[]).await;
    world.open().await;
    let client = |name: &str| authority.client(Some(&authority.vouch(&[spiffe(name)], None, |_| {})));
    let (one, two) = (world.certified(&client("v1")), world.certified(&client("v2")));
    assert_eq!((one.get(COMPANY).await.status, two.get(COMPANY).await.status), (200, 403));
    let changed =
        world.perch(&["apps", "change", "payroll", "--certificate", "spiffe://example.org/v2"]).await;
    assert!(changed.out.contains("certificate spiffe://example.org/v2"), "{changed:?}");
    until("the new name is good", async || two.get("/nowhere").await.status == 404).await;
    assert_eq!((one.get(COMPANY).await.status, two.get(COMPANY).await.status), (403, 200));
    world.revoke_app("payroll").await;
    until("the app has ended", async || two.get("/nowhere").await.status == 403).await;
    assert_eq!(two.get(COMPANY).await.code(), "perch_certificate_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_is_shown_without_a_restart_and_one_that_does_not_fit_is_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let mut world = quiet(&first).await;
    world.add_marked("payroll", ["--certificate", "spiffe://example.org/payroll"], &[]).await;
    world.open().await;
    let app =
        |by: &Authority| world.certified(&by.client(Some(&by.vouch(&[spiffe("payroll")], None, |_| {}))));
    let (old, new) = (app(&first), app(&second));
    assert_eq!(old.get(COMPANY).await.status, 200);
    let [cert, key, clients] = ["door.pem", "door.key", "clients.pem"].map(|name| world.path(name));
    // A key of another certificate's: what was read holds.
    let (cert_before, key_before) =
        (std::fs::read(&cert).expect("there"), std::fs::read(&key).expect("there"));
    second.certify("localhost", (2020, 2100)).write(&world.path("unused.pem"), &key);
    assert_eq!(old.get(COMPANY).await.status, 200);
    std::fs::write(&key, key_before).expect("writable");
    assert_eq!(std::fs::read(&cert).expect("there"), cert_before);
    // Both, and who vouches for apps.
    second.certify("localhost", (2020, 2100)).write(&cert, &key);
    std::fs::write(&clients, &second.pem).expect("writable");
    let is_served =
        async || new.try_call("GET", COMPANY, "".into()).await.is_ok_and(|answer| answer.status == 200);
    until("the new certificate is shown", is_served).await;
    assert!(old.try_call("GET", COMPANY, "".into()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_with_a_certificate_takes_keys_over_tls() {
    let authority = Authority::new();
    let mut world = quiet(&authority).await;
    let file = world.path("perch.toml");
    let text = std::fs::read_to_string(&file).expect("settings").replace("\"mtls\"", "\"key\"");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("apps.client_ca_file")).collect();
    std::fs::write(&file, lines.join("\n")).expect("writable");
    let key = world.add_app("payroll", &[]).await;
    world.open().await;
    let anybody = world.certified(&authority.client(None));
    assert_eq!(anybody.get(COMPANY).await.code(), "perch_app_key_required");
    let body = json!({ "requests": [{ "individual_id": "i" }] });
    let app = anybody.with("perch-app-key", &key);
    assert_eq!(app.get(COMPANY).await.status, 200);
    assert_eq!(app.post("/employer/individual", &body).await.status, 200);
    // A large body both ways, in many pieces.
    let large = app.call("POST", "/employer/individual", vec![b' '; 3 << 20].into()).await;
    assert_eq!(large.class(), "invalid_request", "{}", large.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_known_by_the_user_it_runs_as() {
    let world = World::with().scenario(SCENARIO).without_gateway().await;
    world.import().await;
    let (socket, me) = (world.path("proxy.sock"), nix::unistd::geteuid().as_raw());
    world.set_proxy(&format!("unix:{}", socket.display()));
    world.set("apps.auth = \"uid\"");
    let mut world = world;
    world.add_marked("other", ["--uid", "4000000001"], &[]).await;
    world.open().await;
    assert_eq!(std::fs::metadata(&socket).expect("it listens").permissions().mode() & 0o777, 0o660);
    let app = App::on(&socket).with("perch-customer", "globex");
    let refused = app.get(COMPANY).await;
    assert_refused(&refused, 403, "perch_uid_refused", "caller_refused");
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
    world.add_marked("payroll", ["--uid", &me.to_string()], &["--products", "company"]).await;
    until("it is known", async || app.get("/nowhere").await.status == 404).await;
    assert_eq!(app.get(COMPANY).await.status, 200);
    assert_eq!(app.get("/employer/directory").await.code(), "perch_app_forbidden");
    // Answers larger than any buffer, and bodies, travel there as well.
    let large = app.call("POST", COMPANY, vec![b' '; 3 << 20].into()).await;
    assert_eq!(large.status, 405, "{}", large.text());
    world.stop().await;
    assert!(!socket.exists());
    let apps: Vec<_> =
        world.lines.all().into_iter().filter_map(|line| line["app"].as_str().map(str::to_owned)).collect();
    assert!(!apps.is_empty() && apps.iter().all(|app| app == "payroll"), "{apps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_gives_an_app_one_name_and_one_user_that_no_other_has() {
    let world = World::with().without_gateway().await;
    let name = "spiffe://example.org/payroll";
    world.add_marked("payroll", ["--certificate", name], &["--uid", "4000000001"]).await;
    let shown = world.perch(&["apps", "show", "payroll", "-o", "json"]).await.json();
    assert_eq!((&shown["certificate"], &shown["uid"]), (&json!(name), &json!(4_000_000_001_u32)));
    assert!(shown["key_id"].is_null() && shown["key"].is_null(), "{shown}");
    let listed = world.perch(&["apps", "list"]).await;
    assert!(listed.out.contains("certificate spiffe://example.org/payroll, uid 4000000001"), "{listed:?}");
    let key = world.add_app("old", &[]).await;
    for (words, code, why) in [
        (&["add", "x", "--certificate", name][..], 1, "is app payroll's"),
        (&["add", "x", "--uid", "4000000001"], 1, "the user 4000000001 is app payroll's"),
        (&["change", "old", "--certificate", name], 1, "is app payroll's"),
        (&["add", "x", "--certificate", "*.internal"], 1, "--certificate is no DNS name"),
        (&["add", "x", "--uid", "65534"], 1, "--uid stands for every user"),
        (&["add", "x", "--uid=-1"], 2, "--uid"),
        (&["add", "x", "--uid", "7", "--key-file", "k"], 2, "--key-file"),
    ] {
        let ended = world.perch(&[&["apps"], words].concat()).await;
        assert!(ended.code == Some(code) && ended.err.contains(why), "{ended:?}");
    }
    // From a key to a certificate without another name.
    let changed =
        world.perch(&["apps", "change", "old", "--certificate", "cn:old", "-o", "json"]).await.json();
    assert_eq!((&changed["certificate"], &changed["key_id"]), (&json!("cn:old"), &json!(key[6..22])));
    // Who is revoked has nothing any more.
    assert_eq!(world.perch(&["apps", "revoke", "payroll"]).await.code, Some(0));
    world.add_marked("x", ["--certificate", name], &["--uid", "4000000001"]).await;
}
