//! The way to Finch under TLS: whom perch believes, what it says in which protocol, and that a token is
//! said to nobody else. S18 of the attack list.

use crate::support::tls::{Authority, Identity, TOKEN, TlsFinch};
use crate::support::{Setup, World};
use http::Version;
use serde_json::json;
use std::sync::Arc;

const YEARS: (i32, i32) = (2020, 4000);

/// A world whose Finch shows `identity`, and which trusts `trusted` beside the system.
async fn world(
    identity: Identity,
    protocols: &[&str],
    trusted: Option<&Authority>,
) -> (World, Arc<TlsFinch>, tempfile::TempDir) {
    let finch = TlsFinch::start(identity, protocols).await;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut setup: Setup = World::with().connection("acme", TOKEN).finch(&finch.url());
    // Identical calls are meant to reach Finch, each of them.
    setup = setup.settings("merge.coalesce = false\nretry.attempts = 1");
    if let Some(authority) = trusted {
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).expect("a writable folder");
        setup = setup.settings(&format!("finch.ca_file = \"{}\"", file.display()));
    }
    (setup.start().await, finch, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_finch_is_called_over_what_it_speaks_and_its_connection_is_kept() {
    let authority = Authority::new();
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let identity = authority.certify("localhost", YEARS);
        let (mut world, finch, _dir) = world(identity, protocols, Some(&authority)).await;
        let app = world.for_customer("acme");
        let app = app.with("x-forwarded-for", "EVIL").with("cookie", "EVIL").with("te", "trailers");
        let company = app.get("/employer/company").await;
        assert_eq!((company.status, company.class()), (200, "ok"), "{protocols:?}: {}", company.text());
        let people = app.get("/employer/directory").await.json();
        let id = people["individuals"][0]["id"].as_str().expect("somebody").to_owned();
        let asked = json!({ "requests": [{ "individual_id": id }] });
        let person = app.post("/employer/individual", &asked).await;
        assert_eq!((person.status, person.header("perch-batch")), (200, "total=1, failed=0, pending=0"));
        let refused = app.post("/employer/individual", &json!({ "requests": "x" })).await;
        assert_eq!(refused.json()["perch"]["origin"], "finch", "{}", refused.text());
        // pingora's pool now and then opens another connection although one is there.
        let (connections, handshakes) = finch.connections();
        assert!(connections < 4 && handshakes == connections, "{protocols:?}: {connections} for four calls");
        let arrived = finch.arrived();
        assert_eq!(arrived.len(), 4);
        for request in &arrived {
            assert_eq!(request.version, version, "{protocols:?}");
            let text = format!("{:?}", request.headers);
            assert!(!text.contains("EVIL"), "{text}");
            let authorizations: Vec<_> = request.headers.get_all("authorization").iter().collect();
            assert_eq!(authorizations, [format!("Bearer {TOKEN}").as_str()]);
            for name in ["connection", "keep-alive", "transfer-encoding", "te", "upgrade"] {
                assert!(!request.headers.contains_key(name), "{protocols:?}: {name} in {text}");
            }
            let said = match version {
                Version::HTTP_2 => {
                    assert!(!request.headers.contains_key("host"), "{text}");
                    assert_eq!(request.uri.scheme_str(), Some("https"));
                    request.uri.authority().expect("an authority").to_string()
                }
                _ => request.headers["host"].to_str().expect("text").to_owned(),
            };
            assert_eq!(said, finch.authority());
        }
        assert_eq!(arrived[2].body, asked.to_string());
        assert_eq!(arrived[2].headers["content-length"], asked.to_string().len().to_string());
        assert!(!arrived[0].headers.contains_key("content-length"));
        world.stop().await;
        assert_eq!(world.lines.all().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_over_http_2_are_all_answered() {
    let authority = Authority::new();
    let identity = authority.certify("localhost", YEARS);
    let (world, finch, _dir) = world(identity, &["h2"], Some(&authority)).await;
    let app = world.for_customer("acme");
    assert_eq!(app.get("/employer/company").await.status, 200);
    let calls = (0..10).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { app.get("/employer/company").await.status })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    assert_eq!(finch.arrived().len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finch_that_cannot_prove_its_name_gets_no_token() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = || ours.certify("localhost", YEARS);
    let cases = [
        ("nobody vouches for it", good(), None),
        ("somebody else vouches for it", theirs.certify("localhost", YEARS), Some(&ours)),
        ("another name", ours.certify("api.tryfinch.com.evil.test", YEARS), Some(&ours)),
        ("a name below", ours.certify("finch.localhost", YEARS), Some(&ours)),
        ("an address", ours.certify("127.0.0.1", YEARS), Some(&ours)),
        ("expired", ours.certify("localhost", (2020, 2021)), Some(&ours)),
        ("not yet good", ours.certify("localhost", (3000, 4000)), Some(&ours)),
    ];
    for (what, identity, trusted) in cases {
        let (mut world, finch, _dir) = world(identity, &["h2", "http/1.1"], trusted).await;
        let answer = world.for_customer("acme").get("/employer/company").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (502, "perch_finch_unreachable"),
            "{what}: {}",
            answer.text()
        );
        assert!(answer.text().contains("TLS failed"), "{what}: {}", answer.text());
        assert_eq!(answer.header("perch-attempts"), "0", "{what}");
        assert!(answer.header("ratelimit").contains(";r=20;"), "{what}: {}", answer.header("ratelimit"));
        assert_eq!(finch.arrived().len(), 0, "{what}");
        assert_eq!(finch.connections().0, 1, "{what}: it was asked");
        world.stop().await;
        let lines = world.lines.all();
        assert_eq!((lines.len(), &lines[0]["class"]), (1, &json!("finch_unreachable")), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finch_without_tls_behind_an_https_address_gets_no_token() {
    let finch = crate::support::raw::RawFinch::start().await;
    let url = finch.url().replace("http://", "https://");
    // A handshake that is never answered ends with the time for connecting.
    let setup = World::with().connection("acme", TOKEN).settings("finch.connect_timeout = \"200ms\"");
    let mut world = setup.finch(&url).start().await;
    let answer = world.for_customer("acme").get("/employer/company").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "perch_finch_unreachable"),
        "{}",
        answer.text()
    );
    assert!(finch.requests().iter().all(|bytes| !bytes.contains("CANARY")));
    world.stop().await;
    assert_eq!(world.lines.all().len(), 1);
}
