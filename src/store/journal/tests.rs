//! The journal over a real file: what a run leaves behind, and what the next one makes of it.

use super::super::boot::tests::stopped;
use super::*;
use crate::types::UnixMillis;
use std::fs;
use tempfile::TempDir;

const KEEP: Duration = Duration::from_secs(306);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A moment of the boot, `at` seconds after it; both clocks run alike.
fn at(at: u64) -> Stamp {
    Stamp { steady: secs(at), wall: UnixMillis(1_700_000_000_000).plus(secs(at)) }
}

fn grant(ticket: u64, at_secs: u64) -> Grant {
    Grant { ticket, product: Product::Directory, priority: Priority::Interactive, at: at(at_secs) }
}

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("perch.db")
    }

    fn try_open(&self, boot: &str, now: u64) -> Result<(Journal, History), StoreError> {
        Journal::open_with(&self.store(), KEEP, stopped(boot, at(now)))
    }

    fn open(&self, boot: &str, now: u64) -> (Journal, History) {
        self.try_open(boot, now).unwrap()
    }

    /// What a run that starts now would find.
    fn found(&self, boot: &str, now: u64) -> History {
        self.open(boot, now).1
    }

    /// A second hand on the journal's file.
    fn sql(&self) -> Connection {
        Connection::open(file_of(&self.store())).unwrap()
    }
}

fn tickets(history: &History) -> Vec<(u64, u64)> {
    history.permits.iter().map(|spent| (spent.run, spent.ticket)).collect()
}

#[test]
fn a_new_journal_knows_that_nothing_was_sent() {
    let bench = Bench::new();
    let history = bench.found("a", 1_000);
    assert_eq!(history, History { run: 1, verdict: Verdict::Known, permits: vec![], holds: vec![] });
    assert_eq!(bench.found("a", 1_001).verdict, Verdict::Known);
    assert_eq!(bench.found("b", 1_002).verdict, Verdict::Known, "nothing was sent in the other boot");
}

#[tokio::test]
async fn what_one_run_granted_the_next_one_knows() {
    let bench = Bench::new();
    let (journal, first) = bench.open("a", 1_000);
    journal.granted(grant(1, 1_000)).await.unwrap();
    let batch = Grant { product: Product::Payment, priority: Priority::Batch, ..grant(2, 1_010) };
    journal.granted(batch).await.unwrap();
    // No word of an end: as if it had been killed here.
    let (_, second) = bench.open("a", 1_030);
    assert_eq!((second.run, second.verdict), (first.run + 1, Verdict::Known));
    let spent = |ticket, granted| Spent {
        run: first.run,
        ticket,
        product: Product::Directory,
        priority: Priority::Interactive,
        granted: secs(granted),
        arrived: None,
    };
    let payment = Spent { product: Product::Payment, priority: Priority::Batch, ..spent(2, 20) };
    assert_eq!(second.permits, [spent(1, 30), payment]);
    drop(journal);
    assert_eq!(bench.found("a", 1_306).permits.len(), 2);
    assert_eq!(tickets(&bench.found("a", 1_307)), [(1, 2)], "the first is too old to matter");
    assert_eq!(bench.found("a", 9_000).permits, []);
}

#[tokio::test]
async fn tickets_of_two_runs_are_told_apart() {
    let bench = Bench::new();
    for _ in 0..3 {
        let (journal, _) = bench.open("a", 1_000);
        journal.granted(grant(1, 1_000)).await.unwrap();
    }
    assert_eq!(tickets(&bench.found("a", 1_000)), [(1, 1), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn an_extended_permit_is_as_old_as_its_extension_and_a_refunded_one_is_none() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    for ticket in 1..=3 {
        journal.granted(grant(ticket, 1_000)).await.unwrap();
    }
    journal.granted(grant(2, 1_002)).await.unwrap();
    journal.refunded(3);
    journal.refunded(99);
    journal.arrived(1);
    journal.settle().await;
    let found = bench.found("a", 1_010).permits;
    let ages: Vec<_> = found.iter().map(|spent| (spent.ticket, spent.granted, spent.arrived)).collect();
    assert_eq!(ages, [(1, secs(10), Some(secs(10))), (2, secs(8), None)]);
}

#[tokio::test]
async fn a_hold_outlives_the_process_and_the_boot() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    journal.held(Scope::EgressIp, secs(3_600));
    journal.held(Scope::Product(Product::Payment), secs(10));
    journal.held(Scope::EgressIp, secs(60));
    journal.settle().await;
    drop(journal);
    assert_eq!(
        bench.found("a", 1_004).holds,
        [(Scope::EgressIp, secs(3_596)), (Scope::Product(Product::Payment), secs(6))]
    );
    assert_eq!(bench.found("a", 1_600).holds, [(Scope::EgressIp, secs(3_000))]);
    // Another boot, by the wall clock; and then again, measured on that boot's own.
    let reborn = stopped("b", Stamp { steady: secs(5), ..at(2_000) });
    let (_, history) = Journal::open_with(&bench.store(), KEEP, reborn).unwrap();
    assert_eq!(history.holds, [(Scope::EgressIp, secs(2_600))]);
    let later = stopped("b", Stamp { steady: secs(105), ..at(2_000) });
    let (_, history) = Journal::open_with(&bench.store(), KEEP, later).unwrap();
    assert_eq!(history.holds, [(Scope::EgressIp, secs(2_500))]);
    // The wall clock was set back by a day: no hold grows by that.
    let early = stopped("c", Stamp { steady: secs(5), wall: UnixMillis(1_600_000_000_000) });
    let (_, history) = Journal::open_with(&bench.store(), KEEP, early).unwrap();
    assert_eq!(history.holds, [(Scope::EgressIp, secs(2_500))]);
}

#[tokio::test]
async fn after_another_boot_history_is_unknown_until_it_is_long_past() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    journal.granted(grant(1, 1_000)).await.unwrap();
    let unknown = bench.found("b", 1_030);
    assert_eq!((unknown.verdict, tickets(&unknown)), (Verdict::Unknown(Doubt::AnotherBoot), vec![]));
    // A start that dies before its window is over leaves no wrong certainty.
    let (journal, again) = bench.open("b", 1_031);
    assert_eq!(again.verdict, Verdict::Unknown(Doubt::Untold));
    journal.granted(grant(7, 1_100)).await.unwrap();
    let both = bench.found("b", 1_101);
    assert_eq!((both.verdict, tickets(&both)), (Verdict::Unknown(Doubt::Untold), vec![(again.run, 7)]));
    assert_eq!(bench.found("b", 1_000 + 2 * 306).verdict, Verdict::Known);
}

#[tokio::test]
async fn a_clock_that_stands_before_the_last_request_is_not_believed() {
    let bench = Bench::new();
    let (journal, _) = bench.open("wall clock", 1_000);
    journal.granted(grant(1, 1_000)).await.unwrap();
    assert_eq!(bench.found("wall clock", 999).verdict, Verdict::Unknown(Doubt::ClockWentBack));
    assert_eq!(bench.found("wall clock", 1_000).verdict, Verdict::Unknown(Doubt::Untold));
}

#[tokio::test]
async fn a_lost_journal_and_quota_spent_elsewhere_leave_history_unknown() {
    let bench = Bench::new();
    drop(bench.open("a", 1_000));
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(sqlite::beside(&file_of(&bench.store()), suffix));
    }
    assert_eq!(bench.found("a", 1_001).verdict, Verdict::Unknown(Doubt::Untold));
    assert_eq!(bench.found("a", 9_000).verdict, Verdict::Known);

    let bench = Bench::new();
    Journal::set_aside(&bench.store()).unwrap();
    assert_eq!(bench.found("a", 500_000).verdict, Verdict::Unknown(Doubt::Untold), "whenever that was");
    assert_eq!(bench.found("a", 500_601).verdict, Verdict::Unknown(Doubt::Untold));
    assert_eq!(bench.found("a", 500_612).verdict, Verdict::Known);
}

#[tokio::test]
async fn rows_that_no_perch_wrote_are_set_apart() {
    for harm in [
        "UPDATE permit SET product = 'coffee'",
        "UPDATE permit SET priority = 'royal'",
        "UPDATE permit SET granted = -1, arrived = NULL",
        "INSERT INTO hold VALUES ('coffee', 1, 1, 1)",
        "PRAGMA user_version = 9",
        "UPDATE journal SET run = -1",
    ] {
        let bench = Bench::new();
        let (journal, _) = bench.open("a", 1_000);
        journal.granted(grant(1, 1_000)).await.unwrap();
        drop(journal);
        bench.sql().execute_batch(harm).unwrap();
        let (journal, history) = bench.open("a", 1_001);
        assert_eq!((history.verdict, tickets(&history)), (Verdict::Unknown(Doubt::Untold), vec![]), "{harm}");
        assert!(bench.dir.path().join("perch.db.quota.damaged").exists(), "{harm}");
        journal.granted(grant(1, 1_001)).await.unwrap();
        assert_eq!(tickets(&bench.found("a", 1_002)), [(1, 1)], "{harm}");
    }
}

#[test]
fn a_file_that_is_no_database_is_set_apart() {
    let bench = Bench::new();
    drop(bench.open("a", 1_000));
    // Its writer closes the file behind, and takes the log with it.
    while sqlite::beside(&file_of(&bench.store()), "-wal").exists() {
        std::thread::yield_now();
    }
    fs::write(file_of(&bench.store()), "not a database, but long enough to have a header ".repeat(40))
        .unwrap();
    assert_eq!(bench.found("a", 1_001).verdict, Verdict::Unknown(Doubt::Untold));
    assert_eq!(bench.found("a", 1_001 + 612).verdict, Verdict::Known);
}

#[tokio::test]
async fn the_journal_stays_small() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 0);
    let rows = |db: &Connection| -> i64 {
        db.query_row("SELECT count(*) FROM permit", [], |row| row.get(0)).unwrap()
    };
    let db = bench.sql();
    // One permit each second for twenty minutes; 306 of them matter at a time.
    for second in 0..1_200 {
        journal.granted(grant(second, second)).await.unwrap();
        assert!(rows(&db) <= 308, "{second}: {}", rows(&db));
    }
    assert!(rows(&db) >= 306);
}

#[tokio::test]
async fn many_permits_at_once_share_a_transaction() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    let blocker = bench.sql();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    let journal = std::sync::Arc::new(journal);
    for ticket in 0..300 {
        let journal = std::sync::Arc::clone(&journal);
        waiting.spawn(async move { journal.granted(grant(ticket, 1_000)).await });
    }
    // Each has told the writer, which waits with the first of them.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    blocker.execute_batch("COMMIT").unwrap();
    assert!(waiting.join_all().await.into_iter().all(|written| written.is_ok()));
    let frames: i64 = blocker.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap();
    assert!(frames < 100, "{frames} pages written for 300 permits");
    assert_eq!(bench.found("a", 1_000).permits.len(), 300);
}

#[tokio::test]
async fn a_permit_that_cannot_be_written_is_refused_and_the_journal_recovers() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    let blocker = bench.sql();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = journal.granted(grant(1, 1_000)).await.unwrap_err();
    assert!(error.to_string().starts_with("the quota journal cannot be written: "), "{error}");
    journal.held(Scope::EgressIp, secs(3_600));
    blocker.execute_batch("COMMIT").unwrap();
    journal.granted(grant(2, 1_000)).await.unwrap();
    let found = bench.found("a", 1_000);
    assert_eq!(tickets(&found), [(1, 2)]);
    assert_eq!(found.holds, [(Scope::EgressIp, secs(3_600))], "it was owed");
}

#[tokio::test]
async fn a_hold_is_written_in_the_end_though_nothing_else_is() {
    let bench = Bench::new();
    let (journal, _) = bench.open("a", 1_000);
    let blocker = bench.sql();
    blocker.execute_batch("ALTER TABLE hold RENAME TO gone").unwrap();
    journal.held(Scope::EgressIp, secs(3_600));
    journal.settle().await;
    blocker.execute_batch("ALTER TABLE gone RENAME TO hold").unwrap();
    while bench.sql().query_row("SELECT count(*) FROM hold", [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_place_without_room_for_a_journal_is_named() {
    let bench = Bench::new();
    fs::create_dir(file_of(&bench.store())).unwrap();
    let said = bench.try_open("a", 1_000).unwrap_err().to_string();
    assert!(said.contains("perch.db.quota"), "{said}");
}
