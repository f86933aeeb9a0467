//! What can go wrong: every fault by name, and the order in which chance takes them.

use super::chance::Chance;
use super::mode::Mode;
use super::plan::Arm;
use super::site::{Part, Site};
use std::fmt;

/// The links of a gateway.
const LINKS: [&str; 4] = ["app", "finch", "redis", "postgres"];

/// One kind of fault; where there are several gateways, chance says at which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and back after the fault's time.
    Kill(Part),
    /// SIGSTOP, and SIGCONT after the fault's time.
    Freeze(Part),
    /// This link is bad in this way.
    Link(&'static str, Mode),
    /// Redis is killed and comes back with what it held when the fault began.
    RedisOld,
    /// Redis may take no byte more.
    RedisFull,
    /// Clients that send a byte at a time, or read nothing.
    SlowClients,
    /// Many calls for customers that nobody knows.
    Strangers,
    /// Connections that say nothing.
    IdleConnections,
    /// A gateway may open hardly one more file.
    Files,
    /// The disk is full.
    Disk,
    /// The wall clock of a gateway is set, and set back.
    Clock,
    /// New settings, again and again.
    Reload,
    /// Settings that cannot be used.
    BadSettings,
}

/// What a fault takes hold of: two at a time are of different grounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    Gateway,
    Links,
    Redis,
    Postgres,
    Finch,
    Clients,
    Settings,
}

impl Fault {
    /// All that this world can have.
    pub(crate) fn all(site: &Site) -> Vec<Fault> {
        let is_shared = site.arm == Arm::Shared;
        let mut all = vec![
            Fault::Kill(Part::Gateway(0)),
            Fault::Kill(Part::Relay(0)),
            Fault::Kill(Part::Finch),
            Fault::Kill(Part::Recorder),
            Fault::Freeze(Part::Gateway(0)),
            Fault::Freeze(Part::Finch),
            Fault::SlowClients,
            Fault::Strangers,
            Fault::IdleConnections,
            Fault::Reload,
            Fault::BadSettings,
        ];
        if is_shared {
            all.extend([
                Fault::Kill(Part::Redis),
                Fault::Kill(Part::Postgres),
                Fault::Freeze(Part::Redis),
                Fault::Freeze(Part::Postgres),
                Fault::RedisOld,
                Fault::RedisFull,
                Fault::Files,
            ]);
        }
        if site.has_small_disk {
            all.push(Fault::Disk);
        }
        if site.has_own_clock(Part::Gateway(0)) {
            all.push(Fault::Clock);
        }
        for link in LINKS.into_iter().filter(|link| is_shared || matches!(*link, "app" | "finch")) {
            let after = if link == "finch" { 200 } else { 40 };
            all.extend(
                [
                    Mode::Delay(300),
                    Mode::Stall,
                    Mode::Refuse,
                    Mode::Reset(after),
                    Mode::Truncate(after),
                    Mode::Dribble,
                    Mode::Corrupt,
                ]
                .map(|mode| Fault::Link(link, mode)),
            );
        }
        all
    }

    /// What it takes hold of.
    pub(crate) const fn ground(self) -> Ground {
        match self {
            Fault::Kill(part) | Fault::Freeze(part) => match part {
                Part::Gateway(_) => Ground::Gateway,
                Part::Relay(_) => Ground::Links,
                Part::Redis => Ground::Redis,
                Part::Postgres => Ground::Postgres,
                Part::Finch | Part::Recorder => Ground::Finch,
            },
            Fault::Link(..) => Ground::Links,
            Fault::RedisOld | Fault::RedisFull => Ground::Redis,
            Fault::SlowClients | Fault::Strangers | Fault::IdleConnections => Ground::Clients,
            Fault::Files | Fault::Disk | Fault::Clock => Ground::Gateway,
            Fault::Reload | Fault::BadSettings => Ground::Settings,
        }
    }

    /// Whether a gateway that it concerns may leave calls without an answer: it is gone, its app's link is, or an answer
    /// that is on its way already breaks off.
    pub(crate) const fn excuses(self) -> bool {
        match self {
            Fault::Kill(part) | Fault::Freeze(part) => match part {
                Part::Gateway(_) | Part::Relay(_) | Part::Finch | Part::Recorder => true,
                Part::Redis | Part::Postgres => false,
            },
            Fault::Link(link, _) => matches!(link.as_bytes(), b"app" | b"finch"),
            Fault::Files => true,
            Fault::RedisOld
            | Fault::RedisFull
            | Fault::SlowClients
            | Fault::Strangers
            | Fault::IdleConnections
            | Fault::Disk
            | Fault::Clock
            | Fault::Reload
            | Fault::BadSettings => false,
        }
    }

    /// Whether quota has to be learnt anew.
    pub(crate) const fn makes_redis_forget(self) -> bool {
        matches!(self, Fault::Kill(Part::Redis) | Fault::RedisOld)
    }

    /// The gateways that it concerns.
    pub(crate) fn gateways(self, site: &Site, chance: &mut Chance) -> Vec<usize> {
        let all: Vec<usize> = (0..site.arm.gateways()).collect();
        let one = |chance: &mut Chance| vec![chance.place(all.len())];
        match self {
            Fault::Kill(Part::Gateway(_) | Part::Relay(_)) | Fault::Freeze(Part::Gateway(_)) => one(chance),
            // The clock that can be set is the first gateway's; without room for files that clock cannot be read.
            Fault::Clock => vec![0],
            Fault::Files => vec![1 + chance.place(all.len() - 1)],
            Fault::Link(..) if chance.happens(50) => one(chance),
            _ => all,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |part: &Part| match part {
            Part::Gateway(_) => "a gateway",
            Part::Relay(_) => "a relay",
            Part::Redis => "Redis",
            Part::Postgres => "PostgreSQL",
            Part::Finch => "Finch",
            Part::Recorder => "the recorder",
        };
        match self {
            Fault::Kill(part) => write!(f, "kill {}", name(part)),
            Fault::Freeze(part) => write!(f, "freeze {}", name(part)),
            Fault::Link(link, mode) => write!(f, "link {link}: {}", mode.name()),
            Fault::RedisOld => f.write_str("Redis returns older"),
            Fault::RedisFull => f.write_str("Redis is full"),
            Fault::SlowClients => f.write_str("slow clients"),
            Fault::Strangers => f.write_str("flood of strangers"),
            Fault::IdleConnections => f.write_str("idle connections"),
            Fault::Files => f.write_str("no descriptors"),
            Fault::Disk => f.write_str("full disk"),
            Fault::Clock => f.write_str("clock of a gateway"),
            Fault::Reload => f.write_str("reloads"),
            Fault::BadSettings => f.write_str("unusable settings"),
        }
    }
}

/// All faults in random order, and again in another.
pub(crate) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    /// One of these.
    pub(crate) fn new(all: Vec<Fault>) -> Self {
        Self { all, left: Vec::new() }
    }

    /// The next round: mostly one fault, sometimes two of different grounds.
    pub(crate) fn draw(&mut self, chance: &mut Chance) -> Vec<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            chance.shuffle(&mut self.left);
        }
        let mut round: Vec<Fault> = self.left.pop().into_iter().collect();
        let wants_more = chance.happens(25);
        let other =
            self.left.iter().rposition(|other| round.iter().all(|one| one.ground() != other.ground()));
        if let (true, Some(other)) = (wants_more, other) {
            round.push(self.left.remove(other));
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_once_before_one_comes_again_and_the_seed_decides_the_order() {
        let all = vec![
            Fault::Kill(Part::Gateway(0)),
            Fault::Kill(Part::Redis),
            Fault::Link("finch", Mode::Stall),
            Fault::Link("app", Mode::Stall),
            Fault::Strangers,
            Fault::Reload,
        ];
        let order = |seed| {
            let (mut deck, mut chance) = (Deck::new(all.clone()), Chance::of(seed, "deck"));
            let mut order: Vec<Fault> = Vec::new();
            while order.len() < all.len() {
                let round = deck.draw(&mut chance);
                assert!(round.len() == 1 || round[0].ground() != round[1].ground(), "{round:?}");
                order.extend(round);
            }
            order
        };
        let first = order(1);
        assert!(all.iter().all(|fault| first.contains(fault)), "{first:?}");
        assert_eq!(first, order(1));
        assert!((2..20).any(|seed| order(seed) != first));
    }
}
