//! I14, the ledger's part: what a refusal of Finch's does, and when it is forgotten.

use super::*;

fn limit(ledger: &Ledger, now: u64) -> u32 {
    ledger.standing(Product::Directory, at(now)).expect("metered").limit
}

#[test]
fn i14_a_refusal_freezes_for_no_longer_than_finch_says_or_a_distance_and_a_half() {
    for (limit, retry_after, freeze) in [
        (20, None, 4_500),
        (20, Some(100), 4_500),
        (20, Some(30_000), 30_000),
        (12, None, 7_500),
        (1, None, 90_000),
    ] {
        let mut ledger = Ledger::new(rules_of(limit));
        ledger.limited(Product::Directory, retry_after.map(ms), at(1_000));
        let held: Vec<_> = ledger.holds(at(1_000)).collect();
        assert_eq!(held, [(Scope::Product(Product::Directory), ms(freeze))]);
        assert!(ledger.holds(at(1_000 + freeze)).next().is_none());
        assert_eq!(wait(ledger.ask(&directory(1), at(1_000))), ms(freeze));
    }
}

#[test]
fn i14_the_limit_is_whole_again_two_minutes_later_for_each_permit_lost() {
    let mut ledger = Ledger::new(rules());
    for _ in 0..4 {
        ledger.limited(Product::Directory, None, at(0));
    }
    assert_eq!(limit(&ledger, 0), 17);
    for (secs, expected) in [(119, 17), (120, 18), (239, 18), (240, 19), (360, 20)] {
        assert_eq!(limit(&ledger, secs * 1_000), expected, "after {secs} s");
    }
}

#[test]
fn i14_no_number_of_refusals_takes_more_than_three_quarters() {
    for (whole, least) in [(20, 5), (12, 3), (1, 1)] {
        let mut ledger = Ledger::new(rules_of(whole));
        for n in 0..500 {
            ledger.limited(Product::Directory, None, at(n));
        }
        assert_eq!(limit(&ledger, 500), least);
        let now = at(500) + SPAN + Duration::from_secs(1 + 90);
        assert!(is_granted(ledger.ask(&directory(1), now)), "and the phantoms have cooled");
        assert_eq!(ledger.desks[Product::Directory].permits.len(), 1);
    }
}

#[test]
fn i14_a_phantom_counts_and_the_window_is_a_quarter_of_a_second_wider() {
    let mut ledger = Ledger::new(rules());
    ledger.limited(Product::Directory, None, at(0));
    assert_eq!((used(&ledger, 60_349), used(&ledger, 60_350)), (1, 0));
    let standing = ledger.standing(Product::Directory, at(5_000)).expect("metered");
    assert_eq!((standing.limit, standing.remaining), (20, 19));
    assert_eq!(ledger.ip_standing(at(0)).used, 0, "nothing of perch's went out");
}

#[test]
fn i14_a_refused_attempt_comes_back_to_its_place() {
    let mut ledger = spent(rules());
    let Admission::Wait { tag, .. } = ledger.ask(&of("acme", directory(1)), at(1)) else { panic!("waits") };
    for number in 2..30 {
        wait(ledger.ask(&of("acme", directory(number)), at(2)));
    }
    assert_eq!(ledger.ask(&of("acme", directory(1)), at(60_100)), Admission::Granted { tag });
    ledger.arrived(t(1), true, at(60_400));
    ledger.limited(Product::Directory, None, at(60_400));
    let again = of("acme", Ask { tag: Some(tag), ..directory(50) });
    assert_eq!(wait(ledger.ask(&again, at(60_400))), ms(4_500));
    assert_eq!(ledger.head(Product::Directory), Some(t(50)), "before all that came later");
    assert_eq!(ledger.ask(&again, at(64_900)), Admission::Granted { tag });
}

#[test]
fn a_refusal_of_a_product_without_a_limit_leaves_nothing_for_ever() {
    let mut ledger = Ledger::new(rules());
    ledger.limited(Product::Jobs, Some(ms(10)), at(0));
    assert!(ledger.holds(at(90_000)).next().is_none());
    assert!(is_granted(ledger.ask(&ask(1, Product::Jobs, EVER), at(90_000))));
    assert_eq!(ledger.desks[Product::Jobs].permits.len(), 0);
}
