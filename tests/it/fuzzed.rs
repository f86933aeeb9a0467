//! Bodies of any kind from Finch, through the whole gateway: a good answer keeps every byte, an error stays readable,
//! and what is said beside either is true.

use crate::support::World;
use crate::support::client::Answer;
use crate::support::raw::{Act, RawFinch};
use perch::policy::Class;
use perch::policy::problem::{Evidence, Relayed};
use perch::policy::resend::Resend;
use perch::types::{RequestId, UnixMillis};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many bodies of each kind go through.
const BODIES: usize = 150;

/// What Finch's answers are made of, and what they are not.
fn bodies() -> Vec<Vec<u8>> {
    let deep = |open: &str, close: &str| open.repeat(20_000) + "1" + &close.repeat(20_000);
    let item = r#"{"individual_id":"a","code":200,"body":{"id":"a"}}"#;
    let whole = format!(r#"{{"responses":[{item},{item}]}}"#);
    let mut all: Vec<Vec<u8>> = [
        whole.clone(),
        format!("[{item}]"),
        format!(" \n{whole}\t "),
        format!("{whole}{whole}"),
        "\u{feff}[]".to_owned(),
        deep("[", "]"),
        deep(r#"{"responses":"#, "}"),
        format!(r#"[{{"code":500,"body":{}}}]"#, deep("[", "]")),
        format!(r#"{{"code":500,"x":{}}}"#, deep("[", "]")),
        format!(r#"[{}{item}]"#, format!("{item},").repeat(10_000)),
        format!("[{}1]", "1,".repeat(100_000)),
        format!(r#"[{{"code":{}}}]"#, "9".repeat(5_000)),
        format!(r#"[{{"code":-{}.5e-3}}]"#, "9".repeat(300)),
        r#"[{"code":1e999},{"code":-1e999}]"#.to_owned(),
        r#"[{"code":5e2},{"code":-0},{"code":"500"},{"code":[500]},{"code":{"code":500}},{"code":true}]"#
            .to_owned(),
        r#"{"responses":[{"code":500}],"responses":[{"code":200}]}"#.to_owned(),
        r#"{"responses":{},"body":[{"code":500}],"statusCode":500}"#.to_owned(),
        r#"{"statusCode":1e999}"#.to_owned(),
        r#"{"paging":{"count":1e300,"offset":-1e300},"individuals":[null,1,{}]}"#.to_owned(),
        r#"{"paging":{"count":-1,"offset":null},"individuals":[]}"#.to_owned(),
        r#"{"code":500,"name":"a\u0000b\ud800","message":"\"\\\r\n"}"#.to_owned(),
        r#"{"perch":{"class":"ok"},"code":500,"code":501}"#.to_owned(),
        "null".to_owned(),
        "\"\"".to_owned(),
        "0".to_owned(),
        String::new(),
    ]
    .map(String::into_bytes)
    .into();
    all.extend([
        b"\xff\xfe\x00".to_vec(),
        b"[{\"code\":500,\"body\":\"\xc3\x28\"}]".to_vec(),
        vec![0; 1_000],
    ]);
    all.extend((0..whole.len()).step_by(7).map(|cut| whole.as_bytes()[..cut].to_vec()));
    all
}

/// The same at random, the same in every run.
fn random_bodies() -> Vec<Vec<u8>> {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let body = any_body();
    (0..BODIES).map(|_| body.new_tree(&mut runner).expect("a body").current()).collect()
}

/// Bytes, words of JSON in any order, and batches.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"responses\"",
        "\"code\"",
        "\"body\"",
        "\"individual_id\"",
        "200",
        "500",
        "1e9",
        "null",
        "\"a\"",
        "\u{e9}",
        " ",
        "\"paging\"",
        "\"statusCode\"",
        "\"message\"",
    ]);
    let soup = prop::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..120);
    let code = prop::sample::select(vec![
        "200", "202.0", "404", "500", "null", "\"500\"", "{}", "-1", "[[]]", "0.5e3",
    ]);
    let item = (code, "[ab]", any::<bool>()).prop_map(|(code, id, is_null)| match is_null {
        true => "null".to_owned(),
        false => format!(r#"{{"individual_id":"{id}","code":{code},"body":{{"x":[1.0,{code}]}}}}"#),
    });
    let member = prop::sample::select(vec!["responses", "body", "statusCode", ""]);
    let batch = (prop::collection::vec(item, 0..6), member).prop_map(|(items, member)| {
        let items = items.join(" ,");
        let text =
            if member.is_empty() { format!("[{items}]") } else { format!("{{\"{member}\":[{items}]}}") };
        text.into_bytes()
    });
    prop_oneof![soup, noise, batch]
}

/// How many items a body has, read by another way than perch's own.
fn items(body: &[u8], member: &str) -> Option<usize> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let list = value.get(member).unwrap_or(&value).as_array()?;
    list.iter().all(|item| item.is_object() || item.is_null()).then_some(list.len())
}

fn total(answer: &Answer) -> Option<usize> {
    let counts = answer.header("perch-batch");
    let first = counts.split(',').next().and_then(|first| first.strip_prefix("total="));
    first.map(|total| total.parse().unwrap_or_else(|_| panic!("{counts}")))
}

/// The members of an object as they are written, however deep or large they are.
fn members(body: &[u8]) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_slice(body).ok()
}

/// A world in which calls of any number are made, and what it calls.
async fn world() -> (World, std::sync::Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let limits =
        ["individual", "directory", "default"].map(|p| format!("limits.products.{p} = 100000\n")).concat();
    let setup = World::with().connection("acme", "CANARY-token").finch(&finch.url());
    let world = setup
        .settings(&limits)
        .settings("limits.ip.requests = 100000\napps.writes = \"allow\"")
        .start()
        .await;
    (world, finch)
}

fn says(status: &str, body: &[u8]) -> Act {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Act::Write([head.as_bytes(), body].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_answer_keeps_every_byte_and_its_items_are_counted_right() {
    let (world, finch) = world().await;
    let app = world.for_customer("acme");
    let request = json!({ "requests": [{ "individual_id": "a" }] }).to_string();
    let calls = [
        ("POST", "/employer/individual", "200 OK", request.as_str()),
        ("GET", "/employer/benefits/b/individuals", "207 Multi-Status", ""),
        ("GET", "/jobs/manual/j", "200 OK", ""),
        ("GET", "/employer/directory", "200 OK", ""),
        ("POST", "/forward", "200 OK", "{}"),
        ("POST", "/employer/employment", "202 Accepted", request.as_str()),
    ];
    let mut counted = 0;
    for body in bodies().into_iter().chain(random_bodies()) {
        for (method, path, status, sent) in calls {
            finch.next([says(status, &body)]);
            let answer = app.call(method, path, sent.to_owned().into()).await;
            let shown = || format!("{path} {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
            assert_eq!(answer.status.to_string(), status[..3], "{}", shown());
            assert!(answer.bytes == body, "{}", shown());
            if let Some(total) = total(&answer) {
                counted += 1;
                let expected = match path {
                    "/forward" => Some(1),
                    "/jobs/manual/j" => items(&body, "body"),
                    _ => items(&body, "responses"),
                };
                // What is nested deeper than this reader goes, it cannot count.
                assert!(expected.is_none_or(|n| n == total), "{total}, not {expected:?}: {}", shown());
            }
        }
    }
    assert!(counted > 100, "{counted} of them were batches");
    assert_eq!(app.get("/employer/company").await.text(), "{\"id\":\"c\"}", "it still serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_repaired_keeps_what_was_good() {
    let (world, finch) = world().await;
    let app = world.for_customer("acme").with("perch-repair", "pending");
    let request = json!({ "requests": [{ "individual_id": "a" }, { "individual_id": "b" }] }).to_string();
    let first = r#"{"responses":[{"individual_id":"a","code":500},{"individual_id":"b","code":200,"body":{"n":1.50}}]}"#;
    for body in bodies().into_iter().chain(random_bodies()) {
        finch.next([says("200 OK", first.as_bytes())]);
        finch.next([says("200 OK", &body)]);
        let answer = app.call("POST", "/employer/individual", request.clone().into()).await;
        finch.forget();
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]);
        assert_eq!(answer.json()["responses"].as_array().map(Vec::len), Some(2), "{shown}");
        assert!(
            answer.text().ends_with(r#",{"individual_id":"b","code":200,"body":{"n":1.50}}]}"#),
            "{shown}"
        );
        let is_repaired = answer.header("perch-repaired") == "1";
        assert!(is_repaired || answer.text() == first, "{shown}");
        assert_eq!(total(&answer), Some(2), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_any_kind_is_one_object_with_all_it_came_with() {
    let (world, finch) = world().await;
    let app = world.for_customer("acme");
    // Of an error no more is read than this: the rest is not kept.
    let bodies = bodies().into_iter().chain(random_bodies()).filter(|body| body.len() <= 64 * 1024);
    for body in bodies {
        for status in ["400 Bad Request", "422 Unprocessable Content"] {
            finch.next([says(status, &body)]);
            let answer = app.get("/employer/company").await;
            let shown = || String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            assert_eq!(answer.status.to_string(), status[..3], "{}", shown());
            assert_eq!(answer.header("content-type"), "application/json");
            let Some(object) = members(&answer.bytes) else { panic!("no object: {}", shown()) };
            let perch: Value = serde_json::from_str(object["perch"].get()).expect("JSON");
            assert_eq!(perch["origin"], "finch", "{}", shown());
            for (name, value) in
                members(&body).unwrap_or_default().iter().filter(|(name, _)| *name != "perch")
            {
                assert_eq!(object[name].get(), value.get(), "{name}: {}", shown());
            }
        }
    }
}

/// What perch makes of an error body by itself, without a wire.
fn relayed(body: &[u8]) -> Vec<u8> {
    let request_id = RequestId::new("r").expect("an id");
    let evidence = Evidence {
        request_id: &request_id,
        finch_request_id: None,
        customer: None,
        connection_id: None,
        attempts: 1,
        now: UnixMillis(0),
    };
    let relayed = Relayed {
        class: Class::FinchError,
        status: 500,
        resend: Resend::No,
        wait: None,
        scope: None,
        since: None,
        reauth_url: None,
        action: None,
    };
    relayed.to_body(body, evidence)
}

proptest! {
    #![proptest_config(Config { cases: 3_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn an_error_body_is_never_lost(body in any_body(), name in "[a-z_]{1,8}", value in any::<f64>()) {
        let wrapped = format!("{{\"{name}\":{value:?},\"x\":{}}}", String::from_utf8_lossy(&body));
        for body in [body.as_slice(), wrapped.as_bytes()] {
            let out = relayed(body);
            let object = members(&out).expect("an object");
            prop_assert!(object.contains_key("perch"));
            for (name, value) in members(body).unwrap_or_default().iter().filter(|(name, _)| *name != "perch") {
                prop_assert_eq!(object[name].get(), value.get());
            }
        }
    }
}
