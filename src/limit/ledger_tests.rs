//! What the ledger promises, case by case. `tests/it/ledger.rs` tries it on random schedules.

use super::*;
use crate::limit::beat::Incarnation;
use crate::types::CustomerId;

#[path = "ledger_tests/changes.rs"]
mod changes;
#[path = "ledger_tests/crowd.rs"]
mod crowd;
#[path = "ledger_tests/dice.rs"]
mod dice;
#[path = "ledger_tests/fair.rs"]
mod fair;
#[path = "ledger_tests/foreign.rs"]
mod foreign;
#[path = "ledger_tests/probe.rs"]
mod probe;
#[path = "ledger_tests/promise.rs"]
mod promise;
#[path = "ledger_tests/strain.rs"]
mod strain;

const SPAN: Duration = Duration::from_millis(60_100);
const IP_SPAN: Duration = Duration::from_millis(300_100);
/// A patience that never ends.
const EVER: Duration = Duration::MAX;

fn at(millis: u64) -> Moment {
    Moment::at(Duration::from_millis(millis))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn t(number: u64) -> Ticket {
    Ticket::new(Incarnation(1), number)
}

/// 20 for directory, 12 for payment, 800 for the IP, nothing else metered.
fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(20),
        Product::Payment => NonZeroU32::new(12),
        _ => None,
    }))
}

fn rules_of(directory: u32) -> Rules {
    let mut rules = rules();
    rules.limits[Product::Directory] = NonZeroU32::new(directory);
    rules
}

fn rules_with_ip(requests: u32) -> Rules {
    let mut rules = rules();
    rules.ip.requests = NonZeroU32::new(requests).expect("not zero");
    rules
}

fn ask(number: u64, product: Product, patience: Duration) -> Ask {
    let (customer, priority, tag) = (None, Priority::Interactive, None);
    Ask { ticket: t(number), product, customer, priority, weight: NonZeroU32::MIN, patience, tag }
}

fn directory(number: u64) -> Ask {
    ask(number, Product::Directory, EVER)
}

fn of(customer: &str, ask: Ask) -> Ask {
    Ask { customer: Some(CustomerId::new(customer).expect("an id")), ..ask }
}

/// A ledger whose 20 directory permits, tickets 100 to 119, were spent and answered at zero.
fn spent(rules: Rules) -> Ledger {
    let mut ledger = Ledger::new(rules);
    for number in 100..120 {
        assert!(is_granted(ledger.ask(&directory(number), at(0))));
        ledger.arrived(t(number), false, at(0));
    }
    ledger
}

fn used(ledger: &Ledger, now: u64) -> u32 {
    ledger.standing(Product::Directory, at(now)).expect("directory is metered").used
}

fn is_granted(admission: Admission) -> bool {
    matches!(admission, Admission::Granted { .. })
}

/// In how long a ticket that waits shall ask again.
fn wait(admission: Admission) -> Duration {
    match admission {
        Admission::Wait { after, .. } => after,
        other => panic!("does not wait: {other:?}"),
    }
}

fn retry(admission: Admission) -> Duration {
    match admission {
        Admission::Refused { after, .. } => after,
        other => panic!("not refused: {other:?}"),
    }
}

/// Nobody waits, and nothing is left of anybody who did.
fn is_spotless(ledger: &Ledger) -> bool {
    ledger.tickets.is_empty()
        && ledger.flows.is_empty()
        && ledger.deadlines.is_empty()
        && Product::ALL.into_iter().all(|product| ledger.desks[product].line.is_empty())
}

#[test]
fn the_twenty_first_call_waits_until_the_first_permit_has_cooled() {
    let mut ledger = spent(rules());
    assert_eq!(wait(ledger.ask(&directory(1), at(10))), SPAN - ms(10));
    assert_eq!(wait(ledger.ask(&directory(1), at(60_099))), ms(1));
    assert!(is_granted(ledger.ask(&directory(1), at(60_100))));
}

#[test]
fn the_line_is_told_one_round_after_another() {
    let mut ledger = spent(rules());
    for number in 0..45 {
        let rounds = number as u32 / 20 + 1;
        assert_eq!(wait(ledger.ask(&directory(number), at(5))), SPAN * rounds - ms(5));
    }
    assert_eq!(ledger.waiting(Product::Directory, Priority::Interactive), 45);
    assert_eq!(ledger.waiting(Product::Directory, Priority::Batch), 0);
}

#[test]
fn a_permit_is_busy_until_a_window_after_the_answer() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    ledger.arrived(t(0), false, at(3_000));
    assert_eq!((used(&ledger, 63_099), used(&ledger, 63_100)), (1, 0));
    ledger.arrived(t(0), false, at(50_000));
    assert_eq!(used(&ledger, 63_100), 0, "only the first word about the answer counts");
}

#[test]
fn an_unanswered_request_counts_as_arrived_after_the_grace_and_the_bound() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert_eq!((used(&ledger, 66_099), used(&ledger, 66_100)), (1, 0));
    ledger.ask(&directory(1), at(100_000));
    ledger.arrived(t(1), false, at(150_000));
    assert_eq!((used(&ledger, 166_099), used(&ledger, 166_100)), (1, 0));
}

#[test]
fn without_a_bound_a_lost_call_keeps_its_permit_until_no_answer_can_come() {
    let mut ledger = Ledger::new(Rules { arrival_bound: None, ..rules() });
    ledger.ask(&directory(0), at(0));
    assert_eq!((used(&ledger, 461_099), used(&ledger, 461_100)), (1, 0));
    ledger.ask(&directory(1), at(500_000));
    ledger.arrived(t(1), false, at(800_000));
    assert_eq!((used(&ledger, 860_099), used(&ledger, 860_100)), (1, 0));
}

#[test]
fn i3_a_permit_that_is_extended_counts_from_then_on() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert!(ledger.extend(t(0), at(10_000)), "though it would have arrived by now");
    assert_eq!((used(&ledger, 76_099), used(&ledger, 76_100)), (1, 0));
}

#[test]
fn i3_a_permit_that_ran_out_or_was_used_must_not_be_sent_with() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert!(!ledger.extend(t(0), at(66_100)), "ran out");
    assert!(!ledger.extend(t(9), at(66_100)), "never was");
    ledger.ask(&directory(1), at(66_100));
    ledger.arrived(t(1), false, at(66_200));
    assert!(!ledger.extend(t(1), at(66_300)), "was used");
    assert_eq!(used(&ledger, 126_299), 1);
    assert_eq!(used(&ledger, 126_300), 0, "asking whether it may be sent again changed nothing");
    ledger.ask(&directory(2), at(130_000));
    ledger.refund(t(2), at(130_001));
    assert!(!ledger.extend(t(2), at(130_002)), "was given back");
}

#[test]
fn asking_again_costs_nothing_and_keeps_the_place() {
    let mut ledger = Ledger::new(rules());
    for now in [0, 1, 2_000, 9_000, 60_000] {
        assert!(is_granted(ledger.ask(&directory(0), at(now))), "at {now}: nobody has used it yet");
    }
    assert_eq!((used(&ledger, 60_000), ledger.ip_standing(at(60_000)).used), (1, 1));
    let mut ledger = spent(rules());
    ledger.ask(&directory(1), at(1));
    ledger.ask(&directory(2), at(2));
    assert_eq!(wait(ledger.ask(&directory(1), at(3))), SPAN - ms(3));
    assert_eq!(ledger.waiting(Product::Directory, Priority::Interactive), 2);
    assert_eq!(ledger.head(Product::Directory), Some(t(1)));
}

#[test]
fn a_ticket_that_was_used_is_not_granted_again() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    ledger.arrived(t(0), false, at(500));
    assert!(matches!(ledger.ask(&directory(0), at(600)), Admission::Refused { .. }));
    assert_eq!((used(&ledger, 60_599), used(&ledger, 60_600)), (1, 0));
}

#[test]
fn a_ticket_whose_permit_ran_out_unused_asks_anew() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert!(is_granted(ledger.ask(&directory(0), at(70_000))), "the answer was lost for a minute");
    assert_eq!((used(&ledger, 70_000), ledger.ip_standing(at(70_000)).used), (1, 1));
}

#[test]
fn a_later_ticket_leaves_the_permit_to_an_earlier_one() {
    let mut ledger = spent(rules());
    ledger.ask(&directory(1), at(1));
    assert_eq!(wait(ledger.ask(&directory(2), at(60_100))), CLAIM_TIME);
    assert!(is_granted(ledger.ask(&directory(1), at(60_101))));
    assert!(is_granted(ledger.ask(&directory(2), at(60_101))));
}

#[test]
fn i5_who_gives_up_hands_the_place_to_the_next() {
    let mut ledger = Ledger::new(rules_of(1));
    ledger.ask(&directory(0), at(0));
    ledger.arrived(t(0), false, at(0));
    for number in 1..=3 {
        ledger.ask(&directory(number), at(0));
    }
    assert_eq!(wait(ledger.ask(&directory(3), at(0))), SPAN * 3);
    assert!(ledger.cancel(t(1), at(1)));
    assert!(!ledger.cancel(t(1), at(1)));
    assert_eq!(ledger.head(Product::Directory), Some(t(2)));
    assert_eq!(wait(ledger.ask(&directory(2), at(1))), SPAN - ms(1));
    assert_eq!(wait(ledger.ask(&directory(3), at(1))), SPAN * 2 - ms(1));
}

#[test]
fn who_misses_its_deadline_holds_nobody_up() {
    let mut ledger = spent(rules());
    ledger.ask(&ask(1, Product::Directory, ms(60_199)), at(1));
    ledger.ask(&directory(2), at(1));
    assert!(is_granted(ledger.ask(&directory(2), at(60_201))));
    assert!(is_granted(ledger.ask(&ask(1, Product::Directory, Duration::ZERO), at(60_202))), "there is one");
}

#[test]
fn i5_a_refund_returns_the_permit_within_one_call() {
    let mut ledger = Ledger::new(rules());
    for number in 0..20 {
        ledger.ask(&directory(number), at(0));
    }
    wait(ledger.ask(&directory(20), at(0)));
    assert!(ledger.refund(t(7), at(0)));
    assert!(is_granted(ledger.ask(&directory(20), at(0))));
    assert_eq!((used(&ledger, 0), ledger.ip_standing(at(0)).used), (20, 20));
    assert!(!ledger.refund(t(7), at(0)), "only once");
}

#[test]
fn what_was_answered_is_not_given_back() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(8), at(0));
    ledger.arrived(t(8), false, at(10));
    assert!(!ledger.refund(t(8), at(11)), "it was sent");
    assert_eq!(used(&ledger, 20), 1);
}

#[test]
fn a_refunded_ticket_that_asks_again_is_first_with_its_tag_and_last_without() {
    for is_shown in [true, false] {
        let mut ledger = spent(rules());
        for number in 1..=21 {
            wait(ledger.ask(&directory(number), at(number)));
        }
        let Admission::Granted { tag } = ledger.ask(&directory(1), at(60_100)) else { panic!("it is first") };
        ledger.refund(t(1), at(60_101));
        let again = ledger.ask(&Ask { tag: is_shown.then_some(tag), ..directory(1) }, at(60_101));
        assert_eq!(is_granted(again), is_shown);
    }
}

#[test]
fn nothing_is_granted_while_a_scope_is_held() {
    let mut ledger = Ledger::new(rules());
    ledger.hold(Scope::Product(Product::Directory), ms(9_000), at(0));
    ledger.hold(Scope::Product(Product::Directory), ms(4_000), at(0));
    assert_eq!(wait(ledger.ask(&directory(1), at(5))), ms(8_995));
    let standing = ledger.standing(Product::Directory, at(5)).expect("metered");
    assert_eq!((standing.remaining, standing.next_free_in), (0, ms(8_995)));
    assert!(is_granted(ledger.ask(&ask(2, Product::Payment, EVER), at(5))));

    ledger.hold(Scope::EgressIp, ms(9_995), at(5));
    assert_eq!(wait(ledger.ask(&ask(3, Product::Introspect, EVER), at(5))), ms(9_995));
    let refused = ledger.ask(&ask(4, Product::Auth, ms(9_994)), at(5));
    let (scope, reason) = (Scope::EgressIp, Reason::Hold);
    assert_eq!(refused, Admission::Refused { after: ms(9_995), scope, reason });
    assert_eq!(
        ledger.holds(at(9_000)).collect::<Vec<_>>(),
        [(Scope::EgressIp, Duration::from_secs(1))],
        "the product's hold has ended"
    );
    assert_eq!(wait(ledger.ask(&directory(1), at(9_000))), ms(1_000));
    assert!(is_granted(ledger.ask(&directory(1), at(10_000))));
}

#[test]
fn the_ip_limit_binds_across_products_and_counts_the_unmetered_ones() {
    let mut ledger = Ledger::new(rules_with_ip(3));
    let products = [Product::Directory, Product::Payment, Product::Introspect];
    for (number, product) in (0..).zip(products) {
        assert!(is_granted(ledger.ask(&ask(number, product, EVER), at(0))));
        ledger.arrived(t(number), false, at(0));
    }
    let refused = ledger.ask(&ask(9, Product::Jobs, ms(15_000)), at(0));
    let (scope, reason) = (Scope::EgressIp, Reason::Quota);
    assert_eq!(refused, Admission::Refused { after: IP_SPAN, scope, reason });
    assert_eq!(wait(ledger.ask(&directory(10), at(0))), IP_SPAN);
    assert_eq!(used(&ledger, 2), 1, "what was not granted is not debited");
    assert_eq!(ledger.standing(Product::Introspect, at(2)), None);
    assert_eq!((ledger.ip_standing(at(2)).limit, ledger.ip_standing(at(2)).remaining), (3, 0));
}

#[test]
fn who_lacks_more_than_the_ips_permit_does_not_keep_others_from_it() {
    let mut ledger = spent(rules_with_ip(22));
    ledger.ask(&directory(1), at(1));
    ledger.ask(&directory(2), at(1));
    for number in 3..5 {
        assert!(is_granted(ledger.ask(&ask(number, Product::Auth, EVER), at(2))));
    }
}

#[test]
fn the_queue_has_bounds_that_do_not_touch_what_need_not_wait() {
    let mut ledger = spent(Rules { queue_max: 3, queue_per_customer_max: 2, ..rules() });
    let refused =
        |reason| Admission::Refused { after: SPAN, scope: Scope::Product(Product::Directory), reason };
    for number in 0..2 {
        assert_eq!(wait(ledger.ask(&of("acme", directory(number)), at(0))), SPAN);
    }
    assert_eq!(ledger.ask(&of("acme", directory(2)), at(0)), refused(Reason::CustomerQueueFull));
    assert_eq!(wait(ledger.ask(&of("beta", directory(3)), at(0))), SPAN);
    assert_eq!(ledger.ask(&of("beta", directory(4)), at(0)), refused(Reason::QueueFull));
    assert_eq!(wait(ledger.ask(&of("acme", directory(1)), at(0))), SPAN, "who stands in line stays there");
    assert!(is_granted(ledger.ask(&ask(5, Product::Payment, EVER), at(0))));
}

#[test]
fn who_has_no_patience_is_served_now_or_refused_now() {
    let mut ledger = Ledger::new(rules());
    for number in 0..20 {
        assert!(is_granted(ledger.ask(&ask(number, Product::Directory, Duration::ZERO), at(7))));
    }
    assert_eq!(retry(ledger.ask(&ask(20, Product::Directory, Duration::ZERO), at(7))), SPAN);
    assert!(is_spotless(&ledger), "nothing is kept of it");
}

#[test]
fn a_waiting_ticket_is_told_early_that_its_deadline_cannot_be_met() {
    let mut ledger = Ledger::new(rules());
    for number in 0..20 {
        ledger.ask(&directory(number), at(0));
    }
    assert_eq!(wait(ledger.ask(&ask(20, Product::Directory, ms(62_000)), at(0))), SPAN);
    for number in 0..20 {
        ledger.arrived(t(number), false, at(3_000));
    }
    assert_eq!(retry(ledger.ask(&ask(20, Product::Directory, ms(58_000)), at(4_000))), SPAN - ms(1_000));
    assert!(is_spotless(&ledger));
}

#[test]
fn the_standing_tells_when_the_next_unit_comes_back() {
    let mut ledger = Ledger::new(rules());
    let fresh = ledger.standing(Product::Directory, at(0)).expect("metered");
    assert_eq!((fresh.limit, fresh.used, fresh.remaining), (20, 0, 20));
    assert_eq!((fresh.window, fresh.next_free_in), (Duration::from_secs(60), Duration::ZERO));
    for number in 0..13 {
        ledger.ask(&directory(number), at(0));
        ledger.arrived(t(number), false, at(1_000 + number));
    }
    let later = ledger.standing(Product::Directory, at(20_000)).expect("metered");
    assert_eq!((later.used, later.remaining), (13, 7));
    assert_eq!(later.next_free_in, ms(41_100));
}

#[test]
fn time_does_not_run_backwards() {
    let mut ledger = spent(rules());
    ledger.ask(&directory(0), at(60_100));
    ledger.arrived(t(0), false, at(30));
    assert_eq!(used(&ledger, 120_199), 1, "counted from the latest moment known");
}

#[test]
fn what_was_sent_before_a_restart_is_taken_over() {
    let mut ledger = Ledger::new(rules());
    let sent = |number, age: Option<u64>| {
        let (product, priority, age) = (Product::Directory, Priority::Batch, age.map(ms));
        Sent { ticket: Ticket::new(Incarnation(7), number), product, priority, age }
    };
    ledger.restore(&[sent(0, None), sent(1, Some(10_000)), sent(2, Some(60_100))], at(100_000));
    ledger.restore(&[sent(1, Some(10_000))], at(100_000));
    assert_eq!((used(&ledger, 100_000), ledger.ip_standing(at(100_000)).used), (2, 3), "counted once");
    assert_eq!((used(&ledger, 150_099), used(&ledger, 150_100)), (2, 1));
    assert_eq!((used(&ledger, 166_099), used(&ledger, 166_100)), (1, 0));
    let again = Ask { ticket: Ticket::new(Incarnation(7), 0), ..directory(0) };
    assert!(matches!(ledger.ask(&again, at(100_001)), Admission::Refused { .. }), "it was sent");
}

#[test]
fn a_ledger_without_a_past_waits_for_a_window() {
    let mut ledger = Ledger::new(rules());
    ledger.learn(at(0));
    assert_eq!(ledger.learns_for(at(100)), SPAN - ms(100));
    let refused = ledger.ask(&ask(1, Product::Directory, ms(15_000)), at(0));
    let scope = Scope::Product(Product::Directory);
    assert_eq!(refused, Admission::Refused { after: SPAN, scope, reason: Reason::Learning });
    assert!(is_granted(ledger.ask(&directory(2), at(60_100))));
    assert_eq!(ledger.ip_standing(at(60_100)).used, 601);
}

#[test]
fn saturated_it_gives_all_but_the_pad_of_the_quota_and_keeps_no_trace() {
    let mut ledger = Ledger::new(rules());
    let mut now = at(0);
    let mut granted = 0;
    while now < at(600_000) {
        match ledger.ask(&directory(granted), now) {
            Admission::Granted { .. } => {
                ledger.arrived(t(granted), false, now);
                granted += 1;
            }
            Admission::Wait { after, .. } => now = now + after,
            refused @ Admission::Refused { .. } => panic!("{refused:?}"),
        }
    }
    assert_eq!(granted, 200);
    ledger.cancel(t(granted), now);
    ledger.ask(&ask(1_000, Product::Jobs, EVER), now + IP_SPAN);
    ledger.ask(&ask(1_001, Product::Directory, EVER), now + IP_SPAN);
    assert_eq!(ledger.held.len(), 2, "cooled permits are forgotten");
    assert!(is_spotless(&ledger));
}

#[test]
fn an_ip_window_shorter_than_the_products_leaves_no_trace_either() {
    let mut rules = rules();
    rules.ip.window = Duration::from_secs(10);
    let mut ledger = spent(rules);
    for number in 0..50 {
        ledger.ask(&ask(number, Product::Jobs, EVER), at(0));
    }
    assert!(is_granted(ledger.ask(&directory(60), at(60_100))));
    assert_eq!(ledger.held.len(), 1);
}
