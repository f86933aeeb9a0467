//! Finch's official SDKs, unchanged and with their default settings: what they see through perch is what they
//! see of Finch. `tests/sdk/README.md` tells the plan and the report.

use crate::support::{CLIENT_SECRET, TOKEN_MARKER, World};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Two customers who connect, and one whose login has ended.
const SCENARIO: &str = r#"
    seed = 11

    [[customer]]
    id = "acme"
    employees = 5
    token = "acme"

    [[customer]]
    id = "globex"
    providers = ["bamboo_hr"]
    employees = 4
    token = "globex"

    [[customer]]
    id = "broken"
    employees = 2
    status = "reauth"
    token = "broken"
"#;

/// One of the official SDKs.
#[derive(Debug, Clone, Copy)]
pub enum Sdk {
    Python,
    Node,
}

impl Sdk {
    /// Runs the driver against an address.
    pub async fn drive(self, address: SocketAddr, plan: Value) -> Value {
        tokio::task::spawn_blocking(move || self.run(address, &plan)).await.expect("the driver ran")
    }

    fn run(self, address: SocketAddr, plan: &Value) -> Value {
        let (program, script) = match self {
            Sdk::Python => (installed("python/bin/python"), "tests/sdk/python/drive.py"),
            Sdk::Node => {
                installed("node/node_modules/@tryfinch/finch-api");
                (PathBuf::from("node"), "tests/sdk/node/drive.mjs")
            }
        };
        let mut command = Command::new(&program);
        command.arg(root().join(script)).env("FINCH_BASE_URL", format!("http://{address}"));
        // What the machine has set for its own use must not decide where the SDK goes.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name);
        }
        for name in ["FINCH_CUSTOM_HEADERS", "FINCH_CLIENT_ID", "FINCH_CLIENT_SECRET", "FINCH_LOG"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|why| panic!("{} does not start ({why}): {HOW_TO_INSTALL}", program.display()));
        // A driver that ended without reading says why on stderr.
        let _ = child.stdin.take().expect("a pipe").write_all(plan.to_string().as_bytes());
        let done = child.wait_with_output().expect("it ends");
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{script} failed:\n{complaint}");
        serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{script} wrote no report: {why}"))
    }
}

const HOW_TO_INSTALL: &str = "the official SDKs are installed by `make test`, or by scripts/sdks.sh alone";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(path: &str) -> PathBuf {
    let path = root().join(".cache/sdk").join(path);
    assert!(path.exists(), "{} is missing: {HOW_TO_INSTALL}", path.display());
    path
}

fn plan(secret: &str, token: impl Fn(&str) -> String) -> Value {
    json!({
        "client_id": "sim-client", "client_secret": secret, "connect": true,
        "customers": [
            { "id": "acme", "provider": "gusto", "access_token": token("acme") },
            { "id": "globex", "provider": "bamboo_hr", "access_token": token("globex") },
        ],
        "reauth": { "id": "broken", "access_token": token("broken"), "repair": true },
    })
}

/// The report without what may differ.
fn lasting(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| *name != "volatile");
            Value::Object(kept.map(|(name, value)| (name.clone(), lasting(value))).collect())
        }
        Value::Array(items) => items.iter().map(lasting).collect(),
        other => other.clone(),
    }
}

/// What the report tells of a customer's step.
pub fn step<'r>(report: &'r Value, customer: &str, step: &str) -> &'r Value {
    let steps = report["steps"].as_array().expect("steps");
    let found = steps.iter().find(|s| s["customer"] == customer && s["step"] == step);
    found.unwrap_or_else(|| panic!("no step {step} of {customer} in {report:#}"))
}

/// Twice the same plan, from the same seed: straight at Finch, then through perch.
async fn both(sdk: Sdk) -> (Value, Value, World) {
    let finch = World::with().scenario(SCENARIO).start().await;
    let real = plan(CLIENT_SECRET, |customer| format!("{TOKEN_MARKER}-{customer}"));
    let straight = sdk.drive(finch.finch, real).await;
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    let references = plan("unused", |customer| format!("customer:{customer}"));
    let through = sdk.drive(world.proxy, references).await;
    (straight, through, world)
}

async fn an_sdk_sees_finch_through_perch(sdk: Sdk) {
    let (straight, through, mut world) = both(sdk).await;
    assert_eq!(lasting(&through), lasting(&straight), "straight at Finch is on the right");

    // The plan did what it is meant to do.
    for customer in ["acme", "globex"] {
        for name in ["session", "exchange", "company", "introspect", "directory", "individual", "employment"]
        {
            assert_eq!(step(&through, customer, name)["outcome"], "ok", "{name} of {customer}");
        }
        for name in ["payment", "pay-statement", "by-plan-token"] {
            assert_eq!(step(&through, customer, name)["outcome"], "ok", "{name} of {customer}");
        }
        assert!(step(&through, customer, "directory")["pages"].as_u64() >= Some(2));
        let missing = step(&through, customer, "not-found");
        assert_eq!(
            (missing["status"].as_u64(), missing["class"].as_str()),
            (Some(404), Some("NotFoundError"))
        );
        assert_eq!(missing["volatile"]["perch"]["class"], "invalid_request");
        let partial = step(&through, customer, "partial");
        assert_eq!((&partial["outcome"], &partial["status"]), (&json!("ok"), &json!(200)));
        let codes: Vec<_> = partial["items"].as_array().expect("items").iter().map(|i| &i["code"]).collect();
        assert!(codes.contains(&&json!(200)) && codes.contains(&&json!(404)), "{partial:#}");
        assert_eq!(partial["volatile"]["perch-class"], "partial");
        assert_eq!(partial["volatile"]["perch-batch"], "total=2, failed=1, pending=0");
    }
    let ended = step(&through, "broken", "reauth");
    assert_eq!((ended["status"].as_u64(), ended["class"].as_str()), (Some(401), Some("AuthenticationError")));
    let told = &ended["volatile"]["perch"];
    assert_eq!(told["class"], "reauthentication_required");
    assert_eq!(
        (&told["origin"], &told["customer"], &told["retryable"]),
        (&json!("finch"), &json!("broken"), &json!(false))
    );
    assert_eq!(step(&through, "broken", "repaired")["outcome"], "ok");

    // The app holds references and nothing else.
    let tokens = through["volatile"]["tokens"].as_array().expect("tokens");
    assert!(tokens.len() >= 6, "{tokens:?}");
    for token in tokens.iter().map(|t| t.as_str().expect("a text")) {
        assert!(token.starts_with("customer:") || token.starts_with("connection:"), "{token}");
    }
    assert!(!through.to_string().contains(TOKEN_MARKER), "a token of Finch's reached the SDK");
    let real = straight["volatile"]["tokens"].as_array().expect("tokens");
    assert!(real.iter().all(|t| t.as_str().is_some_and(|t| t.contains(TOKEN_MARKER))), "{real:?}");

    // Finch saw nothing odd and refused nothing for a limit.
    let report = world.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
    assert_eq!(report["rate_limited"], json!({}), "{report:#}");
    world.stop().await;
    let lines = String::from_utf8(world.lines.bytes()).expect("text");
    assert!(!lines.contains(TOKEN_MARKER) && !lines.contains(CLIENT_SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_sees_finch_through_perch() {
    an_sdk_sees_finch_through_perch(Sdk::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_sees_finch_through_perch() {
    an_sdk_sees_finch_through_perch(Sdk::Node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_keeps_every_member_that_finch_gave_it() {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    for (customer, path) in [
        ("acme", "/employer/benefits/00000000-0000-4000-8000-00000000dead"),
        ("broken", "/employer/company"),
        ("acme", "/employer/payment?start_date=nonsense&end_date=2024-01-01"),
    ] {
        let token = format!("Bearer {TOKEN_MARKER}-{customer}");
        let of_finch = world
            .straight()
            .with("authorization", &token)
            .with("finch-api-version", "2020-09-17")
            .get(path)
            .await;
        let of_perch = world.for_customer(customer).get(path).await;
        assert!(of_finch.status >= 400, "{path} is no error: {}", of_finch.text());
        assert_eq!(of_perch.status, of_finch.status);
        assert_eq!(of_perch.header("content-type"), "application/json");
        let mut told = of_perch.json();
        let added = told.as_object_mut().expect("an object").remove("perch").expect("perch's member");
        assert_eq!(told, of_finch.json(), "{path}");
        assert_eq!(added["origin"], "finch");
        assert_eq!(added["customer"], customer);
        assert_eq!(added["request_id"], of_perch.header("perch-request-id"));
        assert_eq!(added["finch_request_id"], of_perch.header("finch-request-id"));
        assert_eq!(added["class"], of_perch.class());
        assert_eq!(added["attempts"], 1);
        assert!(added["connection_id"].is_string() && added["action"].is_string(), "{added}");
    }
}
