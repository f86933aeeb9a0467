//! What looking into a good answer costs, against reading its bytes only. Fails when it costs more than it may.
//!
//! Both are done to the same body in the same round, turn about, so that whatever else the machine
//! does falls on both.

// It runs by itself and talks to a person.
#![allow(clippy::print_stdout)]

// Shared with `bench`, which uses more of it.
#[allow(dead_code)]
#[path = "../common/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "../bench/stats.rs"]
mod stats;

use perch::finch::endpoints::{Endpoint, Method, find};
use perch::policy::batch::{Repair, Sent, inspect, plan};
use serde_json::{Value, json};
use stats::Spread;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How often each body is measured; each round gives one value.
const ROUNDS: usize = 15;

/// How long one measurement repeats its work: long against the clock's own steps.
const ROUND: Duration = Duration::from_millis(60);

/// How many times the cost of reading its bytes the inspection of 10 000 items may take. Measured at 12 to 35, by what is
/// in them; the bound is there to notice another order of magnitude, on any machine.
const RATIO_MAX: f64 = 100.0;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    for fact in machine::facts() {
        println!("{fact}");
    }
    if cfg!(debug_assertions) {
        println!("This build is not optimised; its numbers mean nothing. Use make bench-inspect.");
    }
    println!(
        "Method: for each body {ROUNDS} rounds; in each, every work is repeated for {} ms, in turn. Shown: the median of the\n\
         rounds (smallest..largest). Reading: the body is copied and its line ends are counted. Inspecting: the items are\n\
         counted by their codes, which is done to every good answer. Planning: a repair is worked out, which is done\n\
         where a call asks for one.\n",
        ROUND.as_millis()
    );
    let individual = find(Method::Post, "/employer/individual").ok_or("no such path")?;
    let mut is_within = true;
    println!(
        "{:<34} {:>9}  {:>24}  {:>24}  {:>16}  {:>16}",
        "body", "KiB", "reading, us", "inspecting, us", "inspect/read", "plan/read"
    );
    for (name, body, bound) in [
        ("100 items of 1 KiB", answer(100, 1_000), None),
        ("1 MiB, 1 000 items", answer(1_000, 1_000), None),
        ("10 000 items of 1 KiB", answer(10_000, 1_000), Some(RATIO_MAX)),
        ("10 000 items of 100 bytes", answer(10_000, 60), Some(RATIO_MAX)),
        ("10 000 items without a code", without_codes(10_000), Some(RATIO_MAX)),
        ("1 MiB in 10 items", answer(10, 100_000), None),
    ] {
        let round = measure(individual, &body);
        let ratio = Spread::of(round.iter().map(|r| r.inspecting / r.reading));
        println!(
            "{name:<34} {:>9.0}  {:>24}  {:>24}  {:>16}  {:>16}",
            body.len() as f64 / 1024.0,
            Spread::of(round.iter().map(|r| r.reading)).show(1),
            Spread::of(round.iter().map(|r| r.inspecting)).show(1),
            ratio.show(1),
            Spread::of(round.iter().map(|r| r.planning / r.reading)).show(1),
        );
        if bound.is_some_and(|max| ratio.median > max) {
            is_within = false;
        }
        let speed = Spread::of(round.iter().map(|r| body.len() as f64 / r.inspecting));
        println!("{:<34} {:>9}  inspected at {} MB/s", "", "", speed.show(0));
    }
    let verdict = if is_within { "within" } else { "ABOVE" };
    println!("\nInspecting 10 000 items is {verdict} {RATIO_MAX} times the cost of reading their bytes.");
    Ok(is_within)
}

/// One round, in microseconds for each time the work was done.
struct Round {
    reading: f64,
    inspecting: f64,
    planning: f64,
}

fn measure(endpoint: &Endpoint, body: &[u8]) -> Vec<Round> {
    let request = json!({ "requests": [{ "individual_id": "i-0" }] }).to_string();
    let sent = Sent { query: None, body: request.as_bytes() };
    let round = |_| Round {
        reading: micros(|| {
            let copy = black_box(body).to_vec();
            memchr::memchr_iter(b'\n', black_box(&copy)).count()
        }),
        inspecting: micros(|| inspect(endpoint, black_box(body))),
        planning: micros(|| plan(endpoint, Repair::Pending, sent, black_box(body))),
    };
    (0..ROUNDS).map(round).collect()
}

/// Does it again and again for a while.
fn micros<T>(work: impl Fn() -> T) -> f64 {
    let began = Instant::now();
    let mut times = 0_u32;
    while began.elapsed() < ROUND {
        black_box(work());
        times += 1;
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(times.max(1))
}

/// An answer with so many items of about this size, one in a hundred of them failed.
fn answer(items: usize, bytes: usize) -> Vec<u8> {
    let item = |i: usize| match i % 100 {
        7 => {
            json!({ "individual_id": id(i), "code": 500, "body": { "code": 500, "name": "server_error", "message": "m" } })
        }
        _ => json!({ "individual_id": id(i), "code": 200, "body": person(i, bytes) }),
    };
    wrapped((0..items).map(item))
}

/// The same as the sandbox writes it.
fn without_codes(items: usize) -> Vec<u8> {
    wrapped((0..items).map(|i| json!({ "individual_id": id(i), "body": person(i, 1_000) })))
}

fn wrapped(items: impl Iterator<Item = Value>) -> Vec<u8> {
    json!({ "responses": items.collect::<Vec<_>>() }).to_string().into_bytes()
}

fn id(i: usize) -> String {
    format!("{i:08x}-0000-4000-8000-{i:012x}")
}

/// A person whose texts fill what the members leave of the size: short members, as Finch's are.
fn person(i: usize, bytes: usize) -> Value {
    let mut person = json!({ "id": id(i) });
    let mut size = 60;
    let mut at = 0;
    while size < bytes {
        person[format!("member_{at}")] = match at % 4 {
            0 => json!({ "amount": i, "currency": "usd" }),
            1 => Value::Null,
            2 => json!(["2024-01-01", 1.5, true]),
            _ => json!("a text with an \u{e9} and a \"quote\" of about forty bytes"),
        };
        size += 45;
        at += 1;
    }
    person
}
