//! Those who wait for one product: two lines, interactive and batch, each in the order of start-time
//! fair queueing by customer (Goyal, Vin, Cheng 1996): every customer moves through virtual time by
//! one step for each call, a larger weight takes smaller steps, and who is least far is next.

use super::{Tag, Ticket};
use crate::types::{CustomerId, Moment, Priority};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Whose calls share one place in the fair order; calls without a customer are one customer's.
pub(super) type Flow = Option<CustomerId>;

/// The order of coming, across all products.
pub(super) type Turn = u64;

/// One step of virtual time at weight 1. Divisible by every weight from 1 to 16.
pub(super) const STEP: u64 = 720_720;

/// Of this many interactive grants in a row while batch waits, the next one is batch's.
pub(super) const RUN_MAX: usize = 5;

/// The most customers of one class that are remembered to have come farther than the others; one
/// that is forgotten stands where all stand.
const FLOWS_MAX: usize = 10_000;

/// One class of one product.
#[derive(Debug, Clone, Default)]
struct Lane {
    queue: VecDeque<(Tag, Turn, Ticket)>,
    /// The largest tag ever granted.
    virtual_time: Tag,
    /// How far each customer has come, where that is beyond [`Lane::virtual_time`].
    finish: HashMap<Flow, Tag>,
    /// The same by distance, to forget those that were overtaken.
    far: BTreeSet<(Tag, Flow)>,
}

impl Lane {
    fn place(&self, tag: Tag, turn: Turn) -> usize {
        self.queue.partition_point(|&(other, came, _)| (other, came) < (tag, turn))
    }

    fn set_finish(&mut self, flow: &Flow, finish: Tag) {
        if let Some(old) = self.finish.insert(flow.clone(), finish) {
            self.far.remove(&(old, flow.clone()));
        }
        self.far.insert((finish, flow.clone()));
    }

    fn forget_overtaken(&mut self) {
        while let Some((_, flow)) =
            self.far.first().filter(|(finish, _)| *finish <= self.virtual_time).cloned()
        {
            self.far.pop_first();
            self.finish.remove(&flow);
        }
    }
}

/// The lines of one product.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    lanes: [Lane; Priority::ALL.len()],
    /// When each waiting ticket asks next.
    pub(super) due: BTreeSet<(Moment, Ticket)>,
    /// Interactive grants in a row while batch waited.
    pub(super) run: usize,
}

impl Line {
    pub(super) fn len(&self, class: Priority) -> usize {
        self.lanes[class as usize].queue.len()
    }

    pub(super) fn head(&self, class: Priority) -> Option<(Tag, Turn, Ticket)> {
        self.lanes[class as usize].queue.front().copied()
    }

    /// How many of the class are before this place.
    pub(super) fn rank(&self, class: Priority, tag: Tag, turn: Turn) -> usize {
        self.lanes[class as usize].place(tag, turn)
    }

    pub(super) fn virtual_time(&self, class: Priority) -> Tag {
        self.lanes[class as usize].virtual_time
    }

    /// The place that the customer's next call gets.
    pub(super) fn next_tag(&self, class: Priority, flow: &Flow) -> Tag {
        let lane = &self.lanes[class as usize];
        lane.finish.get(flow).copied().unwrap_or_default().max(lane.virtual_time)
    }

    /// A ticket of the customer's has come to this place: once for each, whether it waits or not,
    /// the customer moves by one step. One that comes back to its old place does so too, since its
    /// step was given back when it was dropped.
    pub(super) fn advance(&mut self, class: Priority, flow: &Flow, tag: Tag, step: u64) {
        let lane = &mut self.lanes[class as usize];
        let come = lane.finish.get(flow).copied().unwrap_or_default().max(tag);
        lane.set_finish(flow, Tag(come.0.saturating_add(step)));
        if lane.far.len() > FLOWS_MAX
            && let Some((_, nearest)) = lane.far.pop_first()
        {
            lane.finish.remove(&nearest);
        }
    }

    /// A call of the customer's left without a permit: it has come one step less far.
    pub(super) fn retreat(&mut self, class: Priority, flow: &Flow, step: u64) {
        let lane = &mut self.lanes[class as usize];
        if let Some(finish) = lane.finish.get(flow).copied() {
            lane.set_finish(flow, Tag(finish.0.saturating_sub(step)));
            lane.forget_overtaken();
        }
    }

    /// A permit was granted to this place.
    pub(super) fn granted(&mut self, class: Priority, tag: Tag) {
        let lane = &mut self.lanes[class as usize];
        lane.virtual_time = lane.virtual_time.max(tag);
        lane.forget_overtaken();
    }

    pub(super) fn insert(&mut self, class: Priority, tag: Tag, turn: Turn, ticket: Ticket) {
        let lane = &mut self.lanes[class as usize];
        let place = lane.place(tag, turn);
        lane.queue.insert(place, (tag, turn, ticket));
    }

    pub(super) fn remove(&mut self, class: Priority, tag: Tag, turn: Turn) {
        let lane = &mut self.lanes[class as usize];
        let place = lane.place(tag, turn);
        if lane.queue.get(place).is_some_and(|&(other, came, _)| (other, came) == (tag, turn)) {
            lane.queue.remove(place);
        }
    }

    /// Whether the batch call of this rank is served in batch's sixth of the grants, ahead of
    /// interactive calls that wait: nothing that is kept for those is kept from it.
    pub(super) fn is_owed(&self, rank: usize) -> bool {
        let until_due = RUN_MAX.saturating_sub(self.run);
        self.len(Priority::Interactive) >= until_due.saturating_add(RUN_MAX.saturating_mul(rank))
    }

    /// Whether the next grant is batch's, if it can use one.
    pub(super) fn is_batch_due(&self) -> bool {
        self.run >= RUN_MAX && self.len(Priority::Batch) > 0
    }

    /// Whether nobody waits and nothing is left of those who did.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.lanes.iter().map(|lane| lane.finish.len()).sum()
    }
}
