//! How long perch takes from its start until it is ready, with stores of several sizes, and from SIGTERM to its end. Fails
//! when the median of a start is a second or more.

// It runs by itself and talks to a person.
#![allow(clippy::print_stdout)]

// Shared with `bench`, which uses more of it.
#[allow(dead_code)]
#[path = "../common/machine.rs"]
mod machine;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Connections in the vault, and calls in the request ledger.
const SIZES: [(u64, u64); 4] = [(10, 0), (1_000, 1_000), (100_000, 100_000), (100_000, 1_000_000)];
/// Starts at each size; the first finds a disk that has just been written.
const STARTS: usize = 9;
/// What a start may take.
const READY_MAX: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    machine::facts().iter().for_each(|fact| println!("{fact}"));
    if cfg!(debug_assertions) {
        println!("This build is not optimised; its times are upper bounds. Use make bench-start.");
    }
    println!(
        "Method: {STARTS} starts at each size, one after the other, from before the process to the first 200 of /readyz, asked\n\
         every millisecond; then SIGTERM, nobody calling, to the end of the process. Stores in files in the temporary folder.\n"
    );
    println!(
        "{:>12} {:>12} {:>14} {:>12} {:>14} {:>12}",
        "connections", "calls kept", "ready p50 ms", "max ms", "ended p50 ms", "max ms"
    );
    let mut is_within = true;
    for (connections, calls) in SIZES {
        let folder = tempfile::tempdir()?;
        let door = furnish(folder.path(), connections, calls)?;
        let (mut ready, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let (start, end) = live(folder.path(), door)?;
            ready.push(start);
            ended.push(end);
        }
        ready.sort_unstable();
        ended.sort_unstable();
        let ms = |time: Duration| time.as_millis();
        println!(
            "{connections:>12} {calls:>12} {:>14} {:>12} {:>14} {:>12}",
            ms(ready[STARTS / 2]),
            ms(ready[STARTS - 1]),
            ms(ended[STARTS / 2]),
            ms(ended[STARTS - 1])
        );
        is_within &= ready[STARTS / 2] < READY_MAX;
    }
    Ok(is_within)
}

/// A folder to start in, with so much in its stores. Where operators look there.
fn furnish(folder: &Path, connections: u64, calls: u64) -> Outcome<SocketAddr> {
    let (proxy, admin) = (free()?, free()?);
    let settings = format!(
        "finch.base_url = \"http://127.0.0.1:1\"\nfinch.environment = \"sandbox\"\nfinch.client_id = \"start\"\n\
         listen.proxy = \"{proxy}\"\nlisten.admin = \"{admin}\"\nvault.store = \"sqlite:perch.db\"\nvault.key = \"file:perch.key\"\n\
         connections.introspect_every = \"off\"\n"
    );
    std::fs::write(folder.join("perch.toml"), settings)?;
    tell(folder, &["keys", "generate", "perch.key"], "")?;
    let one = r#"{"customer_id": "c-0", "connection_id": "connection-0", "access_token": "token-0"}"#;
    tell(folder, &["connections", "import", "--no-verify"], one)?;
    // A first life makes the other files.
    live(folder, admin)?;
    // Rows like the one there is. A start opens none of their tokens.
    let vault = Connection::open(folder.join("perch.db"))?;
    vault.execute_batch(
        "CREATE TEMP TABLE one AS SELECT * FROM connection; UPDATE one SET token_bidx = NULL",
    )?;
    vault.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) \
         INSERT INTO connection SELECT app, env, 'connection-' || i, 'c-' || i, company_id, provider_id, products, entity_ids, \
         client_type, account_status, status, held_reason, sealed, dek_id, randomblob(32), row_version, change_seq, \
         created_at, updated_at, last_used_at FROM n, one",
        [connections],
    )?;
    let ledger = Connection::open(folder.join("perch.db.requests"))?;
    ledger.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
         INSERT INTO request (ts, application, env, request_id, customer, connection_id, product, class, status, facts) \
         SELECT unixepoch() * 1000 - i, 'start', 'sandbox', hex(randomblob(16)), 'c-' || (i % 200), \
         'connection-' || (i % 200), 'directory', 'ok', 200, '{}' FROM n WHERE ?1 > 0",
        [calls],
    )?;
    Ok(admin)
}

/// An address that nobody has.
fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn command(folder: &Path, words: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(machine::program()?);
    command.args(words).current_dir(folder).env_clear();
    command.env("PERCH_CONFIG", "perch.toml").env("FINCH_CLIENT_SECRET", "example-secret");
    Ok(command)
}

/// Runs a command that reads this.
fn tell(folder: &Path, words: &[&str], input: &str) -> Outcome<()> {
    let mut command = command(folder, words)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input.as_bytes())?;
    let ended = child.wait_with_output()?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("perch {}: {}", words.join(" "), String::from_utf8_lossy(&ended.stderr)).into()),
    }
}

/// A process that does not outlive this one.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a gateway and stops it: how long until it was ready, and how long until it had ended.
fn live(folder: &Path, admin: SocketAddr) -> Outcome<(Duration, Duration)> {
    let began = Instant::now();
    let log = std::fs::File::create(folder.join("log"))?;
    let mut command = command(folder, &["serve"])?;
    let mut gateway = Gateway(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
    while !is_ready(admin) {
        if gateway.0.try_wait()?.is_some() {
            return Err(std::fs::read_to_string(folder.join("log"))?.into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let ready = began.elapsed();
    let told = Instant::now();
    kill(Pid::from_raw(i32::try_from(gateway.0.id())?), Signal::SIGTERM)?;
    let status = gateway.0.wait()?;
    match status.success() {
        true => Ok((ready, told.elapsed())),
        false => Err(format!("perch ended with {status}").into()),
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(admin)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
