//! The dead-connection shield: a login that does not work is answered for here, and costs no quota.
//!
//! A case is opened by Finch's word (a 401, `/introspect`, a webhook) and closed by Finch's word. At intervals
//! that grow, one call of an app's makes perch ask `/introspect`, which no product's quota pays for; every
//! fourth time the call itself goes, for what `/introspect` says and what data calls find may differ.
//! Entities of one connection fail apart (Finch reauthentication guide).

use crate::finch::endpoints::{Effect, Endpoint, Operation};
use crate::limit::notice::Ailment;
use crate::policy::Class;
use crate::types::{ConnectionId, EntityId, Moment, Product, UnixMillis};
use std::collections::HashMap;
use std::time::Duration;

/// The most cases open at once, and the most runs of failures watched; the oldest go first.
const CASES_MAX: usize = 10_000;
/// Intervals double up to this.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Every so many probes the call itself is one.
const CALL_EVERY: u32 = 4;
/// So many 500s of one login in a row, with nothing good between them, make perch ask whether it is a dead login:
/// Finch says 500 for revoked access now and then ("Finch error guide").
const RUN: u32 = 3;
/// Between two questions about a run that goes on.
const ASK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// One login: a connection, or one of its legal entities.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Login {
    /// The connection.
    pub connection: ConnectionId,
    /// The entity; `None` means the connection as a whole.
    pub entity: Option<EntityId>,
}

/// What perch does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing is known against it.
    Send,
    /// Answer it here.
    Answer(Case),
    /// Ask `/introspect` first.
    Ask(Case),
    /// Send it, as a probe.
    Try(Case),
}

/// A login that does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is wrong.
    pub ailment: Ailment,
    /// Since when perch knows.
    pub since: UnixMillis,
    /// The version of the token it was found with.
    pub version: u64,
    opened: Moment,
    next_probe: Moment,
    probes: u32,
}

/// What a status word of Finch's means for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// They can be served.
    Well,
    /// They cannot.
    Ill(Ailment),
    /// A word that perch does not know.
    Unknown,
}

impl Health {
    /// Reads one word: `connection_status.status` and its like (Finch API reference; the older words too).
    pub fn of_word(word: &str) -> Self {
        match word {
            "reauth" | "error_reauth" => Health::Ill(Ailment::Reauthentication),
            "error_no_account_setup" => Health::Ill(Ailment::AccountSetup),
            "disconnected" => Health::Ill(Ailment::Disconnected),
            // Missing rights are a matter of each product, not of the login.
            "connected" | "processing" | "pending" | "error_permissions" => Health::Well,
            _ => Health::Unknown,
        }
    }

    /// Reads all that `/introspect` says of one login. An entity's own word is the one that counts for it; for
    /// a whole connection any bad word counts, for reauthentication may show at one of them only.
    pub fn of_words<'a>(own: Option<&'a str>, others: impl IntoIterator<Item = &'a str>) -> Self {
        let own = own.map_or(Health::Unknown, Health::of_word);
        let ill = others.into_iter().map(Health::of_word).find(|health| matches!(health, Health::Ill(_)));
        match own {
            Health::Ill(_) => own,
            Health::Well | Health::Unknown => ill.unwrap_or(own),
        }
    }
}

impl Ailment {
    /// What an answer of this class says about the login; most say nothing.
    pub const fn of_class(class: Class) -> Option<Self> {
        match class {
            Class::ReauthenticationRequired => Some(Ailment::Reauthentication),
            Class::AccountSetupRequired => Some(Ailment::AccountSetup),
            Class::Disconnected => Some(Ailment::Disconnected),
            Class::Ok
            | Class::Partial
            | Class::NotReady
            | Class::PermissionDenied
            | Class::InvalidRequest
            | Class::NotSupported
            | Class::RateLimited
            | Class::ProviderError
            | Class::FinchError
            | Class::FinchUnreachable
            | Class::ApplicationBlocked
            | Class::UnknownCustomer
            | Class::CallerRefused
            | Class::PerchUnavailable
            | Class::Abandoned => None,
        }
    }

    /// The class of a call that it stops.
    pub const fn class(self) -> Class {
        match self {
            Ailment::Reauthentication => Class::ReauthenticationRequired,
            Ailment::AccountSetup => Class::AccountSetupRequired,
            Ailment::Disconnected => Class::Disconnected,
        }
    }

    /// Finch's own words for it: `name`, `finch_code`, `message`. What an app looks for in an answer of Finch's it
    /// finds in perch's as well.
    pub const fn words(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Ailment::Reauthentication => (
                "authentication_error",
                Some("reauthenticate_user"),
                "Finch wants this login renewed; perch answered without asking again",
            ),
            Ailment::AccountSetup => (
                "authentication_error",
                Some("account_setup_required"),
                "the account behind this connection is not set up; perch answered without asking again",
            ),
            Ailment::Disconnected => (
                "invalid_token_error",
                None,
                "Finch does not accept this connection's token; perch answered without asking again",
            ),
        }
    }
}

/// Every login that does not work, and every run of failures that may be one.
#[derive(Debug)]
pub struct Shield {
    interval: Duration,
    cases: HashMap<Login, Case>,
    runs: HashMap<Login, Run>,
    /// Connections that Finch called well with this version of their token, whatever the vault remembers.
    well: HashMap<Login, Well>,
}

#[derive(Debug, Clone, Copy)]
struct Well {
    version: u64,
    since: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    length: u32,
    last: Moment,
    ask_not_before: Moment,
}

impl Shield {
    /// Nothing is known yet; the first probe of a case comes after `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, cases: HashMap::new(), runs: HashMap::new(), well: HashMap::new() }
    }

    /// Whether nothing is known against anybody.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// What to do with a call of this login. `version` is that of the token at hand: a newer one than the
    /// case's closes it. `is_read` tells whether the call itself may be a probe.
    pub fn advise(&mut self, login: &Login, version: u64, is_read: bool, now: Moment) -> Advice {
        let Some(key) = self.covering(login) else { return Advice::Send };
        let Some(case) = self.cases.get_mut(&key) else { return Advice::Send };
        if version > case.version {
            self.cases.remove(&key);
            return Advice::Send;
        }
        if now < case.next_probe {
            return Advice::Answer(*case);
        }
        case.probes = case.probes.saturating_add(1);
        let wait =
            self.interval.saturating_mul(1 << case.probes.min(16)).min(INTERVAL_MAX.max(self.interval));
        case.next_probe = now + wait;
        match is_read && case.probes % CALL_EVERY == 0 {
            true => Advice::Try(*case),
            false => Advice::Ask(*case),
        }
    }

    /// What is known against this login now; nothing is changed.
    pub fn case(&self, login: &Login, version: u64) -> Option<Case> {
        let case = self.cases.get(&self.covering(login)?)?;
        (version <= case.version).then_some(*case)
    }

    /// The vault remembers that Finch wanted this connection's login renewed. That is looked into at the first
    /// call, unless Finch has called it well since.
    pub fn remembered(&mut self, connection: &ConnectionId, version: u64, at: (Moment, UnixMillis)) {
        let whole = Login { connection: connection.clone(), entity: None };
        let is_well = self.well.get(&whole).is_some_and(|well| well.version >= version);
        if !is_well && !self.cases.contains_key(&whole) {
            self.open(whole, (Ailment::Reauthentication, version), at, at.0);
        }
    }

    /// Finch said just now that a login does not work. Answers whether that is news.
    pub fn fell_ill(
        &mut self,
        login: Login,
        (ailment, version): (Ailment, u64),
        (now, wall): (Moment, UnixMillis),
    ) -> bool {
        self.runs.remove(&login);
        self.well.remove(&login);
        if let Some(case) = self.cases.get_mut(&login)
            && case.ailment == ailment
        {
            case.version = case.version.max(version);
            case.next_probe = case.next_probe.max(now + self.interval);
            return false;
        }
        self.open(login, (ailment, version), (now, wall), now + self.interval);
        true
    }

    fn open(
        &mut self,
        login: Login,
        (ailment, version): (Ailment, u64),
        (now, since): (Moment, UnixMillis),
        next_probe: Moment,
    ) {
        bound(&mut self.cases, &login, |case| case.opened);
        self.cases.insert(login, Case { ailment, since, version, opened: now, next_probe, probes: 0 });
    }

    /// A call of this login was served with this version of its token, or Finch said that it is well. Answers
    /// whether a case was closed.
    pub fn recovered(&mut self, login: &Login, version: u64, now: Moment) -> bool {
        if login.entity.is_none() {
            bound(&mut self.well, login, |well| well.since);
            self.well.insert(login.clone(), Well { version, since: now });
        }
        self.forget(login)
    }

    /// What was known against a login is not known any more. Answers whether that was something.
    pub fn forget(&mut self, login: &Login) -> bool {
        self.runs.remove(login);
        match self.covering(login) {
            Some(key) => self.cases.remove(&key).is_some(),
            None => false,
        }
    }

    /// A whole connection is well, with all its entities: it has a new token.
    pub fn renewed(&mut self, connection: &ConnectionId) -> bool {
        let before = self.cases.len();
        self.runs.retain(|login, _| login.connection != *connection);
        self.cases.retain(|login, _| login.connection != *connection);
        self.cases.len() < before
    }

    /// Finch answered a call of this login with a 500. `true`: so many in a row that it is worth asking
    /// `/introspect` once.
    pub fn failed(&mut self, login: &Login, now: Moment) -> bool {
        bound(&mut self.runs, login, |run| run.last);
        let run = self.runs.entry(login.clone()).or_insert(Run {
            length: 0,
            last: now,
            ask_not_before: Moment::ZERO,
        });
        run.length = run.length.saturating_add(1);
        run.last = now;
        let is_time = run.length >= RUN && now >= run.ask_not_before;
        if is_time {
            run.ask_not_before = now + ASK_AGAIN;
        }
        is_time
    }

    /// Whether a good answer of this login has anything to put right.
    pub fn concerns(&self, login: &Login) -> bool {
        self.runs.contains_key(login) || self.covering(login).is_some()
    }

    /// Every open case.
    pub fn cases(&self) -> impl Iterator<Item = (&Login, &Case)> {
        self.cases.iter()
    }

    /// The case that stands for this login: its own, or that of the whole connection.
    fn covering(&self, login: &Login) -> Option<Login> {
        if self.cases.is_empty() {
            return None;
        }
        if self.cases.contains_key(login) {
            return Some(login.clone());
        }
        let whole = Login { connection: login.connection.clone(), entity: None };
        self.cases.contains_key(&whole).then_some(whole)
    }
}

/// Makes room for one more by forgetting the oldest.
fn bound<V>(map: &mut HashMap<Login, V>, login: &Login, age: impl Fn(&V) -> Moment) {
    if map.len() >= CASES_MAX
        && !map.contains_key(login)
        && let Some(oldest) = map.iter().min_by_key(|(_, v)| age(v)).map(|(login, _)| login.clone())
    {
        map.remove(&oldest);
    }
}

/// Whether a call needs the employer's login, so that a dead one decides about it (Finch Connect guide). What
/// mends, ends or asks about a connection does not.
pub fn needs_login(endpoint: &Endpoint) -> bool {
    match endpoint.product {
        Product::Company
        | Product::Directory
        | Product::Individual
        | Product::Employment
        | Product::Payment
        | Product::PayStatement
        | Product::PayGroups
        | Product::PayStatementItem
        | Product::Documents
        | Product::Benefits
        | Product::Forward => true,
        // What became of a job can be read whatever the login does now.
        Product::Jobs => endpoint.operation == Operation::CreateAutomatedJob,
        Product::Connect
        | Product::Auth
        | Product::Providers
        | Product::Introspect
        | Product::Disconnect
        | Product::Sandbox => false,
    }
}

/// Whether a call may find out by itself whether a login works: one that changes nothing.
pub fn may_probe(endpoint: &Endpoint) -> bool {
    endpoint.effect == Effect::Reads
}

/// The legal entity that a query names (`entity_ids[]`, at most one), as the SDKs write it or plain.
pub fn entity_in(query: &str) -> Option<EntityId> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
        let name = name.to_ascii_lowercase().replace("%5b", "[").replace("%5d", "]");
        matches!(name.as_str(), "entity_ids[]" | "entity_ids").then(|| EntityId::new(value).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn login(connection: &str, entity: Option<&str>) -> Login {
        Login {
            connection: ConnectionId::new(connection).expect("an id"),
            entity: entity.map(|id| EntityId::new(id).expect("an id")),
        }
    }

    fn minutes(n: u32) -> (Moment, UnixMillis) {
        (Moment::at(MINUTE * n), UnixMillis(i64::from(n) * 60_000))
    }

    fn ill(shield: &mut Shield, login: &Login, version: u64, at: u32) -> bool {
        shield.fell_ill(login.clone(), (Ailment::Reauthentication, version), minutes(at))
    }

    #[test]
    fn a_dead_login_is_asked_about_at_growing_intervals() {
        let mut shield = Shield::new(5 * MINUTE);
        let a = login("a", None);
        assert!(ill(&mut shield, &a, 1, 0));
        assert!(!ill(&mut shield, &a, 1, 1), "no news");
        let mut probes = Vec::new();
        for minute in 0..600 {
            match shield.advise(&a, 1, true, minutes(minute).0) {
                Advice::Answer(case) => assert_eq!(case.since, UnixMillis(0)),
                Advice::Ask(_) => probes.push((minute, "ask")),
                Advice::Try(_) => probes.push((minute, "try")),
                Advice::Send => panic!("nobody said that it is well"),
            }
        }
        let expected = [
            (5, "ask"),
            (15, "ask"),
            (35, "ask"),
            (75, "try"),
            (135, "ask"),
            (195, "ask"),
            (255, "ask"),
            (315, "try"),
        ];
        assert_eq!(probes[..8], expected);
        assert!(
            matches!(shield.advise(&a, 1, false, minutes(9_000).0), Advice::Ask(_)),
            "a write is no probe"
        );
        assert!(shield.recovered(&a, 1, minutes(9_000).0));
        assert_eq!(shield.advise(&a, 1, true, minutes(9_001).0), Advice::Send);
    }

    #[test]
    fn a_new_token_closes_the_case_of_the_old_one() {
        let mut shield = Shield::new(5 * MINUTE);
        let a = login("a", None);
        ill(&mut shield, &a, 3, 0);
        assert!(matches!(shield.advise(&a, 3, true, minutes(1).0), Advice::Answer(_)));
        assert_eq!(shield.advise(&a, 4, true, minutes(1).0), Advice::Send);
        assert!(shield.is_empty());
    }

    #[test]
    fn entities_fail_apart_and_a_whole_connection_covers_them() {
        let mut shield = Shield::new(5 * MINUTE);
        let (whole, one, two) = (login("a", None), login("a", Some("e1")), login("a", Some("e2")));
        ill(&mut shield, &one, 1, 0);
        assert!(shield.case(&one, 1).is_some());
        assert!(shield.case(&two, 1).is_none() && shield.case(&whole, 1).is_none());
        ill(&mut shield, &whole, 1, 0);
        assert!(shield.case(&two, 1).is_some());
        assert!(shield.case(&login("b", None), 1).is_none());
        assert!(
            shield.recovered(&two, 1, minutes(0).0),
            "one entity that works shows that the connection does"
        );
        assert!(shield.case(&whole, 1).is_none() && shield.case(&one, 1).is_some());
        assert!(shield.renewed(&one.connection));
        assert!(shield.is_empty());
    }

    #[test]
    fn what_the_vault_remembers_is_looked_into_at_once() {
        let mut shield = Shield::new(5 * MINUTE);
        let a = login("a", None);
        shield.remembered(&a.connection, 1, minutes(0));
        assert!(matches!(shield.advise(&a, 1, true, minutes(0).0), Advice::Ask(_)));
        shield.remembered(&a.connection, 1, minutes(0));
        assert!(matches!(shield.advise(&a, 1, true, minutes(0).0), Advice::Answer(_)), "once");
        // Finch says that it is well, and the vault cannot be told.
        shield.recovered(&a, 1, minutes(1).0);
        shield.remembered(&a.connection, 1, minutes(2));
        assert_eq!(shield.advise(&a, 1, true, minutes(2).0), Advice::Send);
        ill(&mut shield, &a, 1, 3);
        assert!(matches!(shield.advise(&a, 1, true, minutes(3).0), Advice::Answer(_)));
    }

    #[test]
    fn a_run_of_500s_is_asked_about_once_in_a_while() {
        let mut shield = Shield::new(5 * MINUTE);
        let a = login("a", None);
        let asked: Vec<u32> = (0..25).filter(|n| shield.failed(&a, minutes(*n).0)).collect();
        assert_eq!(asked, [2, 12, 22]);
        shield.recovered(&a, 1, minutes(29).0);
        assert!(!shield.failed(&a, minutes(30).0), "a good answer ends the run");
        assert!(!shield.failed(&login("b", None), minutes(30).0));
    }

    #[test]
    fn finchs_words_are_read_old_and_new() {
        use Ailment::{AccountSetup, Disconnected, Reauthentication};
        for (word, health) in [
            ("connected", Health::Well),
            ("pending", Health::Well),
            ("processing", Health::Well),
            ("error_permissions", Health::Well),
            ("reauth", Health::Ill(Reauthentication)),
            ("error_reauth", Health::Ill(Reauthentication)),
            ("error_no_account_setup", Health::Ill(AccountSetup)),
            ("disconnected", Health::Ill(Disconnected)),
            ("brand_new", Health::Unknown),
        ] {
            assert_eq!(Health::of_word(word), health, "{word}");
        }
        assert_eq!(Health::of_words(Some("connected"), ["reauth"]), Health::Ill(Reauthentication));
        assert_eq!(Health::of_words(Some("reauth"), ["connected"]), Health::Ill(Reauthentication));
        assert_eq!(Health::of_words(Some("connected"), ["new", "connected"]), Health::Well);
        assert_eq!(Health::of_words(None, ["connected"]), Health::Unknown);
    }

    #[test]
    fn an_entity_is_read_as_the_sdks_write_it() {
        let named = |query: &str| entity_in(query).map(|id| id.to_string());
        assert_eq!(named("a=b&entity_ids%5B%5D=e-1").as_deref(), Some("e-1"));
        assert_eq!(named("entity_ids[]=e-1&limit=2").as_deref(), Some("e-1"));
        assert_eq!(named("Entity_ids%5b%5d=e-1").as_deref(), Some("e-1"));
        assert_eq!(named("entity_ids=e-1").as_deref(), Some("e-1"));
        assert_eq!(named("entity=e-1&x"), None);
        assert_eq!(named("entity_ids[]="), None);
    }

    #[test]
    fn there_is_a_bound() {
        let mut shield = Shield::new(MINUTE);
        for n in 0..CASES_MAX as u32 + 10 {
            ill(&mut shield, &login(&format!("c{n}"), None), 1, n);
            shield.failed(&login(&format!("d{n}"), None), minutes(n).0);
        }
        assert_eq!((shield.cases.len(), shield.runs.len()), (CASES_MAX, CASES_MAX));
        assert!(shield.case(&login("c0", None), 1).is_none(), "the oldest made room");
    }
}
