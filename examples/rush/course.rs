//! The course of a run: everything is started, the load begins, the plan's events happen, all is counted.

use super::brood::Brood;
use super::count::Arrivals;
use super::load::{self, Call};
use super::plan::{Event, PRODUCTS, Plan};
use super::site::Site;
use super::watch::{self, Seen};
use super::{Outcome, http, say};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// All that a run found.
pub(crate) struct Found {
    /// What was planned.
    pub(crate) plan: Plan,
    /// What Finch saw, by the order of [`PRODUCTS`].
    pub(crate) arrivals: Vec<Arrivals>,
    /// What the apps saw.
    pub(crate) calls: Vec<Call>,
    /// What operators saw.
    pub(crate) seen: Seen,
    /// The same when the count began.
    pub(crate) seen_early: Seen,
    /// What happened when in fact.
    pub(crate) events: Vec<(Duration, Event)>,
}

/// One run, in a folder of its own.
pub(crate) fn run(brood: &Arc<Brood>, plan: Plan, folder: &Path) -> Outcome<Found> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let found = runtime.block_on(course(brood, plan, folder));
    runtime.shutdown_background();
    found
}

async fn course(brood: &Arc<Brood>, plan: Plan, folder: &Path) -> Outcome<Found> {
    say(&format!(
        "{}: {} gateways, window {} s, {} s",
        plan.name,
        plan.gateways,
        plan.window.as_secs(),
        plan.length.as_secs()
    ));
    let site = Arc::new(Site::start(brood, &plan, folder).await?);
    let origin = look(site.finch).await?["now_ms"].as_u64().ok_or("the simulator has no clock")?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    let watch = watch::begin(&mut tasks, &site, &plan, begin);
    let calls = load::begin(&mut tasks, &site, &plan, begin);
    let mut events = Vec::new();
    let mut seen_early = None;
    // The beginning of the count is one more thing that happens.
    let mut agenda: Vec<(Duration, Option<Event>)> = plan
        .events
        .iter()
        .map(|(at, event)| (*at, Some(*event)))
        .chain([(plan.counted_from, None)])
        .collect();
    agenda.sort_by_key(|(at, _)| *at);
    for (at, event) in agenda {
        sleep_until(begin + at).await;
        match event {
            Some(event) => {
                say(&format!("{}: {} s: {event:?}", plan.name, at.as_secs()));
                events.push((begin.elapsed(), event));
                site.suffer(event).await?;
            }
            None => seen_early = Some(watch.seen()),
        }
    }
    sleep_until(begin + plan.length).await;
    let report = look(site.finch).await?;
    std::fs::write(folder.join("arrivals.json"), report.to_string())?;
    let (calls, seen) = (calls.all(), watch.seen());
    tasks.shutdown().await;
    let read = |(product, limit): (perch::types::Product, u32)| {
        Arrivals::read(&report, product.as_str(), limit, origin)
    };
    let arrivals = PRODUCTS.into_iter().map(read).collect::<Outcome<_>>()?;
    site.end();
    let seen_early = seen_early.unwrap_or_default();
    Ok(Found { plan, arrivals, calls, seen, seen_early, events })
}

/// What Finch saw.
async fn look(finch: SocketAddr) -> Outcome<Value> {
    Ok(http::get(finch, "/_sim/arrivals", &[]).await?.json())
}
