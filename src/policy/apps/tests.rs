//! What a policy lets through: tables, and properties of any policy.

use super::*;
use crate::finch::endpoints::ENDPOINTS;
use proptest::prelude::*;

fn customer(text: &str) -> CustomerId {
    CustomerId::new(text).expect("an id")
}

fn connection(text: &str) -> ConnectionId {
    ConnectionId::new(text).expect("an id")
}

fn for_customers(words: &[&str]) -> Policy {
    Policy { customers: Among::parse(words, Customers::parse).expect("customers"), ..Policy::default() }
}

#[test]
fn a_customer_is_named_whole_or_by_its_beginning() {
    let policy = for_customers(&["acme", "globex-*"]);
    for (id, is_admitted) in [
        ("acme", true),
        ("acme-2", false),
        ("acm", false),
        ("Acme", false),
        ("globex-", true),
        ("globex-7", true),
        ("globex", false),
        ("xglobex-7", false),
        ("globex-*", true),
    ] {
        assert_eq!(policy.admits_customer(&customer(id)), is_admitted, "{id}");
    }
    assert!(for_customers(&["all"]).admits_customer(&customer("anybody")));
    for bad in [&[][..], &["*"], &[""], &["all", "acme"], &["acme", ""], &[" *"]] {
        assert!(Among::parse(bad, Customers::parse).is_err(), "{bad:?}");
    }
    let many = vec!["x"; LIST_MAX + 1];
    assert!(Among::parse(&many, Customers::parse).is_err());
    assert!(Among::parse(&many[1..], Customers::parse).is_ok());
}

#[test]
fn a_connection_is_admitted_with_its_customer_only() {
    let (mine, other) = (connection("c-1"), connection("c-2"));
    let acme = customer("acme");
    let restricted = for_customers(&["acme"]);
    assert!(restricted.admits(Some(&acme), &mine));
    assert!(!restricted.admits(Some(&customer("globex")), &mine));
    assert!(!restricted.admits(None, &mine), "nobody's connection is not acme's");
    assert!(Policy::default().admits(None, &mine));
    let picky = Policy { connections: Among::Only(vec![mine.clone()]), ..for_customers(&["acme"]) };
    assert!(picky.admits(Some(&acme), &mine) && !picky.admits(Some(&acme), &other));
    assert!(!picky.admits(Some(&customer("globex")), &mine));
}

#[test]
fn without_writes_an_app_reads_and_connects() {
    let reads = Policy::default();
    let writes = Policy { writes: true, ..Policy::default() };
    let mut refused = Vec::new();
    for endpoint in &ENDPOINTS {
        assert_eq!(writes.permit(endpoint), Ok(()), "{:?}", endpoint.operation);
        match reads.permit(endpoint) {
            Ok(()) => {}
            Err(refusal) => {
                assert_eq!(refusal, Refusal::AppForbidden(Forbidden::Effect));
                assert_eq!(endpoint.effect, Effect::Writes);
                refused.push(endpoint.operation);
            }
        }
    }
    for operation in [Operation::Disconnect, Operation::CreateBenefit, Operation::Forward] {
        assert!(refused.contains(&operation), "{operation:?}");
    }
    for operation in [Operation::ReadIndividuals, Operation::CreateSession, Operation::CreateAccessToken] {
        assert!(!refused.contains(&operation), "{operation:?}");
    }
}

#[test]
fn a_product_that_is_not_listed_is_forbidden() {
    let policy = Policy { products: Among::Only(vec![Product::Directory]), ..Policy::default() };
    for endpoint in &ENDPOINTS {
        let is_permitted = policy.permit(endpoint).is_ok();
        assert_eq!(is_permitted, endpoint.product == Product::Directory, "{:?}", endpoint.operation);
    }
}

#[test]
fn a_batch_app_is_never_interactive() {
    let batch = Policy { priority: Priority::Batch, ..Policy::default() };
    for asked in Priority::ALL {
        assert_eq!(batch.cap(asked), Priority::Batch);
        assert_eq!(Policy::default().cap(asked), asked);
    }
}

#[test]
fn a_stored_policy_that_is_not_understood_whole_is_refused() {
    let good = serde_json::to_value(Policy::default()).expect("JSON");
    assert_eq!(serde_json::from_value::<Policy>(good.clone()).ok(), Some(Policy::default()));
    for name in ["customers", "connections", "products", "writes", "priority"] {
        let mut less = good.clone();
        less.as_object_mut().expect("an object").remove(name);
        assert!(serde_json::from_value::<Policy>(less).is_err(), "{name} is missing");
    }
    for (name, value) in [
        ("hours", serde_json::json!("9-17")),
        ("customers", serde_json::json!("some")),
        ("customers", serde_json::json!([])),
        ("customers", serde_json::json!(null)),
        ("products", serde_json::json!(["payrol"])),
        ("priority", serde_json::json!("urgent")),
    ] {
        let mut other = good.clone();
        other[name] = value;
        assert!(serde_json::from_value::<Policy>(other).is_err(), "{name}");
    }
}

fn word() -> impl Strategy<Value = String> {
    "[ab]{1,3}\\*?"
}

proptest! {
    #[test]
    fn a_policy_admits_exactly_whom_one_of_its_words_means(
        words in prop::collection::vec(word(), 1..5), id in "[ab]{1,4}",
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let meant = words.iter().any(|word| match word.strip_suffix('*') {
            Some(beginning) => id.get(..beginning.len()) == Some(beginning),
            None => *word == id,
        });
        prop_assert_eq!(for_customers(&words).admits_customer(&customer(&id)), meant);
    }

    #[test]
    fn a_policy_comes_back_from_the_store_as_it_went(
        words in prop::collection::vec(word(), 1..5), ids in prop::collection::vec("[a-z]{2}", 0..3),
        products in prop::collection::vec(prop::sample::select(Product::ALL.to_vec()), 0..3),
        writes in any::<bool>(), is_batch in any::<bool>(),
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let connections: Vec<ConnectionId> = ids.iter().map(|id| connection(id)).collect();
        let policy = Policy {
            connections: if connections.is_empty() { Among::All } else { Among::Only(connections) },
            products: if products.is_empty() { Among::All } else { Among::Only(products) },
            writes,
            priority: if is_batch { Priority::Batch } else { Priority::Interactive },
            ..for_customers(&words)
        };
        let text = serde_json::to_string(&policy).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).ok(), Some(policy));
    }
}
