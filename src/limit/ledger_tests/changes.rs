//! Limits that change while calls are under way: judged by an oracle that knows when each request reached Finch at the
//! latest, and counts windows.

use super::*;
use crate::limit::Would;
use proptest::prelude::*;

const PRODUCTS: [Product; 3] = [Product::Directory, Product::Payment, Product::Jobs];
const WINDOW: Duration = Duration::from_secs(60);
/// Grace and arrival bound.
const FLIGHT: Duration = Duration::from_secs(6);

/// What happens.
#[derive(Debug, Clone)]
enum Op {
    Ask {
        product: usize,
        is_batch: bool,
        is_patient: bool,
    },
    /// The same while the ledger looks on only.
    Look {
        product: usize,
    },
    /// One of those under way is answered.
    Answer(usize),
    Pass(u64),
    /// New limits of the three products, and of the egress IP.
    Limits([Option<u32>; 3], u32),
}

fn op() -> impl Strategy<Value = Op> {
    let limit = || prop_oneof![1 => Just(None), 4 => (1_u32..8).prop_map(Some)];
    prop_oneof![
        8 => (0..3_usize, any::<bool>(), any::<bool>())
            .prop_map(|(product, is_batch, is_patient)| Op::Ask { product, is_batch, is_patient }),
        2 => (0..3_usize).prop_map(|product| Op::Look { product }),
        4 => (0..8_usize).prop_map(Op::Answer),
        4 => prop_oneof![1..2_000_u64, 2_000..70_000_u64].prop_map(Op::Pass),
        3 => ([limit(), limit(), limit()], 2_u32..20).prop_map(|(limits, ip)| Op::Limits(limits, ip)),
    ]
}

fn limits_of(limits: [Option<u32>; 3], ip: u32) -> Rules {
    let of = |product| PRODUCTS.iter().position(|p| *p == product).and_then(|at| limits[at]);
    let mut rules = Rules::with_limits(PerProduct::from_fn(|product| of(product).and_then(NonZeroU32::new)));
    rules.ip.requests = NonZeroU32::new(ip).expect("not zero");
    rules
}

/// A request, and when it reached Finch at the latest.
struct Sent {
    product: usize,
    ticket: Ticket,
    latest: Moment,
    is_answered: bool,
}

/// How many of these can have been counted inside a window that ends now.
fn within<'a>(sent: impl Iterator<Item = &'a Sent>, window: Duration, now: Moment) -> usize {
    sent.filter(|sent| sent.latest + window >= now).count()
}

fn play(ops: &[Op]) -> Result<(), TestCaseError> {
    let (mut limits, mut ip) = ([Some(5), Some(3), None], 10);
    let mut ledger = Ledger::new(limits_of(limits, ip));
    let (mut sent, mut now): (Vec<Sent>, Moment) = (Vec::new(), at(1_000_000));
    for (number, op) in ops.iter().enumerate() {
        let number = number as u64;
        match *op {
            Op::Pass(millis) => now = now + ms(millis),
            Op::Limits(next, next_ip) => {
                (limits, ip) = (next, next_ip);
                ledger.set_rules(&limits_of(limits, ip), now);
            }
            Op::Answer(nth) => {
                if let Some(sent) = sent.iter_mut().filter(|sent| !sent.is_answered).nth(nth) {
                    ledger.arrived(sent.ticket, false, now);
                    sent.is_answered = true;
                    sent.latest = sent.latest.min(now);
                }
            }
            Op::Look { product } => {
                let asked = ask(number, PRODUCTS[product], EVER);
                prop_assert!(ledger.observe(&asked, now).is_some());
                sent.push(Sent { product, ticket: asked.ticket, latest: now + FLIGHT, is_answered: false });
            }
            Op::Ask { product, is_batch, is_patient } => {
                let priority = if is_batch { Priority::Batch } else { Priority::Interactive };
                let patience = if is_patient { EVER } else { Duration::ZERO };
                let asked = Ask { priority, ..ask(number, PRODUCTS[product], patience) };
                if !matches!(ledger.ask(&asked, now), Admission::Granted { .. }) {
                    continue;
                }
                let of_product = within(sent.iter().filter(|sent| sent.product == product), WINDOW, now);
                let of_ip = within(sent.iter(), Duration::from_secs(300), now);
                if let Some(limit) = limits[product] {
                    prop_assert!(of_product < limit as usize, "{of_product} before a grant of {limit}");
                }
                prop_assert!(of_ip < ip as usize, "{of_ip} before a grant of {ip} for the IP");
                sent.push(Sent { product, ticket: asked.ticket, latest: now + FLIGHT, is_answered: false });
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_limits_become_no_grant_goes_beyond_the_one_in_force(ops in prop::collection::vec(op(), 1..120)) {
        play(&ops)?;
    }
}

#[test]
fn a_lowered_limit_grants_nothing_until_enough_has_cooled_and_a_raised_one_at_once() {
    let mut ledger = Ledger::new(rules_of(10));
    for number in 0..6 {
        assert!(is_granted(ledger.ask(&directory(number), at(number * 1_000))));
        ledger.arrived(t(number), false, at(number * 1_000));
    }
    ledger.set_rules(&rules_of(3), at(10_000));
    let hurried = |number| ask(number, Product::Directory, Duration::ZERO);
    assert!(!is_granted(ledger.ask(&hurried(20), at(10_000))));
    let third = at(3_000) + SPAN;
    assert!(!is_granted(ledger.ask(&hurried(21), third - ms(1))), "three of three are busy");
    assert!(is_granted(ledger.ask(&hurried(22), third)), "the fourth of six has cooled: two are busy");
    assert!(!is_granted(ledger.ask(&hurried(23), third)));
    ledger.set_rules(&rules_of(10), third);
    assert!(is_granted(ledger.ask(&hurried(24), third)));
}

#[test]
fn what_was_sent_without_a_limit_counts_when_there_is_one() {
    let mut ledger = Ledger::new(rules());
    for number in 0..5 {
        assert!(is_granted(ledger.ask(&ask(number, Product::Jobs, EVER), at(0))));
        ledger.arrived(t(number), false, at(0));
    }
    let mut limited = rules();
    limited.limits[Product::Jobs] = NonZeroU32::new(3);
    ledger.set_rules(&limited, at(1_000));
    assert_eq!(ledger.standing(Product::Jobs, at(1_000)).map(|standing| standing.used), Some(3));
    assert!(!is_granted(ledger.ask(&ask(9, Product::Jobs, Duration::ZERO), at(2_000))));
    assert!(is_granted(ledger.ask(&ask(10, Product::Jobs, Duration::ZERO), at(0) + SPAN)));
}

#[test]
fn who_waits_keeps_its_place_when_limits_change() {
    let mut ledger = spent(rules());
    let (first, second) = (of("a", directory(1)), of("b", directory(2)));
    for asked in [&first, &second] {
        assert!(matches!(ledger.ask(asked, at(0)), Admission::Wait { .. }));
    }
    ledger.set_rules(&rules_of(21), at(10));
    assert_eq!(ledger.head(Product::Directory), Some(t(1)));
    assert!(is_granted(ledger.ask(&first, at(10))) && !is_granted(ledger.ask(&second, at(10))));
}

#[test]
fn looking_on_tells_what_would_have_been_and_counts_all_the_same() {
    let mut ledger = spent(rules());
    let would = |ledger: &mut Ledger, number, patience| {
        ledger.observe(&ask(number, Product::Directory, patience), at(10))
    };
    assert!(matches!(would(&mut ledger, 1, EVER), Some(Would::Wait(_))));
    assert!(matches!(would(&mut ledger, 2, ms(5)), Some(Would::Refuse(_))));
    assert_eq!(ledger.desks[Product::Directory].permits.len(), 22);
    assert!(matches!(ledger.observe(&ask(3, Product::Jobs, EVER), at(10)), Some(Would::Send)));
    for number in 10..1_000 {
        assert!(would(&mut ledger, number, EVER).is_some());
    }
    assert_eq!(ledger.desks[Product::Directory].permits.len(), 200, "there is a bound");
    ledger.hold(Scope::EgressIp, ms(60_000), at(20));
    assert_eq!(ledger.observe(&directory(2_000), at(30)), None, "a block of the address is kept");
}
