//! What was opened lately: one load for many askers, nothing stale after a change, something to
//! serve while the store is down.
//!
//! Freshness is a matter of values, not of the map they lie in: each carries when it was loaded and
//! the epoch in which its load *began*. [`Cache::invalidate`] begins a new epoch and makes it the
//! key's floor; what was loaded below its floor is never served. A map alone would not do: a load
//! in flight when its key is removed puts the stale value back afterwards.

use crate::types::Moment;
use moka::future::Cache as Map;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Values kept.
const VALUES_MAX: u64 = 10_000;
/// "There is none" answers kept, apart from the values so that a flood of unknown names cannot push them out.
const ABSENT_MAX: u64 = 10_000;
/// How long "there is none" is believed.
const ABSENT_TTL: Duration = Duration::from_secs(5);
/// How long beyond its time a value is served while the store is down: payroll goes on.
pub(super) const STALE_MAX: Duration = Duration::from_secs(10 * 60);
/// While the store is down, it is asked once in this time per cache when there is something to serve.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Floors kept one by one; beyond this everything loaded before is dropped at once.
const FLOORS_MAX: usize = 10_000;
/// Loads for one question before giving up, when its key keeps changing under it.
const LOADS_MAX: usize = 8;

/// Whether a failure means the store is down, as opposed to an answer nobody may overlook.
pub(super) trait Failure: Clone + Send + Sync + 'static {
    /// True when an older value may be served instead.
    fn is_outage(&self) -> bool;
    /// The failure of a key that changed with each load.
    fn never_still() -> Self;
}

#[derive(Clone)]
struct Stored<V> {
    value: Option<V>,
    loaded_at: Moment,
    epoch: u64,
}

struct Floors<K> {
    epoch: u64,
    all: u64,
    each: HashMap<K, u64>,
}

/// A bounded cache of `V` by `K`.
pub(super) struct Cache<K, V> {
    values: Map<K, Stored<V>>,
    absent: Map<K, Stored<V>>,
    flights: Map<K, Stored<V>>,
    floors: Mutex<Floors<K>>,
    failed_at: Mutex<Option<Moment>>,
    loads: AtomicU64,
    ttl: Duration,
    jitter: RandomState,
}

impl<K, V> Cache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            // The map's own clock is only the broom: it sweeps out what may not even be served stale.
            values: Map::builder()
                .max_capacity(VALUES_MAX)
                .time_to_live(ttl.saturating_mul(2).saturating_add(STALE_MAX))
                .build(),
            absent: Map::builder().max_capacity(ABSENT_MAX).time_to_live(2 * ABSENT_TTL).build(),
            flights: Map::builder().max_capacity(VALUES_MAX).time_to_live(Duration::from_secs(1)).build(),
            floors: Mutex::new(Floors { epoch: 0, all: 0, each: HashMap::new() }),
            failed_at: Mutex::new(None),
            loads: AtomicU64::new(0),
            ttl,
            jitter: RandomState::new(),
        }
    }

    /// The value, `None` when there is none. Many askers at once share one load.
    ///
    /// # Errors
    /// That of the load, unless the store is down and an older value may still be served.
    pub(super) async fn get<E, F>(&self, key: &K, now: Moment, load: impl Fn() -> F) -> Result<Option<V>, E>
    where
        E: Failure,
        F: Future<Output = Result<Option<V>, E>>,
    {
        for _ in 0..LOADS_MAX {
            let held = self.values.get(key).await.filter(|held| !self.is_below_floor(key, held));
            if let Some(held) = &held
                && (now.since(held.loaded_at) < self.ttl_of(key, held) || self.is_resting(now))
                && now.since(held.loaded_at) < self.ttl.saturating_add(STALE_MAX)
            {
                return Ok(held.value.clone());
            }
            if held.is_none()
                && let Some(none) = self.absent.get(key).await
                && !self.is_below_floor(key, &none)
                && now.since(none.loaded_at) < ABSENT_TTL
            {
                return Ok(None);
            }
            let flight = self.flights.try_get_with_by_ref(key, self.fly(key, now, &load)).await;
            // A value that stayed behind would answer the next asker after its time.
            self.flights.invalidate(key).await;
            match flight {
                Ok(loaded) if self.is_below_floor(key, &loaded) => {}
                Ok(loaded) => return Ok(loaded.value),
                Err(cause) => {
                    let stale = held.filter(|held| {
                        cause.is_outage()
                            && !self.is_below_floor(key, held)
                            && now.since(held.loaded_at) < self.ttl.saturating_add(STALE_MAX)
                    });
                    return stale.map_or_else(|| Err((*cause).clone()), |held| Ok(held.value));
                }
            }
        }
        Err(E::never_still())
    }

    async fn fly<E, F>(&self, key: &K, now: Moment, load: &impl Fn() -> F) -> Result<Stored<V>, E>
    where
        E: Failure,
        F: Future<Output = Result<Option<V>, E>>,
    {
        // Before the load: a change that is made known from here on may be missing from what it sees.
        let epoch = self.lock().epoch;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let outcome = load().await;
        let down = outcome.as_ref().is_err_and(Failure::is_outage);
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = down.then_some(now);
        let stored = Stored { value: outcome?, loaded_at: now, epoch };
        if stored.value.is_some() {
            self.values.insert(key.clone(), stored.clone()).await;
        } else {
            self.values.invalidate(key).await;
            self.absent.insert(key.clone(), stored.clone()).await;
        }
        Ok(stored)
    }

    /// Makes everything loaded for the key until now unusable. Neither waits nor fails, so that it
    /// can stand right behind a commit.
    pub(super) fn invalidate(&self, key: &K) {
        let mut floors = self.lock();
        floors.epoch += 1;
        let epoch = floors.epoch;
        if floors.each.len() >= FLOORS_MAX && !floors.each.contains_key(key) {
            floors.each.clear();
            floors.all = epoch;
        } else {
            floors.each.insert(key.clone(), epoch);
        }
    }

    /// Makes everything loaded until now unusable.
    pub(super) fn invalidate_all(&self) {
        let mut floors = self.lock();
        floors.epoch += 1;
        floors.all = floors.epoch;
        floors.each.clear();
    }

    /// How often the store was asked.
    pub(super) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    fn is_below_floor(&self, key: &K, stored: &Stored<V>) -> bool {
        let floors = self.lock();
        stored.epoch < floors.all || floors.each.get(key).is_some_and(|floor| stored.epoch < *floor)
    }

    /// Whether the store failed a moment ago and should not be asked again yet.
    fn is_resting(&self, now: Moment) -> bool {
        self.failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| now.since(at) < RETRY_AFTER)
    }

    /// The time to live with up to a tenth more or less, so that what was loaded together does not
    /// expire together.
    fn ttl_of(&self, key: &K, stored: &Stored<V>) -> Duration {
        let part = self.jitter.hash_one((key, stored.epoch, stored.loaded_at)) % 201;
        self.ttl / 1000 * (900 + part as u32)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Floors<K>> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use tokio::sync::{Semaphore, oneshot};

    #[derive(Debug, Clone, PartialEq)]
    enum No {
        Down,
        Forged,
        Restless,
    }

    impl Failure for No {
        fn is_outage(&self) -> bool {
            matches!(self, No::Down)
        }
        fn never_still() -> Self {
            No::Restless
        }
    }

    type Shared = Arc<Cache<String, u32>>;

    const TTL: Duration = Duration::from_secs(60);

    fn cache() -> Shared {
        Arc::new(Cache::new(TTL))
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    async fn ask(cache: &Shared, now: Moment, answer: Result<Option<u32>, No>) -> Result<Option<u32>, No> {
        cache.get(&"k".to_owned(), now, || std::future::ready(answer.clone())).await
    }

    #[tokio::test]
    async fn v10_a_hundred_askers_at_once_cost_one_load() {
        let (cache, gate) = (cache(), Arc::new(Semaphore::new(0)));
        let askers: Vec<_> = (0..100)
            .map(|_| {
                let (cache, gate) = (Arc::clone(&cache), Arc::clone(&gate));
                tokio::spawn(async move {
                    cache
                        .get(&"k".to_owned(), at(0), || async {
                            drop(gate.acquire().await);
                            Ok::<_, No>(Some(7))
                        })
                        .await
                })
            })
            .collect();
        // One thread runs them all: after this many turns each has asked and waits.
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        for asker in askers {
            assert_eq!(asker.await.unwrap(), Ok(Some(7)));
        }
        assert_eq!(cache.loads(), 1);
    }

    #[tokio::test]
    async fn v10_an_unknown_name_is_looked_up_once_in_five_seconds() {
        let cache = cache();
        for now in [0, 1, 4] {
            assert_eq!(ask(&cache, at(now), Ok(None)).await, Ok(None));
        }
        assert_eq!(cache.loads(), 1);
        assert_eq!(ask(&cache, at(5), Ok(Some(1))).await, Ok(Some(1)));
        assert_eq!(cache.loads(), 2);
    }

    #[tokio::test]
    async fn v9_a_change_during_a_load_leaves_nothing_stale_behind() {
        let cache = cache();
        let stored = Arc::new(AtomicU32::new(1));
        let (began, has_begun) = oneshot::channel();
        let (go, may_go) = oneshot::channel::<()>();
        let first = tokio::spawn({
            let (cache, stored) = (Arc::clone(&cache), Arc::clone(&stored));
            let signals = Mutex::new(Some((began, may_go)));
            async move {
                cache
                    .get(&"k".to_owned(), at(0), || {
                        let seen = stored.load(Ordering::SeqCst);
                        let signals = signals.lock().unwrap().take();
                        async move {
                            if let Some((began, may_go)) = signals {
                                began.send(()).unwrap();
                                may_go.await.unwrap();
                            }
                            Ok::<_, No>(Some(seen))
                        }
                    })
                    .await
            }
        });
        has_begun.await.unwrap();
        stored.store(2, Ordering::SeqCst);
        cache.invalidate(&"k".to_owned());
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Some(2)), "the one who asked before sees the change");
        let after = ask(&cache, at(0), Ok(Some(9))).await;
        assert_eq!(after, Ok(Some(2)), "what is kept is the new value");
        assert_eq!(cache.loads(), 2);
    }

    #[tokio::test]
    async fn a_change_ends_a_value_and_an_absence_at_once() {
        let cache = cache();
        assert_eq!(ask(&cache, at(0), Ok(Some(1))).await, Ok(Some(1)));
        assert_eq!(ask(&cache, at(0), Ok(Some(2))).await, Ok(Some(1)));
        cache.invalidate(&"other".to_owned());
        assert_eq!(ask(&cache, at(0), Ok(Some(2))).await, Ok(Some(1)));
        cache.invalidate(&"k".to_owned());
        assert_eq!(ask(&cache, at(0), Ok(None)).await, Ok(None));
        cache.invalidate_all();
        assert_eq!(ask(&cache, at(0), Ok(Some(3))).await, Ok(Some(3)));
    }

    #[tokio::test]
    async fn a_value_lives_its_time_give_or_take_a_tenth() {
        let cache = cache();
        assert_eq!(ask(&cache, at(0), Ok(Some(1))).await, Ok(Some(1)));
        assert_eq!(ask(&cache, at(53), Ok(Some(2))).await, Ok(Some(1)));
        assert_eq!(ask(&cache, at(67), Ok(Some(2))).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn while_the_store_is_down_the_last_value_serves_for_ten_minutes() {
        let cache = cache();
        assert_eq!(ask(&cache, at(0), Err(No::Down)).await, Err(No::Down), "nothing to serve");
        assert_eq!(ask(&cache, at(0), Ok(Some(1))).await, Ok(Some(1)), "a failure is not kept");
        assert_eq!(ask(&cache, at(100), Err(No::Down)).await, Ok(Some(1)));
        let loads = cache.loads();
        assert_eq!(ask(&cache, at(100), Err(No::Down)).await, Ok(Some(1)));
        assert_eq!(cache.loads(), loads, "a store that is down is not asked by every caller");
        assert_eq!(ask(&cache, at(659), Err(No::Down)).await, Ok(Some(1)));
        assert_eq!(ask(&cache, at(661), Err(No::Down)).await, Err(No::Down));
    }

    #[tokio::test]
    async fn what_may_not_be_overlooked_is_never_covered_by_an_older_value() {
        let cache = cache();
        assert_eq!(ask(&cache, at(0), Ok(Some(1))).await, Ok(Some(1)));
        assert_eq!(ask(&cache, at(100), Err(No::Forged)).await, Err(No::Forged));
        cache.invalidate(&"k".to_owned());
        assert_eq!(ask(&cache, at(100), Err(No::Down)).await, Err(No::Down), "changed, so not served stale");
    }

    #[tokio::test]
    async fn more_changes_than_floors_drop_everything_rather_than_forget_one() {
        let cache = cache();
        assert_eq!(ask(&cache, at(0), Ok(Some(1))).await, Ok(Some(1)));
        cache.invalidate(&"k".to_owned());
        for n in 0..=FLOORS_MAX {
            cache.invalidate(&n.to_string());
        }
        assert!(cache.lock().each.len() <= FLOORS_MAX);
        assert_eq!(ask(&cache, at(0), Ok(Some(2))).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn a_key_that_changes_with_every_load_is_given_up() {
        let cache = cache();
        let asked = cache
            .get(&"k".to_owned(), at(0), || {
                cache.invalidate(&"k".to_owned());
                std::future::ready(Ok::<_, No>(Some(1)))
            })
            .await;
        assert_eq!(asked, Err(No::Restless));
    }
}
