//! The ledger's file: how it is searched, bounded and recovered. What holds on both kinds of store is tried from outside.

use super::rows::write;
use super::*;
use crate::store::Older;
use crate::store::schema::{REQUESTS, migrate};
use crate::store::sqlite;
use crate::types::{CustomerId, FinchRequestId, RequestId};
use rusqlite::{Connection, Transaction};
use std::path::Path;
use std::time::Duration;

const EVER: Bounds = Bounds { keep: Duration::from_secs(1 << 40), rows: u32::MAX };

/// A call that came in at this millisecond.
fn call(n: i64, customer: &str) -> Recorded {
    let mut line =
        crate::telemetry::AccessLine::begin(RequestId::new(format!("r{n}")).unwrap(), UnixMillis(n));
    line.customer = Some(CustomerId::new(customer).unwrap());
    line.connection_id = Some(crate::types::ConnectionId::new(format!("c-{customer}")).unwrap());
    line.company_id = Some(crate::types::CompanyId::new(format!("co-{customer}")).unwrap());
    line.saw(FinchRequestId::new(format!("f{n}")).unwrap());
    Recorded::of(line)
}

fn rows(calls: impl IntoIterator<Item = Recorded>) -> Arc<Vec<Row>> {
    Arc::new(calls.into_iter().map(Row::of).collect())
}

fn store(dir: &Path) -> config::Store {
    config::Store::Sqlite(dir.join("perch.db"))
}

fn ours() -> Scope {
    let application = crate::types::ApplicationId::new("ours").unwrap();
    Scope { application, environment: crate::types::Environment::Production }
}

fn newest(limit: u32) -> Search {
    Search { limit, ..Search::default() }
}

/// Every shape of a search, with all that narrows it.
fn shapes() -> Vec<Search> {
    let finch = Some(FinchRequestId::new("f1").unwrap());
    let name = Some(RequestId::new("r1").unwrap());
    let customer = Some(CustomerId::new("acme").unwrap());
    let connection = Some(crate::types::ConnectionId::new("c1").unwrap());
    let company = Some(crate::types::CompanyId::new("co1").unwrap());
    let leads = [
        newest(50),
        Search { finch_request_id: finch, ..newest(50) },
        Search { request_id: name, ..newest(50) },
        Search { customer: customer.clone(), ..newest(50) },
        Search { connection: connection.clone(), ..newest(50) },
        Search { company, ..newest(50) },
        Search { customer, connection, ..newest(50) },
    ];
    let mut all = Vec::new();
    for lead in leads {
        for n in 0..16 {
            all.push(Search {
                since: (n & 1 > 0).then_some(UnixMillis(1)),
                until: (n & 2 > 0).then_some(UnixMillis(9)),
                product: (n & 4 > 0).then(|| "directory".to_owned()),
                before: (n & 8 > 0).then_some(1),
                ..lead.clone()
            });
        }
    }
    all
}

#[test]
fn every_search_walks_an_index_and_sorts_nothing_but_the_few_calls_of_one_id() {
    let mut db = Connection::open_in_memory().unwrap();
    migrate(&mut db, &REQUESTS, Older::Renew).unwrap();
    let tx = db.transaction().unwrap();
    write(&Tx::Sqlite(&tx), &ours(), &rows([call(1, "acme")]), false).unwrap();
    let ours = ours();
    for shape in shapes() {
        for (ask, values) in search::statements(&Tx::Sqlite(&tx), &ours, &shape).unwrap() {
            let plan = plan_of(&tx, &ask, &values);
            let walked = plan[0].replace("COVERING ", "");
            assert!(walked.starts_with(leads(&shape)), "{ask}\n{plan:?}");
            let by_id = shape.finch_request_id.is_some() || shape.request_id.is_some();
            for step in &plan {
                assert!(step.contains("USING") || (by_id && step.contains("B-TREE")), "{ask}\n{plan:?}");
                assert!(!step.starts_with("SCAN") || step.contains("INDEX request_time"), "{ask}\n{plan:?}");
            }
            if !by_id {
                assert!(!plan.iter().any(|step| step.contains("B-TREE")), "{ask}\n{plan:?}");
            }
        }
    }
}

/// The index that a search must walk.
fn leads(shape: &Search) -> &'static str {
    match shape {
        Search { finch_request_id: Some(_), .. } => "SEARCH f USING PRIMARY KEY",
        Search { request_id: Some(_), .. } => "SEARCH f USING INDEX request_name",
        Search { connection: Some(_), .. } => "SEARCH r USING INDEX request_connection",
        Search { customer: Some(_), .. } => "SEARCH r USING INDEX request_customer",
        Search { company: Some(_), .. } => "SEARCH r USING INDEX request_company",
        _ => "SEARCH r USING INDEX request_time",
    }
}

fn plan_of(tx: &Transaction<'_>, ask: &str, values: &[crate::store::sql::Value<'_>]) -> Vec<String> {
    let mut statement = tx.prepare(&format!("EXPLAIN QUERY PLAN {ask}")).unwrap();
    let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
    steps.map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_condition_without_an_index_looks_at_so_many_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    let most = i64::from(LOOKED_MAX);
    let calls = (0..most + 10).map(|n| match n {
        0 => Recorded { product: "payment".to_owned(), ..call(n, "acme") },
        _ => call(n, "acme"),
    });
    ledger.write(&rows(calls), false).await.unwrap();
    let search = Search { product: Some("payment".to_owned()), ..newest(5) };
    let found = ledger.search(&search).await.unwrap();
    assert_eq!((found.calls.len(), found.is_cut), (0, true));
    // Where it stopped is told, and from there it is found.
    let found = ledger.search(&Search { before: found.next, ..search }).await.unwrap();
    assert_eq!((found.calls.len(), found.is_cut, found.next), (1, false, None));
    assert_eq!(found.calls[0].request_id.as_str(), "r0");
    // What leads is not bounded, however far back it is.
    let lead = Search { finch_request_id: Some(FinchRequestId::new("f3").unwrap()), ..newest(5) };
    assert_eq!(ledger.search(&lead).await.unwrap().calls.len(), 1);
}

#[tokio::test]
async fn what_is_too_old_or_too_much_goes_oldest_first_and_its_number_is_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    ledger.write(&rows((1..=2_500).map(|n| call(n, "acme"))), false).await.unwrap();
    let all = |ledger: Requests| async move {
        let found = ledger.search(&newest(LIMIT_MAX)).await.unwrap();
        let numbers: Vec<i64> = found.calls.iter().map(|call| call.seq).collect();
        (ledger, numbers)
    };
    // Nothing is beyond the bounds.
    assert_eq!(ledger.prune(EVER, UnixMillis(9_000)).await, Ok(false));
    // By time: those that came in before 2401, a thousand at a time.
    let by_time = Bounds { keep: Duration::from_millis(100), ..EVER };
    for more in [true, true, false] {
        assert_eq!(ledger.prune(by_time, UnixMillis(2_501)).await, Ok(more));
    }
    let (ledger, left) = all(ledger).await;
    assert_eq!((left.len(), left.last().copied()), (100, Some(2_401)));
    let gone = Search { finch_request_id: Some(FinchRequestId::new("f2400").unwrap()), ..newest(5) };
    assert_eq!(ledger.search(&gone).await.unwrap().calls, []);
    // By number.
    assert_eq!(ledger.prune(Bounds { rows: 10, ..EVER }, UnixMillis(2_501)).await, Ok(false));
    let (ledger, left) = all(ledger).await;
    assert_eq!(left, (2_491..=2_500).rev().collect::<Vec<_>>());
    // All of them: the next one is a new one.
    let none = Bounds { keep: Duration::ZERO, ..EVER };
    assert_eq!(ledger.prune(none, UnixMillis(9_000)).await, Ok(false));
    ledger.write(&rows([call(9_000, "acme")]), false).await.unwrap();
    let (ledger, left) = all(ledger).await;
    assert_eq!(left, [2_501]);
    drop(ledger);
    let db = Connection::open(dir.path().join("perch.db.requests")).unwrap();
    let ids: i64 = db.query_row("SELECT count(*) FROM finch_request", [], |row| row.get(0)).unwrap();
    assert_eq!(ids, 1, "ids go with their calls");
}

#[tokio::test]
async fn no_more_are_left_than_may_be_although_some_went_for_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    ledger.write(&rows((1..=1_000).map(|n| call(n, "acme"))), false).await.unwrap();
    // One is too old each time, and many are too many.
    let bounds = Bounds { keep: Duration::from_millis(1_000), rows: 100 };
    assert_eq!(ledger.prune(bounds, UnixMillis(1_002)).await, Ok(false));
    let found = ledger.search(&newest(LIMIT_MAX)).await.unwrap();
    assert_eq!((found.calls.len(), found.calls.last().unwrap().ts), (100, UnixMillis(901)));
}

#[tokio::test]
async fn a_probe_writes_every_table_and_leaves_nothing_to_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    for table in ["request", "finch_request", "usage"] {
        ledger.probe().await.unwrap();
        assert_eq!(ledger.search(&newest(5)).await.unwrap(), Found::default());
        assert_eq!(ledger.counts_since().await, Ok(None));
        let db = Connection::open(dir.path().join("perch.db.requests")).unwrap();
        db.execute_batch(&format!(
            "CREATE TRIGGER shut BEFORE INSERT ON {table} BEGIN SELECT raise(ABORT, 'shut'); END"
        ))
        .unwrap();
        assert!(ledger.probe().await.is_err(), "{table}");
        db.execute_batch("DROP TRIGGER shut").unwrap();
    }
    ledger.write(&rows([call(7, "acme")]), false).await.unwrap();
    assert_eq!(ledger.search(&newest(5)).await.unwrap().calls[0].seq, 1, "no number was used up");
    assert_eq!(ledger.counts_since().await, Ok(Some(UnixMillis(7))));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    ledger.write(&rows((1..=5).map(|n| call(n, "acme"))), false).await.unwrap();
    let db = Connection::open(dir.path().join("perch.db.requests")).unwrap();
    for (seq, facts) in [(2, "{"), (3, "{\"ts\": 7}"), (5, "")] {
        db.execute("UPDATE request SET facts = ?2 WHERE seq = ?1", (seq, facts)).unwrap();
    }
    let found = ledger.search(&newest(4)).await.unwrap();
    assert_eq!(found.calls.iter().map(|call| call.seq).collect::<Vec<_>>(), [4]);
    assert_eq!((found.unreadable, found.next), (3, Some(2)));
    let found = ledger.search(&Search { before: found.next, ..newest(4) }).await.unwrap();
    assert_eq!(found.calls.iter().map(|call| call.seq).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_set_apart_and_calls_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perch.db.requests");
    std::fs::write(&path, "not a database, but long enough to have a header ".repeat(40)).unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    ledger.write(&rows([call(1, "acme")]), false).await.unwrap();
    assert_eq!(ledger.search(&newest(5)).await.unwrap().calls.len(), 1);
    assert!(dir.path().join("perch.db.requests.damaged").exists());
}

#[tokio::test]
async fn damage_that_shows_when_it_is_written_is_set_apart_at_once_and_no_call_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perch.db.requests");
    std::fs::write(sqlite::beside(&path, ".damaged"), "evidence").unwrap();
    for (n, kept) in [(1, ".damaged-1"), (2, ".damaged-2")] {
        drop(Requests::open(&store(dir.path()), ours()).await.unwrap());
        // The header and the schema are sound; the table's first page is not.
        let page = {
            let db = Connection::open(&path).unwrap();
            let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'request'";
            let root: u64 = db.query_row(root, [], |row| row.get(0)).unwrap();
            let size: u64 = db.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
            (root - 1) * size..root * size
        };
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[usize::try_from(page.start).unwrap()..usize::try_from(page.end).unwrap()].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
        ledger.write(&rows([call(n, "acme")]), false).await.unwrap();
        let found = ledger.search(&newest(5)).await.unwrap();
        assert_eq!(found.calls.iter().map(|call| call.ts).collect::<Vec<_>>(), [UnixMillis(n)]);
        assert!(sqlite::beside(&path, kept).exists(), "{kept}");
    }
    assert_eq!(std::fs::read(sqlite::beside(&path, ".damaged")).unwrap(), b"evidence");
}

#[tokio::test]
async fn who_only_looks_makes_nothing_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Requests::look(&store(dir.path()), ours()).await.unwrap().is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    ledger.write(&rows([call(1, "acme")]), false).await.unwrap();
    let look = Requests::look(&store(dir.path()), ours()).await.unwrap().expect("a ledger");
    assert_eq!(look.search(&newest(5)).await.unwrap().calls.len(), 1);
    assert!(look.write(&rows([call(2, "acme")]), false).await.is_err());
    // What is written meanwhile is seen.
    ledger.write(&rows([call(3, "acme")]), false).await.unwrap();
    assert_eq!(look.search(&newest(5)).await.unwrap().calls.len(), 2);
    // After the last one has closed it, too.
    drop((ledger, look));
    let look = Requests::look(&store(dir.path()), ours()).await.unwrap().expect("a ledger");
    assert_eq!(look.search(&newest(5)).await.unwrap().calls.len(), 2);
}

#[tokio::test]
async fn a_newer_ledger_is_not_read_wrongly() {
    let dir = tempfile::tempdir().unwrap();
    drop(Requests::open(&store(dir.path()), ours()).await.unwrap());
    let path = dir.path().join("perch.db.requests");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let said = Requests::look(&store(dir.path()), ours()).await.expect_err("refused").to_string();
    assert!(said.contains("version 9"), "{said}");
    // Who would write it leaves it where it is, and as it is.
    let before = std::fs::read(&path).unwrap();
    let refused = Requests::open(&store(dir.path()), ours()).await.expect_err("refused");
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("newer perch")), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(!sqlite::beside(&path, ".damaged").exists());
}

#[tokio::test]
async fn applications_and_environments_that_share_a_store_see_count_and_delete_their_own_only() {
    let dir = tempfile::tempdir().unwrap();
    let environment = crate::types::Environment::Sandbox;
    let sandbox = Requests::open(&store(dir.path()), Scope { environment, ..ours() }).await.unwrap();
    let ledger = Requests::open(&store(dir.path()), ours()).await.unwrap();
    // In turns: their numbers lie between each other's.
    for n in 0..20 {
        ledger.write(&rows([call(2 * n + 1, "acme")]), false).await.unwrap();
        sandbox.write(&rows([call(2 * n + 1, "acme"), call(2 * n + 2, "acme")]), false).await.unwrap();
    }
    let count = async |ledger: &Requests, search: Search| ledger.search(&search).await.unwrap().calls.len();
    let of_one = || Search { finch_request_id: Some(FinchRequestId::new("f2").unwrap()), ..newest(99) };
    let by_customer = || Search { customer: Some(CustomerId::new("acme").unwrap()), ..newest(99) };
    for (ledger, all, ones) in [(&ledger, 20, 0), (&sandbox, 40, 1)] {
        assert_eq!(count(ledger, newest(99)).await, all);
        assert_eq!(count(ledger, by_customer()).await, all);
        assert_eq!(count(ledger, of_one()).await, ones);
        let used = ledger.usage("1970-01").await.unwrap();
        assert_eq!(used.iter().map(|used| used.calls).collect::<Vec<_>>(), [all as u64]);
        // The same id again, written again: it is there already for each by itself.
        ledger.write(&rows([call(1, "acme")]), true).await.unwrap();
        assert_eq!(count(ledger, newest(99)).await, all);
    }
    assert_eq!(ledger.prune(Bounds { rows: 15, ..EVER }, UnixMillis(9_000)).await, Ok(false));
    assert_eq!((count(&ledger, newest(99)).await, count(&sandbox, newest(99)).await), (15, 40));
    assert_eq!(ledger.search(&newest(99)).await.unwrap().calls.last().unwrap().ts, UnixMillis(11));
    let none = Bounds { keep: Duration::ZERO, ..EVER };
    assert_eq!(ledger.prune(none, UnixMillis(9_000)).await, Ok(false));
    assert_eq!((count(&ledger, newest(99)).await, count(&sandbox, newest(99)).await), (0, 40));
}
