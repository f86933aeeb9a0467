//! Who gets how much: I9 (customers), I10 (priorities), I11 (the dead).

use super::crowd::{Crowd, Grant, Group, Habit};
use super::*;

const HOUR: u64 = 3_600_000;

fn unpaced(directory: u32) -> Rules {
    Rules { pacing: false, ..rules_of(directory) }
}

/// The largest difference of grants between two groups over any period throughout which both wait.
fn largest_difference(grants: &[Grant], a: usize, b: usize) -> i64 {
    let both = 1 << a | 1 << b;
    let (mut sum, mut low, mut high, mut largest) = (0_i64, 0, 0, 0);
    for grant in grants {
        if grant.backlogged & both != both {
            (sum, low, high) = (0, 0, 0);
            continue;
        }
        sum += i64::from(grant.group == a) - i64::from(grant.group == b);
        (low, high) = (low.min(sum), high.max(sum));
        largest = largest.max(sum - low).max(high - sum);
    }
    largest
}

#[test]
fn i9_customers_who_wait_get_the_same_however_many_callers_they_have() {
    for class in Priority::ALL {
        for (limit, pacing, rings) in
            [(20, true, true), (20, false, false), (12, true, false), (1, true, true)]
        {
            let group = |name, callers| Group { class, ..Group::new(name, callers) };
            let groups = vec![group("small", 2), group("mid", 5), group("whale", 150)];
            let mut crowd = Crowd::new(Rules { pacing, ..rules_of(limit) }, groups, rings);
            let grants = crowd.run(at(2 * HOUR)).to_vec();
            assert!(grants.len() as u32 > 110 * limit, "{}", grants.len());
            for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                let difference = largest_difference(&grants, a, b);
                assert!(
                    difference <= 2,
                    "{class:?} {limit} {pacing} {rings}: {difference} between {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn i9_weights_hold_within_five_percent() {
    for rings in [true, false] {
        let group = |name, weight| Group { weight, ..Group::batch(name, 40) };
        let groups = vec![group("one", 1), group("two", 2), group("five", 5)];
        let mut crowd = Crowd::new(rules(), groups, rings);
        crowd.run(at(2 * HOUR));
        let counts = crowd.counts(at(0));
        let total: usize = counts.iter().sum();
        for (count, weight) in counts.iter().zip([1, 2, 5]) {
            let share = total * weight / 8;
            assert!(count.abs_diff(share) * 20 <= share, "{counts:?}");
        }
    }
}

#[test]
fn i9_a_weight_beyond_all_measure_starves_nobody_for_ever() {
    let groups = vec![
        Group { weight: u32::MAX, ..Group::new("vast", 3) },
        Group { weight: 1 << 22, ..Group::new("huge", 3) },
        Group::new("one", 3),
    ];
    let mut crowd = Crowd::new(rules_of(20), groups, true);
    crowd.run(at(HOUR));
    let counts = crowd.counts(at(0));
    assert!(counts[2] >= 1 && counts[1].abs_diff(counts[0]) < 10, "{counts:?}");
    let line = &crowd.ledger.desks[Product::Directory].line;
    let vast = Some(CustomerId::new("vast").expect("an id"));
    assert!(line.next_tag(Priority::Interactive, &vast) > Tag(0), "it moves through virtual time");
}

#[test]
fn i9_calls_without_a_customer_are_those_of_one() {
    let nobody = |callers| Group { customer: None, ..Group::new("-", callers) };
    let mut crowd = Crowd::new(rules(), vec![nobody(20), nobody(40), Group::new("named", 20)], true);
    crowd.run(at(HOUR));
    let counts = crowd.counts(at(0));
    assert!((counts[0] + counts[1]).abs_diff(counts[2]) <= 25, "{counts:?}");
}

/// How the grants split between a group with this habit and an ordinary one.
fn beside_ordinary(habit: Habit, rings: bool, pacing: bool) -> (usize, usize) {
    let odd = Group { habit, ..Group::new("odd", 25) };
    let groups = vec![odd, Group::new("ordinary", 25)];
    let mut crowd = Crowd::new(Rules { pacing, ..rules() }, groups, rings);
    crowd.run(at(HOUR));
    let counts = crowd.counts(at(0));
    (counts[0], counts[1])
}

#[test]
fn i9_who_gives_up_a_lot_neither_loses_nor_gains() {
    for rings in [true, false] {
        let (odd, ordinary) = beside_ordinary(Habit::Fickle, rings, true);
        assert!(odd.abs_diff(ordinary) * 20 <= ordinary, "{odd} and {ordinary}");
    }
}

#[test]
fn i9_who_is_always_late_takes_nothing_from_others() {
    // Where calls are woken at once nobody is late.
    let odd = Group { habit: Habit::Late, ..Group::new("odd", 25) };
    let mut crowd = Crowd::new(rules(), vec![odd, Group::new("ordinary", 25)], false);
    // It may come one step earlier for each ticket that was late, but only once.
    for hours in [1, 3] {
        crowd.run(at(hours * HOUR));
        let [odd, ordinary] = crowd.counts(at(0))[..] else { panic!("two groups") };
        assert!(odd <= ordinary + 30 && ordinary <= odd, "{odd} and {ordinary} in {hours} h");
        assert!((odd + ordinary) as u64 > hours * 1_140, "{odd} and {ordinary} in {hours} h");
    }
}

#[test]
fn i9_whose_patience_always_ends_takes_nothing_from_others() {
    for patience in [1_000, 20_000, 59_000] {
        let (odd, ordinary) = beside_ordinary(Habit::Hasty(ms(patience)), true, true);
        assert!(odd <= ordinary + 25, "{patience} ms: {odd} and {ordinary}");
    }
}

#[test]
fn i9_who_gives_permits_back_takes_nothing_from_others() {
    for rings in [true, false] {
        let (odd, ordinary) = beside_ordinary(Habit::Refunds, rings, true);
        assert!(odd <= ordinary + 25 && odd * 3 >= ordinary, "{odd} and {ordinary}");
    }
}

#[test]
fn i9_a_late_comer_does_not_catch_up_on_what_it_did_not_ask_for() {
    let late = Group { comes: ms(HOUR), ..Group::new("late", 20) };
    let mut crowd = Crowd::new(rules(), vec![Group::new("early", 20), late], true);
    crowd.run(at(2 * HOUR));
    let counts = crowd.counts(at(HOUR));
    assert!(counts[0].abs_diff(counts[1]) <= 22, "{counts:?}");
}

/// The longest run of grants of one class while a call of the other waits that can claim.
fn longest_run(grants: &[Grant], groups: &[Group], class: Priority) -> usize {
    let other = groups.iter().enumerate().filter(|(_, group)| group.class != class);
    let other = other.fold(0, |mask, (i, _)| mask | 1 << i);
    let (mut run, mut longest) = (0, 0);
    for grant in grants {
        run = if groups[grant.group].class == class && grant.backlogged & other != 0 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[test]
fn i10_interactive_calls_wait_behind_one_batch_grant_and_batch_gets_a_sixth() {
    for limit in [1, 2, 3, 12, 20, 50] {
        for pacing in [true, false] {
            for answer in [0, 400, 20_000] {
                let answer = ms(answer);
                let groups = vec![
                    Group { answer, ..Group::new("flood", 60) },
                    Group { answer, ..Group::batch("job", 60) },
                    Group { answer, ..Group::batch("night", 10) },
                ];
                let mut crowd = Crowd::new(Rules { pacing, ..rules_of(limit) }, groups.clone(), true);
                let grants = crowd.run(at(HOUR)).to_vec();
                let interactive = longest_run(&grants, &groups, Priority::Interactive);
                let batch = longest_run(&grants, &groups, Priority::Batch);
                let what = format!("limit {limit}, pacing {pacing}, answers after {answer:?}");
                assert!(interactive <= 5, "{what}: {interactive} interactive grants in a row");
                assert!(batch <= 1, "{what}: {batch} batch grants in a row");
            }
        }
    }
}

#[test]
fn i10_without_bells_batch_gets_a_sixth_all_the_same() {
    for limit in [2, 12, 20] {
        for pacing in [true, false] {
            let groups = vec![Group::new("flood", 60), Group::batch("job", 60)];
            let mut crowd = Crowd::new(Rules { pacing, ..rules_of(limit) }, groups, false);
            crowd.run(at(4 * HOUR));
            let counts = crowd.counts(at(600_000));
            assert!(
                counts[1] * 6 + 12 >= counts[0] + counts[1],
                "limit {limit}, pacing {pacing}: {counts:?}"
            );
        }
    }
}

#[test]
fn i10_batch_gets_its_sixth_of_the_egress_ip_too() {
    let mut rules = unpaced(1_000);
    rules.ip.requests = NonZeroU32::new(60).expect("not zero");
    let groups = vec![Group::new("flood", 100), Group::batch("job", 100)];
    let mut crowd = Crowd::new(rules, groups, true);
    crowd.run(at(4 * HOUR));
    let counts = crowd.counts(at(600_000));
    assert!(counts[1] * 6 + 12 >= counts[0] + counts[1], "{counts:?}");
}

#[test]
fn i10_an_interactive_call_among_batch_is_served_soon() {
    let person = Group { rest: Duration::from_secs(15), ..Group::new("person", 1) };
    let mut crowd = Crowd::new(rules(), vec![person, Group::batch("job", 60)], true);
    let grants = crowd.run(at(2 * HOUR)).to_vec();
    let waits = grants.iter().filter(|grant| grant.group == 0 && grant.at > at(120_000));
    let waits: Vec<_> = waits.map(|grant| grant.at.since(grant.came)).collect();
    let longest = waits.iter().max().expect("some were served");
    assert!(waits.len() > 300 && *longest < Duration::from_secs(9), "{} served, {longest:?}", waits.len());
    assert!(grants.len() > 2_280, "{} of 2400 permits used", grants.len());
}

#[test]
fn i11_a_dead_owner_delays_the_others_for_half_a_second() {
    for (dead, limit) in [(1, 1), (5, 20), (8, 20)] {
        let mut ledger = Ledger::new(rules_of(limit));
        for number in 0..u64::from(limit) {
            ledger.ask(&directory(number), at(0));
            ledger.arrived(t(number), false, at(0));
        }
        for number in 100..100 + dead {
            wait(ledger.ask(&of("dead", directory(number)), at(1)));
        }
        // Those told the moment the dead were told, and who ask when they are told to.
        let mut now = at(1);
        let living = of("alive", directory(200));
        loop {
            match ledger.ask(&living, now) {
                Admission::Granted { .. } => break,
                Admission::Wait { after, .. } => now = now + after,
                refused @ Admission::Refused { .. } => panic!("{refused:?}"),
            }
        }
        let rounds = SPAN * if limit == 1 { 2 } else { 1 };
        let late = now.since(at(0) + rounds);
        let stale = ledger.rules.stale + CLAIM_TIME;
        assert!(limit == 1 || late <= stale, "{dead} dead: {late:?} late");
        assert!(is_spotless(&ledger) || limit == 1);
    }
}

#[test]
fn i11_a_few_dead_callers_cost_little_of_the_quota() {
    let dead = Group { habit: Habit::Dead, ..Group::batch("dead", 40) };
    let mut crowd = Crowd::new(rules(), vec![dead, Group::batch("alive", 60)], false);
    crowd.run(at(HOUR));
    let counts = crowd.counts(at(0));
    assert!(counts[1] > 1_080, "{counts:?} of 1200");
}

#[test]
fn eighteen_products_share_the_egress_ip_and_none_is_shut_out() {
    let mut rules = Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(20)));
    rules.ip.requests = NonZeroU32::new(100).expect("not zero");
    for rings in [true, false] {
        let groups = Product::ALL.map(|product| Group { product, ..Group::new("all", 6) }).to_vec();
        let mut crowd = Crowd::new(rules.clone(), groups, rings);
        crowd.run(at(3 * HOUR));
        let counts = crowd.counts(at(0));
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        assert!(counts.iter().sum::<usize>() > 3_500, "{counts:?}");
    }
}
