//! The course of a run: starts first, then rounds in which everybody has the same turn, in an order
//! that is reversed from round to round, then a look at where the CPU goes.

use super::brood::{Brood, free_port};
use super::costs::{self, Profile};
use super::load::{Stretch, Target};
use super::meter::{cpu, resident};
use super::perch::{CUSTOMER, furnish};
use super::stats::quantile;
use super::upstream::{self, SIZES};
use super::{Outcome, bare, roles};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How often everybody has a turn.
pub(crate) const ROUNDS: usize = 7;
/// Connections of the load, and for the largest answer.
pub(crate) const CONNECTIONS: usize = 16;
/// Fewer, because sixteen answers of a mebibyte at once measure the memory of the machine.
pub(crate) const CONNECTIONS_LARGE: usize = 4;
/// Calls a second of the paced load: two cores carry load, proxy and upstream with room to spare.
pub(crate) const RATE: u32 = 500;
/// How long each load lasts.
pub(crate) const RUSH: Duration = Duration::from_secs(2);
pub(crate) const PACE: Duration = Duration::from_secs(3);
const RUSH_LARGE: Duration = Duration::from_millis(800);
/// Load before each measured one, which opens the connections to the upstream.
const WARM_UP: Duration = Duration::from_millis(150);
const PROFILED: Duration = Duration::from_secs(3);
/// How often each is started to see how long it takes.
pub(crate) const STARTS: usize = 7;
const START_MAX: Duration = Duration::from_secs(10);
/// How long a process without calls is watched.
const IDLE: Duration = Duration::from_secs(2);
/// How long a process is left alone before its memory counts as idle.
const SETTLE: Duration = Duration::from_millis(500);

/// One contestant's turn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turn {
    /// CPU of the proxy for one call in µs: in a rush at each of [`SIZES`], and at the set pace.
    pub(crate) rush_cpu: [f64; 3],
    pub(crate) pace_cpu: f64,
    /// In a rush at the smallest size: how often a thread of the proxy waited, for one call, and
    /// connections opened to the upstream, for a thousand calls.
    pub(crate) waits: f64,
    pub(crate) opened: f64,
    /// Calls a second in a rush at the smallest size.
    pub(crate) rate: f64,
    /// Latency at the set pace in µs.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// How late the load itself was, 99th percentile in µs.
    pub(crate) late: f64,
}

/// What is known of one contestant.
#[derive(Debug, Default)]
pub(crate) struct Contestant {
    /// One per round.
    pub(crate) turns: Vec<Turn>,
    /// From the start of the process to its first answer, in ms.
    pub(crate) starts: Vec<f64>,
    /// Bytes held: idle before the rounds, after them, and at most.
    pub(crate) memory: [u64; 3],
    /// CPU over a second without a call, in µs.
    pub(crate) idle_cpu: f64,
    /// Where its CPU goes; nothing where there is no `perf`.
    pub(crate) profile: Option<Profile>,
}

/// All that a run found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) bare: Contestant,
    pub(crate) perch: Contestant,
    /// The same load without a proxy.
    pub(crate) direct: Vec<Turn>,
    /// perch's CPU for one call in µs when nobody keeps its access lines, one per round.
    pub(crate) lines_dropped: Vec<f64>,
    /// How long the run took.
    pub(crate) took: Duration,
}

/// The whole run.
pub(crate) fn run(brood: &Brood, dir: &Path) -> Outcome<Found> {
    let began = Instant::now();
    let mut found = Found::default();
    let finch = free_port()?;
    roles::start(brood, &[upstream::ROLE, &finch.port().to_string()])?;
    let own_token = format!("Authorization: Bearer {}", upstream::TOKEN);
    let direct = Target { door: finch, pid: None, upstream: finch, identity: own_token.clone() };
    direct.first_answer(SIZES[0], START_MAX)?;

    let home = furnish(&dir.join("perch"), finch)?;
    let quiet_home = furnish(&dir.join("quiet"), finch)?;
    let lines = dir.join("access-lines");
    let start_bare = || -> Outcome<Target> {
        let door = free_port()?;
        let pid = roles::start(brood, &[bare::ROLE, &door.port().to_string(), &finch.to_string()])?;
        Ok(Target { door, pid: Some(pid), upstream: finch, identity: own_token.clone() })
    };
    let named = |door: SocketAddr, pid: u32| Target {
        door,
        pid: Some(pid),
        upstream: finch,
        identity: format!("Perch-Customer: {CUSTOMER}"),
    };
    let start_perch = || -> Outcome<Target> {
        let file = File::options().create(true).append(true).open(&lines)?;
        Ok(named(home.door, home.serve(brood, file)?))
    };
    let explain = |why| -> Outcome<Found> {
        Err(format!("{why}\nthe end of perch's log:\n{}", home.last_words()).into())
    };

    say(&format!("{STARTS} starts of each"));
    for _ in 0..STARTS {
        found.bare.starts.push(time_start(brood, start_bare)?);
        found.perch.starts.push(time_start(brood, start_perch)?);
    }

    let bare = ready(start_bare()?)?;
    let perch = match ready(start_perch()?) {
        Ok(perch) => perch,
        Err(why) => return explain(why),
    };
    let quiet = ready(named(quiet_home.door, quiet_home.serve(brood, Stdio::null())?))?;
    std::thread::sleep(SETTLE);
    for (contestant, target) in [(&mut found.bare, &bare), (&mut found.perch, &perch)] {
        contestant.memory[0] = memory(target)?.0;
        contestant.idle_cpu = idle_cpu(target)?;
    }

    for round in 0..ROUNDS {
        say(&format!("round {} of {ROUNDS}", round + 1));
        let mut order = [0, 1, 2, 3];
        if round % 2 == 1 {
            order.reverse();
        }
        for who in order {
            match who {
                0 => found.bare.turns.push(turn(&bare)?),
                1 => match turn(&perch) {
                    Ok(turn) => found.perch.turns.push(turn),
                    Err(why) => return explain(why),
                },
                2 => found.lines_dropped.push(cpu_per_call(&rush(&quiet, SIZES[0], RUSH)?)),
                _ => found.direct.push(pace(&direct, rush(&direct, SIZES[0], RUSH / 2)?)?),
            }
            // The lines of a turn are some hundred thousand; only their writing matters here.
            File::options().write(true).open(&lines)?.set_len(0)?;
        }
    }
    for (contestant, target) in [(&mut found.bare, &bare), (&mut found.perch, &perch)] {
        [contestant.memory[1], contestant.memory[2]] = memory(target)?.into();
    }

    say("where the CPU goes");
    found.bare.profile = profile(brood, &bare, dir)?;
    found.perch.profile = profile(brood, &perch, dir)?;
    found.took = began.elapsed();
    Ok(found)
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

fn ready(target: Target) -> Outcome<Target> {
    target.first_answer(SIZES[0], START_MAX)?;
    Ok(target)
}

/// Milliseconds from the start to the first answer that came through.
fn time_start(brood: &Brood, start: impl Fn() -> Outcome<Target>) -> Outcome<f64> {
    let began = Instant::now();
    let target = ready(start()?)?;
    let took = began.elapsed();
    target.pid.into_iter().for_each(|pid| brood.end(pid));
    Ok(took.as_secs_f64() * 1e3)
}

fn memory(target: &Target) -> Outcome<(u64, u64)> {
    target.pid.map_or(Ok((0, 0)), resident)
}

fn idle_cpu(target: &Target) -> Outcome<f64> {
    let used = || target.pid.map_or(Ok(Duration::ZERO), cpu);
    let before = used()?;
    std::thread::sleep(IDLE);
    Ok(used()?.saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 1e6)
}

fn turn(target: &Target) -> Outcome<Turn> {
    let mut turn = pace(target, rush(target, SIZES[0], RUSH)?)?;
    for (at, &bytes) in SIZES.iter().enumerate().skip(1) {
        turn.rush_cpu[at] = cpu_per_call(&rush(target, bytes, RUSH_LARGE)?);
    }
    Ok(turn)
}

fn rush(target: &Target, bytes: usize, span: Duration) -> Outcome<Stretch> {
    let connections = if bytes < SIZES[2] { CONNECTIONS } else { CONNECTIONS_LARGE };
    target.rush(connections, bytes, WARM_UP)?;
    target.rush(connections, bytes, span)
}

/// Adds the paced load to what a rush found.
fn pace(target: &Target, rush: Stretch) -> Outcome<Turn> {
    let paced = target.pace(CONNECTIONS, SIZES[0], RATE, PACE)?;
    Ok(Turn {
        rush_cpu: [cpu_per_call(&rush), 0.0, 0.0],
        pace_cpu: cpu_per_call(&paced),
        waits: rush.used.waits as f64 / f64::from(rush.calls),
        opened: rush.used.opened as f64 / f64::from(rush.calls) * 1e3,
        rate: f64::from(rush.calls) / rush.took.as_secs_f64(),
        p50: quantile(&paced.latencies, 0.50),
        p99: quantile(&paced.latencies, 0.99),
        late: quantile(&paced.lateness, 0.99),
    })
}

fn cpu_per_call(stretch: &Stretch) -> f64 {
    stretch.used.cpu.as_secs_f64() * 1e6 / f64::from(stretch.calls)
}

fn profile(brood: &Brood, target: &Target, dir: &Path) -> Outcome<Option<Profile>> {
    let Some(pid) = target.pid else { return Ok(None) };
    let Some(recording) = costs::record(brood, pid, dir) else { return Ok(None) };
    let stretch = rush(target, SIZES[0], PROFILED)?;
    Ok(recording.end(brood, cpu_per_call(&stretch)))
}
