//! Each rule of `replica` by itself.

use super::*;
use crate::limit::Tag;

fn at_millis(millis: u64) -> Moment {
    Moment::at(Duration::from_millis(millis))
}

fn at(secs: u64) -> Moment {
    at_millis(secs * 1000)
}

/// 20 for directory, 12 for payment; the quarantine is 72.2 s.
fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(20),
        Product::Payment => NonZeroU32::new(12),
        _ => None,
    }))
}

fn lease(directory: u32, ip: u32) -> Pools {
    let mut pools = Pools { ip, ..Pools::none() };
    pools.products[Product::Directory] = directory;
    pools
}

fn pulse(lease: Pools) -> Pulse {
    Pulse { is_known: true, lease, peers: 1, ..Pulse::unknown() }
}

fn replica(on_outage: OnOutage) -> Replica {
    Replica::new(rules(), "a".to_owned(), Incarnation(5), on_outage, at(0))
}

/// One beat, answered with this lease.
fn talk(replica: &mut Replica, told: Pools, now: Moment) -> Beat {
    let beat = replica.beat(now);
    assert!(replica.pulse(beat.number, &pulse(told), now));
    beat
}

/// Joined, with two permits for directory and six of the IP; contact at ten seconds.
fn joined() -> Replica {
    let mut replica = replica(OnOutage::Share);
    talk(&mut replica, lease(2, 6), at(10));
    replica
}

fn ask(number: u64, product: Product, patience: u64) -> Ask {
    Ask {
        ticket: Ticket::new(Incarnation(5), number),
        product,
        customer: None,
        priority: Priority::Interactive,
        weight: NonZeroU32::MIN,
        patience: Duration::from_secs(patience),
        tag: None,
    }
}

fn is_granted(replica: &mut Replica, number: u64, product: Product, now: Moment) -> bool {
    matches!(replica.ask_alone(&ask(number, product, 0), now), Admission::Granted { .. })
}

fn is_no_ledger(admission: Admission) -> bool {
    matches!(admission, Admission::Refused { reason: Reason::NoLedger, .. })
}

#[test]
fn nothing_is_sent_before_the_first_answer() {
    let mut replica = replica(OnOutage::Share);
    assert_eq!((replica.mode(at(0)), replica.must_ask_store(at(0))), (Mode::Joining, false));
    assert!(matches!(replica.ask_alone(&ask(1, Product::Directory, 9), at(5)), Admission::Wait { .. }));
    assert!(is_no_ledger(replica.ask_alone(&ask(1, Product::Directory, 9), at(6))), "the store is out");
    talk(&mut replica, lease(2, 6), at(7));
    assert_eq!(replica.mode(at(7)), Mode::Joined);
}

#[test]
fn an_answer_is_taken_in_time_or_never() {
    let mut replica = joined();
    let late = replica.beat(at(12));
    assert!(!replica.pulse(late.number, &pulse(lease(9, 9)), at_millis(12_101)));
    assert!(!replica.pulse(late.number, &pulse(lease(9, 9)), at(12)), "not even by a clock that was set");
    let first = replica.beat(at(14));
    let second = replica.beat(at_millis(14_010));
    assert!(!replica.pulse(first.number, &pulse(lease(9, 9)), at_millis(14_020)), "superseded");
    assert_eq!(*replica.lease(), lease(2, 6));
    assert!(replica.pulse(second.number, &pulse(lease(9, 9)), at_millis(14_110)));
    assert_eq!((*replica.lease(), replica.beat(at(16)).acked), (lease(9, 9), second.number));
}

#[test]
fn a_silent_store_is_asked_for_six_seconds_and_one_answer_ends_the_silence() {
    let mut replica = joined();
    assert_eq!(replica.mode(at_millis(15_999)), Mode::Joined);
    assert_eq!(replica.mode(at(16)), Mode::Silent { until: at_millis(82_200) });
    for (patience, after) in [(23, 2), (1, 1)] {
        let wait = Admission::Wait { after: Duration::from_secs(after), tag: Tag::default() };
        assert_eq!(replica.ask_alone(&ask(1, Product::Directory, patience), at(60)), wait);
    }
    let refused = replica.ask_alone(&ask(2, Product::Directory, 0), at(60));
    assert!(matches!(refused, Admission::Refused { after, .. } if after == Duration::from_millis(22_200)));
    let beat = talk(&mut replica, lease(2, 6), at(70));
    assert_eq!((beat.stance, beat.replay, replica.mode(at(70))), (Stance::Joined, None, Mode::Joined));
}

#[test]
fn the_lease_is_spent_after_the_quarantine_and_not_after_its_life() {
    let mut replica = joined();
    assert!(!is_granted(&mut replica, 1, Product::Directory, at_millis(82_199)));
    for number in 1..3 {
        assert!(is_granted(&mut replica, number, Product::Directory, at_millis(82_200)));
        replica.arrived(Ticket::new(Incarnation(5), number), false, at(83));
    }
    assert_eq!(replica.mode(at(83)), Mode::Sharing);
    assert!(!is_granted(&mut replica, 3, Product::Directory, at(100)), "two are two");
    assert!(is_no_ledger(replica.ask_alone(&ask(4, Product::Payment, 9), at(100))), "none of these");
    assert!(is_granted(&mut replica, 5, Product::Introspect, at(100)), "has no limit of its own");
    assert!(is_granted(&mut replica, 6, Product::Directory, at_millis(143_100)));
    assert_eq!(replica.lease_ends(), at_millis(682_200));
    assert!(is_granted(&mut replica, 7, Product::Directory, at_millis(682_199)));
    assert!(is_no_ledger(replica.ask_alone(&ask(8, Product::Directory, 9), at_millis(682_200))));
    assert_eq!((replica.mode(at(683)), replica.beat(at(683)).lease), (Mode::Spent, Pools::none()));
}

#[test]
fn who_refuses_on_outage_has_no_lease() {
    let mut replica = replica(OnOutage::Refuse);
    talk(&mut replica, lease(2, 6), at(10));
    assert_eq!((*replica.lease(), replica.mode(at(83))), (Pools::none(), Mode::Spent));
    talk(&mut replica, lease(2, 6), at(90));
    assert_eq!(replica.mode(at(90)), Mode::Joined, "it has nothing to tell");
}

#[test]
fn three_answers_in_a_row_end_an_outage_and_the_store_is_asked_after_a_fourth() {
    let mut replica = joined();
    assert!(is_granted(&mut replica, 1, Product::Directory, at(90)));
    for secs in [100, 102] {
        assert_eq!(talk(&mut replica, lease(9, 9), at(secs)).stance, Stance::Apart);
    }
    replica.beat(at(104)); // lost
    for secs in [106, 108, 110] {
        assert_eq!(replica.mode(at(secs)), Mode::Sharing);
        let beat = talk(&mut replica, lease(9, 9), at(secs));
        assert_eq!((beat.stance, beat.lease), (Stance::Apart, lease(2, 6)), "the lease is what it was");
        assert_eq!(beat.replay.map(|sent| sent.len()), Some(1));
    }
    assert!(!is_granted(&mut replica, 2, Product::Directory, at(110)));
    assert_eq!(replica.beat_due(), at(110), "nothing to wait for");
    let beat = replica.beat(at(110));
    assert_eq!((beat.stance, beat.replay.map(|sent| sent.len())), (Stance::Joined, Some(1)));
    assert!(!replica.must_ask_store(at(110)));
    replica.pulse(beat.number, &pulse(lease(3, 7)), at(110));
    assert_eq!((replica.mode(at(110)), *replica.lease()), (Mode::Joined, lease(3, 7)));
    assert_eq!(replica.beat(at(112)).replay, None);
}

#[test]
fn without_the_fourth_answer_it_sits_out_the_quarantine_again() {
    let mut replica = joined();
    assert!(is_granted(&mut replica, 1, Product::Directory, at(90)));
    for secs in [100, 102, 104] {
        talk(&mut replica, lease(2, 6), at(secs));
    }
    for secs in [104, 106, 108] {
        assert_eq!(replica.beat(at(secs)).stance, Stance::Joined);
    }
    assert_eq!(replica.mode(at(120)), Mode::Silent { until: at_millis(176_200) });
    assert!(!is_granted(&mut replica, 2, Product::Directory, at_millis(176_199)));
    assert!(is_granted(&mut replica, 3, Product::Directory, at_millis(176_200)));
    assert_eq!(replica.beat(at(177)).stance, Stance::Apart);
}

#[test]
fn an_answer_that_comes_when_the_quarantine_has_ended_is_not_taken() {
    let mut replica = joined();
    let beat = replica.beat(at_millis(82_150));
    assert!(is_granted(&mut replica, 1, Product::Directory, at_millis(82_200)));
    assert!(!replica.pulse(beat.number, &pulse(lease(2, 6)), at_millis(82_210)));
    assert_eq!(replica.mode(at_millis(82_210)), Mode::Sharing);
}

#[test]
fn the_ip_remembers_what_an_earlier_outage_spent() {
    let mut replica = joined();
    for number in 0..6 {
        assert!(is_granted(&mut replica, number, Product::Introspect, at(90)));
        replica.arrived(Ticket::new(Incarnation(5), number), false, at(91));
    }
    for secs in [100, 102, 104, 106] {
        talk(&mut replica, lease(2, 6), at(secs));
    }
    assert!(!is_granted(&mut replica, 7, Product::Introspect, at(200)), "five minutes have not passed");
    assert!(is_granted(&mut replica, 8, Product::Introspect, at_millis(391_100)));
}

#[test]
fn a_hold_lasts_through_the_change_to_the_lease() {
    let mut replica = joined();
    replica.held(Scope::Product(Product::Directory), Duration::from_secs(100), at(11));
    replica.held(Scope::EgressIp, Duration::from_secs(90), at(11));
    assert!(!is_granted(&mut replica, 1, Product::Introspect, at(100)));
    assert!(is_granted(&mut replica, 2, Product::Introspect, at(101)));
    replica.arrived(Ticket::new(Incarnation(5), 2), false, at(102));
    assert!(!is_granted(&mut replica, 3, Product::Directory, at(110)));
    assert!(is_granted(&mut replica, 4, Product::Directory, at(111)));
    replica.limited(Product::Directory, Some(Duration::from_secs(30)), at(112));
    assert!(!is_granted(&mut replica, 5, Product::Directory, at(141)), "its own refusals count too");
}

#[test]
fn a_permit_not_used_is_free_again_and_one_used_late_is_taken_anew() {
    let mut replica = joined();
    let now = at(90);
    assert!(is_granted(&mut replica, 1, Product::Directory, now));
    assert!(is_granted(&mut replica, 2, Product::Directory, now));
    replica.refunded(Ticket::new(Incarnation(5), 1), now);
    assert!(is_granted(&mut replica, 3, Product::Directory, now));
    assert!(replica.extend_alone(Ticket::new(Incarnation(5), 3), at(95)));
    assert!(!replica.extend_alone(Ticket::new(Incarnation(5), 1), at(95)));
    let sent = replica.beat(at(100)).replay.expect("it is apart");
    let ages: Vec<_> = sent.iter().map(|sent| (sent.ticket.number, sent.age)).collect();
    assert_eq!(ages, [(2, Some(Duration::from_secs(4))), (3, None)]);
}

#[test]
fn a_replica_whose_name_another_run_has_spends_nothing() {
    let mut replica = joined();
    assert!(is_granted(&mut replica, 1, Product::Directory, at(90)));
    let beat = replica.beat(at(91));
    assert!(!replica.pulse(beat.number, &Pulse::unknown(), at(91)));
    assert_eq!((replica.mode(at(91)), *replica.lease()), (Mode::Joining, Pools::none()));
    assert!(!is_granted(&mut replica, 2, Product::Directory, at(91)));
    let beat = talk(&mut replica, lease(1, 1), at(97));
    assert!(beat.replay.is_some(), "what it spent is told when it is known again");
    assert_eq!(replica.mode(at(97)), Mode::Joined);
}

#[test]
fn a_replay_that_is_wanted_is_brought_at_once() {
    let mut replica = joined();
    replica.granted(Ticket::new(Incarnation(5), 1), Product::Directory, Priority::Batch, at(11));
    let wanting = Pulse { wants_replay: true, ..pulse(lease(2, 6)) };
    let beat = replica.beat(at(12));
    replica.pulse(beat.number, &wanting, at(12));
    assert_eq!(replica.beat_due(), at(12));
    let beat = replica.beat(at(12));
    assert_eq!(beat.replay.map(|sent| sent.len()), Some(1));
    replica.pulse(beat.number, &wanting, at(12));
    assert_eq!(replica.beat_due(), at(14), "once; a store that wants it again has time");
}

#[test]
fn it_tells_what_the_store_may_forget() {
    let mut replica = joined();
    let told = Pulse { peers: 4, away: (lease(3, 1), Duration::from_secs(50)), ..pulse(lease(2, 6)) };
    let beat = replica.beat(at(12));
    replica.pulse(beat.number, &told, at(12));
    let beat = talk(&mut replica, lease(2, 6), at(14));
    assert_eq!((beat.peers, beat.away), (4, (lease(3, 1), Duration::from_secs(48))));
    let beat = talk(&mut replica, lease(2, 6), at(79));
    assert_eq!((beat.peers, beat.away), (4, (Pools::none(), Duration::ZERO)), "the last it was told");
    assert_eq!(replica.beat(at(80)).peers, 1, "the four were too long before the last answer");
}

#[test]
fn a_replica_that_ends_says_so_with_all_it_sent() {
    let mut replica = joined();
    assert!(is_granted(&mut replica, 1, Product::Directory, at(90)));
    let beat = replica.leave(at(91));
    assert_eq!((beat.stance, beat.replay.map(|sent| sent.len())), (Stance::Leaving, Some(1)));
    assert!(!replica.pulse(beat.number, &pulse(lease(2, 6)), at(91)));
    assert_eq!(replica.mode(at(91)), Mode::Spent);
    assert!(is_no_ledger(replica.ask_alone(&ask(2, Product::Directory, 9), at(91))));
}
