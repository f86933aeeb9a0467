//! The course of one world: start, load, faults one after the other, and the look at everything at the end.

use super::brood::Brood;
use super::chance::Chance;
use super::faults::{Deck, Fault};
use super::inflict;
use super::load;
use super::notes::{Bound, Notes};
use super::plan::{Arm, Limits, RECOVERY_FORGOT_MAX, RECOVERY_MAX};
use super::records::{self, Record};
use super::search;
use super::site::{Part, Site};
use super::stores;
use super::watch::{Taken, Watch};
use super::writes::Writes;
use super::{Outcome, say};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long the load runs before the first fault.
const CALM: Duration = Duration::from_secs(5);
/// How long a fault lasts, in milliseconds.
const FAULT_MILLIS: (u64, u64) = (1500, 8000);
/// What a gateway that does not recover is given before the run goes on without it.
const GIVE_UP: Duration = Duration::from_secs(90);

/// One round of faults.
pub(crate) struct Round {
    /// What was done together.
    pub(crate) faults: Vec<String>,
    /// How long it lasted.
    pub(crate) lasted: Duration,
    /// How long each gateway took to serve again.
    pub(crate) recovered: Vec<Duration>,
    /// How calls ended from its beginning until all served again.
    pub(crate) classes: BTreeMap<String, usize>,
}

/// All that was found in one world.
pub(crate) struct Found {
    pub(crate) arm: Arm,
    pub(crate) seed: u64,
    pub(crate) lasted: Duration,
    pub(crate) rounds: Vec<Round>,
    /// How many different faults were to be drawn from.
    pub(crate) drawable: usize,
    /// Faults that this machine cannot make.
    pub(crate) missing: Vec<&'static str>,
    /// What the recorder saw: by product, how many, the fullest window, and the limit.
    pub(crate) arrivals: BTreeMap<&'static str, (usize, usize, usize)>,
    pub(crate) taken: BTreeMap<Part, Taken>,
    pub(crate) broken: BTreeMap<Bound, (usize, Vec<String>)>,
    pub(crate) counts: BTreeMap<&'static str, usize>,
    pub(crate) classes: BTreeMap<String, usize>,
}

impl Found {
    /// How many different faults were made.
    pub(crate) fn drawn(&self) -> usize {
        self.rounds.iter().flat_map(|round| &round.faults).collect::<BTreeSet<_>>().len()
    }
}

/// What a run is asked for.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) arm: Arm,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) only: Vec<String>,
    /// How far the gateways' limits lie beyond Finch's.
    pub(crate) beyond: usize,
}

/// One world in a folder of its own; `scratch` can be entered by every user.
pub(crate) fn run(brood: &Arc<Brood>, wish: &Wish, folder: &Path, scratch: &Path) -> Outcome<Found> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let found = runtime.block_on(course(brood, wish, folder, scratch));
    runtime.shutdown_background();
    stores::unmount_below(folder);
    found
}

async fn course(brood: &Arc<Brood>, wish: &Wish, folder: &Path, scratch: &Path) -> Outcome<Found> {
    let site = Arc::new(Site::start(brood, (wish.arm, wish.beyond), folder, scratch).await?);
    let all = Fault::all(&site);
    let is_wanted =
        |fault: &Fault| wish.only.is_empty() || wish.only.iter().any(|part| fault.to_string().contains(part));
    let wanted: Vec<Fault> = all.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return Err(format!(
            "no fault of the {} world has a name with {:?} in it",
            wish.arm.name(),
            wish.only
        )
        .into());
    }
    say(&format!("{}: seed {}, {} faults to choose from", wish.arm.name(), wish.seed, wanted.len()));
    let (notes, writes, watch) =
        (Arc::new(Notes::default()), Arc::new(Writes::default()), Arc::new(Watch::default()));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&watch).look(Arc::clone(&site), Arc::clone(&notes)));
    load::begin(&mut tasks, &site, &notes, wish.seed);
    tasks.spawn(Arc::clone(&writes).work(Arc::clone(&site), Arc::clone(&notes), wish.seed));
    for gateway in 0..wish.arm.gateways() {
        // A first start sits out a window; that is no fault's recovery.
        recover(&site, &notes, gateway).await;
    }
    sleep(CALM).await;
    let mut rounds = Vec::new();
    let drawable = wanted.len();
    let (mut deck, mut chance) = (Deck::new(wanted), Chance::of(wish.seed, wish.arm.name()));
    while begun.elapsed() < wish.length {
        let faults = deck.draw(&mut chance);
        rounds.push(round(&site, &notes, &writes, faults, &mut chance, begun).await?);
        writes.verify(&site, &notes, &mut chance, false).await;
        sleep(Duration::from_millis(chance.within(200, 2000))).await;
    }
    tasks.shutdown().await;
    writes.verify(&site, &notes, &mut chance, true).await;
    let lasted = begun.elapsed();
    let _ = site.redis().ask("SAVE").await;
    site.end();
    let arrivals = judge_records(&site, &notes, &writes)?;
    search::all(&site, &notes);
    for lost in notes.unexplained(begun) {
        notes.broken(Bound::Answers, lost);
    }
    let mut missing = Vec::new();
    if wish.arm == Arm::Alone && !site.has_small_disk {
        missing.push("full disk (needs root)");
    }
    if !site.has_own_clock(Part::Gateway(0)) {
        missing.push("clock steps (need libfaketime)");
    }
    Ok(Found {
        arm: wish.arm,
        seed: wish.seed,
        lasted,
        rounds,
        drawable,
        missing,
        arrivals,
        taken: watch.taken(),
        broken: notes.broken_ones(),
        counts: notes.counts(),
        classes: notes.classes(begun, Instant::now()),
    })
}

async fn round(
    site: &Arc<Site>,
    notes: &Arc<Notes>,
    writes: &Writes,
    faults: Vec<Fault>,
    chance: &mut Chance,
    begun: Instant,
) -> Outcome<Round> {
    let from = Instant::now();
    let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let most = match faults.iter().any(|fault| fault.makes_redis_forget()) {
        true => RECOVERY_FORGOT_MAX,
        false => RECOVERY_MAX,
    };
    let mut made = Vec::new();
    for fault in faults {
        let gateways = fault.gateways(site, chance);
        if fault == Fault::Kill(Part::Finch) {
            writes.finch_dies();
        }
        made.push(inflict::make(site, notes, fault, gateways, chance.next()).await?);
    }
    let wheres: Vec<&Vec<usize>> = made.iter().map(|made| &made.gateways).collect();
    say(&format!("{} s: {} at {wheres:?}", begun.elapsed().as_secs(), names.join(" and ")));
    sleep(Duration::from_millis(chance.within(FAULT_MILLIS.0, FAULT_MILLIS.1))).await;
    while let Some(last) = made.pop() {
        let is_finch = last.fault == Fault::Kill(Part::Finch);
        let ids = if is_finch { writes.to_burn() } else { 0 };
        inflict::end(site, notes, last, ids).await?;
        if is_finch {
            writes.finch_lives();
        }
    }
    let lasted = from.elapsed();
    let mut again = JoinSet::new();
    for gateway in 0..site.arm.gateways() {
        let (site, notes) = (Arc::clone(site), Arc::clone(notes));
        again.spawn(async move { (gateway, recover(&site, &notes, gateway).await) });
    }
    let mut recovered = Vec::new();
    for (gateway, took) in again.join_all().await {
        if took > most {
            let took = took.as_secs_f64();
            notes.broken(
                Bound::Recovery,
                format!("gateway {gateway} took {took:.1} s after {}", names.join(" and ")),
            );
        }
        recovered.push(took);
    }
    Ok(Round { faults: names, lasted, recovered, classes: notes.classes(from, Instant::now()) })
}

/// Until the canary is served there; how long that took.
async fn recover(site: &Site, notes: &Notes, gateway: usize) -> Duration {
    let from = Instant::now();
    let mut told = String::new();
    while from.elapsed() < GIVE_UP {
        match load::canary(site, notes, gateway, "canary").await {
            Ok(()) => return from.elapsed(),
            Err(why) => told = why,
        }
        sleep(Duration::from_millis(50)).await;
    }
    say(&format!("gateway {gateway} does not serve: {told}"));
    from.elapsed()
}

/// Judges by what the recorder wrote down.
fn judge_records(
    site: &Site,
    notes: &Notes,
    writes: &Writes,
) -> Outcome<BTreeMap<&'static str, (usize, usize, usize)>> {
    let all: Vec<Record> = records::read(&site.notes())?;
    notes.count("requests recorded", all.iter().filter(|record| !record.was_refused).count());
    let mut arrivals = BTreeMap::new();
    for (name, moments) in records::by_product(&all) {
        let Some(limit) = Limits::of(name) else { continue };
        let fullest = records::fullest(&moments, limit.window);
        if fullest > limit.count {
            notes.broken(
                Bound::Limits,
                format!("{fullest} requests for {name} in a window that may hold {}", limit.count),
            );
        }
        arrivals.insert(name, (moments.len(), fullest, limit.count));
    }
    for refused in all.iter().filter(|record| record.was_refused) {
        notes.broken(Bound::Limits, format!("Finch answered 429 to {}", refused.path));
    }
    for record in all.iter().filter(|record| record.token_is_elsewhere || record.authorizations > 1) {
        notes.broken(
            Bound::Tokens,
            format!("{} {} holds a token in another place", record.method, record.path),
        );
    }
    for record in records::sent_twice(&all) {
        notes.broken(
            Bound::Once,
            format!("{} {} of {} arrived twice", record.method, record.path, record.mark),
        );
    }
    let told = notes.writes();
    notes.count("writes told to be done", told.iter().filter(|told| told.is_good).count());
    let (lost, invited) = records::untrue(&all, &told);
    lost.into_iter().for_each(|why| notes.broken(Bound::Writes, why));
    invited.into_iter().for_each(|why| notes.broken(Bound::Once, why));
    let own = |token: &str| records::digest(format!("Bearer {token}").as_bytes());
    let mut tokens: HashMap<String, String> =
        site.customers.values().map(|customer| (customer.name.clone(), own(&customer.token))).collect();
    tokens.extend(writes.tokens());
    for record in records::crossed(&all, &tokens) {
        notes.broken(Bound::Customers, format!("{} for {} had another's token", record.path, record.mark));
    }
    let is_known =
        |record: &&Record| record.mark.strip_prefix(records::MARK).is_some_and(|c| tokens.contains_key(c));
    notes.count("requests whose token was compared", all.iter().filter(is_known).count());
    Ok(arrivals)
}
