//! I15, the ledger's part: after a hold of the egress IP one call goes first.

use super::*;

/// A ledger whose egress IP was held for an hour from zero on.
fn held() -> Ledger {
    let mut ledger = Ledger::new(rules());
    ledger.hold(Scope::EgressIp, Duration::from_secs(3_600), at(0));
    ledger
}

const END: u64 = 3_600_000;

/// Which of the callers 0 to 9, each of another product, is granted at `now`.
fn granted(ledger: &mut Ledger, base: u64, now: u64) -> Vec<u64> {
    let ask = |n: u64| ask(base + n, Product::ALL[n as usize], Duration::ZERO);
    (0..10).filter(|&n| is_granted(ledger.ask(&ask(n), at(now)))).map(|n| base + n).collect()
}

#[test]
fn i15_nothing_goes_before_the_hold_ends_and_then_exactly_one() {
    let mut ledger = held();
    assert!(granted(&mut ledger, 0, END - 1).is_empty());
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    for later in [1, 900, 5_000, 60_000, 399_999] {
        let others = granted(&mut ledger, 100, END + later);
        assert!(others.is_empty(), "{others:?} after {later} ms");
    }
    ledger.arrived(t(0), false, at(END + 399_999));
    assert_eq!(granted(&mut ledger, 200, END + 399_999).len(), 10, "it was answered: all may go");
}

#[test]
fn i15_those_who_wait_for_the_probe_look_every_second() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    let told = ledger.ask(&ask(50, Product::Auth, EVER), at(END + 10));
    assert_eq!(wait(told), PROBE_LOOK);
    let (scope, reason) = (Scope::EgressIp, Reason::Hold);
    let hasty = ledger.ask(&ask(51, Product::Auth, ms(999)), at(END + 10));
    assert_eq!(hasty, Admission::Refused { after: PROBE_LOOK, scope, reason });
}

#[test]
fn i15_a_probe_that_is_refused_leads_to_another_hold() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    ledger.arrived(t(0), true, at(END + 300));
    assert!(granted(&mut ledger, 100, END + 300).is_empty(), "before anybody has said for how long");
    ledger.hold(Scope::EgressIp, Duration::from_secs(3_600), at(END + 301));
    assert!(granted(&mut ledger, 100, END + 3_600_300).is_empty());
    assert_eq!(granted(&mut ledger, 100, END + 3_600_301).len(), 1);
}

#[test]
fn i15_a_hold_told_before_the_answer_is_a_hold_all_the_same() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    ledger.hold(Scope::EgressIp, Duration::from_secs(60), at(END + 300));
    ledger.arrived(t(0), true, at(END + 301));
    assert!(granted(&mut ledger, 100, END + 60_299).is_empty());
    assert_eq!(granted(&mut ledger, 100, END + 60_300).len(), 1);
}

#[test]
fn i15_a_probe_that_is_given_back_lets_another_try() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    ledger.refund(t(0), at(END + 100));
    assert_eq!(granted(&mut ledger, 100, END + 100), [100]);
    assert!(granted(&mut ledger, 200, END + 101).is_empty());
}

#[test]
fn i15_a_probe_that_is_never_answered_lets_another_try_in_the_end() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    assert!(granted(&mut ledger, 100, END + 399_999).is_empty());
    assert_eq!(granted(&mut ledger, 100, END + 400_000).len(), 1);
    ledger.arrived(t(0), false, at(END + 400_001));
    assert!(granted(&mut ledger, 200, END + 400_002).is_empty(), "the other's answer counts now");
}

#[test]
fn i15_a_call_from_before_the_hold_says_nothing_about_it() {
    let mut ledger = Ledger::new(rules());
    ledger.ask(&directory(900), at(0));
    ledger.hold(Scope::EgressIp, ms(1_000), at(10));
    ledger.arrived(t(900), false, at(500));
    assert_eq!(granted(&mut ledger, 0, 1_010), [0], "one goes first");
    assert!(granted(&mut ledger, 100, 1_011).is_empty());
}

#[test]
fn i15_a_probe_whose_answer_was_lost_asks_again_and_is_still_the_only_one() {
    let mut ledger = held();
    assert_eq!(granted(&mut ledger, 0, END), [0]);
    assert_eq!(granted(&mut ledger, 0, END + 50), [0]);
    assert_eq!(ledger.ip_standing(at(END + 50)).used, 1);
}
