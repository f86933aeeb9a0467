//! The table of Finch's endpoints against the fact sheet, `tests/data/endpoints.json`, row by row.

use perch::finch::endpoints::{ENDPOINTS, find};
use perch::finch::{Auth, Batch, Effect, Endpoint, Method, Replay};
use perch::types::Product;
use std::collections::HashSet;

/// A row of the fact sheet. A column it gains or loses fails the test, so that it is looked at.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    method: String,
    path: String,
    auth: String,
    product: Option<String>,
    limit_per_min: Option<u32>,
    batch: bool,
    batch_max: Option<usize>,
    write: bool,
    paginated: bool,
    entity_ids_query: bool,
    retry_safe: String,
    sandbox_only: bool,
    #[serde(rename = "scope")]
    _scope: Option<String>,
    #[serde(rename = "limit_confidence")]
    _limit_confidence: String,
    #[serde(rename = "note")]
    _note: Option<String>,
}

fn facts() -> Vec<Fact> {
    serde_json::from_str(include_str!("../data/endpoints.json"))
        .expect("the fact sheet is in its known shape")
}

/// The fact sheet and the table side by side.
fn pairs() -> Vec<(Fact, &'static Endpoint)> {
    facts().into_iter().zip(&ENDPOINTS).collect()
}

/// The sheet's word for how a call proves who it is.
fn auth_word(auth: Auth) -> &'static str {
    match auth {
        Auth::Bearer => "bearer",
        Auth::Basic => "basic",
        Auth::InBody => "client_credentials_in_body",
        Auth::NoAuth => "none",
    }
}

/// The sheet's remark on repeating a call, in perch's four words. What Finch leaves open counts as
/// the worse case; a new remark has to be judged here first.
fn replay_of(remark: &str) -> Replay {
    match remark {
        "yes" | "yes_overwrites_description" => Replay::Safe,
        "yes_creates_extra_session"
        | "mostly_dedup_on_type_frequency_description"
        | "mostly_202_returns_running_job"
        | "state_idempotent_but_enqueues_new_job" => Replay::Harmless,
        "conditional"
        | "conditional_second_call_401"
        | "conditional_second_call_may_404"
        | "depends_on_inner_method" => Replay::Conditional,
        "no_single_use_code"
        | "no_may_duplicate_rule"
        | "no_creates_connection"
        | "no_creates_account"
        | "no_creates_individuals"
        | "no_creates_payment"
        | "unknown_treat_as_no" => Replay::Unsafe,
        other => panic!("`{other}` is new in the fact sheet: say here which Replay it is"),
    }
}

/// Where the sheet names no product Finch meters nothing, and perch groups by the first word of the path.
fn unmetered_product(path: &str) -> Product {
    match path.split('/').nth(1) {
        Some("connect") => Product::Connect,
        Some("auth") => Product::Auth,
        Some("providers") => Product::Providers,
        Some("introspect") => Product::Introspect,
        Some("disconnect" | "disconnect-entity") => Product::Disconnect,
        Some("forward") => Product::Forward,
        Some("jobs") => Product::Jobs,
        Some("sandbox") => Product::Sandbox,
        _ => panic!("{path} names no product in the fact sheet and belongs to no group"),
    }
}

#[test]
fn the_table_has_the_rows_of_the_fact_sheet_in_its_order() {
    let sheet: Vec<String> = facts().iter().map(|f| format!("{} {}", f.method, f.path)).collect();
    let table: Vec<String> = ENDPOINTS.iter().map(|e| format!("{} {}", e.method, e.path)).collect();
    assert_eq!(table, sheet);
    let names: HashSet<_> = ENDPOINTS.iter().map(|e| e.operation).collect();
    assert_eq!(names.len(), sheet.len(), "an operation names two rows");
}

#[test]
fn each_row_agrees_with_the_fact_sheet() {
    for (fact, row) in pairs() {
        let at = format!("{} {}", fact.method, fact.path);
        assert_eq!(auth_word(row.auth), fact.auth, "auth of {at}");
        assert_eq!(row.batch.is_some(), fact.batch, "batch of {at}");
        assert_eq!(row.batch.and_then(|b| b.items_max), fact.batch_max, "batch_max of {at}");
        assert_eq!(row.effect == Effect::Writes, fact.write, "write of {at}");
        assert_eq!(row.is_paged, fact.paginated, "paginated of {at}");
        assert_eq!(row.takes_entity, fact.entity_ids_query, "entity_ids_query of {at}");
        assert_eq!(row.replay, replay_of(&fact.retry_safe), "retry_safe of {at}");
        assert_eq!(row.product == Product::Sandbox, fact.sandbox_only, "sandbox_only of {at}");
    }
}

#[test]
fn each_row_counts_against_the_product_of_the_fact_sheet() {
    for (fact, row) in pairs() {
        let at = format!("{} {}", fact.method, fact.path);
        match &fact.product {
            Some(name) => {
                assert_eq!(row.product.as_str(), name, "product of {at}");
                assert!(row.product.is_metered(), "{at} has a product of its own");
            }
            None => {
                assert_eq!(row.product, unmetered_product(&fact.path), "product of {at}");
                assert!(!row.product.is_metered(), "{at} has no product at Finch");
            }
        }
        if fact.limit_per_min.is_some() {
            assert!(row.product.is_metered(), "{at} has a documented limit");
        }
    }
}

#[test]
fn a_call_that_only_looks_may_be_repeated() {
    for row in ENDPOINTS.iter().filter(|row| row.effect == Effect::Reads) {
        assert_eq!(row.replay, Replay::Safe, "{} {}", row.method, row.path);
    }
}

#[test]
fn batches_have_the_shapes_of_the_fact_sheet() {
    let shape = |method, path| {
        let row = find(method, path).unwrap_or_else(|| panic!("{path} is not in the table"));
        row.batch.map(|Batch { key, wrapped, .. }| (key, wrapped))
    };
    let wrapped_individuals = Some(("individual_id", true));
    assert_eq!(shape(Method::Post, "/employer/individual"), wrapped_individuals);
    assert_eq!(shape(Method::Post, "/employer/employment"), wrapped_individuals);
    assert_eq!(shape(Method::Post, "/employer/pay-statement"), Some(("payment_id", true)));
    let bare_individuals = Some(("individual_id", false));
    for method in [Method::Get, Method::Post, Method::Delete] {
        assert_eq!(shape(method, "/employer/benefits/b1/individuals"), bare_individuals, "{method}");
    }
}
