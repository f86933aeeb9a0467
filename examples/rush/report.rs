//! What the runs found, as Markdown for the README.

use super::count::{jain, quantile};
use super::course::Found;
use super::load::{Call, End};
use super::plan::{CUSTOMERS, INTERACTIVE_PER_WINDOW, PRODUCTS, Store};
use super::redis::Used;
use super::story;
use perch::types::Priority;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Commands that only a client sends; the others are what scripts do inside Redis.
const SCRIPTS: [&str; 6] = ["eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"];

/// The whole report.
pub(crate) fn markdown(found: &[Found], verdicts: &[Vec<String>], facts: &[String]) -> String {
    let mut out = String::from("### Quota in real time\n\n");
    table(&mut out, found, verdicts);
    method(&mut out, found, facts);
    for found in found {
        story::tell(&mut out, found);
    }
    out
}

fn table(out: &mut String, found: &[Found], verdicts: &[Vec<String>]) {
    let row = |out: &mut String, name: &str, cell: &dyn Fn(&Found) -> String| {
        let cells: Vec<String> = found.iter().map(cell).collect();
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    row(out, "", &|found| found.plan.name.to_owned());
    let _ = writeln!(out, "|---|{}", "---:|".repeat(found.len()));
    row(out, "use, calls of people, shares and Redis are counted from", &|f| {
        format!("{} s to {} s", f.plan.counted_from.as_secs(), f.plan.length.as_secs())
    });
    for (at, (product, limit)) in PRODUCTS.into_iter().enumerate() {
        row(out, &format!("`{product}` ({limit}): requests that Finch counted"), &|f| {
            f.arrivals[at].count.to_string()
        });
        row(out, &format!("`{product}`: **429s of Finch**"), &|f| f.arrivals[at].refused.to_string());
        row(out, &format!("`{product}`: fullest window at Finch"), &|f| {
            f.arrivals[at].worst_window.to_string()
        });
        row(out, &format!("`{product}`: quota used"), &|f| {
            let used = f.arrivals[at].used(f.plan.counted_from, f.plan.length, f.plan.window);
            format!("{:.1} %", used * 100.0)
        });
    }
    row(out, "calls of people", &|f| people(f).len().to_string());
    row(out, "their wait p50 / p99", &|f| {
        let waits: Vec<Duration> = people(f).iter().filter_map(|call| waited(call)).collect();
        format!("{} / {}", seconds(quantile(&waits, 0.50)), seconds(quantile(&waits, 0.99)))
    });
    row(out, "of them refused / lost with a killed gateway / never answered", &|f| {
        let people = people(f);
        let count = |is: fn(&End) -> bool| people.iter().filter(|call| is(&call.end)).count();
        let refused = count(|end| matches!(end, End::Refused(_)));
        let lost = count(|end| matches!(end, End::Lost));
        format!("{refused} / {lost} / {}", count(|end| matches!(end, End::Open)))
    });
    row(out, "Jain's index over the customers' batch calls served", &|f| {
        let shares: Vec<f64> = served_by_customer(f).into_iter().map(|(_, served)| served as f64).collect();
        format!("{:.3}", jain(&shares))
    });
    row(out, "Redis: script calls per served call", &|f| {
        let (used, _) = scripts(f);
        let served: usize = f.arrivals.iter().map(|a| a.granted_in(f.plan.counted_from, f.plan.length)).sum();
        match f.plan.store {
            Store::Memory => "–".to_owned(),
            Store::Redis => format!("{:.2}", used.calls as f64 / served.max(1) as f64),
        }
    });
    row(out, "Redis: time of a script call, mean", &|f| match scripts(f).0 {
        Used { calls: 0, .. } => "–".to_owned(),
        Used { calls, micros } => format!("{:.0} µs", micros as f64 / calls as f64),
    });
    row(out, "limiter modes seen", &|f| {
        let mut modes: Vec<&str> = f.seen.modes.iter().flatten().map(|(_, mode)| mode.as_str()).collect();
        modes.sort_unstable();
        modes.dedup();
        modes.join(", ")
    });
    row(out, "the machine stood still for", &|f| seconds(Some(f.seen.stood_still)));
    let verdicts: Vec<&str> =
        verdicts.iter().map(|v| if v.is_empty() { "good" } else { "**DEFECT**" }).collect();
    let _ = writeln!(out, "| verdict | {} |", verdicts.join(" | "));
}

/// The calls of people that began after the count did and had time enough to be answered.
pub(crate) fn people(found: &Found) -> Vec<&Call> {
    let plan = &found.plan;
    let in_time = plan.length.saturating_sub(plan.window * 3 / 5);
    let is_over = |call: &&Call| !matches!(call.end, End::Open) || call.sent < in_time;
    let is_later = |call: &&Call| call.sent >= plan.counted_from;
    let is_meant = |call: &&Call| call.priority == Priority::Interactive && is_later(call) && is_over(call);
    found.calls.iter().filter(is_meant).collect()
}

/// How long a call that was served waited for quota.
pub(crate) fn waited(call: &Call) -> Option<Duration> {
    match call.end {
        End::Served(waited) => Some(waited),
        End::Open | End::Refused(_) | End::Lost => None,
    }
}

/// Batch calls of the first product served since the count began.
pub(crate) fn served_by_customer(found: &Found) -> Vec<(&'static str, usize)> {
    let is_counted = |call: &&Call| {
        call.priority == Priority::Batch
            && call.product == 0
            && call.answered >= found.plan.counted_from
            && waited(call).is_some()
    };
    let served = |at: usize| found.calls.iter().filter(is_counted).filter(|call| call.customer == at).count();
    CUSTOMERS.iter().enumerate().map(|(at, customer)| (customer.name, served(at))).collect()
}

/// What scripts cost since the count began, and what else clients sent.
pub(crate) fn scripts(found: &Found) -> (Used, BTreeMap<&str, u64>) {
    let before = |name: &String| found.seen_early.commands.get(name).copied().unwrap_or_default();
    let mut scripts = Used::default();
    let mut others = BTreeMap::new();
    for (name, used) in &found.seen.commands {
        let used = used.since(before(name));
        if SCRIPTS.contains(&name.as_str()) {
            scripts.calls += used.calls;
            scripts.micros += used.micros;
        } else if used.calls > 0 {
            others.insert(name.as_str(), used.calls);
        }
    }
    (scripts, others)
}

fn seconds(span: Option<Duration>) -> String {
    span.map_or_else(|| "–".to_owned(), |span| format!("{:.1} s", span.as_secs_f64()))
}

fn method(out: &mut String, found: &[Found], facts: &[String]) {
    let Some(plan) = found.first().map(|found| &found.plan) else { return };
    let _ = writeln!(
        out,
        "\nReal time and real processes: {} × `perch serve`, each with its own vault, {}, and the simulator as Finch with a \
         window of {} s. {} batch workers of {} customers, the largest with {} on one gateway, hold twice each quota under way all \
         the time; {INTERACTIVE_PER_WINDOW} calls a window are made by people who wait {} s. All of Finch's figures are the \
         simulator's own count. perch's limit for the egress IP is {}. A gateway that cannot be asked is *gone*.\n",
        plan.gateways,
        match plan.store {
            Store::Redis => "one `redis-server`",
            Store::Memory => "quota in memory",
        },
        plan.window.as_secs(),
        CUSTOMERS.iter().flat_map(|customer| customer.workers).sum::<usize>(),
        CUSTOMERS.len(),
        CUSTOMERS[0].workers.iter().sum::<usize>(),
        (plan.window / 2).as_secs_f64(),
        plan.ip_requests,
    );
    for fact in facts {
        let _ = writeln!(out, "{fact}");
    }
}
