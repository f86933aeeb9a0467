//! Several calls in one request and one call in several: every item reaches whoever asked for it, once, in its own
//! bytes, and nobody else.

use super::input::Input;
use perch::finch::endpoints::{ENDPOINTS, Endpoint, Operation};
use perch::policy::merge::{Answer, Asks, CALL_IDS_MAX, joined, parts};
use serde_json::Value;
use serde_json::value::RawValue;

const ANSWER_PATTERNS: [&str; 3] = ["{\"responses\":[", "[", " {\n \"responses\" : [ "];

/// Decisions, then bytes that are an answer of any kind.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let of = |operation| ENDPOINTS.iter().find(|endpoint| endpoint.operation == operation);
    let operations = [Operation::ReadIndividuals, Operation::ReadPayStatements, Operation::ReadEmployments];
    let endpoint = of(input.pick(&operations)).expect("every operation has a row");
    match input.byte() % 4 {
        0 => split(endpoint, &mut input),
        1 => raw(endpoint, input.rest()),
        _ => shared(endpoint, &mut input),
    }
}

fn key(endpoint: &Endpoint) -> &'static str {
    endpoint.batch.expect("a batch").key
}

/// An over-size call: its parts ask for what it asked for, and their answers are its answer.
fn split(endpoint: &Endpoint, input: &mut Input<'_>) {
    let most = endpoint.batch.and_then(|batch| batch.items_max).expect("a number");
    let count = input.below(most.min(400) * 4);
    let entries: Vec<String> =
        (0..count).map(|at| format!("{{ \"{}\":\"i-{}\" }}", key(endpoint), at % 251)).collect();
    let body = format!("{{\"before\":1.50,\"requests\": [{}],\"after\":{{}}}}", entries.join(" , "));
    let Some(bodies) = parts(endpoint, body.as_bytes()) else {
        assert!(count <= most || count.div_ceil(most) > 64);
        return;
    };
    let lists: Vec<Vec<Box<RawValue>>> = bodies
        .iter()
        .map(|body| {
            let object: Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!((&object["before"], &object["after"]), (&Value::from(1.5), &serde_json::json!({})));
            requests(body)
        })
        .collect();
    assert!(lists.iter().all(|list| (1..=most).contains(&list.len())));
    let asked: Vec<&str> = lists.iter().flatten().map(|entry| entry.get()).collect();
    assert_eq!(asked, entries.iter().map(String::as_str).collect::<Vec<_>>());
    let answers: Vec<String> =
        lists.iter().map(|list| answer("{\"responses\":[", list.iter().map(|e| e.get()))).collect();
    let whole = joined(&answers).expect("lists");
    assert_eq!(items(&whole), asked, "every item once, in order");
}

/// An answer of any kind never reaches somebody who did not ask for what is in it.
fn raw(endpoint: &Endpoint, answer: &[u8]) {
    let asked = ["a", "b", "c"];
    let Some(ids) = Answer::ids(key(endpoint), answer) else { return };
    let Some(taken) = Answer::read(&asked, &ids, answer) else { return };
    assert!(ids.iter().all(|id| asked.contains(&id.as_str())), "what nobody asked for");
    let whole = items(answer).len();
    let mut given = 0;
    for id in asked {
        let part = taken.part([id].into_iter());
        let found = Answer::ids(key(endpoint), &part).expect("an answer like the whole");
        assert!(found.iter().all(|of| of == id), "{id} got {found:?}");
        given += found.len();
    }
    assert_eq!(given, whole);
    assert!(joined(&[answer, answer]).is_none_or(|twice| items(&twice).len() == 2 * whole));
}

/// Calls that share a request.
fn shared(endpoint: &Endpoint, input: &mut Input<'_>) {
    let calls: Vec<Vec<usize>> =
        (0..=input.below(5)).map(|_| (0..=input.below(6)).map(|_| input.below(9)).collect()).collect();
    let id = |at: usize| ["a", "b", "c", "\u{e9}\"", "e\\u0041", "", "g,h", "\u{1F600}", "i"][at];
    let entry = |at: usize| format!("{{\"{}\":{}}}", key(endpoint), Value::from(id(at)));
    let bodies = calls.iter().map(|call| {
        let list: Vec<String> = call.iter().map(|at| entry(*at)).collect();
        format!("{{\"requests\":[{}],\"options\":{{\"x\":1.0}}}}", list.join(","))
    });
    let mut asks = Vec::new();
    for (body, call) in bodies.zip(&calls) {
        let mut once = call.clone();
        once.sort_unstable();
        once.dedup();
        let read = Asks::read(endpoint, body.as_bytes());
        let most = endpoint.batch.and_then(|batch| batch.items_max).unwrap_or(0).min(CALL_IDS_MAX);
        assert_eq!(read.is_some(), once.len() == call.len() && call.len() <= most, "{body}");
        asks.extend(read);
    }
    let Some((body, asked)) = Asks::together(asks.iter()) else { return assert!(asks.is_empty()) };
    assert_eq!(requests(&body).len(), asked.len());
    // Finch may leave items out, say some twice, use another order, or answer what nobody asked for.
    let mut said: Vec<usize> = Vec::new();
    for at in 0..9 {
        let times =
            if asked.contains(&id(at)) { [1, 1, 1, 0, 2][input.below(5)] } else { input.below(40) / 39 };
        said.extend(std::iter::repeat_n(at, times));
    }
    for at in 1..said.len() {
        said.swap(at, input.below(at + 1));
    }
    let item = |place: usize, at: usize| {
        format!("{{\"code\":200,\"n\":{place}.0, \"{}\" :{}}}", key(endpoint), Value::from(id(at)))
    };
    let said_items: Vec<String> = said.iter().enumerate().map(|(place, at)| item(place, *at)).collect();
    let whole = answer(input.pick(&ANSWER_PATTERNS), said_items.iter().map(String::as_str));
    let ids = Answer::ids(key(endpoint), whole.as_bytes()).expect("every item has an id");
    let is_foreign = said.iter().any(|at| !asked.contains(&id(*at)));
    let Some(taken) = Answer::read(&asked, &ids, whole.as_bytes()) else {
        return assert!(is_foreign, "{whole}");
    };
    assert!(!is_foreign, "what nobody asked for was given out: {whole}");
    for asks in &asks {
        let part = taken.part(asks.ids());
        let mut got = items(&part);
        let is_his = |place: &usize| asks.ids().any(|own| own == id(said[*place]));
        let mut due: Vec<&str> =
            (0..said.len()).filter(is_his).map(|place| said_items[place].as_str()).collect();
        got.sort_unstable();
        due.sort_unstable();
        assert_eq!(got, due, "every item of his once, and nobody else's");
    }
    alone(endpoint, &asks);
}

/// split(merge(x)) == x: calls with nothing in common that are joined and taken apart get what they would have got.
fn alone(endpoint: &Endpoint, asks: &[Asks]) {
    let mut seen = std::collections::HashSet::new();
    let apart: Vec<&Asks> =
        asks.iter().filter(|asks| asks.ids().all(|id| seen.insert(id.to_owned()))).collect();
    let answers: Vec<String> = apart
        .iter()
        .map(|asks| {
            let list: Vec<String> =
                asks.entries.iter().map(|(_, raw)| raw.get().replace('}', ",\"code\":200}")).collect();
            answer("{\"responses\":[", list.iter().map(String::as_str))
        })
        .collect();
    let Some((_, asked)) = Asks::together(apart.iter().copied()) else { return };
    let whole = joined(&answers).expect("lists");
    let ids = Answer::ids(key(endpoint), &whole).expect("ids");
    let taken = Answer::read(&asked, &ids, &whole).expect("nothing foreign");
    for (asks, answer) in apart.iter().zip(&answers) {
        assert_eq!(String::from_utf8_lossy(&taken.part(asks.ids())), *answer);
    }
}

fn answer<'a>(opening: &str, items: impl Iterator<Item = &'a str>) -> String {
    let closing = if opening.contains('{') { "]}" } else { "]" };
    format!("{opening}{}{closing}", items.collect::<Vec<_>>().join(","))
}

fn requests(body: &[u8]) -> Vec<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Requests {
        requests: Vec<Box<RawValue>>,
    }
    serde_json::from_slice::<Requests>(body).expect("a list of requests").requests
}

fn items(answer: &[u8]) -> Vec<&str> {
    #[derive(serde::Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        responses: Vec<&'a RawValue>,
    }
    let list: Vec<&RawValue> = serde_json::from_slice(answer)
        .or_else(|_| serde_json::from_slice::<Wrapped<'_>>(answer).map(|wrapped| wrapped.responses))
        .expect("a list, or one in an object");
    list.into_iter().map(RawValue::get).collect()
}
