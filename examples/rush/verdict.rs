//! What of a run is a defect.

use super::course::Found;
use super::plan::{PRODUCTS, Store};
use super::watch::GONE;
use std::time::Duration;

/// The least use of the first product's quota in a run without faults.
const USE_MIN: f64 = 0.96;
/// In a shorter window the pad and the time of an answer alone take more than the rest.
const JUDGED_WINDOW_MIN: Duration = Duration::from_secs(20);
/// The least use in a shorter window, and after the faults: something is served at all.
const USE_SHORT_MIN: f64 = 0.2;

/// The part of a run for which the machine may stand still: use cannot be judged beyond it.
const STILL_MAX: f64 = 0.01;

/// One sentence each.
pub(crate) fn defects(found: &Found) -> Vec<String> {
    let plan = &found.plan;
    let mut defects = Vec::new();
    for ((product, limit), arrivals) in PRODUCTS.iter().zip(&found.arrivals) {
        if arrivals.refused > 0 {
            defects.push(format!(
                "Finch refused {} of {} requests for {product}, first at {:.1} s; its fullest window held {} and may hold {limit}",
                arrivals.refused,
                arrivals.count,
                arrivals.refusals.first().map_or(0.0, Duration::as_secs_f64),
                arrivals.worst_window,
            ));
        }
    }
    let served_from = plan.events.last().map_or(plan.counted_from, |(at, _)| *at);
    let used = found.arrivals.first().map_or(0.0, |first| first.used(served_from, plan.length, plan.window));
    let is_judged = plan.events.is_empty() && plan.window >= JUDGED_WINDOW_MIN;
    let least = if is_judged { USE_MIN } else { USE_SHORT_MIN };
    if used < least {
        let (used, least, product) = (used * 100.0, least * 100.0, PRODUCTS[0].0);
        let from = served_from.as_secs();
        defects.push(format!(
            "{used:.1} % of the quota of {product} was used from {from} s on; {least:.0} % is the least"
        ));
    }
    if plan.events.is_empty() && plan.store == Store::Redis {
        for (gateway, modes) in found.seen.modes.iter().enumerate() {
            let changes = modes.iter().filter(|(at, mode)| *at >= plan.window && mode != "redis");
            defects.extend(changes.map(|(at, mode)| {
                format!(
                    "gateway {gateway} was {mode} at {:.1} s, and nothing had been done",
                    at.as_secs_f64()
                )
            }));
        }
    }
    let still = found.seen.stood_still.as_secs_f64();
    if still > plan.length.as_secs_f64() * STILL_MAX {
        defects.push(format!("not perch's: the machine stood still for {still:.1} s; run it again, alone"));
    }
    for (gateway, modes) in found.seen.modes.iter().enumerate() {
        for (at, _) in modes.iter().filter(|(at, mode)| mode == GONE && !plan.is_gone(gateway, *at)) {
            defects
                .push(format!("gateway {gateway} did not answer its operator at {:.1} s", at.as_secs_f64()));
        }
    }
    defects
}
