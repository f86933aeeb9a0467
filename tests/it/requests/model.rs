//! The ledger against a list: whatever is searched for, both find the same. On a file, and on a server.

use crate::support::Database;
use perch::policy::Class;
use perch::store::connections::Scope;
use perch::store::requests::{Bounds, Recorded, Requests, Row, Search};
use perch::telemetry::AccessLine;
use perch::types::{
    AppName, ApplicationId, CompanyId, ConnectionId, CustomerId, Environment, FinchRequestId, RequestId,
    UnixMillis,
};
use std::sync::Arc;
use std::time::Duration;

/// Numbers that look like chance, and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }
}

const PRODUCTS: [&str; 3] = ["directory", "payment", "unknown"];
const CLASSES: [Class; 3] = [Class::Ok, Class::RateLimited, Class::Partial];

/// A few of each id, so that many calls share one.
fn customer(dice: &mut Dice) -> CustomerId {
    CustomerId::new(format!("Kündin {}", dice.below(3))).expect("an id")
}

fn connection(dice: &mut Dice) -> ConnectionId {
    ConnectionId::new(format!("c{}", dice.below(3))).expect("an id")
}

fn company(dice: &mut Dice) -> CompanyId {
    CompanyId::new(format!("co{}", dice.below(3))).expect("an id")
}

fn app(dice: &mut Dice) -> AppName {
    AppName::new(format!("app{}", dice.below(2))).expect("an id")
}

fn finch_id(dice: &mut Dice) -> FinchRequestId {
    FinchRequestId::new(format!("f{}", dice.below(40))).expect("an id")
}

fn at(dice: &mut Dice) -> UnixMillis {
    // Often the same millisecond, and in no order: calls end when they end.
    UnixMillis(1_700_000_000_000 + i64::try_from(dice.below(60)).expect("small"))
}

fn call(n: usize, dice: &mut Dice) -> Recorded {
    let mut line = AccessLine::begin(RequestId::new(format!("r{n}")).expect("an id"), at(dice));
    line.customer = dice.maybe(customer);
    line.connection_id = dice.maybe(connection);
    line.company_id = dice.maybe(company);
    line.app = dice.maybe(app);
    line.product = PRODUCTS[dice.below(3) as usize];
    line.class = CLASSES[dice.below(3) as usize];
    line.attempts = u32::try_from(dice.below(4)).expect("small");
    line.by = (dice.below(4) == 0).then_some("perch");
    for _ in 0..dice.below(3) {
        line.saw(finch_id(dice));
    }
    Recorded::of(line)
}

fn rare<T>(dice: &mut Dice, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    (dice.below(4) == 0).then(|| value(dice))
}

fn search(dice: &mut Dice) -> Search {
    Search {
        finch_request_id: rare(dice, finch_id),
        request_id: (dice.below(12) == 0)
            .then(|| RequestId::new(format!("r{}", dice.below(500))).expect("an id")),
        customer: rare(dice, customer),
        connection: rare(dice, connection),
        company: rare(dice, company),
        app: rare(dice, app),
        product: rare(dice, |dice| PRODUCTS[dice.below(3) as usize].to_owned()),
        class: rare(dice, |dice| CLASSES[dice.below(3) as usize]),
        since: rare(dice, at),
        until: rare(dice, at),
        before: None,
        limit: 1 + u32::try_from(dice.below(60)).expect("small"),
    }
}

/// What a list would find.
fn fits(search: &Search, call: &Recorded) -> bool {
    fn same<T: PartialEq>(wanted: &Option<T>, there: &Option<T>) -> bool {
        wanted.is_none() || wanted == there
    }
    search.finch_request_id.as_ref().is_none_or(|id| call.finch_request_id.contains(id))
        && search.request_id.as_ref().is_none_or(|id| *id == call.request_id)
        && same(&search.customer, &call.customer)
        && same(&search.connection, &call.connection_id)
        && same(&search.company, &call.company_id)
        && same(&search.app, &call.app)
        && search.product.as_ref().is_none_or(|product| *product == call.product)
        && search.class.is_none_or(|class| class.as_str() == call.class)
        && search.since.is_none_or(|since| call.ts >= since)
        && search.until.is_none_or(|until| call.ts < until)
}

fn rows(calls: &[Recorded]) -> Arc<Vec<Row>> {
    Arc::new(calls.iter().cloned().map(Row::of).collect())
}

async fn open(database: &Database) -> Requests {
    let application = ApplicationId::new("ours").expect("an id");
    let scope = Scope { application, environment: Environment::Sandbox };
    Requests::open(&database.store(), scope).await.expect("a ledger")
}

/// Every page of a search.
async fn pages(ledger: &Requests, search: &Search) -> Vec<Recorded> {
    let (mut search, mut all) = (search.clone(), Vec::new());
    loop {
        let found = ledger.search(&search).await.expect("it answers");
        assert!(found.calls.len() <= search.limit as usize && !found.is_cut && found.unreadable == 0);
        all.extend(found.calls);
        match found.next {
            Some(next) => search.before = Some(next),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_finds_what_a_list_would_in_the_order_of_coming_in_page_by_page() {
    let dir = tempfile::tempdir().expect("a folder");
    let database = Database::of_this_run(dir.path()).await;
    let ledger = open(&database).await;
    for seed in 1..=4 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let all: Vec<Recorded> = (0..500).map(|n| call(n, &mut dice)).collect();
        for part in all.chunks(170) {
            ledger.write(&rows(part), false).await.expect("written");
        }
        let (mut found_some, mut paged) = (0, 0);
        for _ in 0..150 {
            let search = search(&mut dice);
            let found = pages(&ledger, &search).await;
            assert!(found.is_sorted_by(|a, b| (a.ts, a.seq) > (b.ts, b.seq)), "{search:?}");
            let mut names: Vec<_> = found.iter().map(|call| call.request_id.as_str()).collect();
            let mut wanted: Vec<_> =
                all.iter().filter(|call| fits(&search, call)).map(|call| call.request_id.as_str()).collect();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "{search:?}");
            found_some += usize::from(!wanted.is_empty());
            paged += usize::from(wanted.len() > search.limit as usize);
            // And each says all that was written of it.
            for call in found {
                let written = all.iter().find(|other| other.request_id == call.request_id);
                assert_eq!(Some(&Recorded { seq: 0, ..call }), written);
            }
        }
        assert!(found_some > 50 && paged > 10, "{found_some} {paged}: too few to show anything");
        // The months say what the calls did.
        let used = ledger.usage("2023-11").await.expect("it answers");
        let of = |id: &ConnectionId| -> Vec<&Recorded> {
            all.iter().filter(|call| call.connection_id.as_ref() == Some(id)).collect()
        };
        for used in &used {
            let calls = of(&used.connection_id);
            let own = calls.iter().filter(|call| call.by.is_some()).count() as u64;
            assert_eq!((used.calls + used.own_calls, used.own_calls), (calls.len() as u64, own), "{used:?}");
            assert_eq!(used.attempts, calls.iter().map(|call| u64::from(call.attempts)).sum::<u64>());
            let times = || calls.iter().map(|call| call.ts);
            assert_eq!((Some(used.first), Some(used.last)), (times().min(), times().max()));
        }
        assert_eq!(used.len(), 3);
        // Everything goes, the months with it.
        let none = Bounds { keep: Duration::ZERO, rows: 100 };
        let later = UnixMillis(1_700_000_000_000).plus(Duration::from_secs(3 * 366 * 24 * 60 * 60));
        assert_eq!(ledger.prune(none, later).await, Ok(false));
        assert_eq!(pages(&ledger, &Search { limit: 9, ..Search::default() }).await, []);
        assert_eq!(ledger.usage("2023-11").await.expect("it answers"), []);
        for table in ["request", "finch_request", "usage"] {
            let left = database.ask_ledger(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(left.as_deref(), Some("0"), "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_written_is_not_written_twice_nor_counted_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let database = Database::of_this_run(dir.path()).await;
    let ledger = open(&database).await;
    let mut dice = Dice(7);
    let calls: Vec<Recorded> = (0..250)
        .map(|n| Recorded { connection_id: Some(connection(&mut dice)), ..call(n, &mut dice) })
        .collect();
    ledger.write(&rows(&calls[..200]), false).await.expect("written");
    for _ in 0..2 {
        ledger.write(&rows(&calls), true).await.expect("written");
    }
    let all = pages(&ledger, &Search { limit: 1000, ..Search::default() }).await;
    assert_eq!(all.len(), 250);
    let used = ledger.usage("2023-11").await.expect("it answers");
    assert_eq!(used.iter().map(|used| used.calls + used.own_calls).sum::<u64>(), 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_number_the_oldest_go_and_no_more_are_left_than_may_be() {
    let dir = tempfile::tempdir().expect("a folder");
    let database = Database::of_this_run(dir.path()).await;
    let ledger = open(&database).await;
    let mut dice = Dice(11);
    for part in 0..5 {
        let calls: Vec<Recorded> = (0..500).map(|n| call(part * 500 + n, &mut dice)).collect();
        ledger.write(&rows(&calls), false).await.expect("written");
    }
    let (bounds, now) =
        (Bounds { keep: Duration::from_secs(3600), rows: 100 }, UnixMillis(1_700_000_000_000));
    let mut steps = 0;
    while ledger.prune(bounds, now).await.expect("it answers") {
        steps += 1;
    }
    assert_eq!(steps, 2, "a thousand at a time");
    let left = pages(&ledger, &Search { limit: 1000, ..Search::default() }).await;
    let mut names: Vec<_> = left.iter().map(|call| call.request_id.to_string()).collect();
    names.sort();
    let mut newest: Vec<_> = (2_400..2_500).map(|n| format!("r{n}")).collect();
    newest.sort();
    assert_eq!(names, newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_share_a_server_write_count_and_let_go_side_by_side() {
    let server = Database::on_a_server().await;
    let all = Arc::new(open(&server).await);
    let mut writers = tokio::task::JoinSet::new();
    for gateway in 0..4_u64 {
        let ledger = open(&server).await;
        writers.spawn(async move {
            let mut dice = Dice(gateway + 3);
            for part in 0..5 {
                let calls: Vec<Recorded> = (0..100)
                    .map(|n| {
                        let name = RequestId::new(format!("g{gateway}-{part}-{n}")).expect("an id");
                        let connection_id = Some(connection(&mut dice));
                        Recorded { request_id: name, connection_id, ..call(n, &mut dice) }
                    })
                    .collect();
                ledger.write(&rows(&calls), false).await.expect("written");
                // Everyone tries; who is not the one leaves it to the other.
                let bounds = Bounds { keep: Duration::from_secs(3600), rows: 1_000_000 };
                ledger.prune(bounds, UnixMillis(1_700_000_000_000)).await.expect("it answers");
            }
        });
    }
    writers.join_all().await;
    let found = pages(&all, &Search { limit: 1000, ..Search::default() }).await;
    let mut numbers: Vec<i64> = found.iter().map(|call| call.seq).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((found.len(), numbers.len()), (2000, 2000));
    let used = all.usage("2023-11").await.expect("it answers");
    assert_eq!(used.iter().map(|used| used.calls + used.own_calls).sum::<u64>(), 2000);
    // All let go at once, and all is gone: no deadlock, nothing left behind.
    let mut pruners = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let ledger = open(&server).await;
        pruners.spawn(async move {
            let (none, later) = (Bounds { keep: Duration::ZERO, rows: 100 }, UnixMillis(1_800_000_000_000));
            let any = Search { limit: 1, ..Search::default() };
            while !ledger.search(&any).await.expect("it answers").calls.is_empty() {
                ledger.prune(none, later).await.expect("it answers");
            }
        });
    }
    pruners.join_all().await;
    assert_eq!(server.ask_ledger("SELECT count(*) FROM finch_request").await.as_deref(), Some("0"));
}
