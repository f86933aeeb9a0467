//! What shall happen when. Everything is measured in windows, so that a short window makes a short run.

use super::Outcome;
use clap::{Parser, ValueEnum};
use perch::types::Product;
use std::path::PathBuf;
use std::time::Duration;

/// What is called, with Finch's documented limits.
pub(crate) const PRODUCTS: [(Product, u32); 2] = [(Product::Directory, 20), (Product::Payment, 12)];

/// Who calls: how many batch workers for each of [`PRODUCTS`], and at which gateway. Each worker has one
/// call under way at any time; together that is twice each limit. The first is the whale.
pub(crate) const CUSTOMERS: [Customer; 5] = [
    Customer { name: "whale", gateway: 0, workers: [24, 12] },
    Customer { name: "northwind", gateway: 1, workers: [8, 4] },
    Customer { name: "umbrella", gateway: 2, workers: [4, 4] },
    Customer { name: "acme", gateway: 1, workers: [2, 2] },
    Customer { name: "corner-shop", gateway: 2, workers: [2, 2] },
];

/// Calls of people in a window, for the first product.
pub(crate) const INTERACTIVE_PER_WINDOW: u32 = 4;

/// One customer of the company.
pub(crate) struct Customer {
    /// Its id.
    pub(crate) name: &'static str,
    /// Beside which app it is served; taken modulo the number of gateways.
    pub(crate) gateway: usize,
    /// Batch workers by product.
    pub(crate) workers: [usize; 2],
}

/// The real-time test of quota: perch under twice the load that Finch takes.
#[derive(Debug, Parser)]
#[command(name = "rush")]
pub(crate) struct Options {
    /// Which runs
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) run: Which,
    /// How long each run lasts; left out, four windows, or what the faults need
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Finch's window, on both sides
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub(crate) window: u64,
    /// How long Redis is out; left out, two windows
    #[arg(long)]
    pub(crate) outage: Option<u64>,
    /// How many gateways
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) gateways: u32,
    /// perch's limit for the egress IP; Finch's is a quarter more
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=80_000))]
    pub(crate) ip_requests: u32,
    /// Where quota is kept; `memory` is for one gateway without faults
    #[arg(long, value_enum, default_value = "redis")]
    pub(crate) store: Store,
    /// A folder in which settings, vaults and logs are left; it must not hold an earlier run
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
}

/// The runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Nothing goes wrong.
    Steady,
    /// Redis and gateways are killed.
    Faults,
    /// One after the other.
    Both,
}

/// Where quota is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In a private Redis.
    Redis,
    /// In the one gateway.
    Memory,
}

/// Something that is done to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// SIGKILL, and at once there again, empty.
    RedisRestarts,
    /// SIGKILL.
    RedisDies,
    /// Empty, at the same address.
    RedisReturns,
    /// SIGKILL.
    GatewayDies(usize),
    /// With the same vault.
    GatewayReturns(usize),
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its name.
    pub(crate) name: &'static str,
    /// Finch's window.
    pub(crate) window: Duration,
    /// From the first call to the last count.
    pub(crate) length: Duration,
    /// From when on use is counted.
    pub(crate) counted_from: Duration,
    /// How many gateways.
    pub(crate) gateways: usize,
    /// Where quota is kept.
    pub(crate) store: Store,
    /// perch's limit for the egress IP, in five windows.
    pub(crate) ip_requests: u32,
    /// What is done when, in order.
    pub(crate) events: Vec<(Duration, Event)>,
}

impl Options {
    /// The runs that were asked for.
    pub(crate) fn plans(&self) -> Outcome<Vec<Plan>> {
        let window = Duration::from_secs(self.window);
        let gateways = usize::try_from(self.gateways)?;
        if self.store == Store::Memory && (gateways != 1 || self.run != Which::Steady) {
            return Err("--store memory needs --gateways 1 --run steady: what is in memory is not shared, \
                        and not there after a kill"
                .into());
        }
        let (store, ip_requests) = (self.store, self.ip_requests);
        let plan = |name, events: Vec<_>, length| Plan {
            name,
            window,
            length,
            // Where the past is not known nothing is sent in the first one.
            counted_from: window,
            gateways,
            store,
            ip_requests,
            events,
        };
        let asked = self.seconds.map(Duration::from_secs);
        let steady = plan("steady", Vec::new(), asked.unwrap_or(window * 4));
        if self.run != Which::Faults && steady.length < window * 2 {
            return Err("a run shorter than two windows says nothing: the first one does not count".into());
        }
        let events = self.faults(window, gateways);
        let needed = events.last().map_or(window, |(at, _)| *at) + window;
        let faults = plan("faults", events, asked.unwrap_or(needed));
        if self.run != Which::Steady && faults.length < needed {
            return Err(format!("the faults need --seconds {}", needed.as_secs_f64().ceil()).into());
        }
        Ok(match self.run {
            Which::Steady => vec![steady],
            Which::Faults => vec![faults],
            Which::Both => vec![steady, faults],
        })
    }

    /// Redis forgets everything, at once or after a while. A gateway dies while Redis is out and spends nobody knows what, and
    /// another when all is well again; each returns after a third of a window.
    fn faults(&self, window: Duration, gateways: usize) -> Vec<(Duration, Event)> {
        let outage = self.outage.map_or(window * 2, Duration::from_secs);
        let redis_dies = window * 5 / 2;
        let redis_returns = redis_dies + outage;
        let first_dies = redis_dies + outage * 3 / 4;
        let second_dies = redis_returns + window * 5 / 4;
        let last = gateways - 1;
        let mut events = vec![
            (window * 3 / 2, Event::RedisRestarts),
            (redis_dies, Event::RedisDies),
            (first_dies, Event::GatewayDies(last)),
            (first_dies + window / 3, Event::GatewayReturns(last)),
            (redis_returns, Event::RedisReturns),
            (second_dies, Event::GatewayDies(last / 2)),
            (second_dies + window / 3, Event::GatewayReturns(last / 2)),
        ];
        events.sort_by_key(|(at, _)| *at);
        events
    }
}

impl Plan {
    /// When Redis was out: none in a run without faults.
    pub(crate) fn outage(&self) -> Option<(Duration, Duration)> {
        let when = |wanted| self.events.iter().find(|(_, event)| *event == wanted).map(|(at, _)| *at);
        Some((when(Event::RedisDies)?, when(Event::RedisReturns)?))
    }

    /// Whether this gateway is meant to be gone, a little before and after included.
    pub(crate) fn is_gone(&self, gateway: usize, at: Duration) -> bool {
        let slack = Duration::from_secs(5);
        let mut gone_from = None;
        for (when, event) in &self.events {
            match event {
                Event::GatewayDies(which) if *which == gateway => gone_from = Some(*when),
                Event::GatewayReturns(which) if *which == gateway => {
                    if gone_from.is_some_and(|from| at >= from) && at <= *when + slack {
                        return true;
                    }
                    gone_from = None;
                }
                _ => {}
            }
        }
        gone_from.is_some_and(|from| at >= from)
    }
}
