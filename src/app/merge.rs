//! Out of the configuration of merging: what is kept of answers, and what replicas pass to each other.

use crate::config::{self, Merge};
use crate::engine::{Answers, Passing};
use crate::limit::beat::Incarnation;
use crate::policy::batch::Repair;
use crate::policy::cache::Lifetimes;
use crate::store::redis::{Redis, answers};
use std::sync::Arc;
use tokio::sync::watch;

pub(super) fn repair(configured: config::Repair) -> Repair {
    match configured {
        config::Repair::Off => Repair::Off,
        config::Repair::Failed => Repair::Failed,
        config::Repair::Pending => Repair::Pending,
    }
}

fn lifetimes(merge: &Merge) -> Lifetimes {
    merge.cache.iter().map(|(product, span)| (*product, *span)).collect()
}

/// What is kept of answers.
pub(super) fn answers(merge: &Merge, passing: Option<Arc<Passing>>) -> Answers {
    Answers::new(lifetimes(merge), merge.cache_bytes, merge.warm_up, passing)
}

/// The way on which replicas pass answers to each other, where there is anything to pass.
pub(super) fn passing(
    merge: &Merge,
    redis: &Redis,
    incarnation: Incarnation,
    stop: watch::Receiver<bool>,
) -> Option<Arc<Passing>> {
    let longest = lifetimes(merge).longest();
    if !merge.across_replicas || (!merge.coalesce && longest.is_none()) {
        return None;
    }
    let (redis, run) = (redis.with_script(answers::SCRIPT, "answers"), format!("{:x}", incarnation.0));
    Some(Passing::start(redis, run, (longest.unwrap_or_default(), merge.cache_bytes), stop))
}
