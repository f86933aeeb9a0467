//! The arithmetic of a job held against the ledger itself: what `limit::forecast` says, and what a run measures.

use super::{LimiterKind, Plan, Profile, Workload, run};
use crate::limit::forecast::{Bound, Forecast, forecast};
use crate::limit::{PerProduct, Rules};
use crate::types::Product;
use std::num::NonZeroU32;
use std::time::Duration;

/// What a run's Finch takes to answer, connecting included: a mean, since one call in 200 takes long.
const ANSWER: Duration = Duration::from_millis(850);

/// How far the arithmetic may be off.
const OFF_MAX: f64 = 0.05;

fn job(limit: u32, customers: u32, calls: u32) -> Plan {
    Plan {
        limit: NonZeroU32::new(limit).expect("not zero"),
        workload: Workload::Sync { customers, calls },
        span: Duration::from_secs(24 * 3600),
        profile: Profile::Low,
        ..Plan::usual()
    }
}

/// What is said of the job, under the rules that the run has.
fn said(plan: &Plan) -> Forecast {
    let Workload::Sync { customers, calls } = plan.workload else { panic!("no job: {plan:?}") };
    let mut rules = Rules::with_limits(PerProduct::from_fn(|_| Some(plan.limit)));
    rules.pacing = plan.limiter == LimiterKind::Perch;
    rules.ip.requests = match plan.ip_limit {
        Some(limit) => NonZeroU32::new(limit / 5 * 4).expect("not zero"),
        None => NonZeroU32::MAX,
    };
    forecast(&rules, &[(Product::Directory, u64::from(customers) * u64::from(calls))], ANSWER)
}

/// Runs the job and fails when what was said is not what is measured. What was said.
fn hold(plan: &Plan) -> Forecast {
    let (said, figures) = (said(plan), run(plan));
    let measured = figures.finished.expect("it is done within a day");
    let off = said.takes.as_secs_f64() / measured - 1.0;
    assert!(off.abs() <= OFF_MAX, "{plan:?}: said {:?}, measured {measured:.1} s", said.takes);
    assert_eq!(figures.limited, 0, "{plan:?}");
    said
}

#[test]
fn a_directory_sync_of_fifty_customers_takes_as_long_as_was_said() {
    for profile in [Profile::Low, Profile::Real] {
        let plan = Plan { profile, ..job(20, 50, 1) };
        let said = said(&plan);
        assert_eq!(said.bound, Some(Bound::Product(Product::Directory)));
        let said = said.takes.as_secs_f64();
        let mut measured: Vec<f64> = (1..=19)
            .map(|seed| run(&Plan { seed, ..plan }).finished.expect("it is done within a day"))
            .collect();
        measured.sort_by(f64::total_cmp);
        let median = measured[measured.len() / 2];
        assert!((said / median - 1.0).abs() <= OFF_MAX, "said {said:.1} s, measured {measured:.1?}");
        // One call in 200 asks an employment system live for up to 25 s, and may be the last one.
        assert!(measured.iter().all(|is| (said * 0.95..said * 1.05 + 25.0).contains(is)), "{measured:.1?}");
    }
}

#[test]
fn jobs_of_every_size_take_as_long_as_was_said() {
    for (limit, customers, calls) in [
        (1, 10, 1),
        (2, 15, 1),
        (5, 7, 1),
        (5, 1, 50),
        (12, 25, 1),
        (12, 7, 17),
        (20, 15, 1),
        (20, 21, 1),
        (20, 50, 3),
        (20, 200, 1),
        (21, 50, 1),
        (60, 50, 1),
        (100, 50, 3),
        (100, 1000, 1),
        (400, 1000, 1),
    ] {
        let _ = hold(&job(limit, customers, calls));
    }
}

#[test]
fn calls_that_are_not_paced_take_as_long_as_was_said() {
    for (limit, customers) in [(20, 50), (12, 100), (5, 16)] {
        let _ = hold(&Plan { limiter: LimiterKind::PerchUnpaced, ..job(limit, customers, 1) });
    }
}

#[test]
fn replicas_that_share_a_quota_go_on_as_fast_as_was_said() {
    // In the beginning they wait for what their store may have forgotten, so two jobs are compared.
    let [(short, long), (said_short, said_long)] = [
        [4, 12].map(|calls| run(&Plan { replicas: 3, ..job(20, 50, calls) }).finished),
        [4, 12].map(|calls| Some(said(&job(20, 50, calls)).takes.as_secs_f64())),
    ]
    .map(|[short, long]| (short.expect("it is done"), long.expect("it is done")));
    let (said, measured) = (said_long - said_short, long - short);
    assert!((said / measured - 1.0).abs() <= OFF_MAX, "said {said:.1} s, measured {measured:.1} s");
}

#[test]
fn a_limit_that_finch_raises_lets_the_address_decide() {
    let said = hold(&Plan { ip_limit: Some(1000), ..job(400, 1000, 2) });
    assert_eq!(said.bound, Some(Bound::EgressIp));
    let said = hold(&Plan { ip_limit: Some(1000), ..job(100, 1000, 1) });
    assert_eq!(said.bound, Some(Bound::Product(Product::Directory)));
}

#[test]
fn a_job_without_calls_has_no_end_to_measure() {
    let figures = run(&Plan { span: Duration::from_secs(60), ..job(20, 5, 0) });
    assert_eq!((figures.finished, figures.requests), (None, 0));
}
