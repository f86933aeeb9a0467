//! Bodies against shapes: what is counted, what is not kept, and that no body is too much.

use super::*;
use crate::finch::endpoints::{ENDPOINTS, Operation};
use crate::finch::shape;
use crate::types::Product;
use proptest::prelude::*;
use serde_json::{Value, json};

fn tally(operation: Operation, body: &Value) -> Tally {
    let shape = shape::of(operation).expect("it is known");
    inspect(shape, body.to_string().as_bytes()).expect("it is JSON")
}

fn directory(individual: &Value) -> Tally {
    tally(
        Operation::ListDirectory,
        &json!({ "paging": { "offset": 0, "count": 1 }, "individuals": [individual] }),
    )
}

#[test]
fn nulls_and_values_are_counted_by_the_path_of_the_shape() {
    let body = json!({ "paging": { "offset": 0, "count": 2 }, "individuals": [
        { "id": "a", "manager": { "id": "b" }, "first_name": null },
        { "id": "b", "manager": null, "first_name": "Ana" },
        { "id": "c", "manager": null, "first_name": null },
    ]});
    let tally = tally(Operation::ListDirectory, &body);
    let counted = |field: &str| {
        let seen = &tally.fields[field];
        (seen.values, seen.nulls, seen.unknown_words, seen.surprises.len())
    };
    assert_eq!(counted("individuals[].manager.id"), (1, 0, 0, 0));
    assert_eq!(counted("individuals[].manager"), (1, 2, 0, 0));
    assert_eq!(counted("individuals[].first_name"), (1, 2, 0, 0));
    assert_eq!(counted("individuals"), (1, 0, 0, 0));
    assert!(tally.unknown.is_empty() && !tally.fields.contains_key(WHOLE), "{tally:?}");
}

#[test]
fn what_is_of_another_kind_is_a_surprise_and_so_is_a_null_that_may_not_be() {
    let tally = directory(&json!({ "id": null, "is_active": "yes", "department": ["x"], "last_name": 7 }));
    for (field, found) in [
        ("id", Sort::Null),
        ("is_active", Sort::Text),
        ("department", Sort::List),
        ("last_name", Sort::Number),
    ] {
        let seen = &tally.fields[&format!("individuals[].{field}")];
        assert_eq!(seen.surprises, BTreeMap::from([(found, 1)]), "{field}");
    }
    let whole = tests::tally(Operation::ListDirectory, &json!([1, { "a": [2] }]));
    assert_eq!(whole.fields[WHOLE].surprises, BTreeMap::from([(Sort::List, 1)]));
}

#[test]
fn a_new_word_is_counted_and_not_kept() {
    let person = |gender| json!({ "responses": [{ "individual_id": "i", "code": 200, "body": { "id": "i", "gender": gender } }] });
    let tally = tally(Operation::ReadIndividuals, &person("CANARY"));
    assert_eq!(tally.fields["responses[].body.gender"].unknown_words, 1);
    assert!(!format!("{tally:?}").contains("CANARY"));
}

#[test]
fn a_new_field_keeps_its_name_if_it_looks_like_one_of_finchs() {
    let individual = json!({
        "id": "a", "pronouns": null, "w4_2020": 1, "Ana Berg": 1, "ana@example.com": 1, "123456789": 1, "id_123456789": 1,
        "": 1, "2024_01": 1, ("x".repeat(65)): 1, "nested": { "inside": 1 },
    });
    let found = directory(&individual).unknown;
    let expected = [("?", 7), ("nested", 1), ("pronouns", 1), ("w4_2020", 1)];
    let expected = expected.map(|(name, times)| (format!("individuals[].{name}"), times));
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn the_employers_own_fields_are_not_walked() {
    let body = json!({ "responses": [{ "individual_id": "i", "code": 200, "body": {
        "id": "i", "custom_fields": [{ "name": "shoe_size", "value": { "canary": [1] } }], "income": null,
    } }] });
    let tally = tally(Operation::ReadEmployments, &body);
    assert_eq!(tally.fields["responses[].body.custom_fields"].values, 1);
    assert!(tally.unknown.is_empty() && !format!("{tally:?}").contains("shoe"));
}

#[test]
fn an_item_that_failed_or_is_not_ready_is_not_data_wherever_its_code_stands() {
    for text in [
        r#"{"responses":[{"payment_id":"p","code":404,"body":{"name":"x","message":"y","code":404}}]}"#,
        r#"{"responses":[{"body":{"name":"x","message":"y","code":202},"code":202.0,"payment_id":"p"}]}"#,
    ] {
        let shape = shape::of(Operation::ReadPayStatements).expect("it is known");
        let tally = inspect(shape, text.as_bytes()).expect("JSON");
        let fields: Vec<_> = tally.fields.keys().map(String::as_str).collect();
        let item = ["responses", "responses[]", "responses[].code", "responses[].payment_id"];
        assert_eq!((fields, tally.unknown.len()), (item.to_vec(), 0), "{text}");
    }
    let good = r#"{"responses":[{"body":{"paging":null,"new":1},"code":200,"payment_id":"p"}]}"#;
    let tally =
        inspect(shape::of(Operation::ReadPayStatements).expect("known"), good.as_bytes()).expect("JSON");
    assert_eq!(tally.unknown, BTreeMap::from([("responses[].body.new".to_owned(), 1)]));
    assert_eq!(tally.fields["responses[].body.paging"].surprises[&Sort::Null], 1);
}

#[test]
fn what_is_not_json_is_not_counted() {
    let shape = shape::of(Operation::ListPayments).expect("it is known");
    let deep = "[".repeat(100_000);
    for body in ["", "[{\"id\":1}", "[] x", "\u{1f}\u{8b}", "{\"a\":}", &deep] {
        assert_eq!(inspect(shape, body.as_bytes()), None, "{}", body.len());
    }
    assert_eq!(inspect(shape, b"[\xff]"), None);
}

#[test]
fn a_hostile_body_is_bounded() {
    let shape = shape::of(Operation::ListPayments).expect("it is known");
    let names: Vec<String> = (0..50_000).map(|n| format!("\"n{}\":0", n % 10_000)).collect();
    let tally = inspect(shape, format!("[{{{}}}]", names.join(",")).as_bytes()).expect("JSON");
    assert_eq!(tally.unknown.len(), UNKNOWN_MAX + 1);
    assert_eq!(tally.unknown.values().sum::<u64>(), 50_000);
    let tally = inspect(shape, format!("[{}0]", "0,".repeat(500_000)).as_bytes()).expect("JSON");
    assert!(tally.fields["[]"].times() <= PLACES_MAX);
}

#[test]
fn the_book_tells_each_new_thing_once_and_shares_of_null_over_all_answers() {
    let mut book = Book::default();
    let first = directory(&json!({ "id": "a", "first_name": null, "pronouns": 1 }));
    let news = book.add(Product::Directory, "gusto", first.clone());
    assert_eq!(news, [News::Field("individuals[].pronouns".to_owned())]);
    assert_eq!(book.add(Product::Directory, "gusto", first.clone()), []);
    assert_eq!(book.add(Product::Directory, "adp_run", first), [], "the product is what has it");
    for _ in 0..2 {
        book.add(Product::Directory, "gusto", directory(&json!({ "id": "a", "first_name": "Ana" })));
    }
    let word = json!({ "responses": [{ "individual_id": "i", "code": 200, "body": { "gender": "new" } }] });
    let word = tally(Operation::ReadIndividuals, &word);
    assert_eq!(
        book.add(Product::Individual, "gusto", word.clone()),
        [News::Word("responses[].body.gender".to_owned())]
    );
    assert_eq!(book.add(Product::Individual, "gusto", word), []);

    let snapshot = serde_json::to_value(book.snapshot()).expect("JSON");
    let source = snapshot["sources"].as_array().expect("a list").iter().find(|source| {
        (source["product"].as_str(), source["provider"].as_str()) == (Some("directory"), Some("gusto"))
    });
    let source = source.expect("it was looked into");
    assert_eq!(source["samples"], 4);
    assert_eq!(source["unknown_fields"], json!([{ "field": "individuals[].pronouns", "seen": 2 }]));
    let fields = source["fields"].as_array().expect("a list");
    let field = fields.iter().find(|field| field["field"] == "individuals[].first_name");
    let expected = json!({
        "field": "individuals[].first_name", "expected": "text", "seen": 4, "null": 2, "null_share": 0.5,
        "unknown_enum": 0, "surprises": {},
    });
    assert_eq!(field, Some(&expected));
}

#[test]
fn the_book_keeps_a_hundred_unknown_names_of_a_product() {
    let mut book = Book::default();
    let letters = |n: u32| -> String {
        let of = |place: u32| char::from(b'a' + u8::try_from(n / 26_u32.pow(place) % 26).expect("a letter"));
        [of(0), of(1)].into_iter().collect()
    };
    let mut told = 0;
    for n in 0..600 {
        let one = directory(&json!({ "id": "a", letters(n): 1 }));
        told += book.add(Product::Directory, "gusto", one).len();
    }
    assert_eq!(told, 100);
    let unknown = &book.snapshot().sources[0].unknown_fields;
    assert_eq!(unknown.len(), 101);
    assert_eq!(unknown.iter().map(|field| field.seen).sum::<u64>(), 600 - 1, "`id` is known");
}

/// JSON of any form, in which every text is a canary.
fn any_json() -> impl Strategy<Value = Value> {
    let names: Vec<&'static str> = vec![
        "responses",
        "body",
        "code",
        "individuals",
        "id",
        "manager",
        "name",
        "paging",
        "earnings",
        "type",
        "income",
        "custom_fields",
        "pay_statements",
        "departments",
        "new_one",
        "entities",
        "status",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (900_000_000_u64..900_001_000).prop_map(Value::from),
        Just(json!(200)),
        any::<f64>().prop_map(Value::from),
        "CANARY[a-z0-9]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.clone()), inner), 0..8).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_counted_against_any_shape_and_none_of_its_values_comes_out(body in any_json()) {
        let text = body.to_string();
        for endpoint in &ENDPOINTS {
            let Some(shape) = shape::of(endpoint.operation) else { continue };
            let tally = inspect(shape, text.as_bytes());
            prop_assert!(tally.is_some(), "it is JSON: {}", text);
            let mut book = Book::default();
            let news = book.add(endpoint.product, "gusto", tally.unwrap_or_default());
            let told = format!("{} {news:?}", serde_json::to_string(&book.snapshot()).expect("JSON"));
            prop_assert!(!told.contains("CANARY") && !told.contains("900000"), "{}", told);
        }
    }

    #[test]
    fn no_bytes_are_too_much(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for endpoint in &ENDPOINTS {
            if let Some(shape) = shape::of(endpoint.operation) {
                let _ = inspect(shape, &body);
            }
        }
    }
}
