//! What the limiter is to reach under simulated load. The gates are a little looser than what it
//! reached when they were set.

use super::finch::Counting;
use super::measure::Figures;
use super::network::Profile;
use super::plan::{Fault, LimiterKind, Plan};
use super::workload::Workload;
use std::num::NonZeroU32;
use std::time::Duration;

/// A goal: runs, and what must come of them.
#[derive(Debug)]
pub struct Goal {
    /// Its number.
    pub name: &'static str,
    /// What is looked at.
    pub what: &'static str,
    /// What must hold.
    pub gate: &'static str,
    /// The runs: each group is the same but for the seed.
    pub groups: Vec<Vec<Plan>>,
    /// Reads the figures of each group.
    pub judge: fn(&[Figures]) -> Judgement,
}

/// What came of a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The figures, in the order of the gate's.
    pub reached: String,
    /// Whether they are within the gate.
    pub holds: bool,
}

/// Seeds of the usual runs.
const SEEDS: u64 = 5;

/// Replicas of the usual runs.
const REPLICAS: usize = 10;

/// Figures that a goal joins with slashes.
fn join(figures: &[String]) -> String {
    figures.join(" / ")
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn seeds(plan: Plan) -> Vec<Plan> {
    (1..=SEEDS).map(|seed| Plan { seed, ..plan }).collect()
}

/// The same for as long as it takes until the last of a hundred that wait is known well.
fn long(plan: Plan) -> Vec<Plan> {
    seeds(Plan { span: hours(12), ..plan })
}

fn soaks(plan: Plan) -> Vec<Plan> {
    (11..=14).map(|seed| Plan { seed, span: hours(24), ..plan }).collect()
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

/// 429s at Finch for each 100 000 requests.
fn per_100_000(figures: &Figures) -> f64 {
    1e5 * super::measure::real(figures.limited) / super::measure::real(figures.requests.max(1))
}

/// Seconds to the first sending; one that never comes is beyond every gate.
fn first_send(figures: &Figures) -> f64 {
    figures.first_send.unwrap_or(f64::INFINITY)
}

/// All goals, by number.
pub fn goals() -> Vec<Goal> {
    let usual = Plan { replicas: REPLICAS, ..Plan::usual() };
    let twelve = Plan { limit: NonZeroU32::MIN.saturating_add(11), ..usual };
    let unpaced = Plan { limiter: LimiterKind::PerchUnpaced, ..usual };
    let down = |secs| Plan { fault: Some(Fault::StoreDown(Duration::from_secs(secs))), ..usual };
    let soak = Plan { replicas: 3, ..Plan::usual() };
    vec![
        Goal {
            name: "G0",
            what: "the judge sees what others do: 429/h of GCRA, of a send log",
            gate: ">= 20 / 20",
            groups: [LimiterKind::GcraBurst, LimiterKind::SendLog]
                .map(|limiter| seeds(Plan { limiter, ..usual }))
                .into(),
            judge: |f| Judgement {
                reached: join(&[one(f[0].limited_per_hour), one(f[1].limited_per_hour)]),
                holds: f.iter().all(|f| f.limited_per_hour >= 20.0),
            },
        },
        Goal {
            name: "G1",
            what: "429s at Finch in a 96 h soak: low, real; bad, per 100 000; bad, no arrival bound",
            gate: "0, 0; <= 5; 0",
            groups: vec![
                soaks(Plan { profile: Profile::Low, ..soak }),
                soaks(soak),
                soaks(Plan { profile: Profile::Bad, ..soak }),
                soaks(Plan { profile: Profile::Bad, is_arrival_bounded: false, ..soak }),
            ],
            judge: |f| Judgement {
                reached: format!(
                    "{}, {}; {:.1}; {} of {}",
                    f[0].limited,
                    f[1].limited,
                    per_100_000(&f[2]),
                    f[3].limited,
                    f[3].requests
                ),
                holds: f[0].limited + f[1].limited + f[3].limited == 0 && per_100_000(&f[2]) <= 5.0,
            },
        },
        Goal {
            name: "G2",
            what: "use of quota, saturated: limit 20, limit 12, pacing off; %",
            gate: ">= 97 / 96 / 98.5",
            groups: vec![long(usual), long(twelve), long(unpaced)],
            judge: |f| Judgement {
                reached: join(&[one(f[0].used), one(f[1].used), one(f[2].used)]),
                holds: f[0].used >= 97.0 && f[1].used >= 96.0 && f[2].used >= 98.5,
            },
        },
        Goal {
            name: "G3",
            what: "interactive wait, saturated: limit 20 p50 / p99, limit 12 p50 / p99 s; failed %",
            gate: "<= 1.5 / 8, 2.5 / 13; <= .1",
            groups: vec![long(usual), long(twelve)],
            judge: |f| {
                let (a, b) = (f[0].interactive, f[1].interactive);
                let failed = a.failed.max(b.failed);
                Judgement {
                    reached: format!("{:.1} / {:.1}, {:.1} / {:.1}; {failed:.2}", a.p50, a.p99, b.p50, b.p99),
                    holds: a.p50 <= 1.5 && a.p99 <= 8.0 && b.p50 <= 2.5 && b.p99 <= 13.0 && failed <= 0.1,
                }
            },
        },
        Goal {
            name: "G4",
            what: "Jain's index, saturated: limit 20, limit 12",
            gate: ">= .99",
            groups: vec![long(usual), long(twelve)],
            judge: |f| Judgement {
                reached: format!("{:.4} / {:.4}", f[0].jain, f[1].jain),
                holds: f.iter().all(|f| f.jain >= 0.99),
            },
        },
        Goal {
            name: "G5",
            what: "75 % offered in bursts: interactive p99; batch p50 / p99 s; batch refused %",
            gate: "<= 12; 55 / 520; 2.5",
            groups: vec![long(Plan { workload: Workload::Busy, ..usual })],
            judge: |f| {
                let (person, job) = (f[0].interactive, f[0].batch);
                Judgement {
                    reached: format!("{:.1}; {:.0} / {:.0}; {:.1}", person.p99, job.p50, job.p99, job.failed),
                    holds: person.p99 <= 12.0 && job.p50 <= 55.0 && job.p99 <= 520.0 && job.failed <= 2.5,
                }
            },
        },
        Goal {
            name: "G6",
            what: "use of quota with 1 / 3 / 10 / 50 replicas, %",
            gate: "within 1 point",
            groups: [1, 3, REPLICAS, 50].map(|replicas| seeds(Plan { replicas, ..usual })).into(),
            judge: |f| {
                let used = f.iter().map(|f| f.used);
                let (low, high) =
                    used.fold((f64::MAX, f64::MIN), |(low, high), used| (low.min(used), high.max(used)));
                Judgement {
                    reached: join(&f.iter().map(|f| one(f.used)).collect::<Vec<_>>()),
                    holds: high - low <= 1.0,
                }
            },
        },
        Goal {
            name: "G7",
            what: "store out for 300 s: 429s; first sending s; served % with share 50, 90",
            gate: "0; <= 75; >= 35 / 60",
            groups: [50, 90].map(|share| seeds(Plan { share, ..down(300) })).into(),
            judge: |f| {
                let limited = f[0].limited + f[1].limited;
                let first = first_send(&f[0]).max(first_send(&f[1]));
                let served = f.iter().map(|f| f.used_in_fault.unwrap_or(0.0)).collect::<Vec<_>>();
                Judgement {
                    reached: format!("{limited}; {first:.1}; {:.1} / {:.1}", served[0], served[1]),
                    holds: limited == 0 && first <= 75.0 && served[0] >= 35.0 && served[1] >= 60.0,
                }
            },
        },
        Goal {
            name: "G8",
            what: "store out for 20 s: 429s; interactive failed %; use of the whole run %",
            gate: "0; <= .5; >= 96.5",
            groups: vec![seeds(down(20))],
            judge: |f| Judgement {
                reached: format!("{}; {:.2}; {:.1}", f[0].limited, f[0].interactive.failed, f[0].used),
                holds: f[0].limited == 0 && f[0].interactive.failed <= 0.5 && f[0].used >= 96.5,
            },
        },
        Goal {
            name: "G9",
            what: "store restarted empty: 429s; first sending after replays, after none s",
            gate: "0; <= 10, 61",
            groups: vec![seeds(Plan { fault: Some(Fault::StoreEmpty), ..usual })],
            judge: |f| {
                let (replayed, cold) = (first_send(&f[0]), f[0].began.unwrap_or(f64::INFINITY));
                Judgement {
                    reached: format!("{}; {replayed:.1}, {cold:.1}", f[0].limited),
                    holds: f[0].limited == 0 && replayed <= 10.0 && cold <= 61.0,
                }
            },
        },
        Goal {
            // A call that is at the end of its patience when Finch refuses it cannot be sent again.
            name: "G10",
            what: "Finch is a weighted counter: use %; 429/h; shown to apps /h",
            gate: ">= 94; <= 8; <= .5",
            groups: vec![long(Plan { counting: Counting::Weighted, ..usual })],
            judge: |f| Judgement {
                reached: format!(
                    "{:.1}; {:.1}; {:.1}",
                    f[0].used, f[0].limited_per_hour, f[0].shown_per_hour
                ),
                holds: f[0].used >= 94.0 && f[0].limited_per_hour <= 8.0 && f[0].shown_per_hour <= 0.5,
            },
        },
        Goal {
            name: "G11",
            what: "a stranger sends 5 a minute: use %; 429/h",
            gate: ">= 60; <= 30",
            groups: vec![seeds(Plan { stranger: 5.0, ..usual })],
            judge: |f| Judgement {
                reached: format!("{:.1}; {:.1}", f[0].used, f[0].limited_per_hour),
                holds: f[0].used >= 60.0 && f[0].limited_per_hour <= 30.0,
            },
        },
        Goal {
            name: "G12",
            what: "questions to the store per served request, heartbeats apart",
            gate: "<= 7",
            groups: vec![long(usual)],
            judge: |f| Judgement { reached: one(f[0].store_calls), holds: f[0].store_calls <= 7.0 },
        },
        Goal {
            name: "G13",
            what: "3 of 10 replicas crash: use of the whole run %; 429s; use in the next 180 s %",
            gate: ">= 95; 0; -",
            groups: vec![seeds(Plan { fault: Some(Fault::Crash), ..usual })],
            judge: |f| Judgement {
                reached: format!(
                    "{:.1}; {}; {:.0}",
                    f[0].used,
                    f[0].limited,
                    f[0].used_in_fault.unwrap_or(0.0)
                ),
                holds: f[0].used >= 95.0 && f[0].limited == 0,
            },
        },
        Goal {
            name: "G14",
            what: "429s if Finch counts in anchored buckets, in calendar minutes, its refusals too; if clients hang up",
            gate: "0 / 0 / 0 / 0",
            groups: vec![
                seeds(Plan { counting: Counting::Anchored, ..usual }),
                seeds(Plan { counting: Counting::Calendar, ..usual }),
                seeds(Plan { rejected_count: true, ..usual }),
                seeds(Plan { fault: Some(Fault::Hangups), ..usual }),
            ],
            judge: |f| Judgement {
                reached: join(&f.iter().map(|f| f.limited.to_string()).collect::<Vec<_>>()),
                holds: f.iter().all(|f| f.limited == 0),
            },
        },
    ]
}
