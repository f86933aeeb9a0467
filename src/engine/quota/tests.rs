//! Waiting, in time that moves only when everybody sleeps.

use super::*;
use crate::limit::PerProduct;
use std::num::NonZeroU32;
use std::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

const SPAN: Duration = Duration::from_millis(60_100);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn rules(limit: u32) -> Rules {
    Rules::with_limits(PerProduct::from_fn(|product| NonZeroU32::new(limit).filter(|_| product.is_metered())))
}

fn directory(patience: Duration) -> AskFacts {
    AskFacts {
        product: Product::Directory,
        customer: None,
        priority: Priority::Interactive,
        patience,
        tag: None,
    }
}

/// A quota whose directory permits were spent and answered now.
async fn spent(limit: u32) -> Arc<Quota> {
    let quota = Quota::new(rules(limit));
    for _ in 0..limit {
        quota.admit(directory(Duration::ZERO)).await.expect("a free permit").arrived(false);
    }
    quota
}

/// Lets every task run until it sleeps.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Starts a call that waits, and returns once it stands in line.
async fn call(quota: &Arc<Quota>, patience: Duration) -> tokio::task::JoinHandle<Result<Permit, Refusal>> {
    let (quota, before) = (quota.clone(), in_line(quota));
    let line = quota.clone();
    let call = tokio::spawn(async move { quota.admit(directory(patience)).await });
    while in_line(&line) == before && !call.is_finished() {
        tokio::task::yield_now().await;
    }
    call
}

fn in_line(quota: &Quota) -> usize {
    quota.waiting(Product::Directory, Priority::Interactive)
}

fn used(quota: &Quota) -> u32 {
    quota.standing(Product::Directory).expect("directory is metered").used
}

#[tokio::test(start_paused = true)]
async fn calls_are_served_in_the_order_of_their_coming() {
    let quota = spent(3).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut calls = JoinSet::new();
    for i in 0..10 {
        let (quota, served) = (quota.clone(), served.clone());
        calls.spawn(async move {
            sleep(Duration::from_millis(i)).await;
            let permit = quota.admit(directory(secs(600))).await.expect("in time");
            served.lock().expect("no panic").push((i, permit.waited()));
            permit.arrived(false);
        });
    }
    calls.join_all().await;
    let served = served.lock().expect("no panic").clone();
    let expected = (0..10).map(|i| (i, SPAN * (i as u32 / 3 + 1) - Duration::from_millis(i)));
    assert_eq!(served, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_served_in_time_is_told_at_once() {
    let quota = spent(3).await;
    let refusal = quota.admit(directory(secs(15))).await.expect_err("no permit within 15 s");
    let scope = Scope::Product(Product::Directory);
    let (reason, waited) = (Reason::Quota, Duration::ZERO);
    assert_eq!(refusal, Refusal::Limited { retry_in: SPAN, scope, reason, waited });
    assert_eq!(quota.now(), Moment::ZERO, "it did not wait to say so");
    let permit = quota.admit(directory(SPAN)).await.expect("a patience of just that length");
    assert_eq!(permit.waited(), SPAN);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_deadline_when_answers_are_slow() {
    let quota = Quota::new(rules(1));
    let slow = quota.admit(directory(Duration::ZERO)).await.expect("free");
    let hasty = call(&quota, secs(62)).await;
    let patient = call(&quota, secs(600)).await;
    sleep(secs(4)).await;
    slow.arrived(false);
    let refusal = hasty.await.expect("no panic").expect_err("free only after 64.1 s");
    assert!(matches!(refusal, Refusal::Limited { waited, .. } if waited == SPAN), "{refusal:?}");
    let permit = patient.await.expect("no panic").expect("in time");
    assert_eq!(permit.waited(), SPAN + secs(4), "the permit that the other could not wait for");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_hands_its_place_over() {
    let quota = spent(1).await;
    let first = call(&quota, secs(600)).await;
    let second = call(&quota, secs(600)).await;
    let third = call(&quota, secs(600)).await;
    first.abort();
    settle().await;
    assert_eq!(in_line(&quota), 2);
    let second = second.await.expect("no panic").expect("in time");
    assert_eq!(second.waited(), SPAN, "the place of the first");
    second.arrived(false);
    assert_eq!(third.await.expect("no panic").expect("in time").waited(), SPAN * 2);
    assert!(quota.waiters.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refund_serves_the_next_at_once() {
    let quota = Quota::new(rules(1));
    let permit = quota.admit(directory(Duration::ZERO)).await.expect("free");
    let next = call(&quota, secs(600)).await;
    advance(secs(1)).await;
    permit.refund();
    assert_eq!(next.await.expect("no panic").expect("the same permit").waited(), secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_permit_dropped_without_a_word_is_spent() {
    let quota = Quota::new(rules(2));
    let silent = quota.admit(directory(Duration::ZERO)).await.expect("free");
    let mut told = quota.admit(directory(Duration::ZERO)).await.expect("free");
    advance(secs(2)).await;
    assert!(told.is_good().await, "taken anew at 2 s");
    drop((silent, told));
    // One second until it is sent, five on its way, then its window.
    advance(SPAN + secs(3)).await;
    assert_eq!(used(&quota), 2);
    advance(secs(1)).await;
    assert_eq!(used(&quota), 1);
    advance(secs(2)).await;
    assert_eq!(used(&quota), 0);
}

#[tokio::test(start_paused = true)]
async fn a_permit_kept_too_long_is_no_longer_good() {
    let quota = Quota::new(rules(1));
    let mut permit = quota.admit(directory(Duration::ZERO)).await.expect("free");
    advance(secs(70)).await;
    assert!(!permit.is_good().await);
    permit.refund();
    assert_eq!(used(&quota), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_everyone_and_lets_nobody_in() {
    let quota = spent(2).await;
    let granted = spent(1).await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.push(call(&quota, secs(600)).await);
    }
    advance(secs(1)).await;
    quota.close();
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect_err("draining"), Refusal::Draining);
    }
    assert_eq!(quota.now(), Moment::at(secs(1)), "at once");
    assert_eq!(in_line(&quota), 0);
    assert!(quota.waiters.is_empty());
    let payment = AskFacts { product: Product::Payment, ..directory(secs(9)) };
    assert_eq!(quota.admit(payment).await.expect_err("draining"), Refusal::Draining);
    assert!(granted.admit(directory(SPAN)).await.is_ok(), "another quota is not concerned");
}

#[tokio::test(start_paused = true)]
async fn a_hold_stops_what_was_about_to_go() {
    let quota = spent(1).await;
    let call = call(&quota, secs(600)).await;
    quota.hold(Scope::EgressIp, secs(100));
    assert_eq!(quota.snapshot().holds, [(Scope::EgressIp, secs(100))]);
    assert_eq!(call.await.expect("no panic").expect("in time").waited(), secs(100));
    assert!(quota.snapshot().holds.is_empty());
}

#[tokio::test(start_paused = true)]
async fn everyone_whom_a_hold_outlasts_is_told_at_once() {
    let quota = spent(1).await;
    let first = call(&quota, secs(600)).await;
    let second = call(&quota, secs(900)).await;
    let patient = call(&quota, secs(9_000)).await;
    quota.hold(Scope::EgressIp, secs(3_600));
    for call in [first, second] {
        let refusal = call.await.expect("no panic").expect_err("held for an hour");
        let (retry_in, scope) = (secs(3_600), Scope::EgressIp);
        let (reason, waited) = (Reason::Hold, Duration::ZERO);
        assert_eq!(refusal, Refusal::Limited { retry_in, scope, reason, waited });
    }
    assert_eq!(patient.await.expect("no panic").expect("in time").waited(), secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_waiters_sleep_until_it_is_their_turn() {
    let quota = spent(20).await;
    let mut calls = JoinSet::new();
    for i in 0..200 {
        let quota = quota.clone();
        calls.spawn(async move {
            let permit = quota.admit(directory(secs(3_600))).await.expect("in time");
            // An answer takes between a tenth of a second and two.
            sleep(Duration::from_millis(100 + 190 * (i % 11))).await;
            permit.arrived(false);
        });
    }
    settle().await;
    assert_eq!(in_line(&quota), 200);
    let before = quota.snapshot().asks;
    sleep(secs(59)).await;
    assert_eq!(quota.snapshot().asks, before, "nobody stirs before a permit is free");
    calls.join_all().await;
    let woken = quota.snapshot().asks - before;
    assert!(woken < 200 * 5, "{woken} wake-ups for 200 calls");
    // Nobody oversleeps either: ten rounds of the window, and what the answers took.
    let lasted = quota.now().since(Moment::ZERO);
    assert!(lasted < SPAN * 10 + secs(2) * 11, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_shows_what_is_spent_and_who_waits() {
    let quota = spent(2).await;
    let call = call(&quota, secs(600)).await;
    let snapshot = quota.snapshot();
    assert_eq!(snapshot.products.len(), 10);
    let directory = snapshot.products.iter().find(|(product, _)| *product == Product::Directory);
    assert_eq!(directory.map(|(_, standing)| standing.used), Some(2));
    assert_eq!(snapshot.ip.map(|ip| ip.used), Some(2));
    assert_eq!(snapshot.waiting.len(), Product::ALL.len() * Priority::ALL.len());
    assert_eq!(snapshot.waiting.iter().map(|(_, _, waiting)| waiting).sum::<usize>(), 1);
    call.abort();
}
