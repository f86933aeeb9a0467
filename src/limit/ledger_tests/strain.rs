//! Numbers beyond all measure, many tickets, and what is left when all have gone.

use super::*;

#[test]
fn the_largest_and_the_smallest_numbers_do_no_harm() {
    for (limit, window, ip) in [(1, 1, 1), (u32::MAX, 1, 3), (1, u64::from(u32::MAX), 1), (20, 60_000, 800)] {
        for pacing in [true, false] {
            let mut rules = Rules { pacing, window: ms(window), ..rules_of(limit) };
            rules.ip.requests = NonZeroU32::new(ip).expect("not zero");
            rules.queue_per_customer_max = usize::MAX;
            let mut ledger = Ledger::new(rules);
            let mut number = 0;
            for priority in Priority::ALL {
                for weight in [1, 720_720, 720_721, u32::MAX] {
                    for tag in [None, Some(Tag(0)), Some(Tag(u64::MAX))] {
                        for patience in [Duration::ZERO, ms(1), EVER] {
                            number += 1;
                            let weight = NonZeroU32::new(weight).expect("not zero");
                            let ask = Ask { priority, weight, tag, patience, ..directory(number) };
                            let told = ledger.ask(&ask, at(number));
                            if let Admission::Wait { after, .. } = told {
                                assert!(!after.is_zero() && after <= patience);
                            }
                        }
                    }
                }
            }
            ledger.limited(Product::Directory, Some(Duration::MAX), at(number));
            ledger.hold(Scope::EgressIp, Duration::MAX, at(number));
            assert!(!is_granted(ledger.ask(&directory(5_000), at(number))));
            assert!(ledger.standing(Product::Directory, at(number)).is_some());
        }
    }
}

#[test]
fn a_window_of_a_millisecond_lets_through_what_it_may() {
    let mut rules = Rules { window: ms(1), pad: Duration::ZERO, ..rules_of(2) };
    rules.ip.window = ms(1);
    let mut ledger = Ledger::new(rules);
    let mut granted = 0;
    for now in 0..1_000 {
        for number in 0..3 {
            if is_granted(ledger.ask(&ask(now * 3 + number, Product::Directory, Duration::ZERO), at(now))) {
                ledger.arrived(t(now * 3 + number), false, at(now));
                granted += 1;
            }
        }
    }
    assert_eq!(granted, 2_000);
}

#[test]
fn nothing_is_left_of_customers_who_come_and_go_while_nothing_is_granted() {
    let mut ledger = Ledger::new(rules());
    ledger.hold(Scope::EgressIp, Duration::from_secs(3_600), at(0));
    for number in 0..20_000 {
        let ask = of(&format!("customer-{number}"), directory(number));
        wait(ledger.ask(&ask, at(number)));
        assert!(ledger.cancel(t(number), at(number)));
    }
    assert!(is_spotless(&ledger));
    assert_eq!(ledger.desks[Product::Directory].line.flows(), 0);
}

#[test]
fn the_memory_of_customers_who_were_served_is_bounded() {
    let mut ledger = Ledger::new(rules_with_ip(1_000_000));
    for number in 0..30_000 {
        let ask = of(&format!("customer-{number}"), ask(number, Product::Jobs, EVER));
        assert!(is_granted(ledger.ask(&ask, at(number))));
    }
    let kept = ledger.desks[Product::Jobs].line.flows();
    assert!(kept <= ledger.rules.queue_max, "{kept} customers");
}

#[test]
fn everything_is_forgotten_when_everybody_has_gone() {
    let mut ledger = spent(rules());
    for number in 0..2_000 {
        let asked = of(&format!("customer-{}", number % 40), directory(1_000 + number));
        let priority = Priority::ALL[number as usize % 2];
        let ask = Ask { priority, patience: ms(200_000 + number), ..asked };
        ledger.ask(&ask, at(1));
    }
    assert!(ledger.tickets.len() > 60);
    let mut now = at(400_000);
    for number in 0..2_000 {
        ledger.ask(&ask(9_000 + number, Product::Directory, Duration::ZERO), now);
        now = now + ms(1);
    }
    assert!(is_spotless(&ledger), "{} left", ledger.tickets.len());
    ledger.ask(&ask(20_000, Product::Directory, Duration::ZERO), now + IP_SPAN + ms(6_000));
    assert_eq!((ledger.held.len(), ledger.ip.len()), (1, 1));
    assert_eq!(ledger.desks[Product::Directory].permits.len(), 1);
    assert_eq!(ledger.desks[Product::Directory].batch.len(), 0);
    assert!(ledger.desks[Product::Directory].line.flows() <= 1);
}

#[test]
fn many_can_leave_at_once() {
    for order in [1, -1] {
        let mut ledger = spent(rules());
        let mut numbers: Vec<u64> = (1_000..11_000).collect();
        for number in &numbers {
            ledger.ask(&of(&format!("customer-{}", number % 50), directory(*number)), at(1));
        }
        assert_eq!(ledger.tickets.len(), 10_000);
        if order < 0 {
            numbers.reverse();
        }
        assert!(numbers.iter().all(|number| ledger.cancel(t(*number), at(2))));
        assert!(is_spotless(&ledger));
        let next = ledger.ask(&of("customer-1", directory(5)), at(3));
        assert_eq!(wait(next), SPAN - ms(3));
        let at_start = ledger.tickets.get(&t(5)).map(|waiting| waiting.tag);
        assert_eq!(at_start, Some(ledger.desks[Product::Directory].line.virtual_time(Priority::Interactive)));
    }
}
