//! What is put together and taken apart is, for each, what it would have been alone.

use super::*;
use crate::finch::endpoints::{Method, find};
use crate::types::{Moment, Priority};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

fn endpoint(path: &str) -> &'static Endpoint {
    find(Method::Post, path).expect("an endpoint")
}

fn individual() -> &'static Endpoint {
    endpoint("/employer/individual")
}

fn asks(ids: &[&str]) -> Asks {
    let requests: Vec<Value> = ids.iter().map(|id| json!({ "individual_id": id })).collect();
    Asks::read(individual(), json!({ "requests": requests }).to_string().as_bytes())
        .expect("it can be shared")
}

#[test]
fn only_a_plain_list_of_different_ids_can_be_shared() {
    let read = |path, body: &str| Asks::read(endpoint(path), body.as_bytes());
    let people = |list: &str| read("/employer/individual", &format!("{{\"requests\":[{list}]}}"));
    let person = r#"{"individual_id":"a"}"#;
    let good =
        r#"{ "options" : {"include":["ssn"]}, "requests" : [ {"individual_id" : "\u0061", "x":1.0} ] }"#;
    let asks = read("/employer/individual", good).expect("it can");
    assert_eq!(asks.ids().collect::<Vec<_>>(), ["a"]);
    assert_eq!(asks.entries[0].1.get(), r#"{"individual_id" : "\u0061", "x":1.0}"#);
    assert_eq!(asks.frame, br#"{"options":{"include":["ssn"]},"requests":[]}"#);
    let twice = format!("{person},{person}");
    let many: Vec<String> = (0..=CALL_IDS_MAX).map(|i| format!(r#"{{"individual_id":"{i}"}}"#)).collect();
    for list in [
        "",
        "7",
        "null",
        r#"{"individual_id":7}"#,
        r#"{"payment_id":"a"}"#,
        r#"{"individual_id":"a","individual_id":"b"}"#,
        &twice,
        &many.join(","),
    ] {
        assert!(people(list).is_none(), "{list}");
    }
    assert!(people(&many[1..].join(",")).is_some());
    for body in
        ["", "[]", "{}", r#"{"requests":{}}"#, r#"{"requests":[],"requests":[{"individual_id":"a"}]}"#]
    {
        assert!(read("/employer/individual", body).is_none(), "{body}");
    }
    let payments = |count: usize| {
        let list: Vec<String> = (0..count).map(|i| format!(r#"{{"payment_id":"{i}"}}"#)).collect();
        read("/employer/pay-statement", &format!("{{\"requests\":[{}]}}", list.join(",")))
    };
    assert!(payments(10).is_some() && payments(11).is_none());
    assert!(read("/employer/benefits", &format!("{{\"requests\":[{person}]}}")).is_none());
}

#[test]
fn an_over_size_call_becomes_as_few_requests_as_can_be_in_order() {
    let body = |count: usize| {
        let list: Vec<Value> =
            (0..count).map(|i| json!({ "payment_id": i.to_string(), "limit": 7 })).collect();
        json!({ "a": 1.5, "requests": list, "z": null }).to_string().into_bytes()
    };
    let split = |count| parts(endpoint("/employer/pay-statement"), &body(count));
    assert_eq!(split(10), None);
    let three = split(25).expect("more than one");
    let read: Vec<Value> = three.iter().map(|part| serde_json::from_slice(part).expect("JSON")).collect();
    assert_eq!(
        read.iter().map(|part| part["requests"].as_array().map(Vec::len)).collect::<Vec<_>>(),
        [Some(10), Some(10), Some(5)]
    );
    assert_eq!(read[2]["requests"][4], json!({ "payment_id": "24", "limit": 7 }));
    assert!(read.iter().all(|part| part["a"] == json!(1.5) && part["z"].is_null()));
    assert!(split(10 * PARTS_MAX).is_some() && split(10 * PARTS_MAX + 1).is_none());
    assert_eq!(parts(individual(), &body(25)), None);
}

fn part(answer: &str, asked: &[&str], mine: &[&str]) -> Option<String> {
    let ids = Answer::ids("individual_id", answer.as_bytes())?;
    let answer = Answer::read(asked, &ids, answer.as_bytes())?;
    Some(String::from_utf8(answer.part(mine.iter().copied())).expect("text"))
}

#[test]
fn an_answer_that_holds_more_than_was_asked_for_is_not_taken_apart() {
    let a = r#"{"individual_id":"a","code":200,"body":{"x":1.10e2}}"#;
    let b = r#"{"individual_id":"b","code":404,"body":{}}"#;
    let both = format!("{{\"responses\":[{a},{b}]}}");
    assert_eq!(part(&both, &["a", "b"], &["b"]), Some(format!("{{\"responses\":[{b}]}}")));
    assert_eq!(part(&both, &["a", "b"], &["b", "a"]), Some(format!("{{\"responses\":[{b},{a}]}}")));
    // Finch has an order of its own, so everyone gets that.
    assert_eq!(part(&both, &["b", "a"], &["b", "a"]), Some(both.clone()));
    // What is missing would have been missing alone, too.
    assert_eq!(part(&both, &["a", "c", "b"], &["c"]).as_deref(), Some("{\"responses\":[]}"));
    assert_eq!(part("{\"responses\":[]}", &["a"], &["a"]).as_deref(), Some("{\"responses\":[]}"));
    assert_eq!(part(&format!(" [ {a} , {b} ] "), &["a", "b"], &["b"]), Some(format!(" [ {b} ] ")));
    for answer in [
        format!("{{\"paging\":{{}},\"responses\":[{a},{b}]}}"),
        format!("{{\"responses\":[{a},{b}],\"next\":1}}"),
        format!("{{\"responses\":[{a},{{\"code\":200}}]}}"),
        format!("{{\"responses\":[{a},null]}}"),
        "{\"responses\":[],\"count\":0}".to_owned(),
        "{\"responses\":null}".to_owned(),
        "{}".to_owned(),
        String::new(),
    ] {
        assert_eq!(part(&answer, &["a", "b"], &["a"]), None, "{answer}");
    }
    assert_eq!(part(&both, &["a"], &["a"]), None, "b is nobody's");
}

#[test]
fn parts_are_joined_in_order_whatever_some_of_them_lack() {
    let of = |items: &str| format!("{{\"responses\":[{items}]}}");
    let join = |parts: &[String]| joined(parts).map(|whole| String::from_utf8(whole).expect("text"));
    assert_eq!(
        join(&[of("{\"a\":1},{\"a\":2}"), of(""), of("{\"a\":3}")]),
        Some(of("{\"a\":1},{\"a\":2},{\"a\":3}"))
    );
    assert_eq!(join(&[of(""), of("{\"a\":3}")]), Some(of("{\"a\":3}")));
    assert_eq!(join(&[of(""), of("")]), Some(of("")));
    assert_eq!(join(&[of(""), "{\"responses\":[],\"more\":true}".to_owned()]), None);
}

/// What a Finch answers that knows the ids below 8, in the order of the request or in its own.
fn finch(body: &[u8], sorts: bool, omits: bool) -> Vec<u8> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let mut ids: Vec<&str> = body["requests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["individual_id"].as_str().expect("an id"))
        .collect();
    if sorts {
        ids.sort_unstable_by(|a, b| b.cmp(a));
    }
    let item = |id: &str| match id.parse::<u32>() {
        Ok(n) if n < 8 => Some(format!(
            r#"{{"individual_id":"{id}","code":200,"body":{{"n":{n}.50,"o":{}}}}}"#,
            body["options"]
        )),
        _ if omits => None,
        _ => Some(format!(r#"{{"individual_id":"{id}","code":404,"body":{{"code":404}}}}"#)),
    };
    format!("{{\"responses\":[{}]}}", ids.iter().filter_map(|id| item(id)).collect::<Vec<_>>().join(","))
        .into_bytes()
}

proptest! {
    #[test]
    fn each_gets_what_it_would_have_got_alone(
        calls in prop::collection::vec(prop::collection::btree_set(0u32..10, 1..5), 1..12),
        turned in any::<u64>(), sorts in any::<bool>(), omits in any::<bool>(),
    ) {
        let bodies: Vec<Vec<u8>> = calls.iter().enumerate().map(|(at, ids)| {
            let mut ids: Vec<&u32> = ids.iter().collect();
            if turned >> (at % 64) & 1 == 1 {
                ids.reverse();
            }
            let list: Vec<Value> = ids.iter().map(|id| json!({ "individual_id": id.to_string() })).collect();
            json!({ "options": { "include": ["ssn"] }, "requests": list }).to_string().into_bytes()
        }).collect();
        let all: Vec<Asks> = bodies.iter().map(|body| Asks::read(individual(), body).expect("it can")).collect();
        let (body, asked) = Asks::together(all.iter()).expect("they fit");
        let answer = finch(&body, sorts, omits);
        let ids = Answer::ids("individual_id", &answer).expect("items");
        let taken = Answer::read(&asked, &ids, &answer).expect("it can be taken apart");
        // Where the ids were asked in Finch's own order by chance, that order cannot be told from the request's.
        let is_told_apart = !sorts || ids.len() < 2 || {
            let places: Vec<_> = ids.iter().map(|id| asked.iter().position(|a| a == id)).collect();
            !places.is_sorted()
        };
        for (mine, body) in all.iter().zip(&bodies) {
            let alone = finch(body, sorts, omits);
            if is_told_apart {
                prop_assert_eq!(taken.part(mine.ids()), alone);
            } else {
                prop_assert_eq!(taken.part(mine.ids()).len(), alone.len());
            }
        }
    }

    #[test]
    fn nobody_waits_for_one_that_is_farther_from_being_sent(steps in prop::collection::vec((0u8..4, any::<usize>(), any::<bool>(), 0u64..20), 1..80)) {
        let mut table: Table<u64> = Table::default();
        let key = common(&asks(&["x"]), "").key();
        // Who sits where, is how near, and stands in line.
        let mut seated: BTreeMap<u64, (Id, Near, bool)> = BTreeMap::new();
        for (number, (what, which, urgent, deadline)) in steps.into_iter().enumerate() {
            let number = number as u64;
            let at = (!seated.is_empty()).then(|| *seated.keys().nth(which % seated.len()).expect("somebody"));
            match (what, at) {
                (0 | 1, _) | (_, None) => {
                    let priority = if urgent { Priority::Interactive } else { Priority::Batch };
                    let near = Near { priority, deadline: Moment::at(Duration::from_secs(deadline)) };
                    let id = format!("p{}", which % 7);
                    let entered = table.enter(key, near, asks(&[&id]), number).expect("there is room");
                    seated.insert(number, (entered.id, near, entered.is_in_line));
                }
                (2, Some(at)) => {
                    let (id, ..) = seated.remove(&at).expect("seated");
                    let mut rise = Vec::new();
                    prop_assert!(table.leave(id, |who| rise.push(*who)).is_some());
                    for who in rise {
                        seated.get_mut(&who).expect("seated").2 = true;
                    }
                }
                (_, Some(at)) => {
                    let mut taken = table.take(seated[&at].0);
                    prop_assert!(taken.iter().any(|member| member.handle == at));
                    let rest = taken.split_off(taken.len() / 2);
                    seated.retain(|who, _| rest.iter().all(|member| member.handle != *who));
                    for member in &taken {
                        prop_assert_eq!(member.is_in_line, seated[&member.handle].2);
                    }
                    table.again(taken, |member, entered| {
                        let near = member.near;
                        seated.insert(member.handle, (entered.id, near, entered.is_in_line));
                    });
                }
            }
            prop_assert_eq!(table.waiting(), seated.len());
            let gathering = |id: Id| id.gathering_of();
            for (id, near, is_in_line) in seated.values() {
                let led = seated.values().any(|(other, lead, in_line)| {
                    *in_line && gathering(*other) == gathering(*id)
                        && lead.priority <= near.priority && lead.deadline <= near.deadline
                });
                prop_assert!(*is_in_line || led, "it waits for nobody");
            }
        }
        for (id, ..) in seated.into_values() {
            drop(table.leave(id, |_| {}));
        }
        prop_assert_eq!(table.waiting(), 0);
        prop_assert!(table.is_empty());
    }
}

fn common<'a>(asks: &'a Asks, query: &'a str) -> Common<'a> {
    static NONE: std::sync::OnceLock<(HeaderMap, ConnectionId)> = std::sync::OnceLock::new();
    let (headers, connection) =
        NONE.get_or_init(|| (HeaderMap::new(), ConnectionId::new("c").expect("an id")));
    Common {
        app: None,
        app_key: None,
        priority: Priority::Interactive,
        customer: None,
        connection,
        path: "/p",
        query: Some(query),
        headers,
        frame: &asks.frame,
    }
}

#[test]
fn what_differs_beside_the_ids_keeps_calls_apart() {
    let (one, other) = (asks(&["a"]), asks(&["b"]));
    let base = common(&one, "q");
    assert_eq!(base.key(), common(&other, "q").key());
    let headers = |name: &'static str| -> HeaderMap {
        [(http::HeaderName::from_static(name), http::HeaderValue::from_static("1"))].into_iter().collect()
    };
    let (count, version) = (headers("x-stainless-retry-count"), headers("finch-api-version"));
    assert_eq!(base.key(), Common { headers: &count, ..base }.key(), "it says nothing of what is asked for");
    let connection = ConnectionId::new("d").expect("an id");
    let customer = CustomerId::new("x").expect("an id");
    let app = AppName::new("x").expect("a name");
    for different in [
        Common { headers: &version, ..base },
        Common { connection: &connection, ..base },
        Common { customer: Some(&customer), ..base },
        Common { app: Some(&app), ..base },
        Common { app_key: Some("k"), ..base },
        Common { priority: Priority::Batch, ..base },
        Common { path: "/q", ..base },
        Common { query: None, ..base },
        Common { frame: b"{}", ..base },
    ] {
        assert_ne!(base.key(), different.key(), "{different:?}");
    }
}

#[test]
fn a_gathering_takes_no_more_than_one_request_holds() {
    let payment = |id: &str, limit: u32| {
        let body = json!({ "requests": [{ "payment_id": id, "limit": limit }] }).to_string();
        Asks::read(endpoint("/employer/pay-statement"), body.as_bytes()).expect("it can")
    };
    let near = Near { priority: Priority::Batch, deadline: Moment::ZERO };
    let mut table: Table<usize> = Table::default();
    let key = common(&payment("a", 1), "").key();
    let mut enter = |asks: Asks| {
        let entered = table.enter(key, near, asks, 0).expect("there is room");
        (entered.id.gathering_of(), entered.is_in_line)
    };
    let (first, _) = enter(payment("0", 1));
    for i in 1..10 {
        assert_eq!(enter(payment(&i.to_string(), 1)), (first, false));
    }
    assert_eq!(enter(payment("3", 1)), (first, false), "an id that is asked for already needs no room");
    let (second, leads) = enter(payment("10", 1));
    assert!(second != first && leads, "it stands in line for a request of its own");
    assert_eq!(
        enter(payment("3", 2)),
        (second, false),
        "another page of the same payment could not be told apart"
    );
    assert_eq!(enter(payment("11", 1)), (second, false));
}

#[test]
fn a_gathering_hands_out_no_more_copies_than_an_answer_and_a_little() {
    let ids: Vec<String> = (0..100).map(|id| id.to_string()).collect();
    let wanted = asks(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let near = Near { priority: Priority::Batch, deadline: Moment::ZERO };
    let key = common(&wanted, "").key();
    let mut table: Table<usize> = Table::default();
    let mut enter = || table.enter(key, near, wanted.clone(), 0).expect("there is room").id.gathering_of();
    let first = enter();
    let fits = (wanted.ids_max + COPIES_MAX) / ids.len();
    for _ in 1..fits {
        assert_eq!(enter(), first);
    }
    assert_ne!(enter(), first, "the same hundred people {fits} times are enough");
}

#[test]
fn an_error_is_everyones_unless_somebody_may_have_caused_it() {
    let error = |code: &str| {
        FinchError::read(
            json!({ "code": 400, "name": "x", "finch_code": code, "message": "m" }).to_string().as_bytes(),
        )
    };
    for (status, code, expected) in [
        (400, "invalid_request_error", Concerns::Somebody),
        (404, "", Concerns::Somebody),
        (422, "", Concerns::Somebody),
        (500, "internal_server_error", Concerns::SomebodyOrFinch),
        (502, "upstream_provider_error", Concerns::SomebodyOrFinch),
        (504, "", Concerns::SomebodyOrFinch),
        (408, "", Concerns::SomebodyOrFinch),
        (503, "", Concerns::Everyone),
        (401, "reauthenticate_user", Concerns::Everyone),
        (401, "", Concerns::Everyone),
        (402, "", Concerns::Everyone),
        (403, "", Concerns::Everyone),
        (429, "finch_application_rl", Concerns::Everyone),
        (501, "", Concerns::Everyone),
    ] {
        assert_eq!(concerns(individual(), status, &error(code)), expected, "{status} {code}");
    }
}
