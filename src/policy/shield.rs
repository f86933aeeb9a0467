//! The dead-connection shield: a login that does not work is answered for here, and costs no quota.
//!
//! A case is opened by Finch's word (a 401, `/introspect`, a webhook) and closed by Finch's word. At intervals
//! that grow, one call of an app's makes perch ask `/introspect`, which no product's quota pays for; every
//! fourth time the call itself goes, for what `/introspect` says and what data calls find may differ.
//! Entities of one connection fail apart (Finch reauthentication guide): what is known against a whole connection is
//! a reason to ask about each of its entities, and no more than that.

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
    /// Whether an entity has it from its connection: it ends with that one's.
    is_inherited: bool,
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
    /// Logins that Finch called well, whatever the vault remembers, with this version of their token.
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

    /// Cases that are found from now on are first asked about after `interval`; the others keep their turn.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Whether nothing is known against anybody.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// What to do with a call of this login. `version` is that of the token at hand: a newer one than the
    /// case's closes it. `is_read` tells whether the call itself may be a probe.
    pub fn advise(&mut self, login: &Login, version: u64, is_read: bool, now: Moment) -> Advice {
        let Some(key) = self.covering(login) else { return Advice::Send };
        let Some(case) = self.cases.get(&key) else { return Advice::Send };
        if version > case.version {
            self.forget(&key);
            return Advice::Send;
        }
        let key = match case.ailment {
            // A token that is dead is dead for all.
            Ailment::Disconnected => key,
            Ailment::Reauthentication | Ailment::AccountSetup => self.inherit(login, key, now),
        };
        let Some(case) = self.cases.get_mut(&key) else { return Advice::Send };
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

    /// The case of the whole connection becomes one of the entity's own, to be looked into at once: the entity may
    /// well work. Answers whose case stands for it now.
    fn inherit(&mut self, login: &Login, key: Login, now: Moment) -> Login {
        let Some(case) = self.cases.get(&key).copied().filter(|_| key != *login) else { return key };
        bound(&mut self.cases, login, |case| case.opened);
        let own = Case { opened: now, next_probe: now, probes: 0, is_inherited: true, ..case };
        self.cases.insert(login.clone(), own);
        login.clone()
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
            case.is_inherited = false;
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
        let case = Case { ailment, since, version, opened: now, next_probe, probes: 0, is_inherited: false };
        self.cases.insert(login, case);
    }

    /// A call of this login was served with this version of its token, or Finch said that it is well. Answers
    /// whether a case was closed.
    pub fn recovered(&mut self, login: &Login, version: u64, now: Moment) -> bool {
        bound(&mut self.well, login, |well| well.since);
        self.well.insert(login.clone(), Well { version, since: now });
        self.runs.remove(login);
        let whole = Login { connection: login.connection.clone(), entity: None };
        let is_gone = |case: &Case| case.ailment == Ailment::Disconnected;
        // A token that serves one entity is not dead.
        if login.entity.is_some() && self.cases.get(&whole).is_some_and(is_gone) {
            self.forget(&whole);
            self.forget(login);
            return true;
        }
        self.forget(login)
    }

    /// Closes a case, and those that entities have from it. Answers whether there was one.
    fn forget(&mut self, login: &Login) -> bool {
        if login.entity.is_none() && self.cases.contains_key(login) {
            self.cases.retain(|other, case| !(case.is_inherited && other.connection == login.connection));
        }
        self.cases.remove(login).is_some()
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

    /// The case that stands for this login: its own, or that of the whole connection unless the login was found well
    /// since that was opened.
    fn covering(&self, login: &Login) -> Option<Login> {
        if self.cases.is_empty() {
            return None;
        }
        if self.cases.contains_key(login) {
            return Some(login.clone());
        }
        let whole = Login { connection: login.connection.clone(), entity: None };
        let opened = self.cases.get(&whole)?.opened;
        let is_well = self.well.get(login).is_some_and(|well| well.since >= opened);
        (!is_well).then_some(whole)
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
#[path = "shield_tests.rs"]
mod tests;
