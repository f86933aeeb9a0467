//! The course of the runs: what is done with the container, and what is seen.

use super::brood::Brood;
use super::kernel::{self, Rights};
use super::load::{self, Load};
use super::podman::{self, Container, Given};
use super::site::{CUSTOMER, Site};
use super::stats::quantile;
use super::{Outcome, http, say};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a container may take until it is ready.
const START_MAX: Duration = Duration::from_secs(30);
/// How long it is left alone before what it holds idle is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Everything that was found.
pub(crate) struct Found {
    /// How large the image is, unpacked, in bytes.
    pub(crate) image_bytes: u64,
    /// The exit code of a gateway whose key everyone may read.
    pub(crate) open_key_exit: i32,
    /// One for each container.
    pub(crate) runs: Vec<Run>,
}

/// One container's life.
pub(crate) struct Run {
    /// From the making of its process to the first good `/readyz`.
    pub(crate) process_ready: Duration,
    /// The same, from `podman start` on.
    pub(crate) podman_ready: Duration,
    /// As whom it runs, and what it may.
    pub(crate) rights: Rights,
    /// What the kernel says to a write into its root; none: the write went through.
    pub(crate) root_refused: Option<i32>,
    /// The status of the app's first call.
    pub(crate) first_call: u16,
    /// Resident memory, in bytes: idle, after the load, and at most.
    pub(crate) resident: [u64; 3],
    /// The most that its control group was charged, files' pages included.
    pub(crate) group_peak: Option<u64>,
    /// How often something in it was killed for want of memory.
    pub(crate) starved: u64,
    /// What the load saw.
    pub(crate) load: Load,
    /// How long the load lasted.
    pub(crate) took: Duration,
    /// CPU for each good answer, in microseconds.
    pub(crate) cpu_per_call: f64,
    /// Half of the small calls took less, all but a hundredth took less; in microseconds.
    pub(crate) latency: [f64; 2],
    /// From SIGTERM, under load, to the end.
    pub(crate) stopped_in: Duration,
    /// With what.
    pub(crate) exit: i32,
}

/// All of them, one after the other, on one volume: the second finds the customer that the first connected.
pub(crate) fn run(brood: &Brood, image: &str, runs: u32, span: Duration) -> Outcome<Found> {
    let image_bytes = podman::size(image)?;
    let folder = tempfile::Builder::new().prefix("perch-image-").tempdir()?;
    let site = Site::furnish(brood, folder.path())?;
    say("a key that everyone may read");
    let open_key_exit = with_an_open_key(image, &site)?;
    let mut found = Found { image_bytes, open_key_exit, runs: Vec::new() };
    for number in 1..=runs {
        say(&format!("run {number} of {runs}"));
        found.runs.push(life(image, &site, number, span)?);
    }
    brood.interrupt(site.finch_pid);
    Ok(found)
}

fn with_an_open_key(image: &str, site: &Site) -> Outcome<i32> {
    site.protect(0o444)?;
    let container = Container::create("perch-smoke-open", &given(image, site))?;
    container.start()?;
    let exit = container.wait()?;
    site.protect(0o440)?;
    Ok(exit)
}

fn given<'a>(image: &'a str, site: &'a Site) -> Given<'a> {
    Given { image, settings: &site.settings, secrets: &site.secrets, words: &[] }
}

fn life(image: &str, site: &Site, number: u32, span: Duration) -> Outcome<Run> {
    let container = Container::create(&format!("perch-smoke-{number}"), &given(image, site))?;
    let begun = Instant::now();
    let (podman_ready, pid) = start(&container, site.probes, begun)?;
    let process_ready = kernel::age(pid)?.saturating_sub(begun.elapsed().saturating_sub(podman_ready));
    if number == 1 {
        site.connect().map_err(|why| format!("{why}\n{}", container.last_words()))?;
    }
    let headers = format!("Perch-Customer: {CUSTOMER}\r\n");
    let first_call = http::once(site.proxy, "GET", "/employer/company", &headers, "")?.status;
    let rights = kernel::rights(pid)?;
    let root_refused = kernel::refusal_to_write(pid, "");
    std::thread::sleep(SETTLE);
    let idle = kernel::resident(pid)?.0;

    let ending = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| -> Outcome<_> {
        let load = scope.spawn(|| load::run(site.proxy, &ending));
        let before = kernel::cpu(pid)?;
        let begun = Instant::now();
        std::thread::sleep(span);
        let took = begun.elapsed();
        let used = kernel::cpu(pid).map(|now| now.saturating_sub(before));
        let resident = kernel::resident(pid);
        let group = kernel::memory_group(pid);
        // The load goes on while the signal comes.
        ending.store(true, Ordering::Relaxed);
        let asked = Instant::now();
        let stopped = container.stop().and_then(|()| container.wait());
        let stopped_in = asked.elapsed();
        let load = load.join().map_err(|_| "a panic in the load")??;
        Ok((load, took, used?, resident?, group?, stopped?, stopped_in))
    });
    let (load, took, used, resident, group, exit, stopped_in) =
        seen.map_err(|why| format!("{why}\n{}", container.last_words()))?;
    let starved = group.0 + u64::from(container.was_starved()?);
    let latency = [0.50, 0.99].map(|share| quantile(&load.latencies, share));
    Ok(Run {
        process_ready,
        podman_ready,
        rights,
        root_refused,
        first_call,
        resident: [idle, resident.0, resident.1],
        group_peak: group.1,
        starved,
        took,
        cpu_per_call: used.as_secs_f64() * 1e6 / load.good.max(1) as f64,
        latency,
        load,
        stopped_in,
        exit,
    })
}

/// Starts it and waits for the first good `/readyz`: how long that took, and its process.
fn start(container: &Container, probes: SocketAddr, begun: Instant) -> Outcome<(Duration, u32)> {
    std::thread::scope(|scope| {
        let started = scope.spawn(|| container.start());
        while !http::once(probes, "GET", "/readyz", "", "").is_ok_and(|answer| answer.status == 200) {
            if begun.elapsed() > START_MAX {
                return Err(format!("it does not get ready\n{}", container.last_words()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let ready = begun.elapsed();
        started.join().map_err(|_| "a panic in the start")??;
        Ok((ready, container.pid()?))
    })
}
