//! Finch's error catalogue through a real gateway, row by row: what an app is told, what its SDK is told, and how
//! often Finch is asked.

use crate::support::{Answer, TOKEN_MARKER, World};
use perch::finch::catalogue::Code;
use perch::finch::error::FinchError;
use perch::telemetry::clock::unix_now;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

const SCENARIO: &str = "[[customer]]\nid = \"acme\"\ntoken = \"acme\"\nemployees = 2\n";
const COMPANY: &str = "/employer/company";
const BENEFITS: &str = "/employer/benefits";

/// What an app and its SDK are told about calling again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Never: `retryable` is false, and the SDK must not.
    Never,
    /// Later, nobody knows when; the SDK must not.
    Later,
    /// At this time, beyond a minute: the SDK must not, the body says when.
    At,
    /// After so many seconds, which the SDK obeys.
    Soon,
}

/// One way in which Finch says no.
struct Row {
    /// The simulator's fault.
    fault: Value,
    status: u16,
    class: &'static str,
    scope: Option<&'static str>,
    /// Of a read, and of a write.
    told: [Told; 2],
    /// How often Finch may be asked for one read. A write is sent once.
    reads: u64,
}

/// An error that stays until somebody mends something.
fn fixed(preset: &str, status: u16, class: &'static str) -> Row {
    Row {
        fault: json!({ "preset": preset }),
        status,
        class,
        scope: None,
        told: [Told::Never, Told::Never],
        reads: 1,
    }
}

/// One that passes; a write may have been carried out all the same.
fn passing(preset: &str, status: u16, class: &'static str, reads: u64) -> Row {
    Row { told: [Told::Later, Told::Never], reads, ..fixed(preset, status, class) }
}

/// A limit: nothing was carried out.
fn limit(preset: &str, scope: &'static str, told: Told) -> Row {
    Row { scope: Some(scope), told: [told; 2], ..fixed(preset, 429, "rate_limited") }
}

/// The scopes that the operator is told of, sorted.
async fn scopes_held(world: &World) -> Vec<String> {
    let all = world.operator().get("/api/holds").await.json();
    let mut all: Vec<String> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|h| h["scope"].as_str().expect("a word").to_owned())
        .collect();
    all.sort();
    all
}

impl Row {
    /// What must not be called after it.
    fn holds(&self) -> &'static [&'static str] {
        match (self.status, self.scope, self.class) {
            (402, ..) => &["application"],
            (_, Some("product"), _) => &["product"],
            (_, Some("ip"), _) => &["ip"],
            // Connecting, and exchanging codes.
            (_, Some("auth"), _) => &["product", "product"],
            (_, Some("provider"), _) => &["connection"],
            // It is not a forced refresh that was refused.
            (_, Some("refresh_quota"), _) => &[],
            (_, None, "reauthentication_required" | "account_setup_required" | "disconnected") => &["login"],
            (_, None, _) => &[],
            (_, Some(other), _) => panic!("no scope is called {other}"),
        }
    }

    /// The same in words of its own.
    fn saying(self, body: Value) -> Row {
        Row { fault: json!({ "status": self.status, "body": body }), ..self }
    }
}

fn rows() -> Vec<Row> {
    let at = |secs| unix_now().plus(Duration::from_secs(secs)).to_string();
    let in_half_a_minute = json!({ "allowed_refreshes": 1, "remaining_refreshes": 0, "retry_at": at(30) });
    let in_half_an_hour = json!({ "allowed_refreshes": 1, "remaining_refreshes": 0, "retry_at": at(1_800) });
    let hidden = json!({ "code": 500.0, "name": "server_error", "finch_code": "reauthenticate_user" });
    let shouted =
        json!({ "code": 401, "name": 7, "finch_code": " Account_Setup_Required ", "extra": [1.50, null] });
    vec![
        fixed("invalid_grant", 400, "invalid_request"),
        fixed("bad_request", 400, "invalid_request"),
        fixed("invalid_request", 400, "invalid_request"),
        fixed("very_old", 400, "invalid_request"),
        fixed("invalid_request401", 401, "invalid_request"),
        fixed("invalid_token", 401, "disconnected"),
        fixed("disconnected", 401, "disconnected"),
        fixed("unauthorized", 401, "application_blocked"),
        fixed("invalid_client", 401, "application_blocked"),
        fixed("reauth", 401, "reauthentication_required"),
        fixed("session_expired", 401, "reauthentication_required"),
        fixed("invalid_mfa_code", 401, "reauthentication_required"),
        fixed("locked_out", 401, "reauthentication_required"),
        fixed("no_valid_accounts", 401, "reauthentication_required"),
        fixed("", 500, "reauthentication_required").saying(hidden),
        fixed("account_setup_required", 401, "account_setup_required"),
        fixed("", 401, "account_setup_required").saying(shouted),
        fixed("payment_required", 402, "application_blocked"),
        fixed("permissions", 403, "permission_denied"),
        fixed("insufficient_scope", 403, "permission_denied"),
        fixed("insufficient_permission", 403, "permission_denied"),
        fixed("account_update_required", 403, "permission_denied"),
        fixed("access_denied", 403, "permission_denied"),
        fixed("not_found", 404, "invalid_request"),
        fixed("benefit_not_found", 404, "invalid_request"),
        fixed("individual_not_found", 404, "invalid_request"),
        fixed("payment_not_found", 404, "invalid_request"),
        fixed("enrollment_not_found", 404, "invalid_request"),
        fixed("resource_not_found", 404, "invalid_request"),
        passing("client_closed", 408, "finch_unreachable", 2),
        // SDKs repeat a 409; Finch is not known to send one.
        fixed("", 409, "invalid_request").saying(json!({ "message": "a conflict" })),
        fixed("unknown_code", 418, "invalid_request"),
        fixed("unsupported_parameters", 422, "invalid_request"),
        fixed("unsupported_paramters", 422, "invalid_request"),
        fixed("unprocessable_parameters", 422, "invalid_request"),
        fixed("invalid_employee_enrollment", 422, "invalid_request"),
        fixed("not_supported_by_provider", 422, "not_supported"),
        limit("app_limit", "product", Told::Soon),
        limit("token_limit", "product", Told::Soon),
        limit("legacy_limit", "product", Told::Soon),
        limit("ip_limit", "ip", Told::At),
        limit("auth_ip_limit", "auth", Told::At),
        limit("provider_limit", "provider", Told::Soon),
        limit("", "refresh_quota", Told::Soon).saying(in_half_a_minute),
        limit("", "refresh_quota", Told::At).saying(in_half_an_hour),
        passing("server_error", 500, "finch_error", 1),
        passing("old_names", 500, "finch_error", 1),
        fixed("not_implemented", 501, "not_supported"),
        fixed("not_implemented_old", 501, "not_supported"),
        passing("bad_gateway", 502, "provider_error", 3),
        passing("", 503, "finch_error", 3).saying(json!("<html>maintenance</html>")),
        passing("gateway_timeout", 504, "provider_error", 3),
    ]
}

/// A world whose one customer meets this fault. One for each call: what an answer holds up for others is another
/// test's matter.
async fn world(row: &Row) -> World {
    // Limits are waited for as long as that; two pauses before further attempts may together take more than a second.
    let patience = if row.status == 429 { "1s" } else { "15s" };
    let world = World::with()
        .scenario(SCENARIO)
        .settings(&format!("apps.writes = \"allow\"\nlimits.wait.interactive = \"{patience}\""))
        .connection("acme", &format!("{TOKEN_MARKER}-acme"))
        .start()
        .await;
    world.fault(row.fault.clone()).await;
    world
}

/// Finch's own words, as they come without perch.
async fn words(world: &World) -> Answer {
    let app = world.straight().with("authorization", &format!("Bearer {TOKEN_MARKER}-acme"));
    app.with("finch-api-version", "2020-09-17").get(COMPANY).await
}

/// How often Finch was asked.
async fn asked(world: &World, operation: &str) -> u64 {
    let ends = world.report().await["operations"][operation].clone();
    ends.as_object().map_or(0, |ends| ends.values().filter_map(Value::as_u64).sum())
}

/// Everything that is wrong with an answer, in words.
fn judge(row: &Row, told: Told, of_finch: &Answer, answer: &Answer) -> Vec<String> {
    let (body, mut wrong) = (answer.json(), Vec::new());
    let perch = &body["perch"];
    let mut expect = |what: &str, seen: Value, wanted: Value| {
        if seen != wanted {
            wrong.push(format!("{what} is {seen}, not {wanted}"));
        }
    };
    expect("status", json!(answer.status), json!(row.status));
    expect("Finch's status", json!(of_finch.status), json!(row.status));
    expect("Perch-Class", json!(answer.class()), json!(row.class));
    expect("class", perch["class"].clone(), json!(row.class));
    expect("origin", perch["origin"].clone(), json!("finch"));
    expect("scope", perch["scope"].clone(), json!(row.scope));
    expect("retryable", perch["retryable"].clone(), json!(told != Told::Never));
    expect("a time", json!(perch["retry_at"].is_string()), json!(matches!(told, Told::At | Told::Soon)));
    let (should_retry, retry_after) = (answer.header("x-should-retry"), answer.header("retry-after"));
    match told {
        Told::Soon => {
            let seconds = retry_after.parse().unwrap_or(0_u32);
            expect("1 <= Retry-After <= 60", json!((1..=60).contains(&seconds)), json!(true));
            expect("x-should-retry", json!(should_retry), json!(""));
        }
        Told::Never | Told::Later | Told::At => {
            expect("x-should-retry", json!(should_retry), json!("false"));
            expect("Retry-After", json!(retry_after), json!(""));
        }
    }
    expect("content-type", json!(answer.header("content-type")), json!("application/json"));
    expect("attempts", perch["attempts"].to_string().into(), answer.header("perch-attempts").into());
    match of_finch.json() {
        Value::Object(_) => {
            let own = of_finch.text();
            let start = format!("{},\"perch\":{{", own.strip_suffix('}').expect("an object"));
            let text = answer.text();
            expect("the start of the body", json!(text.get(..start.len())), json!(start));
        }
        _ => expect("the message", body["message"].clone(), json!(of_finch.text())),
    }
    wrong
}

async fn every_row(which: usize) {
    let (method, path, operation, body) =
        [("GET", COMPANY, "GetCompany", ""), ("POST", BENEFITS, "CreateBenefit", "{}")][which];
    let (mut wrong, mut codes) = (Vec::new(), HashSet::new());
    for row in rows() {
        let world = world(&row).await;
        let of_finch = words(&world).await;
        let before = asked(&world, operation).await;
        let answer = world.for_customer("acme").call(method, path, body.into()).await;
        let asked = asked(&world, operation).await - before;
        let mut found = judge(&row, row.told[which], &of_finch, &answer);
        if answer.header("perch-attempts") != asked.to_string() {
            found.push(format!("asked {asked} times, and {} are told", answer.header("perch-attempts")));
        }
        // A limit is waited for as long as the call has patience; the rest is the matrix.
        let allowed = if which == 0 { row.reads } else { 1 };
        if asked == 0 || (row.status != 429 && asked != allowed) {
            found.push(format!("asked {asked} times instead of {allowed}"));
        }
        let held = scopes_held(&world).await;
        if held != row.holds() {
            found.push(format!("{held:?} are held instead of {:?}", row.holds()));
        }
        wrong.extend(found.into_iter().map(|what| format!("{method} under {}: {what}", row.fault)));
        codes.extend(FinchError::read(&of_finch.bytes).known_code());
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    // Of answers that are no errors.
    codes.extend([
        Code::DataSyncInProgress,
        Code::EnrolledNewBenefit,
        Code::UpdatedExistingEnrollment,
        Code::UnenrolledIndividualBenefit,
    ]);
    let untried: Vec<_> = Code::ALL.into_iter().filter(|code| !codes.contains(code)).collect();
    assert!(untried.is_empty(), "no row says {untried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_of_finch_is_told_to_a_read_in_one_vocabulary() {
    every_row(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_of_finch_is_told_to_a_write_which_is_sent_once() {
    every_row(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_counted_by_codes_of_the_catalogue_alone() {
    let mut all = World::with().settings("limits.products.company = 1000");
    let mut scenario = "[limits.products]\ncompany = 0\n".to_owned();
    let faults = [
        json!({ "preset": "locked_out" }),
        json!({ "preset": "invalid_token" }),
        json!({ "preset": "unknown_code" }),
        json!({ "status": 400, "body": { "name": "brand_new_name" } }),
        json!({ "status": 400, "body": { "finch_code": "evil\"} 1\nperch_fake 1" } }),
        json!({ "status": 400, "body": { "finch_code": " NOT_supported_by_provider\t" } }),
        json!({ "status": 400, "body": "plain" }),
    ];
    for at in 0..faults.len() {
        scenario.push_str(&format!("[[customer]]\nid = \"c{at}\"\ntoken = \"c{at}\"\n"));
        all = all.connection(&format!("c{at}"), &format!("{TOKEN_MARKER}-c{at}"));
    }
    let world = all.scenario(&scenario).start().await;
    assert_eq!(world.metric("perch_finch_errors_total{finch_code=\"unknown_code\"}").await, 0.0);
    for (at, mut fault) in faults.into_iter().enumerate() {
        fault["customer"] = json!(format!("c{at}"));
        world.fault(fault).await;
        let answer = world.for_customer(&format!("c{at}")).get(COMPANY).await;
        assert_eq!(answer.json()["perch"]["origin"], "finch", "{}", answer.text());
    }
    let mut counted = world.metrics().await;
    counted.retain(|sample, _| sample.starts_with("perch_finch_errors_total"));
    let expected =
        [("locked_out", 1.0), ("none", 2.0), ("not_supported_by_provider", 1.0), ("unknown_code", 3.0)];
    let expected =
        expected.map(|(code, count)| (format!("perch_finch_errors_total{{finch_code=\"{code}\"}}"), count));
    assert_eq!(counted, expected.into_iter().collect());
}
