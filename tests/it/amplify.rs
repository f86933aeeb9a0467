//! How often Finch is asked for one call of an official SDK with its default settings, while an error lasts: straight at
//! Finch, where the SDK's own loop decides, and through perch.

use crate::sdk::Sdk;
use crate::support::{TOKEN_MARKER, World};
use serde_json::{Value, json};

/// An error that lasts, and one call of an SDK that meets it.
struct Case {
    /// Its customer, who meets this error alone.
    customer: &'static str,
    fault: Value,
    call: &'static str,
    /// What both SDKs raise.
    raises: &'static str,
    class: &'static str,
    /// How often an SDK asks by itself.
    alone: u64,
    /// How often Finch may be asked through perch (Finch error guide; the rest is measured).
    through: u64,
}

fn cases() -> Vec<Case> {
    let case = |customer, fault, call, raises, class, (alone, through)| Case {
        customer,
        fault,
        call,
        raises,
        class,
        alone,
        through,
    };
    let preset = |preset: &str| json!({ "preset": preset });
    let (fault, auth) = ("InternalServerError", "AuthenticationError");
    vec![
        case("five-hundred", preset("server_error"), "company", fault, "finch_error", (3, 1)),
        case("not-built", preset("not_implemented"), "company", fault, "not_supported", (3, 1)),
        case("provider-down", preset("bad_gateway"), "company", fault, "provider_error", (3, 3)),
        case("finch-down", json!({ "status": 503 }), "company", fault, "finch_error", (3, 3)),
        case("slow-provider", preset("gateway_timeout"), "company", fault, "provider_error", (3, 3)),
        case("write-500", preset("server_error"), "benefit", fault, "finch_error", (3, 1)),
        case("write-503", json!({ "status": 503 }), "benefit", fault, "finch_error", (3, 1)),
        case("write-408", preset("client_closed"), "benefit", "APIStatusError", "finch_unreachable", (3, 1)),
        case("dead", preset("reauth"), "company", auth, "reauthentication_required", (1, 1)),
        case("gone", preset("disconnected"), "company", auth, "disconnected", (1, 1)),
        case("limited", preset("app_limit"), "directory", "RateLimitError", "rate_limited", (3, 3)),
    ]
}

/// A world in which each customer meets his error.
async fn world(cases: &[Case]) -> World {
    // Quota is not the subject, but for the directory: it can be asked once in a window, and a call waits less than
    // that, so that it is the SDK that waits.
    let mut scenario =
        "[limits]\nwindow = \"2s\"\n[limits.products]\ncompany = 0\ndirectory = 0\n".to_owned();
    let mut setup = World::with().settings(
        "apps.writes = \"allow\"\nlimits.products.company = 1000\nlimits.products.directory = 1\nlimits.window = \"2s\"\n\
         limits.wait.interactive = \"1s\"",
    );
    for case in cases {
        let customer = case.customer;
        scenario.push_str(&format!("[[customer]]\nid = \"{customer}\"\ntoken = \"{customer}\"\n"));
        setup = setup.connection(customer, &format!("{TOKEN_MARKER}-{customer}"));
    }
    let world = setup.scenario(&scenario).start().await;
    for case in cases {
        let mut fault = case.fault.clone();
        fault["customer"] = json!(case.customer);
        world.fault(fault).await;
    }
    world
}

fn plan(cases: &[Case], token: impl Fn(&str) -> String) -> Value {
    let probe = |case: &Case| json!({ "customer": case.customer, "access_token": token(case.customer), "call": case.call });
    json!({ "customers": [], "probe": cases.iter().map(probe).collect::<Vec<_>>() })
}

/// How often Finch was asked for each customer.
async fn asked(world: &World, cases: &[Case]) -> Vec<u64> {
    let mut connections = Vec::new();
    for connection in world.connections().await {
        connections.push((connection["customer_id"].clone(), connection["connection_id"].clone()));
    }
    let report = world.report().await;
    let recent = report["recent"].as_array().expect("a list");
    let count = |case: &Case| {
        let (_, id) = connections.iter().find(|(customer, _)| *customer == case.customer).expect("connected");
        recent.iter().filter(|seen| seen["connection_id"] == *id).count() as u64
    };
    cases.iter().map(count).collect()
}

#[expect(clippy::print_stdout, reason = "the table is for whoever runs it with --no-capture")]
async fn an_sdk_does_not_amplify_an_error(sdk: Sdk) {
    let cases = cases();
    let finch = world(&cases).await;
    let straight =
        sdk.drive(finch.finch, plan(&cases, |customer| format!("{TOKEN_MARKER}-{customer}"))).await;
    let alone = asked(&finch, &cases).await;
    let world = world(&cases).await;
    let through = sdk.drive(world.proxy, plan(&cases, |customer| format!("customer:{customer}"))).await;
    let behind = asked(&world, &cases).await;

    println!("{:<14} {:<8} {:>6} {:>8}  raises", "error", "call", "alone", "through");
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let (before, told) = (&straight["steps"][at], &through["steps"][at]);
        println!(
            "{:<14} {:<8} {:>6} {:>8}  {}",
            case.customer, case.call, alone[at], behind[at], told["class"]
        );
        if alone[at] != case.alone || behind[at] == 0 || behind[at] > case.through {
            wrong.push(format!(
                "{}: Finch was asked {} times without perch, and {} times through it",
                case.customer, alone[at], behind[at]
            ));
        }
        let raises = match (sdk, case.raises) {
            (Sdk::Node, "APIStatusError") => "APIError",
            (_, name) => name,
        };
        let perch = &told["volatile"]["perch"];
        let seen = (&told["class"], &perch["class"], &perch["origin"], &told["status"], &told["body"]);
        // Where Finch sends a bare text there is no body to compare.
        let body = if before["body"]["code"].is_null() { &told["body"] } else { &before["body"] };
        let wanted = (&json!(raises), &json!(case.class), &json!("finch"), &before["status"], body);
        if seen != wanted || before["class"] != raises {
            wrong.push(format!("{}: {seen:?}, not {wanted:?}, nor {}", case.customer, before["class"]));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    // The SDK's loop goes at the pace of the limit.
    assert_eq!(world.report().await["products"]["directory"]["worst_window"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_amplifies_no_error_through_perch() {
    an_sdk_does_not_amplify_an_error(Sdk::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_amplifies_no_error_through_perch() {
    an_sdk_does_not_amplify_an_error(Sdk::Node).await;
}
