//! A Finch that breaks down over TLS, in HTTP/2 as in HTTP/1.1: one clear refusal each, a write is sent once, and retries stay
//! within their budget. U09, U11, U17 and U20 of the list, towards Finch.

use super::report::tell;
use crate::support::World;
use crate::support::tls::{Authority, TOKEN, TlsFinch};
use bytes::Bytes;
use serde_json::{Value, json};

/// The ways to break down, as the simulator takes them, and what an app is told.
fn faults() -> Vec<(&'static str, Value, u16)> {
    vec![
        ("U09 reset", json!({ "reset": true }), 502),
        ("U11 half", json!({ "truncated": true }), 502),
        ("U20 silence", json!({ "stall": true }), 504),
        ("U09 500", json!({ "status": 500 }), 500),
        ("U09 503", json!({ "status": 503 }), 503),
        ("U09 504", json!({ "status": 504 }), 504),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finch_that_breaks_down_is_told_clearly_in_both_protocols_and_a_write_is_sent_once() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let authority = Authority::new();
        let finch = TlsFinch::start(authority.certify("localhost", (2020, 4000)), protocols).await;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).expect("a writable folder");
        let settings = format!(
            "finch.ca_file = \"{}\"\nfinch.timeout = \"700ms\"\nmerge.coalesce = false\napps.writes = \"allow\"\n\
             shield.probe = \"off\"\nlimits.products.company = 1000\nlimits.products.benefits = 1000\nlimits.products.default = 1000\n\
             merge.resend_memory = \"0s\"",
            file.display()
        );
        let setup = World::with().connection("acme", TOKEN).finch(&finch.url()).settings(&settings);
        let world = setup.start().await;
        let app = world.for_customer("acme");
        for (id, fault, status) in faults() {
            for (method, path) in [("GET", "/employer/company"), ("POST", "/employer/benefits")] {
                let mut fault = fault.clone();
                (fault["method"], fault["path"]) = (method.into(), path.into());
                finch.fault(fault).await;
                let before = finch.arrived().len();
                let body =
                    if method == "GET" { Bytes::new() } else { Bytes::from_static(b"{\"type\":\"457\"}") };
                let answer = app.call(method, path, body).await;
                let told = answer.json();
                let attempts = finch.arrived().len() - before;
                finch.mend().await;
                let place = format!("Finch over {}", protocols[0]);
                let seen = format!("{method}: {} {}, {attempts} attempts", answer.status, answer.class());
                let is_well = answer.status == status
                    && told["perch"]["request_id"] == answer.header("perch-request-id")
                    && if method == "GET" { (1..=3).contains(&attempts) } else { attempts == 1 };
                tell(id, &place, &format!("{status}; a write once"), &seen, is_well);
                assert!(is_well, "{id} {place}: {seen}: {}", answer.text());
                assert!(!answer.text().contains(TOKEN));
            }
            assert_eq!(app.get("/employer/company").await.status, 200, "{id} {protocols:?}");
        }
    }
}
