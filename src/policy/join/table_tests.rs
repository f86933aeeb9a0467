//! The table under chosen and under random schedules.

use super::table::{OUTCOME_BYTES, OUTCOMES_BYTES_MAX, OUTCOMES_MAX};
use super::{Asks, Entered, Exchange, Id, Key, Parts, Table, Whose, Wish};
use crate::finch::endpoints::Effect;
use crate::types::{Moment, Priority};
use http::HeaderMap;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

const MEMORY: Duration = Duration::from_secs(120);

/// A running exchange whose facts the test sets.
#[derive(Clone, Default)]
struct Play {
    has_left: Rc<Cell<bool>>,
    is_admitted: Rc<Cell<bool>>,
}

impl Exchange for Play {
    fn has_left(&self) -> bool {
        self.has_left.get()
    }

    fn is_admitted(&self) -> bool {
        self.is_admitted.get()
    }
}

type Tried = Table<Play, Id>;

fn at(secs: u64) -> Moment {
    Moment::at(Duration::from_secs(secs))
}

fn key(path: &str) -> Key {
    let headers = HeaderMap::new();
    let (app, whose, customer, method, query) = (None, Whose::Nobody, None, "POST", None);
    Parts { app, whose, customer, method, path, query, headers: &headers, body: b"" }.key()
}

fn wish(path: &str, effect: Effect, asks: Asks) -> Wish {
    let key = key(path);
    Wish { key, content: key, asks, effect, priority: Priority::Interactive, deadline: at(15) }
}

fn write(asks: Asks) -> Wish {
    wish("/write", Effect::Writes, asks)
}

fn read(asks: Asks) -> Wish {
    wish("/read", Effect::Reads, asks)
}

/// A call that must lead.
fn lead(table: &mut Tried, wish: Wish) -> (Id, Play) {
    let play = Play::default();
    match table.enter(wish, at(0), || play.clone()) {
        Entered::Leads(id) => (id, play),
        other => panic!("{:?} does not lead: {}", wish, name(&other)),
    }
}

/// The exchange that a call joins or is told of; `None` when it leads.
fn found(table: &mut Tried, wish: Wish, now: Moment) -> Option<Id> {
    match table.enter(wish, now, Play::default) {
        Entered::Leads(_) => None,
        Entered::Joins(id, _) | Entered::Remembered(id) => Some(id),
        Entered::NameReused => panic!("no name was given"),
    }
}

fn name(entered: &Entered<Play, Id>) -> &'static str {
    match entered {
        Entered::Leads(_) => "leads",
        Entered::Joins(..) => "joins",
        Entered::Remembered(_) => "remembered",
        Entered::NameReused => "name reused",
    }
}

#[test]
fn two_intended_writes_stay_two_and_each_resend_takes_another_one() {
    let mut table = Tried::new(MEMORY);
    let (first, one) = lead(&mut table, write(Asks::Nothing));
    let (second, two) = lead(&mut table, write(Asks::Nothing));
    two.has_left.set(true);
    assert_eq!(found(&mut table, write(Asks::Outcome), at(1)), Some(second), "the one that was given up");
    // Its client has left too, but that is not known yet.
    assert_eq!(found(&mut table, write(Asks::Outcome), at(1)), Some(first));
    one.has_left.set(true);
    // A resend leaves; the next one takes its place.
    table.release(second);
    assert_eq!(found(&mut table, write(Asks::Outcome), at(2)), Some(second));
    // With nothing better left, an outcome is shared: never a third exchange.
    assert!(found(&mut table, write(Asks::Outcome), at(2)).is_some());
    assert_eq!(table.running(), 2);
}

#[test]
fn an_outcome_that_was_given_up_goes_before_a_client_that_still_waits() {
    let mut table = Tried::new(MEMORY);
    let (first, one) = lead(&mut table, write(Asks::Nothing));
    let (second, _) = lead(&mut table, write(Asks::Nothing));
    one.has_left.set(true);
    table.end(first, Some((first, 10)), at(1));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(2)), Some(first));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(2)), Some(second));
}

#[test]
fn an_outcome_lasts_as_long_as_the_memory_and_no_longer() {
    let mut table = Tried::new(MEMORY);
    let (id, _) = lead(&mut table, write(Asks::Nothing));
    table.end(id, Some((id, 10)), at(10));
    assert_eq!(table.remembered(), (1, 10 + OUTCOME_BYTES));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(129)), Some(id));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(129)), Some(id), "a write's outcome stays");
    assert_eq!(found(&mut table, write(Asks::Outcome), at(130)), None);
    assert_eq!(table.remembered(), (0, 0));

    let mut table = Tried::new(Duration::ZERO);
    let (id, _) = lead(&mut table, write(Asks::Nothing));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(0)), Some(id), "joining needs no memory");
    table.end(id, Some((id, 10)), at(0));
    assert_eq!(table.remembered(), (0, 0));
}

#[test]
fn what_is_not_kept_is_sent_again() {
    let mut table = Tried::new(MEMORY);
    let (id, _) = lead(&mut table, write(Asks::Nothing));
    table.end(id, None, at(1));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(1)), None);
}

#[test]
fn a_write_that_was_invited_to_come_back_is_not_told_the_outcome_of_its_twin() {
    let mut table = Tried::new(MEMORY);
    let (first, _) = lead(&mut table, write(Asks::Nothing));
    table.end(first, Some((first, 10)), at(1));
    let (second, _) = lead(&mut table, write(Asks::Nothing));
    table.end_invited(second, at(2));
    // What its client gave up goes before.
    let (third, play) = lead(&mut table, write(Asks::Nothing));
    play.has_left.set(true);
    assert_eq!(found(&mut table, write(Asks::Outcome), at(3)), Some(third));
    assert_eq!(found(&mut table, write(Asks::Outcome), at(3)), None, "it was not sent, so it is now");
    assert!(found(&mut table, write(Asks::Outcome), at(3)).is_some(), "once");
    // An invitation ends with the memory, and does not outlive what it stands beside.
    let (fourth, _) = lead(&mut table, write(Asks::Nothing));
    table.end_invited(fourth, at(4));
    assert!(found(&mut table, write(Asks::Outcome), at(124)).is_some());
    assert!(table.remembered().0 <= 1);
}

#[test]
fn a_read_is_delivered_once() {
    let mut table = Tried::new(MEMORY);
    let (id, play) = lead(&mut table, read(Asks::Share));
    play.has_left.set(true);
    table.end(id, Some((id, 10)), at(1));
    assert_eq!(found(&mut table, read(Asks::Share), at(1)), None, "an unmarked read is no resend");
    assert_eq!(found(&mut table, read(Asks::Outcome), at(1)), Some(id));
    assert_eq!(table.remembered(), (0, 0));
    // A resend that waits already is told directly, so nothing stays behind.
    let (id, _) = lead(&mut table, wish("/other", Effect::Reads, Asks::Share));
    assert_eq!(found(&mut table, wish("/other", Effect::Reads, Asks::Outcome), at(1)), Some(id));
    table.end(id, Some((id, 10)), at(1));
    assert_eq!(table.remembered(), (0, 0));
}

#[test]
fn a_read_waits_only_for_one_that_is_at_least_as_near_to_being_sent() {
    for asks in [Asks::Share, Asks::Outcome] {
        for (priority, deadline, has_left, joins) in [
            (Priority::Interactive, 15, false, true),
            (Priority::Interactive, 14, false, true),
            (Priority::Interactive, 16, false, false),
            (Priority::Batch, 15, false, false),
            (Priority::Interactive, 15, true, false),
        ] {
            let mut table = Tried::new(MEMORY);
            let leader = Wish { priority, deadline: at(deadline), ..read(Asks::Share) };
            let (id, play) = lead(&mut table, leader);
            play.has_left.set(has_left);
            let expected = joins.then_some(id);
            assert_eq!(found(&mut table, read(asks), at(1)), expected, "{leader:?} {has_left}");

            let mut table = Tried::new(MEMORY);
            let (id, play) = lead(&mut table, leader);
            play.has_left.set(has_left);
            play.is_admitted.set(true);
            assert_eq!(found(&mut table, read(asks), at(1)), Some(id), "once sent, anybody may wait for it");
        }
    }
}

#[test]
fn a_name_is_one_exchange_and_one_content() {
    let mut table = Tried::new(MEMORY);
    let named = Wish { key: key("/name"), content: key("/a"), ..write(Asks::Named) };
    let (id, _) = lead(&mut table, named);
    let other = Wish { content: key("/b"), ..named };
    for _ in 0..2 {
        assert_eq!(found(&mut table, named, at(1)), Some(id));
        assert_eq!(name(&table.enter(other, at(1), Play::default)), "name reused");
        table.end(id, Some((id, 1)), at(1));
    }
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut table = Tried::new(MEMORY);
    let remember = |table: &mut Tried, path: &str, bytes: usize| {
        let (id, _) = lead(table, wish(path, Effect::Writes, Asks::Nothing));
        table.end(id, Some((id, bytes)), at(0));
    };
    for i in 0..=OUTCOMES_MAX {
        remember(&mut table, &format!("/{i}"), 0);
    }
    assert_eq!(table.remembered(), (OUTCOMES_MAX, OUTCOMES_MAX * OUTCOME_BYTES));
    let resend = |path: &str| wish(path, Effect::Writes, Asks::Outcome);
    assert!(found(&mut table, resend("/1"), at(0)).is_some());
    assert_eq!(found(&mut table, resend("/0"), at(0)), None);
    for i in 0..40 {
        remember(&mut table, &format!("/large/{i}"), 1 << 20);
    }
    let (count, bytes) = table.remembered();
    assert!(bytes <= OUTCOMES_BYTES_MAX && count == 31, "{count} {bytes}");
    assert!(found(&mut table, resend("/large/39"), at(0)).is_some());
}

/// One step of a random schedule.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody intends a write, or a read.
    Intend { path: usize, reads: bool },
    /// A client goes, noticed or not, and sends again.
    Resend { call: usize, is_noticed: bool },
    /// A resend goes before it is told.
    Leave { resend: usize },
    /// An exchange ends.
    End { exchange: usize, is_kept: bool, bytes: usize },
    /// Time passes.
    Pass { secs: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, any::<bool>()).prop_map(|(path, reads)| Step::Intend { path, reads }),
        (any::<usize>(), any::<bool>()).prop_map(|(call, is_noticed)| Step::Resend { call, is_noticed }),
        any::<usize>().prop_map(|resend| Step::Leave { resend }),
        (any::<usize>(), prop::bool::weighted(0.8), 0..(1usize << 20))
            .prop_map(|(exchange, is_kept, bytes)| Step::End { exchange, is_kept, bytes }),
        (0..200u64).prop_map(|secs| Step::Pass { secs }),
    ]
}

/// What the schedule knows of an exchange.
struct Known {
    id: Id,
    play: Play,
    wish: Wish,
    /// When it ended, and whether its outcome was kept.
    ended: Option<(Moment, bool)>,
}

proptest! {
    #[test]
    fn a_resend_never_leads_while_its_exchange_is_known(steps in prop::collection::vec(step(), 1..120)) {
        let mut table = Tried::new(MEMORY);
        let mut all: Vec<Known> = Vec::new();
        let mut waiting: Vec<Id> = Vec::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Intend { path, reads } => {
                    let effect = if reads { Effect::Reads } else { Effect::Writes };
                    let wish = wish(&format!("/{reads}/{path}"), effect, Asks::Nothing);
                    let play = Play::default();
                    play.is_admitted.set(true);
                    match table.enter(wish, now, || play.clone()) {
                        Entered::Leads(id) => all.push(Known { id, play, wish, ended: None }),
                        other => prop_assert!(false, "an unmarked call {}", name(&other)),
                    }
                }
                Step::Resend { call, is_noticed } if !all.is_empty() => {
                    let known = &all[call % all.len()];
                    known.play.has_left.set(known.play.has_left.get() || is_noticed);
                    let wish = Wish { asks: Asks::Outcome, ..known.wish };
                    let lives = |k: &Known| match k.ended {
                        None => true,
                        // A read's outcome may have been delivered.
                        Some((at, kept)) => kept && k.wish.effect == Effect::Writes && now.since(at) < MEMORY,
                    };
                    let is_known = all.iter().any(|k| k.wish.key == wish.key && lives(k));
                    let play = Play::default();
                    play.is_admitted.set(true);
                    match table.enter(wish, now, || play.clone()) {
                        Entered::Leads(id) => {
                            prop_assert!(!is_known, "a resend was sent again");
                            all.push(Known { id, play, wish, ended: None });
                        }
                        Entered::Joins(id, _) => {
                            let owner = all.iter().find(|k| k.id == id).expect("it is known");
                            prop_assert!(owner.ended.is_none());
                            prop_assert_eq!(owner.wish.key, wish.key);
                            waiting.push(id);
                        }
                        Entered::Remembered(id) => {
                            let owner = all.iter().find(|k| k.id == id).expect("it is known");
                            prop_assert_eq!(owner.wish.key, wish.key);
                            prop_assert!(owner.ended.is_some_and(|(at, kept)| kept && now.since(at) < MEMORY));
                        }
                        Entered::NameReused => prop_assert!(false, "nothing was named"),
                    }
                }
                Step::Leave { resend } if !waiting.is_empty() => {
                    let id = waiting.swap_remove(resend % waiting.len());
                    table.release(id);
                }
                Step::End { exchange, is_kept, bytes } if !all.is_empty() => {
                    let at = exchange % all.len();
                    let known = &mut all[at];
                    if known.ended.is_none() {
                        known.ended = Some((now, is_kept));
                        table.end(known.id, is_kept.then_some((known.id, bytes)), now);
                        let told = known.id;
                        waiting.retain(|id| *id != told);
                    }
                }
                Step::Pass { secs } => now = now + Duration::from_secs(secs),
                Step::Resend { .. } | Step::Leave { .. } | Step::End { .. } => {}
            }
            let (count, bytes) = table.remembered();
            prop_assert!(count <= OUTCOMES_MAX && bytes <= OUTCOMES_BYTES_MAX);
            prop_assert_eq!(table.running(), all.iter().filter(|k| k.ended.is_none()).count());
        }
        // When all has ended and been forgotten, nothing is left.
        for known in all.iter().filter(|k| k.ended.is_none()) {
            table.end(known.id, None, now);
        }
        table.sweep(now + MEMORY);
        prop_assert_eq!((table.remembered(), table.running()), ((0, 0), 0));
    }

    #[test]
    fn as_many_resends_as_intended_writes_find_them_all(writes in 1..20usize, noticed in any::<u32>()) {
        let mut table = Tried::new(MEMORY);
        let mut ids = HashSet::new();
        for i in 0..writes {
            let (id, play) = lead(&mut table, write(Asks::Nothing));
            play.has_left.set(noticed >> i & 1 == 1);
            ids.insert(id);
        }
        let found: HashSet<Id> = (0..writes).filter_map(|_| found(&mut table, write(Asks::Outcome), at(1))).collect();
        prop_assert_eq!(found, ids);
    }
}
