//! The quota journal, with any rows in it: it opens, what it says was spent stood there, and what it cannot read it does
//! not pretend to know.

use super::input::Input;
use perch::limit::beat::{Incarnation, Sent};
use perch::limit::{Ledger, PerProduct, Rules, Ticket};
use perch::store::journal::{History, Journal, Verdict};
use perch::types::{Moment, Priority, Product};
use rusqlite::{Connection, params};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// How long a permit is kept.
const KEEP: Duration = Duration::from_secs(400);

/// Numbers that mean something to somebody.
const ODD: [i64; 6] = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53];

/// An empty journal and its store, to begin with: making them takes longer than all the rest.
static EMPTY: OnceLock<[Vec<u8>; 2]> = OnceLock::new();

/// A row that a gateway of this boot could have written a moment ago.
struct Fresh {
    run: i64,
    ticket: i64,
}

/// Decisions.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let folder = TempDir::new().expect("a folder");
    let (store, file) = (folder.path().join("perch.db"), folder.path().join("perch.db.quota"));
    let [empty_store, empty_journal] = EMPTY.get_or_init(empty);
    std::fs::write(&store, empty_store).expect("a writable folder");
    std::fs::write(&file, empty_journal).expect("a writable folder");
    let fresh = match input.byte() % 8 {
        0 => {
            // Not even a database.
            std::fs::write(&file, input.rest()).expect("a writable folder");
            Vec::new()
        }
        _ => rows(&file, &mut input),
    };
    let first = open(&store);
    let known = |history: &History, fresh: &Fresh| {
        let is_it = |run: u64, ticket: u64| (run, ticket) == (fresh.run as u64, fresh.ticket as u64);
        history.permits.iter().any(|spent| is_it(spent.run, spent.ticket))
    };
    for fresh in &fresh {
        assert!(first.verdict != Verdict::Known || known(&first, fresh), "a permit is forgotten silently");
    }
    let mut ledger = Ledger::new(Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(12))));
    let now = Moment::at(Duration::from_secs(5_000));
    let sent: Vec<Sent> = first
        .permits
        .iter()
        .map(|spent| Sent {
            ticket: Ticket::new(Incarnation(spent.run), spent.ticket),
            product: spent.product,
            priority: spent.priority,
            age: spent.age(Duration::from_secs(6)),
        })
        .collect();
    ledger.restore(&sent, now);
    first.holds.iter().for_each(|(scope, span)| ledger.hold(*scope, *span, now));
    let second = open(&store);
    assert!(second.run > first.run, "two runs with one number");
    assert!(
        second.permits.iter().all(|permit| first.permits.iter().any(|known| known.ticket == permit.ticket))
    );
}

fn open(store: &Path) -> History {
    let (journal, history) = Journal::open(store, KEEP).expect("a journal that cannot be read is set apart");
    drop(journal);
    history
}

fn empty() -> [Vec<u8>; 2] {
    let folder = TempDir::new().expect("a folder");
    let (store, file) = (folder.path().join("perch.db"), folder.path().join("perch.db.quota"));
    open(&store);
    [store, file].map(|path| {
        let db = Connection::open(&path).expect("a database");
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written into the file");
        drop(db);
        std::fs::read(path).expect("a file")
    })
}

/// Fills the journal; tells what of it a gateway must know afterwards.
fn rows(file: &Path, input: &mut Input<'_>) -> Vec<Fresh> {
    let db = Connection::open(file).expect("a database");
    let (steady, wall): (i64, i64) = (uptime(), 1_790_000_000_000);
    if input.byte().is_multiple_of(4) {
        let untold = input.flag().then(|| number(input, wall));
        let run = number(input, 3);
        db.execute("UPDATE journal SET run = ?1, untold = ?2", params![run, untold]).expect("a row");
    }
    if input.byte().is_multiple_of(8) {
        db.execute("UPDATE journal SET epoch = ?1", [input.text(40)]).expect("a row");
    }
    let mut fresh = Vec::new();
    let mut is_plain = true;
    for _ in 0..input.below(12) {
        let (run, ticket) = (number(input, 1), number(input, 7));
        let is_odd = input.byte().is_multiple_of(8);
        let text = input.text(12);
        let product = if is_odd { text.as_str() } else { input.pick(&Product::ALL).as_str() };
        let priority = if is_odd { text.as_str() } else { input.pick(&Priority::ALL).as_str() };
        let granted = number(input, steady - 1_000);
        let arrived = input.flag().then(|| number(input, steady - 500));
        let done = db.execute(
            "INSERT OR IGNORE INTO permit (run, ticket, product, priority, granted, arrived, wall) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![run, ticket, product, priority, granted, arrived, number(input, wall)],
        );
        if done.expect("a row") == 1 && (steady - 60_000..=steady).contains(&granted) {
            is_plain &= !is_odd;
            fresh.push(Fresh { run, ticket });
        }
    }
    for _ in 0..input.below(4) {
        let text = input.text(12);
        let scope = input.pick(&["ip", "directory", "payment", text.as_str()]);
        let until = (number(input, steady + 5_000), number(input, wall + 5_000), number(input, 60_000));
        db.execute(
            "INSERT OR IGNORE INTO hold VALUES (?1, ?2, ?3, ?4)",
            params![scope, until.0, until.1, until.2],
        )
        .expect("a row");
    }
    if is_plain { fresh } else { Vec::new() }
}

/// Mostly what is likely there.
fn number(input: &mut Input<'_>, likely: i64) -> i64 {
    match input.byte() % 8 {
        0 => input.pick(&ODD),
        1 => input.number().cast_signed(),
        near => likely.saturating_add(i64::from(near) - 4),
    }
}

/// Milliseconds on the clock that the journal uses.
fn uptime() -> i64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok()).unwrap_or(0.0);
    (seconds * 1_000.0) as i64
}
