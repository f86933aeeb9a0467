//! SIGTERM in the middle of everything: two hundred calls, in each part of a call's way, against the real process. Each gets
//! its answer or a refusal that invites a repetition; none is cut. `make smoke-drain` does it a hundred times.

mod finch;

use crate::support::process::{Process, within};
use crate::support::socket::{Heard, Socket, pace};
use crate::support::{World, until};
use finch::{Finch, LARGE_BYTES};
use nix::sys::signal::Signal::SIGTERM;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that come anew, one after the other, until the door is closed.
const NEWCOMERS: u64 = 4;
/// Far above what a stop takes; below what Kubernetes grants.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Where a call is when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    ForQuota,
    ForAHold,
    Gathered,
    InFlight,
    Joined,
    Exchange,
    Streamed,
    BodyArrives,
    Pipelined,
    IdleConnection,
    Newcomer,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered,
    /// 503 `perch_draining`, with an invitation to send it again and the end of the connection.
    Refused,
    /// The connection was closed, or not to be had, before anything was written on it.
    Unsent,
    /// Answered or refused, and the client was not told that the connection ends.
    Kept,
    Cut,
}

type Ends = BTreeMap<(Phase, End), u64>;

impl Phase {
    /// Those whose calls are under way at the signal.
    const RUNNING: [Phase; 9] = [
        Phase::ForQuota,
        Phase::ForAHold,
        Phase::Gathered,
        Phase::InFlight,
        Phase::Joined,
        Phase::Exchange,
        Phase::Streamed,
        Phase::BodyArrives,
        Phase::Pipelined,
    ];

    /// How many calls are in it: two hundred in all. What is streamed is large, and few are enough.
    const fn calls(self) -> u64 {
        match self {
            Phase::Streamed => 4,
            Phase::InFlight => 36,
            _ => 20,
        }
    }

    const fn customer(self) -> &'static str {
        match self {
            Phase::ForQuota => "for-quota",
            Phase::ForAHold => "for-a-hold",
            Phase::Gathered => "gathered",
            Phase::InFlight | Phase::BodyArrives => "in-flight",
            Phase::IdleConnection | Phase::Newcomer => "idle",
            Phase::Joined => "joined",
            Phase::Exchange => "nobody",
            Phase::Streamed => "streamed",
            Phase::Pipelined => "pipelined",
        }
    }

    /// The bytes of call number `n`.
    fn request(self, n: u64) -> Vec<u8> {
        let line = match self {
            Phase::ForQuota => "GET /employer/directory",
            Phase::Gathered => "POST /employer/individual",
            Phase::BodyArrives => "POST /employer/employment",
            Phase::Joined => "POST /employer/benefits",
            Phase::Exchange => "POST /auth/token",
            Phase::ForAHold | Phase::InFlight | Phase::Streamed | Phase::Pipelined => "GET /employer/company",
            Phase::IdleConnection | Phase::Newcomer => "GET /introspect",
        };
        let body = match self {
            Phase::Gathered | Phase::BodyArrives => {
                format!(r#"{{"requests":[{{"individual_id":"person-{n}"}}]}}"#)
            }
            Phase::Joined => r#"{"type":"457","description":"plan"}"#.to_owned(),
            Phase::Exchange => format!(r#"{{"client_id":"x","client_secret":"y","code":"code-{n}"}}"#),
            _ => String::new(),
        };
        let named = match self {
            Phase::Exchange => String::new(),
            // Two by two.
            Phase::Joined => format!("Perch-Customer: joined\r\nPerch-Idempotency-Key: key-{}\r\n", n / 2),
            _ => format!("Perch-Customer: {}\r\n", self.customer()),
        };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        format!("{line} HTTP/1.1\r\nHost: perch\r\nPerch-Max-Wait: 7000\r\n{named}{length}\r\n{body}")
            .into_bytes()
    }
}

/// One answer, judged.
fn end_of(heard: &Result<Option<Heard>, Vec<u8>>) -> End {
    match heard {
        Ok(Some(heard)) if heard.code() == "perch_draining" => {
            let is_sound = (heard.status, heard.header("x-should-retry")) == (503, "true");
            assert!(is_sound, "{}", heard.head);
            End::Refused
        }
        Ok(Some(_)) => End::Answered,
        Ok(None) | Err(_) => End::Cut,
    }
}

/// One call, from before the signal to its end.
async fn call(phase: Phase, n: u64, proxy: SocketAddr, mut told: watch::Receiver<bool>) -> Vec<(Phase, End)> {
    let request = phase.request(n);
    let pause = Duration::from_millis(10 * n);
    let mut signal = async || {
        let _ = told.wait_for(|is_told| *is_told).await;
    };
    let mut socket = match phase {
        Phase::Streamed => Socket::slowly(proxy, Duration::from_millis(1)).await,
        _ => Socket::to(proxy).await,
    };
    let mut ends = Vec::new();
    match phase {
        Phase::BodyArrives => {
            let (first, second) = request.split_at(request.len() - 10);
            socket.write(first).await;
            signal().await;
            pace(pause).await;
            socket.write(second).await;
        }
        Phase::IdleConnection => {
            socket.write(&request).await;
            // The signal may come before it was idle: then it is told so, as anybody else.
            let first = end_of(&socket.read().await);
            if first != End::Answered {
                return vec![(phase, first)];
            }
            signal().await;
            pace(pause * 2).await;
            if socket.is_closed() {
                return vec![(phase, End::Unsent)];
            }
            socket.write(&request).await;
        }
        Phase::Pipelined => {
            socket.write(&request.repeat(2)).await;
            ends.push((phase, end_of(&socket.read().await)));
        }
        Phase::Streamed => {
            socket.write(&request).await;
            signal().await;
        }
        _ => socket.write(&request).await,
    }
    let heard = socket.read().await;
    if let (Phase::Streamed, Ok(Some(heard))) = (phase, &heard) {
        assert_eq!(heard.body.len(), LARGE_BYTES);
    }
    // The head of what is streamed was written before the signal.
    if let (Ok(Some(heard)), true) = (&heard, phase != Phase::Streamed)
        && heard.header("connection") != "close"
    {
        ends.push((phase, End::Kept));
    }
    ends.push((phase, end_of(&heard)));
    ends
}

/// Connects again and again from the signal on, until nobody listens any more.
async fn newcomer(proxy: SocketAddr, mut told: watch::Receiver<bool>) -> Vec<(Phase, End)> {
    let _ = told.wait_for(|is_told| *is_told).await;
    let (phase, mut ends) = (Phase::Newcomer, Vec::new());
    while let Ok(mut socket) = Socket::try_to(proxy).await {
        socket.write(&phase.request(0)).await;
        ends.push((phase, end_of(&socket.read().await)));
    }
    ends.push((phase, End::Unsent));
    ends
}

async fn world() -> (World, Finch) {
    let finch = Finch::start().await;
    let settings = "apps.writes = \"allow\"\nlimits.products.default = 1000\nlimits.products.directory = 1\n\
        limits.products.individual = 1\nlimits.pacing = false\nlimits.wait.interactive = \"2h\"\nlimits.wait.batch = \"2h\"\nmerge.coalesce = false\n\
        merge.batch = true\nlisten.inspect_bytes_max = \"64KiB\"\nretry.attempts = 1\nshield.probe = \"off\"";
    let mut setup = World::with().settings(settings).finch(&format!("http://{}", finch.address));
    for customer in
        ["in-flight", "for-quota", "for-a-hold", "gathered", "joined", "streamed", "pipelined", "idle"]
    {
        setup = setup.connection(customer, &format!("CANARY-token-of-{customer}"));
    }
    (setup.without_gateway().await, finch)
}

/// How many calls are under way, as the page for operators tells it.
async fn under_way(world: &World) -> u64 {
    let page = world.operator().get("/").await.text();
    let (_, rest) = page.split_once("Calls under way").expect("the overview");
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).expect("a number")
}

/// One gateway, stopped under all of it. What became of the calls, and how long it took to stop.
async fn round() -> (Ends, Duration) {
    let (mut world, finch) = world().await;
    let perch: Process = world.serve().await;
    // Finch holds this connection from now on.
    let mut first = Socket::to(world.proxy).await;
    first.write(&Phase::ForAHold.request(0)).await;
    assert_eq!(first.hear().await.status, 429);
    drop(first);

    let (tell, told) = watch::channel(false);
    let (mut waiting, mut others) = (JoinSet::new(), JoinSet::new());
    for phase in Phase::RUNNING.into_iter().chain([Phase::IdleConnection]) {
        for n in 0..phase.calls() {
            let call = call(phase, n, world.proxy, told.clone());
            match phase {
                Phase::ForAHold => waiting.spawn(call),
                _ => others.spawn(call),
            };
        }
    }
    for _ in 0..NEWCOMERS {
        others.spawn(newcomer(world.proxy, told.clone()));
    }
    let running: u64 = Phase::RUNNING.into_iter().map(Phase::calls).sum();
    until("every call is where it shall be", async || under_way(&world).await == running).await;
    // One of those that wait for quota or for company has the only permit; of two that belong together one is sent.
    let sent: u64 = [Phase::InFlight, Phase::Exchange, Phase::Pipelined].map(Phase::calls).iter().sum();
    finch.has_kept(2 + Phase::Joined.calls() / 2 + sent).await;

    let began = Instant::now();
    perch.signal(SIGTERM);
    assert!(perch.err.says("perch stops").await, "{}", perch.err.text());
    tell.send_replace(true);
    // Who waits is sent away while those who were sent are still out.
    let mut ends: Vec<_> = within("who waits is told", waiting.join_all()).await.concat();
    finch.open();
    let ended = perch.end().await;
    let took = began.elapsed();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    ends.extend(within("everybody is told", others.join_all()).await.concat());
    let mut counted = Ends::new();
    for end in ends {
        *counted.entry(end).or_default() += 1;
    }
    (counted, took)
}

/// `DRAIN_ROUNDS`, a few without it.
fn rounds() -> usize {
    std::env::var("DRAIN_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the table is what the long run is for")]
async fn a_gateway_that_is_stopped_in_the_middle_of_everything_cuts_nobody() {
    let rounds = rounds();
    let (mut all, mut times) = (Ends::new(), Vec::new());
    for _ in 0..rounds {
        let (ends, took) = round().await;
        for (end, count) in ends {
            *all.entry(end).or_default() += count;
        }
        times.push(took);
    }
    times.sort();
    println!("{rounds} stops; exit after p50 {:?}, max {:?}", times[rounds / 2], times[rounds - 1]);
    println!("{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "answered", "refused", "unsent", "kept", "cut");
    let count = |phase, end| all.get(&(phase, end)).copied().unwrap_or(0);
    for phase in Phase::RUNNING.into_iter().chain([Phase::IdleConnection, Phase::Newcomer]) {
        let [answered, refused, unsent, kept, cut] =
            [End::Answered, End::Refused, End::Unsent, End::Kept, End::Cut].map(|end| count(phase, end));
        println!("{:<16}{answered:>10}{refused:>10}{unsent:>10}{kept:>10}{cut:>10}", format!("{phase:?}"));
    }
    let calls = |phase: Phase| phase.calls() * rounds as u64;
    for phase in Phase::RUNNING.into_iter().chain([Phase::IdleConnection, Phase::Newcomer]) {
        assert_eq!((count(phase, End::Cut), count(phase, End::Kept)), (0, 0), "{phase:?}");
    }
    // Who was sent is answered; who waited is not sent any more.
    for phase in [Phase::InFlight, Phase::Joined, Phase::Exchange, Phase::Streamed] {
        assert_eq!(count(phase, End::Answered), calls(phase), "{phase:?}");
    }
    assert_eq!(count(Phase::ForAHold, End::Refused), calls(Phase::ForAHold));
    // One of each has the only permit; a request that is shared has it for several.
    let told = (count(Phase::ForQuota, End::Answered), count(Phase::ForQuota, End::Refused));
    assert_eq!(told, (rounds as u64, calls(Phase::ForQuota) - rounds as u64));
    assert!(count(Phase::Gathered, End::Answered) >= rounds as u64);
    assert!(count(Phase::Gathered, End::Refused) > 0);
    // Each connection's first call was sent, its second was not.
    let told = (count(Phase::Pipelined, End::Answered), count(Phase::Pipelined, End::Refused));
    assert_eq!(told, (calls(Phase::Pipelined), calls(Phase::Pipelined)));
    assert!(count(Phase::Newcomer, End::Refused) > 0, "the door is open until nobody is waited for");
    assert!(times[rounds - 1] < STOP_MAX, "{times:?}");
}
