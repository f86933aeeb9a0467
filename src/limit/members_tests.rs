//! Each rule of `members` and `history` by itself.

use super::*;
use crate::limit::PerProduct;
use std::num::NonZeroU32;

fn at(secs: u64) -> Moment {
    Moment::at(Duration::from_secs(secs))
}

fn at_millis(millis: u64) -> Moment {
    Moment::at(Duration::from_millis(millis))
}

/// 20 for directory, of which 10 are leased; 800 for the IP, of which 100 are.
fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(20),
        _ => None,
    }))
}

fn directory(permits: u32) -> Pools {
    let mut pools = Pools::none();
    pools.products[Product::Directory] = permits;
    pools
}

/// A member as its side of the wire.
struct Peer {
    beat: Beat,
}

impl Peer {
    fn new(name: &str, incarnation: u64) -> Self {
        let beat = Beat {
            member: name.to_owned(),
            incarnation: Incarnation(incarnation),
            number: 0,
            acked: 0,
            stance: Stance::Joined,
            lease: Pools::none(),
            demand: Pools::none(),
            uptime: Duration::from_secs(3600),
            peers: 0,
            away: (Pools::none(), Duration::ZERO),
            replay: None,
        };
        Self { beat }
    }

    /// One beat that is not answered, or whose answer is lost.
    fn shout(&mut self, members: &mut Members, now: Moment) -> Option<Told> {
        self.beat.number += 1;
        members.beat(&self.beat, 0, &rules(), now)
    }

    /// One beat whose answer is taken.
    fn talk(&mut self, members: &mut Members, now: Moment) -> Told {
        let told = self.shout(members, now).expect("it is known");
        self.beat.acked = self.beat.number;
        self.beat.lease = told.lease;
        self.beat.peers = told.peers;
        told
    }

    fn lease(&self) -> u32 {
        self.beat.lease.products[Product::Directory]
    }
}

/// Members `a`, `b`.. that have shared the lease equally for a while, the last beats at ten seconds.
fn company<const N: usize>() -> (Members, [Peer; N]) {
    let mut members = Members::new();
    let mut peers = std::array::from_fn(|n| Peer::new(["a", "b", "c"][n], n as u64 + 1));
    for secs in [2, 4, 6, 8, 10] {
        for peer in &mut peers {
            peer.talk(&mut members, at(secs));
        }
    }
    (members, peers)
}

fn away(members: &mut Members, now: Moment) -> u32 {
    members.away(&rules(), now).products[Product::Directory]
}

#[test]
fn half_of_a_limit_is_leased_in_whole_permits() {
    let (mut members, peers) = company::<3>();
    assert_eq!(peers.each_ref().map(Peer::lease), [4, 3, 3]);
    assert_eq!(peers.each_ref().map(|peer| peer.beat.lease.ip), [34, 33, 33]);
    assert_eq!(away(&mut members, at(11)), 0, "all are there");
    assert_eq!(members.away(&rules(), at(11)).ip, 100, "the IP's are never lent");
}

#[test]
fn a_permit_passes_on_when_its_owner_has_said_that_it_let_it_go() {
    let (mut members, [mut a, mut b]) = company::<2>();
    assert_eq!((a.lease(), b.lease()), (5, 5));
    b.beat.demand = directory(9);
    assert_eq!(b.talk(&mut members, at(12)).lease, b.beat.lease, "nothing is free yet");
    assert_eq!(b.lease(), 5);
    a.shout(&mut members, at(12)).expect("known");
    b.talk(&mut members, at(14));
    assert_eq!(b.lease(), 5, "it has not heard that it has none any more");
    a.talk(&mut members, at(14));
    assert_eq!((a.lease(), b.lease()), (0, 5));
    b.talk(&mut members, at(16));
    assert_eq!(b.lease(), 5, "it may not have heard that either");
    a.talk(&mut members, at(16));
    b.talk(&mut members, at(16));
    assert_eq!((a.lease(), b.lease()), (0, 10));
}

#[test]
fn a_lease_is_away_from_six_seconds_after_the_last_confirmed_contact() {
    let (mut members, [mut a, mut b]) = company::<2>();
    // The answer to the beat at ten seconds has been confirmed by nothing.
    assert_eq!(away(&mut members, at_millis(13_999)), 0);
    assert_eq!(away(&mut members, at(14)), 10, "both, at six seconds after the beat at eight");
    a.talk(&mut members, at(14));
    assert_eq!(away(&mut members, at(14)), 5, "this beat confirms the one at ten");
    b.shout(&mut members, at(15));
    b.shout(&mut members, at(15));
    assert_eq!(away(&mut members, at(16)), 10, "beats alone are no contact");
    assert!(members.is_dead(Incarnation(2), at(16)));
}

#[test]
fn a_beat_that_comes_after_a_later_one_changes_nothing() {
    let (mut members, [mut a]) = company::<1>();
    let late = Beat { lease: directory(0), stance: Stance::Leaving, ..a.beat.clone() };
    a.talk(&mut members, at(12));
    assert!(!members.knows(&late, at(13)));
    assert!(members.beat(&late, 0, &rules(), at(13)).is_none());
    assert_eq!(members.all["a"].own.products[Product::Directory], 10);
}

#[test]
fn who_was_apart_is_back_when_it_is_joined_with_a_replay() {
    let (mut members, [mut a]) = company::<1>();
    a.beat.stance = Stance::Apart;
    a.beat.replay = Some(Vec::new());
    for secs in [100, 102, 104] {
        assert_eq!(a.talk(&mut members, at(secs)).lease, directory(10).or_more(&a.beat.lease));
        assert_eq!(away(&mut members, at(secs)), 10);
    }
    (a.beat.stance, a.beat.replay) = (Stance::Joined, None);
    a.talk(&mut members, at(106));
    assert_eq!(away(&mut members, at(106)), 10, "it has not said what it spent");
    a.beat.replay = Some(Vec::new());
    a.talk(&mut members, at(108));
    assert_eq!(away(&mut members, at(108)), 0);
}

#[test]
fn a_lease_comes_back_when_no_replica_can_be_spending_it_any_more() {
    let (mut members, _) = company::<1>();
    // 72.2 s of quarantine, 600 s of life, 66.1 s until the last permit has cooled.
    assert_eq!(away(&mut members, at_millis(10_000 + 738_299)), 10);
    assert_eq!(away(&mut members, at_millis(10_000 + 738_300)), 0);
    assert!(members.all.is_empty());
    assert_eq!(members.away(&rules(), at_millis(10_000 + 978_299)).ip, 100, "the IP's window is longer");
    assert_eq!(members.away(&rules(), at_millis(10_000 + 978_300)).ip, 0);
}

#[test]
fn who_has_no_lease_is_forgotten_when_all_it_sent_has_cooled() {
    let (mut members, _) = company::<1>();
    let mut late = Peer::new("late", 9);
    assert_eq!(late.talk(&mut members, at(10)).peers, 2);
    members.away(&rules(), at_millis(76_099));
    assert_eq!(members.all.len(), 2);
    members.away(&rules(), at_millis(76_100));
    assert_eq!(members.all.len(), 1);
}

#[test]
fn a_restart_frees_a_lease_at_once_if_it_was_not_being_spent() {
    let (mut members, _) = company::<1>();
    let mut again = Peer::new("a", 7);
    again.talk(&mut members, at(12));
    assert_eq!((again.lease(), away(&mut members, at(12))), (10, 0));
}

#[test]
fn a_restart_after_an_outage_frees_it_when_what_was_spent_has_cooled() {
    let (mut members, _) = company::<1>();
    let mut again = Peer::new("a", 7);
    again.talk(&mut members, at(200));
    assert_eq!((again.lease(), away(&mut members, at(200))), (0, 10));
    assert_eq!(away(&mut members, at_millis(266_099)), 10);
    assert_eq!(away(&mut members, at_millis(266_100)), 0);
    assert_eq!(members.away(&rules(), at_millis(506_099)).ip, 100, "the IP's window is longer");
    assert_eq!(members.away(&rules(), at_millis(506_100)).ip, 0);
}

#[test]
fn an_older_run_gets_the_name_when_the_newer_one_is_gone_and_its_lease_stays_away() {
    let (mut members, [mut a]) = company::<1>();
    let mut older = Peer::new("a", 0);
    assert!(older.shout(&mut members, at(13)).is_none());
    older.talk(&mut members, at(14));
    assert_eq!((older.lease(), away(&mut members, at(14))), (0, 10));
    assert!(a.shout(&mut members, at(15)).is_some(), "a newer one takes it at any time");
    assert_eq!(away(&mut members, at_millis(748_299)), 20, "once kept and once believed: too much rather");
}

#[test]
fn who_leaves_frees_its_lease_at_once_unless_it_may_have_spent_it() {
    let (mut members, [mut a, mut b, mut c]) = company::<3>();
    a.beat.stance = Stance::Leaving;
    assert_eq!(a.talk(&mut members, at(11)).peers, 3, "what it sent still cools");
    assert_eq!(away(&mut members, at(11)), 0);
    assert!(members.is_dead(Incarnation(1), at(11)));
    (b.beat.stance, c.beat.stance) = (Stance::Leaving, Stance::Leaving);
    (b.beat.acked, c.beat.acked) = (0, 0);
    b.beat.replay = Some(Vec::new());
    b.shout(&mut members, at(30));
    assert_eq!(away(&mut members, at(30)), 3, "only that of the other is");
    c.shout(&mut members, at(30));
    assert_eq!(away(&mut members, at_millis(96_099)), 3);
    assert_eq!(away(&mut members, at_millis(96_100)), 0);
}

#[test]
fn the_ip_lease_grows_only_by_what_is_not_busy() {
    let mut members = Members::new();
    let mut a = Peer::new("a", 1);
    a.beat.number = 1;
    let told = members.beat(&a.beat, 730, &rules(), at(1)).expect("known");
    assert_eq!((told.lease.products[Product::Directory], told.lease.ip), (10, 70));
}

#[test]
fn the_ip_lease_follows_what_the_product_leases_allow() {
    let (mut members, [mut a, mut b]) = company::<2>();
    a.beat.demand = Pools { ip: 900, ..directory(900) };
    b.beat.demand = Pools { ip: 100, ..directory(100) };
    for secs in [12, 14, 16, 18, 20] {
        a.talk(&mut members, at(secs));
        b.talk(&mut members, at(secs));
    }
    assert_eq!((a.lease(), b.lease()), (9, 1));
    assert_eq!((a.beat.lease.ip, b.beat.lease.ip), (90, 10));
}

/// The company whose store has become another run, at eleven seconds.
fn lost<const N: usize>() -> (Members, [Peer; N]) {
    let (_, mut peers) = company::<N>();
    let mut members = Members::new();
    assert!(members.enter("next", &rules(), at(11)));
    assert!(!members.enter("next", &rules(), at(11)));
    for peer in &mut peers {
        peer.beat.uptime = Duration::from_secs(3600);
    }
    (members, peers)
}

#[test]
fn i13_nothing_is_granted_after_a_loss_until_everybody_has_replayed() {
    let (mut members, [mut a, mut b]) = lost::<2>();
    for peer in [&mut a, &mut b] {
        let told = peer.talk(&mut members, at(12));
        assert!(told.wants_replay && !told.learns_for.is_zero());
        peer.beat.replay = Some(Vec::new());
    }
    assert!(!a.talk(&mut members, at(14)).wants_replay);
    assert!(members.learning_until() > at(14));
    assert!(b.talk(&mut members, at(14)).learns_for.is_zero());
    assert!(members.learning_until() <= at(14));
    assert!(!members.has_given_up_learning());
    assert_eq!((away(&mut members, at(14)), a.lease(), b.lease()), (0, 5, 5), "nothing is unclear");
}

#[test]
fn i13_a_replay_that_was_sent_before_the_loss_does_not_count() {
    let (mut members, [mut a]) = lost::<1>();
    a.beat.replay = Some(Vec::new());
    assert!(a.talk(&mut members, at(12)).wants_replay);
    assert!(members.learning_until() > at(12));
}

#[test]
fn i13_without_somebody_learning_lasts_until_all_that_it_sent_has_cooled() {
    let (mut members, [mut a, mut b, _]) = lost::<3>();
    for secs in [12, 14] {
        for peer in [&mut a, &mut b] {
            assert_eq!(peer.talk(&mut members, at(secs)).peers, 3);
            peer.beat.replay = Some(Vec::new());
        }
    }
    assert_eq!(members.learning_until(), at_millis(11_000 + 66_100));
    members.enter("next", &rules(), at_millis(77_100));
    assert!(members.has_given_up_learning());
    assert!(!members.has_given_up_learning(), "it is said once");
}

#[test]
fn the_lease_of_who_does_not_come_back_stays_away_until_it_can_have_ended() {
    let (mut members, [mut a, mut b, mut c]) = lost::<3>();
    let mut secs = 12;
    while secs < 90 {
        a.talk(&mut members, at(secs));
        b.talk(&mut members, at(secs));
        (a.beat.replay, b.beat.replay) = (Some(Vec::new()), Some(Vec::new()));
        secs += 2;
    }
    assert_eq!((away(&mut members, at(88)), a.lease(), b.lease()), (3, 4, 3));
    // It comes back after all, from an outage.
    (c.beat.stance, c.beat.replay) = (Stance::Apart, Some(Vec::new()));
    assert_eq!(c.talk(&mut members, at(89)).peers, 3);
    assert_eq!(away(&mut members, at(89)), 3, "not twice");
    c.talk(&mut members, at(91));
    assert_eq!(away(&mut members, at(91)), 3);
    c.beat.stance = Stance::Joined;
    c.talk(&mut members, at(93));
    a.talk(&mut members, at(93));
    b.talk(&mut members, at(93));
    assert_eq!(away(&mut members, at(93)), 0);
}

#[test]
fn what_was_unclear_ends_by_itself() {
    let (mut members, [mut a, _]) = lost::<2>();
    a.talk(&mut members, at(12));
    a.beat.replay = Some(Vec::new());
    let mut secs = 14;
    while secs < 760 {
        a.talk(&mut members, at(secs));
        let expected = if at(secs) < at_millis(11_000 + 738_300) { 5 } else { 0 };
        if secs > 14 {
            assert_eq!(away(&mut members, at(secs)), expected, "{secs}");
        }
        secs += 2;
    }
    assert_eq!(a.lease(), 10);
}

#[test]
fn i13_a_restarted_member_does_not_stand_for_what_it_sent_before() {
    let (mut members, [mut a, mut b]) = lost::<2>();
    b.beat.uptime = Duration::from_secs(30);
    for secs in [12, 14, 16] {
        a.talk(&mut members, at(secs));
        b.talk(&mut members, at(secs));
        (a.beat.replay, b.beat.replay) = (Some(Vec::new()), Some(Vec::new()));
    }
    assert_eq!(members.learning_until(), at_millis(11_000 + 60_100), "nobody is missing, but history is");
    members.enter("next", &rules(), at_millis(52_099));
    assert_eq!(members.learning_until(), at_millis(71_100));
    members.enter("next", &rules(), at_millis(52_100));
    assert_eq!(members.learning_until(), at_millis(52_100), "66.1 s after 30 s before the beat at 16 s");
}

#[test]
fn a_stranger_does_not_stand_for_one_who_is_missing() {
    let (mut members, [mut a, _]) = lost::<2>();
    let mut stranger = Peer::new("stranger", 77);
    for secs in [12, 14] {
        a.talk(&mut members, at(secs));
        assert_eq!(stranger.talk(&mut members, at(secs)).peers, 3, "both, and the one who is missing");
        (a.beat.replay, stranger.beat.replay) = (Some(Vec::new()), Some(Vec::new()));
    }
    assert_eq!(members.learning_until(), at_millis(77_100));
    assert_eq!(away(&mut members, at(90)), 10, "five of who is missing, and of the others, silent by now");
}

#[test]
fn what_members_were_told_is_away_stays_so_after_a_loss() {
    let (mut members, [mut a]) = lost::<1>();
    a.beat.lease = directory(4);
    a.beat.away = (directory(3), Duration::from_secs(50));
    for secs in [12, 14, 16] {
        a.talk(&mut members, at(secs));
        (a.beat.away, a.beat.replay) = ((Pools::none(), Duration::ZERO), Some(Vec::new()));
    }
    assert!(members.learning_until() <= at(16));
    assert_eq!(away(&mut members, at(16)), 3);
    assert_eq!(a.lease(), 7, "of the ten, three are not to be had");
    a.talk(&mut members, at(18));
    assert_eq!(away(&mut members, at(19)), 3);
    a.talk(&mut members, at(61));
    a.talk(&mut members, at(62));
    assert_eq!(away(&mut members, at(62)), 0);
}

#[test]
fn a_store_that_was_never_used_learns_for_a_window() {
    let mut members = Members::new();
    members.enter("first", &rules(), at(5));
    let mut a = Peer::new("a", 1);
    a.beat.uptime = Duration::from_secs(1);
    assert_eq!(a.talk(&mut members, at(5)).learns_for, Duration::from_millis(60_100));
    a.beat.replay = Some(Vec::new());
    a.talk(&mut members, at(7));
    assert_eq!(a.lease(), 0, "everything is unclear");
    for secs in [60, 62, 64, 66, 68] {
        a.talk(&mut members, at(secs));
    }
    assert!(members.has_given_up_learning());
    assert_eq!((a.lease(), away(&mut members, at(68))), (10, 0));
}

#[test]
fn what_is_away_is_known_at_every_moment_without_a_beat() {
    let (members, _) = company::<3>();
    let mut often = members.clone();
    for millis in (10_000..760_000).step_by(500) {
        let mut once = members.clone();
        assert_eq!(away(&mut often, at_millis(millis)), away(&mut once, at_millis(millis)));
    }
}

#[test]
fn there_is_a_most_of_members() {
    let mut members = Members::new();
    for n in 0..MEMBERS_MAX as u64 {
        let mut peer = Peer::new(&format!("{n}"), n);
        peer.beat.number = 1;
        members.meet(&peer.beat, &rules(), at(1));
        members.all.get_mut(&peer.beat.member).expect("met").forget_at = at(100);
    }
    assert!(!members.knows(&Peer::new("one more", 9).beat, at(1)));
}
