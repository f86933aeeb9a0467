//! `perch plan`: how long a sync of everything takes under the limits, what binds, what batching changes, and what to ask
//! Finch for. The arithmetic is `limit::forecast`; `--check` runs the limiter itself over the same job.

mod print;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::simulate::run_all;
use crate::config::{self, Environ, Limits, parse_duration};
use crate::limit::forecast::{Bound, Pace, address_limit_for, forecast};
use crate::limit::{IpRule, PerProduct, Rules};
use crate::load::{LimiterKind, Plan, Profile, Workload};
use crate::policy::sync::{PRODUCTS, Sync};
use crate::types::Product;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// The most requests of one product that `--check` runs: it takes seconds, not minutes.
const CHECKED_MAX: u64 = 5_000;
/// The window of the load simulator, which is Finch's.
const CHECKED_WINDOW: Duration = Duration::from_secs(60);

/// How long a sync takes under the limits, what binds, and what to ask Finch for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Customers, with one connection each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub customers: u32,
    /// People of each customer, on average
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub employees: u32,
    /// Legal entities of each connection; every request is about one of them
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub entities: u32,
    /// Payments of each entity whose statements are read: 26 are a year of two-week pay
    #[arg(long, default_value = "26", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub payments: u32,
    /// What is synced
    #[arg(long, value_delimiter = ',', value_name = "PRODUCTS", value_parser = product(),
          default_value = "company,directory,individual,employment,payment,pay-statement")]
    pub products: Vec<Product>,
    /// How often
    #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = parse_duration)]
    pub every: Duration,
    /// How long it may take: perch says which limits that needs
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    pub within: Option<Duration>,
    /// The page that the app asks for (`limit`); Finch's default is 100, its most 10,000 people or 5,000 statements
    #[arg(long, default_value = "10000", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub page: u32,
    /// Ids in one batch request; Finch takes 10,000 people, or 10 payments
    #[arg(long, default_value = "10000", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ids: u32,
    /// How long Finch takes to answer
    #[arg(long, default_value = "500ms", value_name = "SPAN", value_parser = parse_duration)]
    pub answer: Duration,
    /// A limit that goes before the configured one, such as directory=40; may be given several times
    #[arg(long, value_name = "PRODUCT=N", value_parser = limit)]
    pub limit: Vec<(Product, NonZeroU32)>,
    /// The requests of one window that may leave the address; goes before `limits.ip.requests`
    #[arg(long, value_name = "N")]
    pub ip_limit: Option<NonZeroU32>,
    /// Run the limiter itself over each product's calls, in virtual time, and show what it took
    #[arg(long)]
    pub check: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

fn product() -> impl TypedValueParser<Value = Product> {
    PossibleValuesParser::new(PRODUCTS.map(Product::as_str))
        .try_map(|name| Product::parse(&name).ok_or("is no product"))
}

fn limit(text: &str) -> Result<(Product, NonZeroU32), String> {
    let (name, number) = text.split_once('=').ok_or("write PRODUCT=N, such as directory=40")?;
    let product = Product::parse(name).filter(|product| PRODUCTS.contains(product)).ok_or_else(|| {
        let known = PRODUCTS.map(Product::as_str).join(", ");
        format!("{name:?} is no product of a sync; there are {known}")
    })?;
    let number = number.parse().map_err(|_| format!("{number:?} is no number of requests, 1 or more"))?;
    Ok((product, number))
}

/// One product of a sync.
#[derive(Debug, Serialize)]
struct Row {
    product: &'static str,
    /// Requests of the whole sync.
    requests: u64,
    /// Requests of one window.
    limit: u32,
    /// From the first call to the last answer, were there no other product.
    seconds: f64,
    /// The part of the quota between two syncs, in percent.
    quota_percent: f64,
    /// Requests of an app that sends one id at a time and leaves pages at Finch's 100.
    one_by_one_requests: u64,
    /// How long those take.
    one_by_one_seconds: f64,
    /// The limit that the whole takes `within` with; `None` when it does already, or when none would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_for: Option<u32>,
    /// What a run of the limiter took.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_seconds: Option<f64>,
}

/// The address, which all products share.
#[derive(Debug, Serialize)]
struct Address {
    requests: u64,
    limit: u32,
    window_seconds: f64,
    quota_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_for: Option<u32>,
}

/// All that is said.
#[derive(Debug, Serialize)]
struct Told {
    customers: u32,
    employees: u32,
    window_seconds: f64,
    products: Vec<Row>,
    address: Address,
    /// From the first call to the last answer of all of them, side by side.
    seconds: f64,
    /// The same for an app that sends one id at a time and leaves pages at Finch's 100.
    one_by_one_seconds: f64,
    /// The same for one that sends as many ids and asks for as large pages as Finch allows.
    at_best_seconds: f64,
    every_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    within_seconds: Option<f64>,
    /// `directory`, `egress-ip` and so on.
    binds: Option<&'static str>,
    /// Whether it is done before the next one begins, and within what was asked for.
    fits: bool,
    /// Calls of the product that binds, of which the last still waits no longer than it may.
    waiting_max: u64,
}

/// What was asked for, with the limits in force.
struct Job<'a> {
    args: &'a Args,
    limits: &'a Limits,
    rules: Rules,
    sync: Sync,
}

/// Reads the limits, forecasts and prints.
///
/// # Errors
/// [`Failure`] with its exit code: 64 where the limits in the configuration are not sound.
pub fn run(named: Option<&Path>, env: &Environ, args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let path = config::locate(named, env);
    let limits = config::load_limits(path.as_deref(), env)
        .map_err(|problems| Failure { exit: Exit::BadConfiguration, message: problems.to_string() })?;
    if args.check && limits.window != CHECKED_WINDOW {
        return Err(Failure::failed(
            "--check knows Finch's window of 60 s only; limits.window is another one",
        ));
    }
    let job = Job { args, limits: &limits, rules: rules(&limits, args), sync: sync(args) };
    let told = job.told();
    match args.output {
        Format::Json => {
            let text = serde_json::to_string_pretty(&told).map_err(Failure::failed)?;
            writeln!(out, "{text}")?;
        }
        Format::Text => print::print(&told, args, &limits, out)?,
    }
    Ok(())
}

fn rules(limits: &Limits, args: &Args) -> Rules {
    let of = |product: Product| {
        let given = args.limit.iter().rev().find(|(of, _)| *of == product).map(|(_, limit)| *limit);
        given.or(limits.products.of(product))
    };
    Rules {
        window: limits.window,
        pad: limits.pad,
        arrival_bound: limits.arrival_bound,
        ip: IpRule { requests: args.ip_limit.unwrap_or(limits.ip.requests), window: limits.ip.window },
        pacing: limits.pacing,
        ..Rules::with_limits(PerProduct::from_fn(of))
    }
}

fn sync(args: &Args) -> Sync {
    Sync {
        connections: args.customers.into(),
        entities: args.entities.into(),
        employees: args.employees.into(),
        payments: args.payments.into(),
        page: args.page.into(),
        ids: args.ids.into(),
    }
}

impl Job<'_> {
    fn told(&self) -> Told {
        let args = self.args;
        let (calls, apart) = (self.calls(self.sync), self.calls(self.sync.one_by_one()));
        let takes = |calls: &[_]| forecast(&self.rules, calls, args.answer).takes.as_secs_f64();
        let whole = forecast(&self.rules, &calls, args.answer);
        // What does not fit between two syncs is to be asked for, whether a time was named or not.
        let goal = args.within.unwrap_or(args.every).min(args.every);
        let checked = if args.check { self.checked(&calls) } else { vec![None; calls.len()] };
        let mut better = self.rules.clone();
        let mut products = Vec::with_capacity(calls.len());
        for ((&(product, requests), &(_, alone)), checked_seconds) in calls.iter().zip(&apart).zip(checked) {
            let Some(pace) = Pace::of_product(&self.rules, product, args.answer) else { continue };
            let limit = self.rules.limits[product].map_or(0, NonZeroU32::get);
            let ask_for = match pace.takes(requests) <= goal {
                true => None,
                false => pace.limit_for(requests, goal),
            };
            better.limits[product] = ask_for.or(better.limits[product]);
            products.push(Row {
                product: product.as_str(),
                requests,
                limit,
                seconds: pace.takes(requests).as_secs_f64(),
                quota_percent: part(requests, limit.into(), self.rules.window, args.every),
                one_by_one_requests: alone,
                one_by_one_seconds: pace.takes(alone).as_secs_f64(),
                ask_for: ask_for.map(NonZeroU32::get),
                checked_seconds,
            });
        }
        let requests = calls.iter().map(|(_, requests)| requests).sum();
        let ip = self.rules.ip;
        // The products' limits may be raised so far that the address is next.
        let by_address = match forecast(&better, &calls, args.answer).takes <= goal {
            true => None,
            false => address_limit_for(&better, &calls, args.answer, goal),
        };
        Told {
            customers: args.customers,
            employees: args.employees,
            window_seconds: self.rules.window.as_secs_f64(),
            address: Address {
                requests,
                limit: ip.requests.get(),
                window_seconds: ip.window.as_secs_f64(),
                quota_percent: part(requests, ip.requests.get().into(), ip.window, args.every),
                ask_for: by_address.map(NonZeroU32::get),
            },
            products,
            seconds: whole.takes.as_secs_f64(),
            one_by_one_seconds: takes(&apart),
            at_best_seconds: takes(&self.calls(self.sync.at_best())),
            every_seconds: args.every.as_secs_f64(),
            within_seconds: args.within.map(|within| within.as_secs_f64()),
            binds: whole.bound.map(|bound| match bound {
                Bound::Product(product) => product.as_str(),
                Bound::EgressIp => "egress-ip",
            }),
            fits: whole.takes <= goal,
            waiting_max: self.waiting_max(whole.bound),
        }
    }

    fn calls(&self, sync: Sync) -> Vec<(Product, u64)> {
        let mut named: Vec<Product> = Vec::new();
        for product in PRODUCTS {
            if self.args.products.contains(&product) {
                named.push(product);
            }
        }
        named.into_iter().map(|product| (product, sync.requests(product))).collect()
    }

    /// How many calls may wait for what binds: of more, the last waits longer than a batch call may.
    fn waiting_max(&self, bound: Option<Bound>) -> u64 {
        let (limit, window) = match bound {
            Some(Bound::Product(product)) => (self.rules.limits[product], self.rules.span()),
            Some(Bound::EgressIp) | None => (Some(self.rules.ip.requests), self.rules.ip.window),
        };
        let limit = limit.map_or(u64::MAX, |limit| limit.get().into());
        let windows = self.limits.wait.batch.as_secs_f64() / window.as_secs_f64();
        // A float is cut at the bounds of a number.
        let in_time = (windows * limit as f64) as u64;
        in_time.clamp(1, self.limits.queue.total.get().into())
    }

    /// What a run of the limiter takes for each product; `None` where it has too many calls, or none.
    fn checked(&self, calls: &[(Product, u64)]) -> Vec<Option<f64>> {
        let plan_of = |&(product, calls): &(Product, u64)| {
            let limit = self.rules.limits[product]?;
            let calls = u32::try_from(calls).ok().filter(|n| (1..=CHECKED_MAX).contains(&u64::from(*n)))?;
            let takes = Pace::of_product(&self.rules, product, self.args.answer)?.takes(calls.into());
            Some(Plan {
                limiter: if self.rules.pacing { LimiterKind::Perch } else { LimiterKind::PerchUnpaced },
                limit,
                // Far more than it takes, or something is wrong and none is shown.
                span: takes.saturating_mul(2) + Duration::from_secs(600),
                profile: Profile::Low,
                workload: job(self.args.customers, calls),
                is_arrival_bounded: self.rules.arrival_bound.is_some(),
                ..Plan::usual()
            })
        };
        let plans: Vec<Option<Plan>> = calls.iter().map(plan_of).collect();
        let mut done = run_all(&plans.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        plans.iter().map(|plan| plan.as_ref().and_then(|_| done.next()?.finished)).collect()
    }
}

/// A job with exactly so many calls: for each customer where they divide evenly, else for one.
fn job(customers: u32, calls: u32) -> Workload {
    match calls % customers {
        0 => Workload::Sync { customers, calls: calls / customers },
        _ => Workload::Sync { customers: 1, calls },
    }
}

/// What a sync takes of the quota of a span, in percent.
fn part(requests: u64, limit: u64, window: Duration, every: Duration) -> f64 {
    let windows = every.as_secs_f64() / window.as_secs_f64();
    100.0 * requests as f64 / (limit.max(1) as f64 * windows)
}
