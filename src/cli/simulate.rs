//! `perch simulate`: load on perch's limiter and on others, in virtual time.

use super::exit::{Exit, Failure};
use super::output::Format;
use crate::load::goals::{Goal, Judgement, goals};
use crate::load::{Counting, Fault, Figures, LimiterKind, Plan, Profile, Workload, run as simulate};
use clap::Args as ClapArgs;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Days of traffic in seconds: what becomes of the quota, of those who wait, and of customers
#[derive(Debug, ClapArgs)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own
pub struct Args {
    /// Who limits; may be given several times [default: all]
    #[arg(long, value_name = "NAME", value_parser = choice(&LimiterKind::ALL, LimiterKind::as_str))]
    pub limiter: Vec<LimiterKind>,
    /// How many replicas share the quota
    #[arg(long, default_value = "10", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub replicas: u16,
    /// Finch's limit, requests a minute
    #[arg(long, default_value = "20", value_name = "N")]
    pub limit: NonZeroU32,
    /// How long a run lasts
    #[arg(long, conflicts_with = "hours", value_name = "N")]
    pub seconds: Option<u64>,
    /// How long a run lasts [default: 3]
    #[arg(long, value_name = "N")]
    pub hours: Option<u64>,
    /// What all chance follows from; of several, the figures are means
    #[arg(long, default_value = "1", value_delimiter = ',', value_name = "N")]
    pub seed: Vec<u64>,
    /// The network to Finch
    #[arg(long, default_value = "real", value_parser = choice(&Profile::ALL, Profile::as_str))]
    pub profile: Profile,
    /// Who calls
    #[arg(long, default_value = "saturated", value_parser = choice(&Workload::ALL, Workload::as_str))]
    pub workload: Workload,
    /// How Finch counts
    #[arg(long, default_value = "rolling", value_parser = choice(&Counting::ALL, Counting::as_str))]
    pub counting: Counting,
    /// Finch counts the requests that it refuses too
    #[arg(long)]
    pub rejected_count: bool,
    /// Finch's 429 says when to come back
    #[arg(long)]
    pub retry_after: bool,
    /// Requests a minute of somebody else with the same application
    #[arg(long, default_value = "0", value_name = "N", value_parser = clap::value_parser!(u16).range(0..=6000))]
    pub stranger: u16,
    /// Finch's limit for the address, requests in five minutes [default: none]
    #[arg(long, value_name = "N")]
    pub ip_limit: Option<u32>,
    /// perch waits for answers, however long they take (`arrival_bound = "off"`)
    #[arg(long)]
    pub unbounded: bool,
    /// How much of the limit perch leases out for outages, in percent
    #[arg(long, default_value = "50", value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub share: u8,
    /// What goes wrong: store-down:SECONDS, store-empty, crash or hangups
    #[arg(long, value_name = "FAULT", value_parser = fault)]
    pub fault: Option<Fault>,
    /// Run what perch is to reach instead, and fail when it does not; takes minutes
    #[arg(long)]
    pub goals: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// A word of a closed list.
fn choice<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|one| name(*one)))
        .try_map(move |word| all.iter().copied().find(|one| name(*one) == word).ok_or("not one of these"))
}

fn fault(text: &str) -> Result<Fault, &'static str> {
    Fault::parse(text).ok_or("is not store-down:SECONDS, store-empty, crash or hangups")
}

/// One limiter's figures, for programs.
#[derive(Debug, Serialize)]
struct Row {
    limiter: &'static str,
    figures: Figures,
}

/// One goal, for programs.
#[derive(Debug, Serialize)]
struct GoalRow {
    goal: &'static str,
    what: &'static str,
    gate: &'static str,
    reached: String,
    holds: bool,
}

/// Runs what was asked for and prints it.
///
/// # Errors
/// The output went away. [`Exit::Failed`] when a goal is missed.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.goals { run_goals(args.output, out) } else { compare(args, out).map(|()| Exit::Done) }
}

impl Args {
    fn plan(&self, limiter: LimiterKind, seed: u64) -> Plan {
        let hours = self.hours.unwrap_or(3).saturating_mul(3600);
        Plan {
            limiter,
            replicas: usize::from(self.replicas),
            limit: self.limit,
            span: Duration::from_secs(self.seconds.unwrap_or(hours)),
            seed,
            profile: self.profile,
            workload: self.workload,
            counting: self.counting,
            rejected_count: self.rejected_count,
            tells_when: self.retry_after,
            stranger: f64::from(self.stranger),
            ip_limit: self.ip_limit,
            is_arrival_bounded: !self.unbounded,
            share: self.share,
            fault: self.fault,
        }
    }
}

fn compare(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let limiters = if args.limiter.is_empty() { LimiterKind::ALL.to_vec() } else { args.limiter.clone() };
    let plans: Vec<Plan> =
        limiters.iter().flat_map(|limiter| args.seed.iter().map(|seed| args.plan(*limiter, *seed))).collect();
    let figures = run_all(&plans);
    let rows: Vec<Row> = limiters
        .iter()
        .zip(figures.chunks(args.seed.len().max(1)))
        .filter_map(|(limiter, runs)| {
            Some(Row { limiter: limiter.as_str(), figures: Figures::of_all(runs)? })
        })
        .collect();
    match args.output {
        Format::Json => print_json(&rows, out),
        Format::Text => print_rows(&rows, args, out),
    }
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    Ok(writeln!(out, "{text}")?)
}

fn print_rows(rows: &[Row], args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "{} replicas, limit {} a minute ({} counting), {} day, {} network; waits in seconds",
        args.replicas,
        args.limit,
        args.counting.as_str(),
        args.workload.as_str(),
        args.profile.as_str(),
    )?;
    let has_fault = rows.iter().any(|row| row.figures.used_in_fault.is_some());
    write!(
        out,
        "{:15} {:>6} {:>8} {:>8} {:>6} {:>13} {:>6} {:>13} {:>7} {:>6} {:>6}",
        "",
        "used %",
        "429/h",
        "shown/h",
        "worst",
        "interactive",
        "fail %",
        "batch",
        "refus %",
        "Jain",
        "calls"
    )?;
    writeln!(out, "{}", if has_fault { "  1st send  fault %" } else { "" })?;
    for Row { limiter, figures: f } in rows {
        let wait = |waits: &crate::load::Waits| format!("{:.1} / {:.1}", waits.p50, waits.p99);
        write!(
            out,
            "{limiter:15} {:6.1} {:8.1} {:8.1} {:6} {:>13} {:6.1} {:>13} {:7.1} {:6.3} {:6.1}",
            f.used,
            f.limited_per_hour,
            f.shown_per_hour,
            f.worst_window,
            wait(&f.interactive),
            f.interactive.failed,
            wait(&f.batch),
            f.batch.failed,
            f.jain,
            f.store_calls,
        )?;
        match f.used_in_fault {
            Some(used) => {
                let first = f.first_send.map_or("never".to_owned(), |secs| format!("{secs:.1}"));
                writeln!(out, " {first:>9} {used:8.1}")?;
            }
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn run_goals(output: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let goals = goals();
    // Several goals look at the same runs.
    let mut plans: Vec<Plan> = Vec::new();
    for plan in goals.iter().flat_map(|goal| goal.groups.iter().flatten()) {
        if !plans.contains(plan) {
            plans.push(*plan);
        }
    }
    let figures = run_all(&plans);
    let figures_of = |plan: &Plan| plans.iter().position(|p| p == plan).map(|place| figures[place]);
    let rows: Vec<GoalRow> = goals
        .iter()
        .map(|goal| {
            let groups = goal.groups.iter().filter_map(|group| {
                let runs: Vec<Figures> = group.iter().filter_map(figures_of).collect();
                Figures::of_all(&runs)
            });
            judged(goal, &groups.collect::<Vec<_>>())
        })
        .collect();
    match output {
        Format::Json => print_json(&rows, out)?,
        Format::Text => print_goals(&rows, out)?,
    }
    Ok(if rows.iter().all(|row| row.holds) { Exit::Done } else { Exit::Failed })
}

fn judged(goal: &Goal, groups: &[Figures]) -> GoalRow {
    let Judgement { reached, holds } = (goal.judge)(groups);
    GoalRow { goal: goal.name, what: goal.what, gate: goal.gate, reached, holds }
}

fn print_goals(rows: &[GoalRow], out: &mut dyn Write) -> Result<(), Failure> {
    let width = |of: fn(&GoalRow) -> &str| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
    let (what, reached, gate) = (width(|r| r.what), width(|r| &r.reached), width(|r| r.gate));
    for GoalRow { goal, what: is, gate: to, reached: was, holds } in rows {
        let holds = if *holds { "holds" } else { "MISSED" };
        writeln!(out, "{goal:4} {is:what$}  {was:reached$}  {to:gate$}  {holds}")?;
    }
    let missed = rows.iter().filter(|row| !row.holds).count();
    writeln!(out, "{} of {} goals hold", rows.len() - missed, rows.len())?;
    Ok(())
}

/// Runs every plan, as many at once as there are processors.
pub(super) fn run_all(plans: &[Plan]) -> Vec<Figures> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; plans.len()]);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(plans.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, plan)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|place| Some((place, plans.get(place)?)))
                {
                    let figures = simulate(plan);
                    if let Ok(mut done) = done.lock() {
                        done[place] = Some(figures);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.into_iter().flatten().collect()
}
