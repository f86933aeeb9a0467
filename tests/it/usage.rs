//! `perch usage`: what Finch may bill for a month, held against its bill.

use crate::support::World;
use perch::policy::usage::{Month, csv};
use perch::telemetry::clock::unix_now;
use serde_json::{Value, json};

fn id_of(connected: &Value) -> String {
    connected["connection_id"].as_str().expect("an id").to_owned()
}

/// The flags of each connection, out of JSON.
fn flags_of(usage: &Value, id: &str) -> Vec<String> {
    let lines = usage["connections"].as_array().expect("a list");
    let line =
        lines.iter().find(|line| line["connection_id"] == id).unwrap_or_else(|| panic!("{id}: {usage}"));
    line["flags"]
        .as_array()
        .expect("flags")
        .iter()
        .map(|flag| flag.as_str().expect("a word").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_disagreement_with_a_bill_is_shown() {
    let world = World::with()
        .settings("merge.coalesce = false")
        .connection("idle", "CANARY-token-9c3e")
        .start()
        .await;
    let called = id_of(&world.connect("called", "gusto").await);
    let idle = "c-idle";
    let gone = id_of(&world.connect("gone", "gusto").await);
    for _ in 0..3 {
        assert_eq!(world.for_customer("called").get("/employer/company").await.status, 200);
    }
    let ended = world.operator().post(&format!("/api/connections/{gone}/disconnect"), &json!({})).await;
    assert_eq!(ended.json()["status"], "disconnected", "{}", ended.text());
    world.gateway.as_ref().expect("it runs").settle().await;
    std::fs::write(
        world.path("bill.csv"),
        format!("Company,Connection ID,Amount\nAcme,{called},10\nB,{gone},10\nC,ghost,10\n"),
    )
    .expect("a writable folder");

    let now = Month::of(unix_now());
    let told = world.perch(&["usage", "--bill", "bill.csv", "-o", "json"]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.all());
    let usage: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(
        (&usage["month"], &usage["is_over"], &usage["has_calls"]),
        (&json!(now.to_string()), &json!(false), &json!(true))
    );
    assert_eq!(flags_of(&usage, &called), Vec::<String>::new());
    // It was there before calls began to be counted: somebody may have called for it.
    assert_eq!(flags_of(&usage, idle), ["not_billed"]);
    assert!(usage["calls_since"].is_string() || usage["calls_since"].is_number(), "{usage}");
    // Disconnected in this month: it is still billed, and was billed.
    assert_eq!(flags_of(&usage, &gone), Vec::<String>::new());
    assert_eq!(flags_of(&usage, "ghost"), ["unknown"]);
    assert_eq!(
        (&usage["total"]["active"], &usage["total"]["billed"], &usage["total"]["calls"]),
        (&json!(3), &json!(3), &json!(5))
    );

    // In a later month what was disconnected before it is billed wrongly; in an earlier one nothing was there.
    let next = Month::of(now.end()).to_string();
    let told = world.perch(&["usage", "--month", &next, "--bill", "bill.csv", "-o", "json"]).await;
    let usage: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(flags_of(&usage, &gone), ["disconnected_but_billed"]);
    assert_eq!(flags_of(&usage, &called), ["unused"]);
    assert_eq!(flags_of(&usage, idle), ["unused", "not_billed"]);
    let told = world.perch(&["usage", "--month", "2020-01", "--bill", "bill.csv", "-o", "json"]).await;
    let usage: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(flags_of(&usage, &called), ["connected_later_but_billed"]);

    // The door says the same without a bill, and so do the other formats.
    let door = world.operator().get(&format!("/api/usage?month={now}")).await.json();
    assert_eq!((flags_of(&door, idle), &door["total"]["billed"]), (Vec::new(), &Value::Null));
    let table = world.perch(&["usage", "--bill", "bill.csv"]).await;
    for wanted in [
        called.as_str(),
        "ghost",
        "not_billed",
        "calls are known since ",
        "3 active connections, 3 billed, 5 calls",
        "1 unknown: ",
    ] {
        assert!(table.out.contains(wanted), "{wanted}: {}", table.out);
    }
    let told = world.perch(&["usage", "--bill", "bill.csv", "-o", "csv"]).await;
    let rows = csv::read(&told.out, ',');
    assert_eq!(rows.len(), 5, "{}", told.out);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()) && rows[0][3] == "connection_id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_that_is_none_and_a_month_that_is_none_are_refused() {
    let world = World::new().await;
    std::fs::write(world.path("bill.csv"), "company,amount\nAcme,10\n").expect("a writable folder");
    for (words, code, said) in [
        (
            vec!["usage", "--bill", "bill.csv"],
            1,
            "no column connection_id; its first line with several cells has \"company\", \"amount\"",
        ),
        (vec!["usage", "--bill", "absent.csv"], 1, "the bill absent.csv"),
        (vec!["usage", "--month", "2026-13"], 2, "a month is written as 2026-11"),
    ] {
        let told = world.perch(&words).await;
        assert_eq!(told.code, Some(code), "{words:?}: {}", told.all());
        assert!(told.err.contains(said) && told.out.is_empty(), "{words:?}: {}", told.all());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_connections_are_counted_and_nobody_is_called_unused() {
    let world =
        World::with().settings("ledger.keep = \"off\"").connection("acme", "CANARY-token-9c3e").start().await;
    let told = world.perch(&["usage", "--month", "2026-11"]).await;
    assert_eq!(told.code, Some(0), "{}", told.all());
    assert!(
        told.out.contains("1 active connections") && told.out.contains("no request ledger"),
        "{}",
        told.out
    );
    assert!(!told.out.contains("unused"), "{}", told.out);
    let bundle = world.perch(&["support", "acme"]).await;
    assert!(bundle.out.contains("there is no request ledger"), "{}", bundle.all());
}
