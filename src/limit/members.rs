//! Who shares the ledger: stands in until the real room is built.
use super::beat::{Beat, Incarnation, Pools, Pulse};
use super::{Rules, Ticket};
use crate::types::Moment;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Members(Pools);
pub(super) struct Told;
impl Told {
    pub(super) fn pulse(self, _wakes: Vec<Ticket>) -> Pulse {
        Pulse::unknown()
    }
}
impl Members {
    pub(super) fn new() -> Self {
        Self(Pools::none())
    }
    /// Another run of the store than before: learning begins.
    pub(super) fn enter(&mut self, _run: &str, _rules: &Rules, _now: Moment) {}
    /// Whether this beat would be taken.
    pub(super) fn knows(&self, _beat: &Beat, _rules: &Rules, _now: Moment) -> bool {
        true
    }
    pub(super) fn beat(&mut self, _beat: &Beat, _rules: &Rules, _now: Moment) -> Option<Told> {
        Some(Told)
    }
    /// Nobody alive has this run; never while nobody has ever beaten.
    pub(super) fn is_dead(&self, _run: Incarnation, _rules: &Rules, _now: Moment) -> bool {
        false
    }
    /// Brings what is withdrawn up to date.
    pub(super) fn away(&mut self, _rules: &Rules, _now: Moment) -> &Pools {
        &self.0
    }
    /// What was withdrawn when last asked.
    pub(super) fn withdrawn(&self) -> &Pools {
        &self.0
    }
    /// True once, when learning ended without everybody's replay.
    pub(super) fn has_given_up_learning(&mut self, _now: Moment) -> bool {
        false
    }
    pub(super) fn learning_until(&self) -> Moment {
        Moment::ZERO
    }
}
#[allow(dead_code)]
fn _d(_: Duration) {}
