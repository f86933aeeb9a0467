//! A write that takes longer than the official SDKs wait, with their default settings: they give up after a
//! minute and send it again. Finch gets it once, and the app gets its answer.

use crate::sdk::{Sdk, step};
use crate::support::World;
use serde_json::{Value, json};

const SCENARIO: &str =
    "[[customer]]\nid = \"acme\"\nemployees = 2\n[[customer]]\nid = \"globex\"\nemployees = 2\n";

fn plan(customer: &str) -> Value {
    let writer = json!({ "id": customer, "access_token": format!("customer:{customer}") });
    json!({ "customers": [], "slow_write": writer })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the two numbers are what the run is for")]
async fn a_write_that_takes_longer_than_an_sdk_waits_is_carried_out_once() {
    let mut world = World::with().scenario(SCENARIO).settings("apps.writes = \"allow\"").start().await;
    world.import().await;
    world.fault(json!({ "operation": "create_benefit", "delay": "70s" })).await;
    // A minute and ten seconds of real time, which are the SDKs'; so both at once.
    let python = tokio::spawn(Sdk::Python.drive(world.proxy, plan("acme")));
    let node = tokio::spawn(Sdk::Node.drive(world.proxy, plan("globex")));
    let told = [("acme", python.await.expect("it ran")), ("globex", node.await.expect("it ran"))];
    let mut made = Vec::new();
    for (customer, report) in &told {
        let step = step(report, customer, "slow-write");
        assert_eq!((&step["outcome"], &step["status"]), (&json!("ok"), &json!(201)), "{step:#}");
        assert_eq!(step["volatile"]["perch-class"], "ok");
        made.push(step["benefit_id"].as_str().expect("an id").to_owned());
    }
    assert_ne!(made[0], made[1]);
    let report = world.report().await;
    let (arrivals, carried_out) =
        (&report["products"]["benefits"]["arrivals"], &report["carried_out"]["CreateBenefit"]);
    println!("two writes of 70 s: arrivals at Finch {arrivals}, carried out {carried_out}");
    assert_eq!((arrivals, carried_out), (&json!(2), &json!(2)), "each write once: {report:#}");
    // What Finch made is what the apps were told of.
    for (customer, id) in [("acme", &made[0]), ("globex", &made[1])] {
        let benefit = world.for_customer(customer).get(&format!("/employer/benefits/{id}")).await;
        assert_eq!((benefit.status, &benefit.json()["description"]), (200, &json!("Slow plan")));
    }
    assert_eq!(world.metric("perch_calls_merged_total{how=\"resend\"}").await, 2.0);
    world.stop().await;
    let lines = world.lines.all();
    for (customer, _) in &told {
        let writes: Vec<&Value> =
            lines.iter().filter(|l| l["customer"] == *customer && l["method"] == "POST").collect();
        let (resends, sent): (Vec<&Value>, Vec<&Value>) =
            writes.into_iter().partition(|l| l["resend_of"].is_string());
        assert_eq!((sent.len(), resends.len()), (1, 1), "{lines:#?}");
        assert_eq!((&sent[0]["attempts"], &sent[0]["client_gone"]), (&json!(1), &json!(true)));
        assert_eq!(resends[0]["resend_of"], sent[0]["request_id"]);
    }
}
