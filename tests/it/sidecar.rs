//! perch beside an app, as a kubelet runs a native sidecar: perch first, the app once perch's startup probe passes; at the
//! end the app is told first and still calls while it stops, and perch is told when the app has gone. The kubelet here
//! is of processes and tasks; a real one runs in clusters only.

use crate::support::socket::{Socket, pace};
use crate::support::{App, Process, World, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::interval;

const COMPANY: &str = "/employer/company";
/// How often a pod lives.
const PODS: usize = 20;
/// How many live at once.
const AT_ONCE: usize = 4;
/// What the app still has to do after it was told to stop.
const LAST_CALLS: usize = 5;
/// How often a kubelet probes; a real one takes a second at least.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// Ports that stay the same when perch is started again, as a pod's do. The system gives none of these away by itself.
struct Ports {
    proxy: SocketAddr,
    probes: SocketAddr,
}

impl Ports {
    fn free(pod: usize) -> Self {
        let first = 18_000 + (std::process::id() as usize % 70) * 200 + pod * 8;
        let mut free = (first..32_000).filter_map(|port| {
            let at = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
            TcpListener::bind(at).is_ok().then_some(at)
        });
        let (proxy, probes) = (free.next().expect("a free port"), free.next().expect("another"));
        Self { proxy, probes }
    }
}

/// A pod.
struct Pod {
    world: World,
    ports: Ports,
}

impl Pod {
    async fn new(number: usize, scenario: &str, settings: &str) -> Self {
        let scenario = format!("[[customer]]\nid = \"a\"\n{scenario}");
        let settings = format!("merge.coalesce = false\nlimits.arrival_bound = \"1s\"\n{settings}");
        let world = World::with().scenario(&scenario).settings(&settings).without_gateway().await;
        world.import().await;
        Self { world, ports: Ports::free(number) }
    }

    /// Starts perch's container, and waits until its startup probe passes.
    async fn start_perch(&self) -> Process {
        let mut command = self.world.command(&["serve"]);
        command.env("PERCH_LISTEN__PROXY", self.ports.proxy.to_string());
        command.env("PERCH_LISTEN__PROBES", self.ports.probes.to_string());
        let mut perch = Process::spawn(command, None);
        let mut pace = interval(PROBE_EVERY);
        until("the startup probe passes", async || {
            pace.tick().await;
            assert!(!perch.has_ended(), "{}", perch.err.text());
            Socket::status_of(self.ports.probes, "/readyz").await == Some(200)
        })
        .await;
        perch
    }

    /// Starts the app's container. It calls at once and on and on; told to stop, it makes its last calls. What came of
    /// each call, in order: a status, or nothing.
    fn start_app(&self, between: Duration) -> (watch::Sender<bool>, JoinHandle<Vec<Option<u16>>>) {
        let (term, told) = watch::channel(false);
        let app = App::at(self.ports.proxy).with("perch-customer", "a");
        let running = tokio::spawn(async move {
            let mut ends = Vec::new();
            let mut last = LAST_CALLS;
            while last > 0 {
                last -= usize::from(*told.borrow());
                let answer = app.try_call("GET", COMPANY, "".into()).await;
                ends.push(answer.ok().map(|answer| answer.status));
                pace(between).await;
            }
            ends
        });
        (term, running)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_and_the_last_call_of_an_app_succeed_in_every_one_of_twenty_pods() {
    LocalSet::new().run_until(twenty_pods()).await;
}

#[expect(clippy::print_stdout, reason = "the times are for whoever runs it with --no-capture")]
async fn twenty_pods() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut pods = JoinSet::new();
    for number in 0..PODS {
        let places = Arc::clone(&places);
        let limits = "limits.products.default = 1000\nlimits.window = \"1s\"";
        let mut pod = Pod::new(number, "[limits]\nwindow = \"1ms\"\n", limits).await;
        pods.spawn_local(async move {
            let _place = places.acquire_owned().await.expect("it stays open");
            // Chosen when they are needed: nobody takes them meanwhile.
            pod.ports = Ports::free(number);
            let perch = pod.start_perch().await;
            let (term, app) = pod.start_app(Duration::from_millis(10));
            until("the app has called", async || pod.world.report().await["requests"].as_u64() > Some(0))
                .await;
            term.send_replace(true);
            let ends = app.await.expect("no panic");
            let began = Instant::now();
            let ended = perch.end_by(SIGTERM).await;
            (ends, ended, began.elapsed())
        });
    }
    let mut times = Vec::new();
    while let Some(pod) = pods.join_next().await {
        let (ends, ended, took) = pod.expect("no panic");
        assert!(ends.len() > LAST_CALLS && ends.iter().all(|end| *end == Some(200)), "{ends:?}");
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        times.push(took);
    }
    times.sort();
    assert_eq!(times.len(), PODS);
    println!("{PODS} sidecars; exit after p50 {:?}, max {:?}", times[PODS / 2], times[PODS - 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_killed_is_ready_again_and_remembers_what_it_sent() {
    const LIMIT: u64 = 10;
    let scenario = format!("[limits]\nwindow = \"2s\"\n[limits.products]\ncompany = {LIMIT}\n");
    let settings = format!("limits.window = \"2s\"\nlimits.products.company = {LIMIT}");
    let pod = Pod::new(PODS, &scenario, &settings).await;
    let perch = pod.start_perch().await;
    let apps: Vec<_> = (0..4).map(|_| pod.start_app(Duration::from_millis(5))).collect();
    let arrived = async || pod.world.report().await["products"]["company"]["arrivals"].as_u64().unwrap_or(0);
    until("the app is served", async || arrived().await >= LIMIT / 2).await;
    let killed = perch.end_by(SIGKILL).await;
    assert_eq!(killed.code, None, "{}", killed.err);
    // A kubelet starts it again by itself; the app is not told.
    let perch = pod.start_perch().await;
    let before = arrived().await;
    until("the app is served again", async || arrived().await >= before + 2 * LIMIT).await;
    for (term, _) in &apps {
        term.send_replace(true);
    }
    for (_, app) in apps {
        let ends = app.await.expect("no panic");
        // Nothing but a connection that ended or could not be had.
        assert!(ends.iter().all(|end| matches!(end, Some(200) | None)), "{ends:?}");
        assert!(ends.contains(&None), "it was killed in the middle");
        assert_eq!(ends.last(), Some(&Some(200)), "{ends:?}");
    }
    let ended = perch.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.err.contains("nothing is sent for"), "its history was there: {}", ended.err);
    let report = pod.world.report().await;
    let worst = report["products"]["company"]["worst_window"].as_u64().expect("a number");
    assert!(worst <= LIMIT, "{worst} calls in one window");
    assert_eq!(report["rate_limited"], json!({}), "Finch refused");
}
