//! What happened when in a run, for whoever wants to know why.

use super::course::Found;
use super::load::Call;
use super::plan::PRODUCTS;
use super::report::{people, scripts, served_by_customer, waited};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

/// Things of one kind that are told one by one.
const TOLD_MAX: usize = 12;

/// One run.
pub(crate) fn tell(out: &mut String, found: &Found) {
    let plan = &found.plan;
    let _ = writeln!(out, "\n#### {}: {} s\n\n| s | |\n|---:|---|", plan.name, plan.length.as_secs());
    for (at, what) in events(found) {
        let _ = writeln!(out, "| {:.1} | {what} |", at.as_secs_f64());
    }
    outage(out, found);
    let _ = writeln!(out, "\nBatch calls served, `{}`: {}.", PRODUCTS[0].0, list(served_by_customer(found)));
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for call in &found.calls {
        *ends.entry(format!("{} {}", call.priority.as_str(), call.end)).or_default() += 1;
    }
    let _ = writeln!(out, "\nHow the apps' calls ended, from the start: {}.", list(ends));
    let unserved: Vec<&Call> = people(found).into_iter().filter(|call| waited(call).is_none()).collect();
    if !unserved.is_empty() {
        let told = unserved.iter().take(TOLD_MAX).map(|call| {
            (format!("at {:.0} s at gateway {}", call.sent.as_secs_f64(), call.gateway), call.end.to_string())
        });
        let more = unserved.len().saturating_sub(TOLD_MAX);
        let _ = writeln!(out, "\nPeople who were not served: {}; and {more} more.", list(told));
    }
    let (used, others) = scripts(found);
    if used.calls > 0 {
        let _ = writeln!(
            out,
            "\nRedis: {} script calls; of all other commands, those inside scripts included: {}.",
            used.calls,
            list(others)
        );
    }
    let _ = writeln!(out, "\n429s that the gateways noticed: {:?}.", found.seen.noticed_429);
}

/// What was done, what operators saw, and when Finch was left alone or said no.
fn events(found: &Found) -> Vec<(Duration, String)> {
    let plan = &found.plan;
    let mut lines: Vec<(Duration, String)> = Vec::new();
    lines.extend(found.events.iter().map(|(at, event)| (*at, format!("**{event:?}**"))));
    for (gateway, modes) in found.seen.modes.iter().enumerate() {
        lines.extend(modes.iter().map(|(at, mode)| (*at, format!("gateway {gateway}: {mode}"))));
    }
    for ((product, _), arrivals) in PRODUCTS.iter().zip(&found.arrivals) {
        for (from, to) in arrivals.lulls(plan.window / 3, plan.length) {
            let length = to.saturating_sub(from).as_secs_f64();
            lines.push((from, format!("`{product}`: nothing arrives at Finch for {length:.1} s")));
        }
        let refusals = arrivals.refusals.iter().take(TOLD_MAX);
        lines.extend(refusals.map(|at| (*at, format!("`{product}`: Finch says 429"))));
    }
    lines.sort_by_key(|(at, _)| *at);
    lines
}

/// What was left of the quota while Redis was out, and after.
fn outage(out: &mut String, found: &Found) {
    let plan = &found.plan;
    let Some((from, to)) = plan.outage() else { return };
    for ((product, limit), arrivals) in PRODUCTS.iter().zip(&found.arrivals) {
        let part = |from: Duration, to: Duration| {
            let quota = f64::from(*limit) * to.saturating_sub(from).as_secs_f64() / plan.window.as_secs_f64();
            let granted = arrivals.granted_in(from, to);
            format!("{granted} of {quota:.0} ({:.0} %)", granted as f64 / quota * 100.0)
        };
        let (during, after) = (part(from, to), part(to, plan.length));
        let _ = writeln!(
            out,
            "\n`{product}`: used while Redis was out {during}, from its return to the end {after}."
        );
    }
    let people = people(found);
    let during: Vec<&&Call> = people.iter().filter(|call| (from..to).contains(&call.sent)).collect();
    let served = during.iter().filter(|call| waited(call).is_some()).count();
    let _ = writeln!(out, "\nPeople while Redis was out: {} asked, {served} were served.", during.len());
}

fn list<K: Display, V: Display>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let each = pairs.into_iter().map(|(name, value)| format!("{name}: {value}"));
    let text = each.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}
