//! What failed, and what was done about it.

use super::{MetricsError, counters, gauges, whole};
use crate::finch::catalogue::Known;
use crate::limit::Ailment;
use crate::policy::Class;
use crate::policy::retry::Failure;
use crate::policy::shield::Health;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

/// Failures of Finch's, of providers and of the network.
#[derive(Debug)]
pub struct Failures {
    /// Errors of Finch's by its own code. A code that perch does not know is `unknown_code`, an error
    /// without any is `none`.
    pub errors: IntCounterVec,
    retries: IntCounterVec,
    shielded: IntCounterVec,
    probes: IntCounterVec,
    links: IntCounterVec,
    sick: IntGaugeVec,
}

/// The label of retries that the budget did not allow.
const OVER_BUDGET: &str = "over_budget";

impl Failures {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let failures = Self {
            errors: counters(
                r,
                "perch_finch_errors_total",
                "Errors of Finch's by its code",
                &["finch_code"],
            )?,
            retries: counters(
                r,
                "perch_retries_total",
                "Attempts made again, by what had failed; over_budget: not made",
                &["why"],
            )?,
            shielded: counters(
                r,
                "perch_shielded_calls_total",
                "Calls of dead logins answered without Finch",
                &["class"],
            )?,
            probes: counters(
                r,
                "perch_probes_total",
                "Questions to /introspect about a login, by what it said",
                &["found"],
            )?,
            links: counters(
                r,
                "perch_reauth_links_total",
                "Links made for customers to renew a login",
                &["outcome"],
            )?,
            sick: gauges(
                r,
                "perch_dead_logins",
                "Logins whose calls are answered without Finch",
                &["class"],
            )?,
        };
        // What should stay 0 must be there to be looked at.
        failures.errors.with_label_values(&[Known::Unknown.as_str()]).inc_by(0);
        for why in WHY.into_iter().chain([OVER_BUDGET]) {
            failures.retries.with_label_values(&[why]).inc_by(0);
        }
        for health in FOUND {
            failures.probes.with_label_values(&[health]).inc_by(0);
        }
        for outcome in [LINK_MADE, LINK_REFUSED] {
            failures.links.with_label_values(&[outcome]).inc_by(0);
        }
        for ailment in Ailment::ALL {
            failures.shielded.with_label_values(&[ailment.class().as_str()]).inc_by(0);
        }
        Ok(failures)
    }

    /// A call is sent again because of this.
    pub fn retried(&self, failure: Failure) {
        self.retries.with_label_values(&[why(failure)]).inc();
    }

    /// A call would have been sent again, and the budget is spent.
    pub fn over_budget(&self) {
        self.retries.with_label_values(&[OVER_BUDGET]).inc();
    }

    /// A call was answered in Finch's stead.
    pub fn shielded(&self, class: Class) {
        self.shielded.with_label_values(&[class.as_str()]).inc();
    }

    /// How many logins are known to be dead now.
    pub fn set_sick(&self, counts: &[(&'static str, u64)]) {
        for (class, count) in counts {
            self.sick.with_label_values(&[class]).set(whole(*count));
        }
    }

    /// `/introspect` was asked about a login.
    pub fn probe(&self, found: Health) {
        let found = match found {
            Health::Well => FOUND[0],
            Health::Ill(_) => FOUND[1],
            Health::Unknown => FOUND[2],
        };
        self.probes.with_label_values(&[found]).inc();
    }

    /// Finch was asked for a link.
    pub fn link(&self, is_made: bool) {
        self.links.with_label_values(&[if is_made { LINK_MADE } else { LINK_REFUSED }]).inc();
    }
}

const FOUND: [&str; 3] = ["well", "ill", "unknown"];
const LINK_MADE: &str = "made";
const LINK_REFUSED: &str = "refused";

const WHY: [&str; 5] = ["not_sent", "stale", "cut", "408", "5xx"];

const fn why(failure: Failure) -> &'static str {
    match failure {
        Failure::NotSent => WHY[0],
        Failure::Stale => WHY[1],
        Failure::Cut => WHY[2],
        Failure::Status(408) => WHY[3],
        Failure::Status(_) => WHY[4],
    }
}
