//! The load: as many small calls as go through some connections, each sent when the one before is answered, and a large
//! one now and then. It is more than any app asks for; what perch holds in memory then is close to the most it will.

use super::Outcome;
use super::http::Line;
use super::site::CUSTOMER;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections that ask for the company, a small answer.
const SMALL: usize = 14;
/// Connections that ask for the directory of some thousand people, a large one.
const LARGE: usize = 2;
/// How long these rest after each: the simulator takes its time for so many people.
const REST: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Good answers.
    pub(crate) good: u64,
    /// Every other answer, and every connection that broke.
    pub(crate) bad: Vec<String>,
    /// How long each good answer of the small kind took.
    pub(crate) latencies: Vec<Duration>,
    /// The bytes of the largest body.
    pub(crate) largest: usize,
}

/// Runs until the gateway has ended. Once `ending` says that it is told to, what fails is no fault.
pub(crate) fn run(door: SocketAddr, ending: &AtomicBool) -> Outcome<Load> {
    let parts: Vec<Outcome<Load>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SMALL + LARGE)
            .map(|number| scope.spawn(move || one(door, number >= SMALL, ending)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a panic".into()))).collect()
    });
    let mut whole = Load::default();
    for part in parts {
        let part = part?;
        whole.good += part.good;
        whole.bad.extend(part.bad);
        whole.latencies.extend(part.latencies);
        whole.largest = whole.largest.max(part.largest);
    }
    Ok(whole)
}

fn one(door: SocketAddr, is_large: bool, ending: &AtomicBool) -> Outcome<Load> {
    let path = if is_large { "/employer/directory?limit=10000" } else { "/employer/company" };
    let headers = format!("Perch-Customer: {CUSTOMER}\r\n");
    let mut line = Line::open(door)?;
    let mut load = Load::default();
    loop {
        let begun = Instant::now();
        match line.call("GET", path, &headers, "") {
            Ok(answer) if answer.status == 200 => {
                load.good += 1;
                load.largest = load.largest.max(answer.body.len());
                match is_large {
                    true => std::thread::sleep(REST),
                    false => load.latencies.push(begun.elapsed()),
                }
            }
            _ if ending.load(Ordering::Relaxed) => break,
            Ok(answer) => {
                load.bad.push(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
            }
            Err(why) => load.bad.push(why.to_string()),
        }
        // Enough to see that something is wrong.
        if load.bad.len() >= 10 {
            break;
        }
    }
    Ok(load)
}
