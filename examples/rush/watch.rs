//! What happens meanwhile: in which mode each gateway's limiter is, and what Redis has to do.

use super::redis::Used;
use super::site::Site;
use super::{http, plan::Plan};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A gateway that cannot be asked.
pub(crate) const GONE: &str = "gone";
/// How often is looked at most.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// A delay beyond this is counted.
const TICK: Duration = Duration::from_millis(100);
/// An operator who is not answered for this long sees nothing.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Everything seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// For each gateway, the moments at which it was first seen in another mode.
    pub(crate) modes: Vec<Vec<(Duration, String)>>,
    /// What Redis has carried out, over all its lives; up to a look's distance is lost at a kill.
    pub(crate) commands: BTreeMap<String, Used>,
    /// 429s of Finch that the gateways noticed, over all their lives.
    pub(crate) noticed_429: Vec<u64>,
    /// How long this program, and so probably the whole machine, stood still in all.
    pub(crate) stood_still: Duration,
}

/// Seen by several at once.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Seen>);

impl Watch {
    /// A copy.
    pub(crate) fn seen(&self) -> Seen {
        self.with(|seen| seen.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins to look.
pub(crate) fn begin(tasks: &mut JoinSet<()>, site: &Arc<Site>, plan: &Plan, begin: Instant) -> Arc<Watch> {
    let watch = Arc::new(Watch::default());
    watch.with(|seen| {
        seen.modes = vec![Vec::new(); plan.gateways];
        seen.noticed_429 = vec![0; plan.gateways];
    });
    let every = (plan.window / 240).max(LOOK_MIN);
    for (number, gateway) in site.gateways.iter().enumerate() {
        tasks.spawn(watch_gateway(Arc::clone(&watch), number, gateway.admin, begin, every));
    }
    tasks.spawn(watch_machine(Arc::clone(&watch)));
    tasks.spawn(watch_redis(Arc::clone(&watch), Arc::clone(site), every));
    watch
}

async fn watch_gateway(watch: Arc<Watch>, number: usize, admin: SocketAddr, begin: Instant, every: Duration) {
    let mut noticed_before = 0;
    loop {
        let metrics = match timeout(ANSWER_MAX, http::get(admin, "/metrics", &[])).await {
            Ok(Ok(answer)) if answer.status == 200 => String::from_utf8_lossy(&answer.body).into_owned(),
            _ => String::new(),
        };
        let now = begin.elapsed();
        let mode = mode(&metrics);
        let noticed = sum(&metrics, "perch_finch_429_total{");
        watch.with(|seen| {
            if seen.modes[number].last().is_none_or(|(_, last)| last != mode) {
                seen.modes[number].push((now, mode.to_owned()));
            }
            seen.noticed_429[number] += noticed.saturating_sub(noticed_before);
        });
        noticed_before = noticed;
        sleep(every).await;
    }
}

/// Counts how late it is woken. What is less than a moment is the share of others in the machine.
async fn watch_machine(watch: Arc<Watch>) {
    loop {
        let due = Instant::now() + TICK;
        sleep_until(due).await;
        let late = due.elapsed();
        if late > TICK {
            watch.with(|seen| seen.stood_still += late);
        }
    }
}

/// The mode whose gauge is 1.
fn mode(metrics: &str) -> &str {
    let on = metrics.lines().find_map(|line| {
        let (mode, value) = line.strip_prefix("perch_limiter_mode{mode=\"")?.split_once("\"} ")?;
        (value == "1").then_some(mode)
    });
    on.unwrap_or(GONE)
}

fn sum(metrics: &str, name: &str) -> u64 {
    let samples = metrics.lines().filter(|line| line.starts_with(name));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

async fn watch_redis(watch: Arc<Watch>, site: Arc<Site>, every: Duration) {
    let Some(redis) = &site.redis else { return };
    let mut before: BTreeMap<String, Used> = BTreeMap::new();
    loop {
        if let Ok(commands) = redis.commands().await {
            watch.with(|seen| {
                for (name, used) in &commands {
                    let more = used.since(before.get(name).copied().unwrap_or_default());
                    let sum = seen.commands.entry(name.clone()).or_default();
                    sum.calls += more.calls;
                    sum.micros += more.micros;
                }
            });
            before = commands;
        }
        sleep(every).await;
    }
}
