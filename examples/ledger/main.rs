//! What the request ledger costs: a million calls written as a gateway writes them, then searched for by Finch's id, by
//! customer, and by what has no index. Fails when one of them costs more than it may.

// It runs by itself and talks to a person.
#![allow(clippy::print_stdout)]

// Shared with `bench`, which uses more of it.
#[allow(dead_code)]
#[path = "../common/machine.rs"]
mod machine;
#[path = "../vault/server.rs"]
mod server;

use perch::config::{Postgres, Store};
use perch::policy::Class;
use perch::store::connections::Scope;
use perch::store::requests::{Bounds, Recorded, RecordedStep, Requests, Row, Search};
use perch::telemetry::AccessLine;
use perch::types::{
    ApplicationId, CompanyId, ConnectionId, CustomerId, Environment, FinchRequestId, ProviderId, RequestId,
    UnixMillis,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Calls, when nobody says how many.
const CALLS: u64 = 1_000_000;

/// Calls of one transaction: as many as a gateway's writer takes at most.
const BATCH: u64 = 500;

/// Searches of each kind.
const SEARCHES: u64 = 2_000;

/// Customers, with one connection each.
const CUSTOMERS: u64 = 200;

/// Draws the nth search of a kind.
type Draw<'a> = &'a dyn Fn(u64) -> Outcome<Search>;

/// When the first call came in; then one every hundred milliseconds.
const BEGAN: UnixMillis = UnixMillis(1_760_000_000_000);
const APART: u64 = 100;

fn main() -> ExitCode {
    let calls = std::env::args().nth(1).map_or(Ok(CALLS), |text| text.parse());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran: Outcome<bool> =
        runtime.map_err(Into::into).and_then(|it| it.block_on(async { run(calls?).await }));
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(calls: u64) -> Outcome<bool> {
    for fact in machine::facts() {
        println!("{fact}");
    }
    if cfg!(debug_assertions) {
        println!("This build is not optimised; its times are upper bounds. Use make bench-ledger.");
    }
    println!(
        "Method: {calls} calls of {CUSTOMERS} customers, three steps each, {BATCH} to a transaction, one transaction after the\n\
         other; then {SEARCHES} searches of each kind, one after the other, each timed alone, what is looked for drawn evenly\n\
         from all calls. The file is in the system's temporary folder, the server of PostgreSQL a private one on a socket there.\n"
    );
    let folder = Folder::new()?;
    println!("in a file");
    let path = folder.0.join("perch.db");
    let mut is_within = measure(&Store::Sqlite(path.clone()), calls, 20.0).await?;
    let size =
        |suffix: &str| std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |file| file.len());
    told_size(size(".requests") + size(".requests-wal"), calls);
    let Some(server) = server::Server::start(&folder.0)? else {
        println!("\nPostgreSQL is not installed, so nothing was measured there");
        return Ok(false);
    };
    println!("\non a server");
    let store = Store::Postgres(Postgres { url: server.url().parse()?, ca_file: None });
    is_within &= measure(&store, calls, 50.0).await?;
    told_size(size_on(&server).await?, calls);
    Ok(is_within)
}

fn told_size(bytes: u64, calls: u64) {
    println!("{} MiB in all, {} bytes a call", bytes >> 20, bytes / calls.max(1));
}

async fn size_on(server: &server::Server) -> Outcome<u64> {
    let (client, connection) =
        server.url().parse::<tokio_postgres::Config>()?.connect(tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let ask = "SELECT sum(pg_total_relation_size(t))::bigint \
               FROM unnest(ARRAY['request', 'finch_request', 'usage']::regclass[]) t";
    let size: i64 = client.query_one(ask, &[]).await?.try_get(0)?;
    connection.abort();
    Ok(u64::try_from(size)?)
}

/// Writes, searches and lets go; answers whether each took no longer than it may.
async fn measure(store: &Store, calls: u64, p99_max_ms: f64) -> Outcome<bool> {
    let application = ApplicationId::new("bench")?;
    let scope = Scope { application, environment: Environment::Sandbox };
    let ledger = Requests::open(store, scope).await?;
    let (began, mut batches, mut making) = (Instant::now(), Vec::new(), Duration::ZERO);
    for first in (0..calls).step_by(BATCH as usize) {
        let made = Instant::now();
        let rows: Outcome<Vec<Row>> =
            (first..calls.min(first + BATCH)).map(|n| Ok(Row::of(call(n)?))).collect();
        let rows = Arc::new(rows?);
        making += made.elapsed();
        let batch = Instant::now();
        ledger.write(&rows, false).await?;
        batches.push(batch.elapsed());
    }
    let took = began.elapsed() - making;
    println!(
        "{calls} calls written in {:.1} s: {:.0} a second (making the rows took {:.1} s more)",
        took.as_secs_f64(),
        calls as f64 / took.as_secs_f64(),
        making.as_secs_f64()
    );
    println!("{:<52} {:>9} {:>9} {:>9} {:>11}", "", "p50 ms", "p99 ms", "max ms", "p99 may be");
    let mut is_within = Times::of(batches).told(&format!("{BATCH} calls in one transaction"), 1000.0);
    let any = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % calls;
    let newest = |limit| Search { limit, ..Search::default() };
    let kinds: [(&str, f64, Draw<'_>); 5] = [
        ("one call by Finch's id", p99_max_ms, &|n| {
            Ok(Search { finch_request_id: Some(finch_id(any(n))?), ..newest(50) })
        }),
        ("one call by perch's id", p99_max_ms, &|n| {
            Ok(Search { request_id: Some(RequestId::new(format!("r{}", any(n)))?), ..newest(50) })
        }),
        ("the newest 50 calls of a customer", p99_max_ms, &|n| {
            Ok(Search { customer: Some(customer(any(n))?), ..newest(50) })
        }),
        ("50 calls of a customer from some hour on", p99_max_ms, &|n| {
            let until = Some(BEGAN.plus(Duration::from_millis(any(n) * APART)));
            Ok(Search { customer: Some(customer(any(n))?), until, ..newest(50) })
        }),
        ("a class that no call of a customer has", p99_max_ms * 10.0, &|n| {
            Ok(Search { customer: Some(customer(any(n))?), class: Some(Class::NotSupported), ..newest(50) })
        }),
    ];
    for (name, bound, search) in kinds {
        let mut times = Vec::new();
        for n in 0..SEARCHES {
            let search = search(n)?;
            let asked = Instant::now();
            let found = ledger.search(&search).await?;
            times.push(asked.elapsed());
            let is_by_id = search.finch_request_id.is_some() || search.request_id.is_some();
            if is_by_id && found.calls.len() != 1 {
                return Err(format!("{} calls of one id", found.calls.len()).into());
            }
        }
        is_within &= Times::of(times).told(name, bound);
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let search = Search { class: Some(Class::NotSupported), ..newest(50) };
        let asked = Instant::now();
        ledger.search(&search).await?;
        times.push(asked.elapsed());
    }
    is_within &= Times::of(times).told("a class that no call has (the newest 50,000)", p99_max_ms * 20.0);
    // A tenth is let go, as a gateway does it.
    let now = BEGAN.plus(Duration::from_millis(calls / 10 * APART));
    let (mut times, bounds) = (Vec::new(), Bounds { keep: Duration::ZERO, rows: u32::MAX });
    loop {
        let step = Instant::now();
        let has_more = ledger.prune(bounds, now).await?;
        times.push(step.elapsed());
        if !has_more {
            break;
        }
    }
    is_within &= Times::of(times).told("1000 old calls let go", 2000.0);
    Ok(is_within)
}

fn customer(n: u64) -> Outcome<CustomerId> {
    Ok(CustomerId::new(format!("customer-{}", n % CUSTOMERS))?)
}

/// As long as Finch's, and in no order.
fn finch_id(n: u64) -> Outcome<FinchRequestId> {
    let high = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    Ok(FinchRequestId::new(format!("{a:08x}-{b:04x}-{c:04x}-8000-{n:012x}"))?)
}

/// A call as most are.
fn call(n: u64) -> Outcome<Recorded> {
    let ts = BEGAN.plus(Duration::from_millis(n * APART));
    let mut line = AccessLine::begin(RequestId::new(format!("r{n}"))?, ts);
    let id = finch_id(n)?;
    line.saw(id.clone());
    line.customer = Some(customer(n)?);
    line.connection_id = Some(ConnectionId::new(format!("7e965183-9332-423c-9259-{:012x}", n % CUSTOMERS))?);
    line.company_id = Some(CompanyId::new(format!("c0a1b2c3-0000-4000-8000-{:012x}", n % CUSTOMERS))?);
    line.provider = Some(ProviderId::new("gusto")?);
    (line.product, line.method, line.path) = ("directory", "GET", "/employer/directory");
    (line.status, line.class, line.attempts) = (200, Class::Ok, 1);
    (line.wait, line.finch) = (Duration::from_millis(n % 700), Duration::from_millis(180));
    line.total = line.wait + line.finch;
    line.bytes_out = 4096;
    let step = |did: &str, at_ms, lasted_ms| RecordedStep {
        did: did.to_owned(),
        at_ms,
        lasted_ms,
        ..RecordedStep::default()
    };
    let wait = RecordedStep {
        awaited: Some("quota".to_owned()),
        is_over: Some(true),
        limiter: Some("memory".to_owned()),
        used: Some(19),
        limit: Some(20),
        ..step("wait", 0, n % 700)
    };
    let attempt = RecordedStep {
        product: Some("directory".to_owned()),
        status: Some(200),
        finch_request_id: Some(id),
        ..step("attempt", n % 700, 180)
    };
    let look_up = RecordedStep { is_answered: Some(true), ..step("look_up", 0, 0) };
    Ok(Recorded { steps: vec![look_up, wait, attempt], ..Recorded::of(line) })
}

/// Times of single operations, shortest first.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn millis(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// Prints them and answers whether they are within the bound, in milliseconds.
    fn told(&self, name: &str, p99_max: f64) -> bool {
        let p99 = self.millis(0.99);
        println!("{name:<52} {:>9.2} {p99:>9.2} {:>9.2} {p99_max:>11.0}", self.millis(0.5), self.millis(1.0));
        p99 <= p99_max
    }
}

/// A folder that goes with the run.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("perch-bench-ledger-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
