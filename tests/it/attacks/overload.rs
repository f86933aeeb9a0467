//! Four times as many calls as there is quota for: as many are served as there is quota, and the others are told so at once.
//! S16 of the list.

use super::oracle::TOKEN;
use super::report::{Verdict, scale, tell};
use crate::support::World;
use crate::support::raw::RawFinch;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::interval;

/// Calls that there is quota for in a second.
const LIMIT: usize = 50;
/// What is offered beyond it.
const TIMES: usize = 4;
/// How long a refusal may take, for ninety-nine of a hundred; judged where the machine is not shared: `make attack`.
const REFUSAL_MAX: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_the_load_is_served_up_to_the_quota_and_the_rest_is_refused_at_once() {
    let seconds = 3 * scale().min(20);
    let finch = RawFinch::start().await;
    let settings = format!(
        "limits.products.company = {LIMIT}\nlimits.ip.requests = 100000\nlimits.window = \"1s\"\nlimits.pad = \"0s\"\n\
         merge.coalesce = false"
    );
    let setup = World::with().connection("acme", TOKEN).finch(&finch.url()).settings(&settings);
    let mut world = setup.without_gateway().await;
    let process = world.serve().await;
    let app = world.for_customer("acme").with("perch-max-wait", "0");
    let mut every = interval(Duration::from_secs(1) / u32::try_from(LIMIT * TIMES).expect("small"));
    let mut calls = JoinSet::new();
    for _ in 0..LIMIT * TIMES * seconds {
        every.tick().await;
        let app = app.clone();
        calls.spawn(async move {
            let began = Instant::now();
            let answer = app.get("/employer/company").await;
            (answer.status, answer.class().to_owned(), began.elapsed())
        });
    }
    let (mut served, mut refused, mut others) = (0, Vec::new(), Vec::new());
    while let Some(ended) = calls.join_next().await {
        match ended.expect("no panic") {
            (200, ..) => served += 1,
            (429, class, took) if class == "rate_limited" => refused.push(took),
            (status, class, _) => others.push((status, class)),
        }
    }
    refused.sort();
    let p99 = refused.get((refused.len() * 99 / 100).saturating_sub(1)).copied().unwrap_or_default();
    let goodput = served * 100 / (LIMIT * seconds);
    let seen = format!(
        "{goodput} % of {LIMIT} a second for {seconds} s, {} refused, p99 {} ms, {} others",
        refused.len(),
        p99.as_millis(),
        others.len()
    );
    let verdict = Verdict::of(others.is_empty(), goodput >= 90 && p99 < REFUSAL_MAX);
    tell("S16", "apps", ">= 90 % of quota, refusals < 50 ms", &seen, verdict);
    assert!(verdict != Verdict::Broken, "{seen}: {others:?}");
    assert!(served >= LIMIT && refused.len() >= LIMIT, "{seen}");
    assert_eq!(finch.requests().len(), served, "what was refused was not sent");
    drop(process);
}
