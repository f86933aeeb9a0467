//! What is asked for: which worlds, for how long, with which chance; and the numbers that are judged by.

use super::Outcome;
use super::records::Limit;
use clap::{Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Customers that the load calls for.
pub(crate) const CUSTOMERS: usize = 12;
/// Customers that are imported meanwhile.
pub(crate) const SPARES: usize = 80;
/// Customers that are paused meanwhile.
pub(crate) const BRAKES: usize = 40;
/// Gateways of the shared world.
pub(crate) const GATEWAYS_MAX: usize = 3;
/// How long a canary's call may go unanswered after the end of a fault.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// The same when Redis has forgotten: should a gateway be missing that could tell what it sent, the others wait for as long as
/// a request may be on its way (44 s: `finch.timeout`, connecting, a margin) and a window.
pub(crate) const RECOVERY_FORGOT_MAX: Duration = Duration::from_secs(65);
/// What a gateway may take beyond what it had when all was started.
pub(crate) const GROWTH_MAX_KIB: u64 = 128 * 1024;

/// Finch's window, on both sides.
pub(crate) const fn window() -> Duration {
    Duration::from_secs(5)
}

/// By how much a sabotaged gateway's limits are too large.
pub(crate) const SABOTAGE: usize = 5;

/// The limits, on both sides.
pub(crate) struct Limits;

impl Limits {
    /// Of products, in a window.
    pub(crate) const PRODUCTS: [(&'static str, usize); 4] =
        [("company", 20), ("directory", 20), ("individual", 20), ("benefits", 12)];
    /// Of the address: less than its products allow together, so that it is what binds now and then.
    pub(crate) const IP: Limit = Limit { count: 100, window: Duration::from_secs(10) };

    /// What the recorder's notes of this kind may hold.
    pub(crate) fn of(name: &str) -> Option<Limit> {
        if name == "ip" {
            return Some(Self::IP);
        }
        let found = Self::PRODUCTS.iter().find(|(product, _)| *product == name)?;
        Some(Limit { count: found.1, window: window() })
    }
}

/// The worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arm {
    /// Three gateways, a Redis, a PostgreSQL.
    Shared,
    /// One gateway with its own file and its own ledger.
    Alone,
}

impl Arm {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Arm::Shared => "shared",
            Arm::Alone => "alone",
        }
    }

    /// How many gateways it has.
    pub(crate) const fn gateways(self) -> usize {
        match self {
            Arm::Shared => GATEWAYS_MAX,
            Arm::Alone => 1,
        }
    }
}

/// Real processes under random faults, judged by what an independent recorder saw.
#[derive(Debug, Parser)]
#[command(name = "chaos", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// How long faults are made, over all worlds
    #[arg(long, default_value_t = 20.0)]
    pub(crate) minutes: f64,
    /// What all chance follows from; left out, another one each time
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Only this world; left out, shared for two thirds of the time, then alone
    #[arg(long, value_enum)]
    pub(crate) arm: Option<Arm>,
    /// Only faults whose name contains one of these
    #[arg(long)]
    pub(crate) only: Vec<String>,
    /// A folder in which settings, logs and the recorder's notes are left; it must not hold an earlier run
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
    /// Tell the gateways of a larger limit than Finch has: a run that does not find this judges nothing
    #[arg(long)]
    pub(crate) sabotage: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What this program is when a run starts it again.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The fault relay
    #[command(hide = true)]
    Relay {
        /// NAME,LISTEN,TO
        #[arg(long)]
        route: Vec<super::relay::Route>,
    },
    /// The recorder
    #[command(hide = true)]
    Recorder {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        file: PathBuf,
    },
}

impl Options {
    /// The worlds and how long each is troubled.
    pub(crate) fn arms(&self) -> Outcome<Vec<(Arm, Duration)>> {
        if !(0.1..=1440.0).contains(&self.minutes) {
            return Err("--minutes must be 0.1 to 1440".into());
        }
        let length = Duration::from_secs_f64(self.minutes * 60.0);
        Ok(match self.arm {
            Some(arm) => vec![(arm, length)],
            None => vec![(Arm::Shared, length * 2 / 3), (Arm::Alone, length / 3)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_can_be_overrun_by_what_its_products_allow() {
        let windows = Limits::IP.window.as_secs() / window().as_secs();
        let products: usize = Limits::PRODUCTS.iter().map(|(_, limit)| limit).sum();
        assert!(products * usize::try_from(windows).expect("a few") > Limits::IP.count + SABOTAGE);
    }
}
