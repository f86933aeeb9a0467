//! What the vault costs: sealing and opening a token, a connection from the cache and from the store, and
//! the sealing anew of a hundred thousand rows. Fails when one of them costs more than it may.

// It runs by itself and talks to a person.
#![allow(clippy::print_stdout)]

// Shared with `bench`, which uses more of it.
#[allow(dead_code)]
#[path = "../common/machine.rs"]
mod machine;
mod server;

use perch::config::{Postgres, Store};
use perch::types::{
    AccessToken, ApplicationId, ConnectionId, CustomerId, Environment, Kek, ProviderId, UnixMillis,
};
use perch::vault::seal::{self, Place};
use perch::vault::{NewConnection, Status, Vault, VaultOptions};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Single operations measured, after as many that are not.
const OPERATIONS: usize = 20_000;

/// Connections sealed anew.
const ROWS: usize = 100_000;

/// What the whole of that may take.
const RESEAL_MAX: Duration = Duration::from_secs(300);

const NOW: UnixMillis = UnixMillis(0);
const TOKEN: &str = "7e965183-9332-423c-9259-3edafb332ad2";

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into);
    match done.and_then(|runtime| runtime.block_on(run())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("vault: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome<bool> {
    for fact in machine::facts() {
        println!("{fact}");
    }
    if cfg!(debug_assertions) {
        println!("This build is not optimised; its numbers mean nothing. Use make bench-vault.");
    }
    println!(
        "Method: {OPERATIONS} operations of each kind one after the other, each timed alone, after as many that are not;\n\
         a key's derivation is part of each. The file is in the system's temporary folder, the server of PostgreSQL a private\n\
         one on a socket there; both sync at each commit.\n"
    );
    println!("{:<44} {:>10} {:>10} {:>10} {:>12}", "", "p50 us", "p99 us", "max us", "p99 may be");
    let mut is_within = crypto()?;
    let folder = Folder::new()?;
    println!("\nin a file");
    let file = |name: &str| Store::Sqlite(folder.0.join(name));
    is_within &= lookups(&file("lookups.db"), 2000.0).await?;
    is_within &= reseal(&file("reseal.db")).await?;
    match server::Server::start(&folder.0)? {
        Some(server) => {
            println!("\non a server");
            let store = Store::Postgres(Postgres { url: server.url().parse()?, ca_file: None });
            is_within &= lookups(&store, 10_000.0).await?;
            is_within &= reseal(&store).await?;
        }
        None => {
            println!("\nPostgreSQL is not installed, so nothing was measured there");
            is_within = false;
        }
    }
    Ok(is_within)
}

fn crypto() -> Outcome<bool> {
    let place = Place {
        store_id: &[1; 16],
        dek_id: 1,
        table: "connection",
        column: "token",
        application: "app",
        environment: "production",
        customer_id: "customer",
        connection_id: TOKEN,
        version: 1,
    };
    let plain = format!("{{\"access_token\":\"{TOKEN}\"}}");
    let (key, rejected) = ([7; 32], "it does not seal");
    let mut random = [0_u8; 32];
    let blob = seal::seal(&key, 1, &place.aad(), plain.as_bytes(), &random).map_err(|_| rejected)?;
    let mut failed = false;
    let seals = timed(|| {
        random[0] = random[0].wrapping_add(1);
        failed |= black_box(seal::seal(&key, 1, &place.aad(), plain.as_bytes(), &random)).is_err();
    });
    let opens = timed(|| failed |= black_box(seal::open(&key, 1, &place.aad(), &blob)).is_err());
    if failed {
        return Err("a token did not seal or open".into());
    }
    Ok(seals.told("seal a token", 10.0) & opens.told("open a token", 5.0))
}

async fn lookups(store: &Store, cold_max: f64) -> Outcome<bool> {
    let mut is_within = true;
    for (name, ttl, bound) in [
        ("a connection from the cache", Duration::from_secs(3600), 5.0),
        ("a connection from the store", Duration::ZERO, cold_max),
    ] {
        let vault = vault(store, ttl).await?;
        let id = ConnectionId::new("c0")?;
        vault.seal(connection(0)?, NOW).await?;
        let mut nanos = Vec::with_capacity(OPERATIONS);
        for n in 0..2 * OPERATIONS {
            let began = Instant::now();
            black_box(vault.connection(&id).await?);
            if n >= OPERATIONS {
                nanos.push(began.elapsed());
            }
        }
        is_within &= Times::of(nanos).told(name, bound);
    }
    Ok(is_within)
}

async fn reseal(store: &Store) -> Outcome<bool> {
    let vault = vault(store, Duration::ZERO).await?;
    for part in 0..ROWS / 10_000 {
        let part: Outcome<Vec<_>> = (0..10_000).map(|n| connection(part * 10_000 + n)).collect();
        vault.import(part?, NOW).await.map_err(|error| error.error)?;
    }
    let key = vault.add_key(NOW).await?;
    if !vault.promote_key(key).await? {
        return Err("a gateway has the store".into());
    }
    let (began, mut done, mut place, mut batches) = (Instant::now(), 0, None, Vec::new());
    loop {
        let batch = Instant::now();
        let step = vault.reseal(place).await?;
        batches.push(batch.elapsed());
        done += step.done;
        place = step.next;
        if place.is_none() {
            break;
        }
    }
    let took = began.elapsed();
    let is_within = Times::of(batches).told("seal a batch of 100 rows anew", f64::INFINITY);
    println!(
        "{done} rows sealed anew in {:.1} s, {:.0} a second (may take {} s)",
        took.as_secs_f64(),
        done as f64 / took.as_secs_f64(),
        RESEAL_MAX.as_secs()
    );
    Ok(is_within && done == ROWS as u64 && took <= RESEAL_MAX)
}

async fn vault(store: &Store, cache_ttl: Duration) -> Outcome<Arc<Vault>> {
    let options = VaultOptions {
        store: store.clone(),
        keys: Kek::new([1; 32]).into(),
        application: ApplicationId::new("app")?,
        environment: Environment::Production,
        cache_ttl,
        is_gateway: false,
        generation_file: None,
        accept_rollback: false,
        now: NOW,
    };
    Ok(Vault::open(options).await?)
}

fn connection(n: usize) -> Outcome<NewConnection> {
    Ok(NewConnection {
        connection_id: ConnectionId::new(format!("c{n}"))?,
        customer_id: Some(CustomerId::new(format!("customer-{n}"))?),
        company_id: None,
        provider_id: Some(ProviderId::new("gusto")?),
        products: vec!["company".to_owned(), "directory".to_owned()],
        entity_ids: Vec::new(),
        client_type: Environment::Production,
        account_status: None,
        token: AccessToken::new(format!("{TOKEN}-{n}")),
        status: Status::Active,
        held_reason: None,
    })
}

fn timed(mut work: impl FnMut()) -> Times {
    (0..OPERATIONS).for_each(|_| work());
    let once = |_| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    Times::of((0..OPERATIONS).map(once).collect())
}

/// Times of single operations, shortest first.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn micros(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }

    /// Prints them and answers whether they are within the bound, in microseconds.
    fn told(&self, name: &str, p99_max: f64) -> bool {
        let p99 = self.micros(0.99);
        let bound = if p99_max.is_finite() { format!("{p99_max:.0}") } else { "-".to_owned() };
        println!("{name:<44} {:>10.1} {p99:>10.1} {:>10.1} {bound:>12}", self.micros(0.5), self.micros(1.0));
        p99 <= p99_max
    }
}

/// A folder that goes with the run.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("perch-bench-vault-{}", std::process::id()));
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
