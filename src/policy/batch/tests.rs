//! What is counted, what is asked for once more, and what stays as it was.

use super::*;
use crate::finch::endpoints::{Method, find};
use proptest::prelude::*;
use serde_json::{Value, json};

fn individuals() -> &'static Endpoint {
    find(Method::Post, "/employer/individual").expect("a path of Finch")
}

fn enrollments() -> &'static Endpoint {
    find(Method::Get, "/employer/benefits/b/individuals").expect("a path of Finch")
}

fn counted(body: &str) -> Option<String> {
    inspect(individuals(), body.as_bytes()).map(|report| report.to_string())
}

fn says(total: u64, failed: u64, pending: u64) -> Option<String> {
    Some(format!("total={total}, failed={failed}, pending={pending}"))
}

#[test]
fn items_are_counted_by_their_own_code() {
    let items = r#"[{"individual_id":"1","code":200,"body":{"code":999}},{"individual_id":"2","code":202.0,"body":{}},
        {"individual_id":"3","code":404,"body":{}},{"individual_id":"4"}, {"code":"500"}, null]"#;
    // Wrapped or bare: both, whatever the endpoint's newer form is.
    for endpoint in [individuals(), enrollments()] {
        for body in [items.to_owned(), format!(r#" {{"x":[1],"responses":{items},"y":null}}"#)] {
            let report = inspect(endpoint, body.as_bytes()).expect("items");
            assert_eq!(report.to_string(), "total=6, failed=2, pending=1");
            assert_eq!(serde_json::to_value(report).expect("JSON")["codes"], json!({ "404": 1, "500": 1 }));
        }
    }
    assert_eq!(counted(r#"[{"individual_id":"1","code":201,"body":{}}]"#), says(1, 0, 0));
    assert_eq!(counted(r#"{"responses":[]}"#), says(0, 0, 0));
}

#[test]
fn an_item_without_a_code_is_data_unless_its_body_is_an_error() {
    for (item, failed, pending) in [
        (json!({ "body": { "id": "i", "name": "Ana", "message": "hello" } }), 0, 0),
        (json!({ "body": { "paging": {}, "pay_statements": [] } }), 0, 0),
        (json!({ "body": { "code": "blue" } }), 0, 0),
        (json!({ "body": null }), 0, 0),
        (json!({ "code": null, "body": [1] }), 0, 0),
        (json!({ "code": {}, "body": { "code": 404.0, "name": "not_found_error", "message": "m" } }), 1, 0),
        (json!({ "code": null, "body": { "code": 202, "name": "accepted", "message": "m" } }), 0, 1),
        (json!({ "body": { "name": "accepted", "finch_code": "data_sync_in_progress" } }), 0, 1),
        (json!({ "body": { "name": "accepted", "message": "later" } }), 0, 1),
        (json!({ "body": { "name": "created", "finch_code": "enrolled_new_benefit", "code": 201 } }), 0, 0),
        (json!({ "body": { "finch_code": "updated_existing_enrollment" } }), 0, 0),
        (json!({ "body": { "finch_code": "access_denied" } }), 1, 0),
        (json!({ "body": { "error_name": "server_error", "error_message": "m" } }), 1, 0),
        (json!({ "body": { "name": "server_error", "message": "m" } }), 1, 0),
        (json!({ "error_name": "server_error", "error_message": "m" }), 1, 0),
        (json!({ "error_name": null, "body": {} }), 0, 0),
        (json!({ "code": 200, "error_name": "server_error" }), 0, 0),
    ] {
        assert_eq!(counted(&json!([item]).to_string()), says(1, failed, pending), "{item}");
    }
}

#[test]
fn a_name_that_stands_twice_means_its_last_value() {
    assert_eq!(counted(r#"[{"code":200,"code":500}]"#), says(1, 1, 0));
    assert_eq!(counted(r#"[{"code":500,"code":200}]"#), says(1, 0, 0));
    assert_eq!(counted(r#"{"responses":[{"code":500}],"responses":[]}"#), says(0, 0, 0));
    assert_eq!(counted(r#"{"responses":[],"responses":7}"#), None);
    assert_eq!(counted(r#"{"responses":[],"responses":null}"#), None);
}

#[test]
fn an_answer_of_another_shape_is_left_alone() {
    for body in [
        r#"{"job_id":"j"}"#,
        "",
        " ",
        "[1,2]",
        "[[{}]]",
        "[{}",
        "[{}] x",
        "7",
        "null",
        r#"{"responses":7}"#,
        r#"[{"code":1e999}]"#,
    ] {
        assert_eq!(counted(body), None, "{body}");
    }
    assert_eq!(inspect(individuals(), b"[{\"body\":\"\xff\"}]"), None);
    let company = find(Method::Get, "/employer/company").expect("a path of Finch");
    assert_eq!(inspect(company, br#"{"responses":[{"code":500}]}"#), None);
}

#[test]
fn nesting_deeper_than_a_parser_goes_hides_no_item() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(counted(&format!(r#"[{{"body":{deep},"code":404}},{{"x":{deep}}}]"#)), says(2, 1, 0));
    assert_eq!(counted(&deep), None);
}

#[test]
fn a_forwarded_request_is_counted_by_the_status_of_the_provider() {
    let forward = find(Method::Post, "/forward").expect("a path of Finch");
    for (body, report) in [
        (r#"{"statusCode":200,"data":"{}"}"#, says(1, 0, 0)),
        (r#"{"statusCode":202}"#, says(1, 0, 0)),
        (r#"{"statusCode":302}"#, says(1, 0, 0)),
        (r#"{"statusCode":404}"#, says(1, 1, 0)),
        (r#"{"statusCode":503.0}"#, says(1, 1, 0)),
        (r#"{"statusCode":null}"#, None),
        (r#"{"status_code":500}"#, None),
        (r#"[{"statusCode":500}]"#, None),
    ] {
        assert_eq!(inspect(forward, body.as_bytes()).map(|r| r.to_string()), report, "{body}");
    }
}

#[test]
fn a_deduction_job_lists_what_became_of_each_person() {
    let job = find(Method::Get, "/jobs/manual/j").expect("a path of Finch");
    let body = br#"{"job_id":"j","status":"complete","body":[{"individual_id":"a","code":200,"message":"m"},
        {"individual_id":"b","code":404,"message":"enrollment_not_found"},null]}"#;
    assert_eq!(inspect(job, body).map(|r| r.to_string()), says(3, 1, 0));
    assert_eq!(inspect(job, br#"{"job_id":"j","status":"pending","body":null}"#), None);
}

fn planned(repair: Repair, request: &Value, answer: &str) -> Option<Plan> {
    let body = request.to_string();
    plan(individuals(), repair, Sent { query: None, body: body.as_bytes() }, answer.as_bytes())
}

fn asks(plan: &Plan) -> Value {
    match &plan.ask {
        Ask::Body(body) => serde_json::from_slice(body).expect("JSON"),
        Ask::Query(query) => query.as_str().into(),
    }
}

const MIXED: &str = r#"{ "responses" : [ {"individual_id":"a","code":200,"body":{"x":1.10}} ,
  {"individual_id":"b","code":500,"body":{}}, {"individual_id":"c","code":404,"body":{}},
  {"individual_id":"d","code":202,"body":{}}, {"individual_id":"e","code":501,"body":{}}, {"individual_id":"b","code":503.0}],"more":1e1 }"#;

fn request() -> Value {
    let ids = ["a", "b", "c", "d", "e", "b"].map(|id| json!({ "individual_id": id, "extra": [id] }));
    json!({ "options": { "include": ["ssn"] }, "requests": ids, "other": null })
}

#[test]
fn what_may_pass_is_asked_for_again_and_nothing_else() {
    let b = json!({ "individual_id": "b", "extra": ["b"] });
    let d = json!({ "individual_id": "d", "extra": ["d"] });
    let expected =
        |entries: &[&Value]| json!({ "options": { "include": ["ssn"] }, "requests": entries, "other": null });
    let plan = |repair| planned(repair, &request(), MIXED);
    assert_eq!(asks(&plan(Repair::Failed).expect("a plan")), expected(&[&b, &b]));
    assert_eq!(asks(&plan(Repair::Pending).expect("a plan")), expected(&[&b, &d, &b]));
    assert_eq!(plan(Repair::Off), None);
    // What was not asked for, or not in so many words, is not asked for again.
    assert_eq!(planned(Repair::Pending, &json!({ "requests": [] }), MIXED), None);
    assert_eq!(planned(Repair::Pending, &json!({ "requests": [{ "individual_id": "c" }] }), MIXED), None);
    assert_eq!(planned(Repair::Pending, &json!({ "requests": "b" }), MIXED), None);
    assert_eq!(planned(Repair::Pending, &json!([]), MIXED), None);
    // Two pages of one thing cannot be told apart by their id.
    let pages =
        json!({ "requests": [{ "individual_id": "b", "offset": 0 }, { "individual_id": "b", "offset": 9 }] });
    assert_eq!(planned(Repair::Failed, &pages, MIXED), None);
}

#[test]
fn a_write_is_never_asked_for_again() {
    for (method, path) in [
        (Method::Post, "/employer/benefits/b/individuals"),
        (Method::Delete, "/employer/benefits/b/individuals"),
        (Method::Post, "/forward"),
    ] {
        let endpoint = find(method, path).expect("a path of Finch");
        let body = request().to_string();
        assert_eq!(
            plan(endpoint, Repair::Pending, Sent { query: None, body: body.as_bytes() }, MIXED.as_bytes()),
            None
        );
    }
}

#[test]
fn a_query_is_narrowed_to_the_ids_that_failed() {
    let plan = |query| {
        let answer = r#"[{"individual_id":"a b","code":500},{"individual_id":"c","code":200},{"individual_id":"d","code":502}]"#;
        let plan = plan(enrollments(), Repair::Failed, Sent { query, body: b"" }, answer.as_bytes())?;
        Some(asks(&plan).as_str().expect("a query").to_owned())
    };
    for (query, narrowed) in [
        (None, "individual_ids=a%20b,d"),
        (Some(""), "individual_ids=a%20b,d"),
        (Some("entity_ids%5B%5D=e"), "entity_ids%5B%5D=e&individual_ids=a%20b,d"),
        (Some("individual_ids=a+b%2Cc,d&x=%C3"), "individual_ids=a%20b,d&x=%C3"),
        (Some("individual_ids=c&individual_ids=d&y"), "individual_ids=a%20b,d&y"),
    ] {
        assert_eq!(plan(query).as_deref(), Some(narrowed), "{query:?}");
    }
    for query in ["individual_ids%5B%5D=c", "individual_ids[]=c", "%69ndividual_ids=c"] {
        assert_eq!(plan(Some(query)), None, "{query}");
    }
    let many: Vec<Value> =
        (0..9_999).map(|i| json!({ "individual_id": format!("{i:036}"), "code": 500 })).collect();
    let answer = Value::from(many).to_string();
    let long = super::plan(enrollments(), Repair::Failed, Sent { query: None, body: b"" }, answer.as_bytes());
    let query = asks(&long.expect("a plan")).as_str().expect("a query").len();
    assert!((QUERY_ROOM - 100..=QUERY_ROOM + 100).contains(&query), "{query}");
}

/// As many ids as a query holds.
const QUERY_ROOM: usize = 4096;

#[test]
fn what_got_better_takes_its_place_and_all_else_keeps_its_bytes() {
    let plan = planned(Repair::Pending, &request(), MIXED).expect("a plan");
    let second = r#"[{"individual_id":"d","code":202,"body":"later"},{"individual_id":"a","code":200,"body":"unasked"},
        {"individual_id":"b","code":500},{"individual_id":"b", "code":200,"body":{"n":1e2}},{"individual_id":"b","code":202}]"#;
    let merged = merge(&plan, MIXED.as_bytes(), second.as_bytes()).expect("better ones");
    let new = r#"{"individual_id":"b", "code":200,"body":{"n":1e2}}"#;
    let expected = MIXED
        .replace(r#"{"individual_id":"b","code":500,"body":{}}"#, new)
        .replace(r#"{"individual_id":"b","code":503.0}"#, new);
    assert_eq!((String::from_utf8(merged.body).expect("text"), merged.repaired), (expected, 2));
    // A promise is better than an error, and no error is.
    let promise = merge(&plan, MIXED.as_bytes(), br#"{"responses":[{"individual_id":"b","code":202}]}"#);
    assert_eq!(promise.map(|m| m.repaired), Some(2));
    for second in
        [r#"[{"individual_id":"b","code":404},{"individual_id":"d","code":500}]"#, "[]", "", "{}", "[1]"]
    {
        assert_eq!(merge(&plan, MIXED.as_bytes(), second.as_bytes()), None, "{second}");
    }
}

/// JSON of any kind, with the names that matter in it.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "responses",
        "code",
        "body",
        "individual_id",
        "error_name",
        "name",
        "message",
        "finch_code",
        "statusCode",
        "requests",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![0, 200, 201, 202, 207, 404, 500, 501, 503, -1]).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect::<Value>()),
        ]
    })
}

/// The same of an answer whose items look like Finch's.
fn any_answer() -> impl Strategy<Value = String> {
    let code = prop::sample::select(vec![
        json!(200),
        json!(202),
        json!(404),
        json!(500),
        json!(503.0),
        json!(501),
        json!(null),
    ]);
    let item = ("[a-d]", code, any_json())
        .prop_map(|(id, code, body)| json!({ "individual_id": id, "code": code, "body": body }));
    (prop::collection::vec(item, 0..8), any::<bool>()).prop_map(|(items, is_wrapped)| match is_wrapped {
        true => json!({ "responses": items, "x": 1.5 }).to_string(),
        false => Value::from(items).to_string(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for endpoint in crate::finch::endpoints::ENDPOINTS.iter() {
            let _ = inspect(endpoint, &body);
            let _ = plan(endpoint, Repair::Pending, Sent { query: None, body: &body }, &body);
        }
    }

    #[test]
    fn the_total_is_the_number_of_items_or_nothing_is_said(value in any_json()) {
        let text = value.to_string();
        let items = value.as_array().or_else(|| value.get("responses")?.as_array());
        let is_sound = |items: &&Vec<Value>| items.iter().all(|i| i.is_object() || i.is_null());
        let report = inspect(individuals(), text.as_bytes());
        prop_assert_eq!(report.map(|r| r.total), items.filter(is_sound).map(|i| i.len() as u64), "{}", text);
        if let Some(report) = report {
            prop_assert!(report.failed + report.pending <= report.total);
        }
    }

    #[test]
    fn of_a_cut_answer_nothing_is_said(answer in any_answer(), at in any::<prop::sample::Index>()) {
        let cut = at.index(answer.len());
        prop_assert_eq!(inspect(individuals(), &answer.as_bytes()[..cut]), None);
    }

    #[test]
    fn a_repair_only_changes_items_for_the_better(first in any_answer(), second in any_answer()) {
        let ids = ["a", "b", "c", "d"].map(|id| json!({ "individual_id": id }));
        let request = json!({ "requests": ids });
        let Some(plan) = planned(Repair::Pending, &request, &first) else { return Ok(()) };
        let Some(merged) = merge(&plan, first.as_bytes(), second.as_bytes()) else { return Ok(()) };
        let items = |text: &[u8]| -> Vec<Value> {
            let value: Value = serde_json::from_slice(text).expect("it stays JSON");
            value.as_array().or_else(|| value["responses"].as_array()).expect("items").clone()
        };
        let (before, after, second) = (items(first.as_bytes()), items(&merged.body), items(second.as_bytes()));
        prop_assert_eq!(before.len(), after.len());
        let mut changed = 0;
        for (old, new) in before.iter().zip(&after) {
            if old == new { continue; }
            changed += 1;
            prop_assert_eq!(&old["individual_id"], &new["individual_id"]);
            prop_assert!(second.contains(new));
            prop_assert!([json!(202), json!(500), json!(503.0), json!(null)].contains(&old["code"]));
        }
        prop_assert!(changed <= merged.repaired);
        let (a, b) = (inspect(individuals(), first.as_bytes()), inspect(individuals(), &merged.body));
        let bad = |r: Option<BatchReport>| r.map(|r| (r.total, r.failed + r.pending, r.failed));
        let (a, b) = (bad(a).expect("items"), bad(b).expect("items"));
        prop_assert!(a.0 == b.0 && (b.1, b.2) < (a.1, a.2), "{a:?} {b:?}");
    }
}
