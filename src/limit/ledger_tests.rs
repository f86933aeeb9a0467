//! What the ledger promises, case by case. `tests/it/ledger.rs` tries it on random schedules.

use super::*;
use crate::types::CustomerId;
use std::num::NonZeroU32;

const SPAN: Duration = Duration::from_millis(60_100);
const IP_SPAN: Duration = Duration::from_millis(300_100);

fn at(millis: u64) -> Moment {
    Moment::at(Duration::from_millis(millis))
}

/// 20 for directory, 12 for payment, 800 for the IP, nothing else metered.
fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(20),
        Product::Payment => NonZeroU32::new(12),
        _ => None,
    }))
}

fn rules_with_ip(requests: u32) -> Rules {
    let mut rules = rules();
    rules.ip.requests = NonZeroU32::new(requests).expect("not zero");
    rules
}

fn ask(ticket: u64, product: Product, deadline: u64) -> Ask {
    let priority = Priority::Interactive;
    Ask { ticket: Ticket(ticket), product, customer: None, priority, deadline: at(deadline) }
}

const FOREVER: u64 = 100_000_000;

fn directory(ticket: u64) -> Ask {
    ask(ticket, Product::Directory, FOREVER)
}

/// A ledger whose 20 directory permits, tickets 100 to 119, were spent and answered at zero.
fn spent(rules: Rules) -> Ledger {
    let mut ledger = Ledger::new(rules);
    for ticket in 100..120 {
        assert_eq!(ledger.ask(&directory(ticket), at(0)), Admission::Granted);
        ledger.arrived(Ticket(ticket), at(0));
    }
    ledger
}

fn used(ledger: &Ledger, now: u64) -> u32 {
    ledger.standing(Product::Directory, at(now)).expect("directory is metered").used
}

fn retry_at(admission: Admission) -> Moment {
    match admission {
        Admission::Refused { retry_at, .. } => retry_at,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_twenty_first_call_waits_until_the_first_permit_has_cooled() {
    let mut ledger = spent(rules());
    assert_eq!(ledger.ask(&directory(1), at(10)), Admission::Wait { until: at(0) + SPAN });
    assert_eq!(ledger.ask(&directory(1), at(60_099)), Admission::Wait { until: at(0) + SPAN });
    assert_eq!(ledger.ask(&directory(1), at(60_100)), Admission::Granted);
}

#[test]
fn the_line_is_told_one_round_after_another() {
    let mut ledger = spent(rules());
    for ticket in 0..45 {
        let rounds = ticket as u32 / 20 + 1;
        assert_eq!(ledger.ask(&directory(ticket), at(5)), Admission::Wait { until: at(0) + SPAN * rounds });
    }
    assert_eq!(ledger.waiting(Product::Directory, Priority::Interactive), 45);
    assert_eq!(ledger.waiting(Product::Directory, Priority::Batch), 0);
}

#[test]
fn a_permit_is_busy_until_a_window_after_the_answer() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    ledger.arrived(Ticket(0), at(3_000));
    assert_eq!((used(&ledger, 63_099), used(&ledger, 63_100)), (1, 0));
    ledger.arrived(Ticket(0), at(50_000));
    assert_eq!(used(&ledger, 63_100), 0, "only the first word about the answer counts");
}

#[test]
fn an_unanswered_request_counts_as_arrived_after_the_bound() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert_eq!((used(&ledger, 65_099), used(&ledger, 65_100)), (1, 0));
    ledger.ask(&directory(1), at(100_000));
    ledger.arrived(Ticket(1), at(150_000));
    assert_eq!((used(&ledger, 165_099), used(&ledger, 165_100)), (1, 0));
}

#[test]
fn without_a_bound_a_lost_call_keeps_its_permit_until_no_answer_can_come() {
    let rules = Rules { arrival_bound: None, ..rules() };
    let mut ledger = Ledger::new(rules);
    ledger.ask(&directory(0), at(0));
    assert_eq!((used(&ledger, 460_099), used(&ledger, 460_100)), (1, 0));
    ledger.ask(&directory(1), at(500_000));
    ledger.arrived(Ticket(1), at(800_000));
    assert_eq!((used(&ledger, 860_099), used(&ledger, 860_100)), (1, 0));
}

#[test]
fn the_bound_counts_from_the_sending_when_that_is_told() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert!(ledger.sent(Ticket(0), at(4_000)));
    assert_eq!((used(&ledger, 69_099), used(&ledger, 69_100)), (1, 0));
}

#[test]
fn a_permit_that_ran_out_must_not_be_sent_with() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(0), at(0));
    assert!(!ledger.sent(Ticket(0), at(65_100)));
    assert!(!ledger.sent(Ticket(9), at(65_100)), "nor one that never was");
    ledger.ask(&directory(1), at(65_100));
    ledger.arrived(Ticket(1), at(65_200));
    assert!(!ledger.sent(Ticket(1), at(65_300)), "nor one that was used");
}

#[test]
fn asking_again_costs_nothing() {
    let mut ledger = Ledger::new(rules());
    for now in [0, 1, 2_000, 70_000] {
        assert_eq!(ledger.ask(&directory(0), at(now)), Admission::Granted);
        ledger.arrived(Ticket(0), at(2_000));
    }
    assert_eq!(ledger.ip_standing(at(70_000)).used, 1);
    let mut ledger = spent(rules());
    ledger.ask(&directory(1), at(1));
    ledger.ask(&directory(2), at(2));
    let first = ledger.ask(&directory(1), at(3));
    assert_eq!(first, Admission::Wait { until: at(0) + SPAN });
    assert_eq!(ledger.waiting(Product::Directory, Priority::Interactive), 2);
    assert_eq!(ledger.head(Product::Directory), Some(Ticket(1)), "it keeps its place");
}

#[test]
fn a_later_ticket_leaves_the_permit_to_an_earlier_one() {
    let mut ledger = spent(rules());
    ledger.ask(&directory(1), at(1));
    let late = ledger.ask(&directory(2), at(60_100));
    assert_eq!(late, Admission::Wait { until: at(60_100) + CLAIM_TIME });
    assert_eq!(ledger.ask(&directory(1), at(60_101)), Admission::Granted);
    assert_eq!(ledger.ask(&directory(2), at(60_101)), Admission::Granted);
}

#[test]
fn who_gives_up_hands_the_place_to_the_next() {
    let rules = Rules { limits: PerProduct::from_fn(|_| NonZeroU32::new(1)), ..rules() };
    let mut ledger = Ledger::new(rules);
    ledger.ask(&directory(0), at(0));
    ledger.arrived(Ticket(0), at(0));
    for ticket in 1..=3 {
        ledger.ask(&directory(ticket), at(0));
    }
    assert_eq!(ledger.ask(&directory(3), at(1)), Admission::Wait { until: at(0) + SPAN * 3 });
    assert!(ledger.cancel(Ticket(1)));
    assert!(!ledger.cancel(Ticket(1)));
    assert_eq!(ledger.head(Product::Directory), Some(Ticket(2)));
    assert_eq!(ledger.ask(&directory(2), at(2)), Admission::Wait { until: at(0) + SPAN });
    assert_eq!(ledger.ask(&directory(3), at(2)), Admission::Wait { until: at(0) + SPAN * 2 });
}

#[test]
fn who_misses_its_deadline_holds_nobody_up() {
    let mut ledger = spent(rules());
    ledger.ask(&ask(1, Product::Directory, 60_200), at(1));
    ledger.ask(&directory(2), at(1));
    assert_eq!(ledger.ask(&directory(2), at(60_201)), Admission::Granted);
    let late = ledger.ask(&ask(1, Product::Directory, 60_200), at(60_202));
    assert_eq!(retry_at(late), at(60_202), "it comes too late, though a permit is free");
}

#[test]
fn a_refund_returns_the_permit_within_one_call() {
    let mut ledger = Ledger::new(rules());
    for ticket in 0..20 {
        ledger.ask(&directory(ticket), at(0));
    }
    assert!(matches!(ledger.ask(&directory(20), at(0)), Admission::Wait { .. }));
    assert!(ledger.refund(Ticket(7)));
    assert_eq!(ledger.ask(&directory(20), at(0)), Admission::Granted);
    assert_eq!((used(&ledger, 0), ledger.ip_standing(at(0)).used), (20, 20));
    assert!(!ledger.refund(Ticket(7)), "only once");
    ledger.arrived(Ticket(8), at(10));
    assert!(!ledger.refund(Ticket(8)), "what was answered was sent");
    assert_eq!(used(&ledger, 20), 20);
}

#[test]
fn a_refunded_ticket_that_asks_again_stands_at_the_end() {
    let mut ledger = spent(rules());
    ledger.ask(&directory(1), at(60_100));
    for ticket in 2..=21 {
        ledger.ask(&directory(ticket), at(60_100));
    }
    ledger.refund(Ticket(1));
    assert!(matches!(ledger.ask(&directory(1), at(60_101)), Admission::Wait { .. }));
    assert_eq!(ledger.ask(&directory(21), at(60_101)), Admission::Granted);
}

#[test]
fn nothing_is_granted_while_a_scope_is_held() {
    let mut ledger = Ledger::new(rules());
    ledger.hold(Scope::Product(Product::Directory), at(9_000), at(0));
    ledger.hold(Scope::Product(Product::Directory), at(4_000), at(0));
    assert_eq!(ledger.ask(&directory(1), at(5)), Admission::Wait { until: at(9_000) });
    let standing = ledger.standing(Product::Directory, at(5)).expect("metered");
    assert_eq!((standing.remaining, standing.next_free_in), (0, Duration::from_millis(8_995)));
    assert_eq!(ledger.ask(&ask(2, Product::Payment, FOREVER), at(5)), Admission::Granted);

    ledger.hold(Scope::EgressIp, at(10_000), at(5));
    assert_eq!(
        ledger.ask(&ask(3, Product::Introspect, FOREVER), at(5)),
        Admission::Wait { until: at(10_000) }
    );
    let refused = ledger.ask(&ask(4, Product::Auth, 9_999), at(5));
    let (scope, reason) = (Scope::EgressIp, Reason::Hold);
    assert_eq!(refused, Admission::Refused { retry_at: at(10_000), scope, reason });
    assert_eq!(
        ledger.holds(at(9_000)).collect::<Vec<_>>(),
        [(Scope::EgressIp, Duration::from_secs(1))],
        "the product's hold has ended"
    );
    assert_eq!(ledger.ask(&directory(1), at(9_500)), Admission::Wait { until: at(10_000) });
    assert_eq!(ledger.ask(&directory(1), at(10_000)), Admission::Granted);
}

#[test]
fn the_ip_limit_binds_across_products_and_counts_the_unmetered_ones() {
    let mut ledger = Ledger::new(rules_with_ip(3));
    let products = [Product::Directory, Product::Payment, Product::Introspect];
    for (ticket, product) in (0..).zip(products) {
        assert_eq!(ledger.ask(&ask(ticket, product, FOREVER), at(0)), Admission::Granted);
        ledger.arrived(Ticket(ticket), at(0));
    }
    let refused = ledger.ask(&ask(9, Product::Jobs, 15_000), at(1));
    let (scope, reason) = (Scope::EgressIp, Reason::Quota);
    assert_eq!(refused, Admission::Refused { retry_at: at(0) + IP_SPAN, scope, reason });
    assert_eq!(ledger.ask(&directory(10), at(1)), Admission::Wait { until: at(0) + IP_SPAN });
    assert_eq!(used(&ledger, 2), 1, "what was not granted is not debited");
    assert_eq!(ledger.standing(Product::Introspect, at(2)), None);
    assert_eq!((ledger.ip_standing(at(2)).limit, ledger.ip_standing(at(2)).remaining), (3, 0));
}

#[test]
fn the_ips_permits_are_left_to_those_who_came_first_in_any_product() {
    let mut ledger = Ledger::new(rules_with_ip(1));
    ledger.ask(&directory(0), at(0));
    ledger.arrived(Ticket(0), at(0));
    let payment = |ticket| ask(ticket, Product::Payment, FOREVER);
    assert_eq!(ledger.ask(&directory(1), at(1)), Admission::Wait { until: at(0) + IP_SPAN });
    assert_eq!(ledger.ask(&payment(2), at(2)), Admission::Wait { until: at(0) + IP_SPAN * 2 });
    assert!(matches!(ledger.ask(&payment(2), at(300_100)), Admission::Wait { .. }));
    assert!(ledger.cancel(Ticket(1)));
    assert_eq!(ledger.ask(&payment(2), at(300_101)), Admission::Granted);
}

#[test]
fn who_lacks_more_than_the_ips_permit_does_not_keep_others_from_it() {
    let mut ledger = spent(rules_with_ip(22));
    ledger.ask(&directory(1), at(1));
    ledger.ask(&directory(2), at(1));
    for ticket in 3..5 {
        assert_eq!(ledger.ask(&ask(ticket, Product::Auth, FOREVER), at(2)), Admission::Granted);
    }
}

#[test]
fn the_queue_has_bounds_that_do_not_touch_what_need_not_wait() {
    let rules = Rules { queue_max: 3, queue_per_customer_max: 2, ..rules() };
    let mut ledger = spent(rules);
    let of = |ticket, customer: &str| Ask {
        customer: Some(CustomerId::new(customer).expect("an id")),
        ..directory(ticket)
    };
    let refused = |reason| Admission::Refused {
        retry_at: at(0) + SPAN,
        scope: Scope::Product(Product::Directory),
        reason,
    };
    let waits = Admission::Wait { until: at(0) + SPAN };
    assert_eq!(ledger.ask(&of(0, "acme"), at(1)), waits);
    assert_eq!(ledger.ask(&of(1, "acme"), at(1)), waits);
    assert_eq!(ledger.ask(&of(2, "acme"), at(1)), refused(Reason::CustomerQueueFull));
    assert_eq!(ledger.ask(&of(3, "beta"), at(1)), waits);
    assert_eq!(ledger.ask(&of(4, "beta"), at(1)), refused(Reason::QueueFull));
    assert_eq!(ledger.ask(&of(1, "acme"), at(1)), waits, "who stands in line stays there");
    assert_eq!(ledger.ask(&ask(5, Product::Payment, FOREVER), at(1)), Admission::Granted);
}

#[test]
fn a_refusal_is_immediate_and_its_time_is_true() {
    let mut ledger = spent(rules());
    let refusal = ledger.ask(&ask(1, Product::Directory, 15_000), at(0));
    assert_eq!(retry_at(refusal), at(0) + SPAN);
    assert!(ledger.line.is_spotless(), "nothing is kept of it");
    assert_eq!(ledger.ask(&directory(2), retry_at(refusal)), Admission::Granted);

    // With requests in flight it is too early by no more than they take to be answered.
    let mut ledger = Ledger::new(rules());
    for ticket in 0..20 {
        ledger.ask(&directory(ticket), at(0));
    }
    let refusal = ledger.ask(&ask(50, Product::Directory, 15_000), at(100));
    for ticket in 0..20 {
        ledger.arrived(Ticket(ticket), at(900));
    }
    assert_eq!(ledger.ask(&directory(51), retry_at(refusal)), Admission::Wait { until: at(900) + SPAN });
    assert!((at(900) + SPAN).since(retry_at(refusal)) < Duration::from_secs(1));
}

#[test]
fn who_has_no_patience_is_served_now_or_refused_now() {
    let mut ledger = Ledger::new(rules());
    for ticket in 0..20 {
        assert_eq!(ledger.ask(&ask(ticket, Product::Directory, 7), at(7)), Admission::Granted);
    }
    let refusal = ledger.ask(&ask(20, Product::Directory, 7), at(7));
    assert_eq!(retry_at(refusal), at(7) + SPAN);
}

#[test]
fn a_waiting_ticket_is_told_early_that_its_deadline_cannot_be_met() {
    let mut ledger = Ledger::new(rules());
    for ticket in 0..20 {
        ledger.ask(&directory(ticket), at(0));
    }
    let patient = ask(20, Product::Directory, 62_000);
    assert_eq!(ledger.ask(&patient, at(0)), Admission::Wait { until: at(0) + SPAN });
    for ticket in 0..20 {
        ledger.arrived(Ticket(ticket), at(3_000));
    }
    assert_eq!(retry_at(ledger.ask(&patient, at(4_000))), at(3_000) + SPAN);
    assert!(ledger.line.is_spotless());
}

#[test]
fn the_standing_tells_when_the_next_unit_comes_back() {
    let mut ledger = Ledger::new(rules());
    let fresh = ledger.standing(Product::Directory, at(0)).expect("metered");
    assert_eq!((fresh.limit, fresh.used, fresh.remaining), (20, 0, 20));
    assert_eq!((fresh.window, fresh.next_free_in), (Duration::from_secs(60), Duration::ZERO));
    for ticket in 0..13 {
        ledger.ask(&directory(ticket), at(0));
        ledger.arrived(Ticket(ticket), at(1_000 + ticket));
    }
    let later = ledger.standing(Product::Directory, at(20_000)).expect("metered");
    assert_eq!((later.used, later.remaining), (13, 7));
    assert_eq!(later.next_free_in, Duration::from_millis(41_100));
}

#[test]
fn time_does_not_run_backwards() {
    let mut ledger = spent(rules());
    ledger.ask(&directory(0), at(60_100));
    ledger.arrived(Ticket(0), at(30));
    assert_eq!(used(&ledger, 120_199), 1, "counted from the latest moment known");
}

#[test]
fn saturated_it_gives_all_but_the_pad_of_the_quota_and_keeps_no_trace() {
    let mut ledger = Ledger::new(rules());
    let mut now = at(0);
    let mut granted = 0;
    while now < at(600_000) {
        match ledger.ask(&directory(granted), now) {
            Admission::Granted => {
                ledger.arrived(Ticket(granted), now);
                granted += 1;
            }
            Admission::Wait { until } => now = until,
            refused @ Admission::Refused { .. } => panic!("{refused:?}"),
        }
    }
    assert_eq!(granted, 200);
    ledger.cancel(Ticket(granted));
    ledger.ask(&ask(FOREVER, Product::Jobs, FOREVER), now + IP_SPAN);
    ledger.ask(&ask(FOREVER + 1, Product::Directory, FOREVER), now + IP_SPAN);
    assert_eq!(ledger.held.len(), 2, "cooled permits are forgotten");
    assert!(ledger.line.is_spotless());
}

#[test]
fn an_ip_window_shorter_than_the_products_leaves_no_trace_either() {
    let mut rules = rules();
    rules.ip.window = Duration::from_secs(10);
    let mut ledger = spent(rules);
    for ticket in 0..50 {
        ledger.ask(&ask(ticket, Product::Jobs, FOREVER), at(0));
    }
    assert_eq!(ledger.ask(&directory(60), at(60_100)), Admission::Granted);
    assert_eq!(ledger.held.len(), 1);
}
