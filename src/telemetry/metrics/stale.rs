//! Connections whose data Finch could not renew for more than a day, as far as they were asked for lately.

use super::{MetricsError, register, whole};
use crate::types::{ConnectionId, UnixMillis};
use prometheus::{IntGauge, Registry};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Finch renews data every day; what is older was not renewed.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection that nobody asked for this long is not counted any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The most that are remembered; more are not counted.
const STALE_MAX: usize = 10_000;

/// Which connections served old data, and of which product.
#[derive(Debug)]
pub struct Stale {
    connections: IntGauge,
    served: Mutex<BTreeMap<(ConnectionId, &'static str), UnixMillis>>,
}

impl Stale {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let connections = IntGauge::new(
            "perch_connections_stale",
            "Connections whose last answer for some product, in the last day, was more than a day old",
        )?;
        Ok(Self { connections: register(r, connections)?, served: Mutex::default() })
    }

    /// An answer of this connection held data of this age.
    pub fn note(&self, connection: &ConnectionId, product: &'static str, age: Duration, now: UnixMillis) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (connection.clone(), product);
        if age <= OLD {
            served.remove(&key);
        } else if served.len() < STALE_MAX || served.contains_key(&key) {
            served.insert(key, now);
        }
    }

    /// Counts them.
    pub fn look(&self, now: UnixMillis) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.retain(|_, at| now < at.plus(FORGOTTEN_AFTER));
        let (mut count, mut last) = (0, None);
        for (connection, _) in served.keys() {
            // They are in the order of their connections.
            if last != Some(connection) {
                count += 1;
                last = Some(connection);
            }
        }
        self.connections.set(whole(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn named(n: usize) -> ConnectionId {
        ConnectionId::new(format!("c-{n:05}")).expect("an id")
    }

    #[test]
    fn a_connection_is_stale_until_every_product_was_renewed_or_nobody_asks() {
        let stale = Stale::register(&Registry::new()).expect("metrics");
        let count = |now| {
            stale.look(UnixMillis(now));
            stale.connections.get()
        };
        let (old, new) = (OLD + Duration::from_secs(1), OLD);
        stale.note(&named(1), "directory", old, UnixMillis(0));
        stale.note(&named(1), "company", old, UnixMillis(0));
        stale.note(&named(2), "company", old, UnixMillis(1));
        stale.note(&named(3), "company", new, UnixMillis(1));
        assert_eq!(count(2), 2);
        stale.note(&named(1), "company", new, UnixMillis(3));
        assert_eq!(count(3), 2, "its directory is old still");
        stale.note(&named(1), "directory", new, UnixMillis(4));
        assert_eq!(count(4), 1);
        assert_eq!(count(DAY), 1);
        assert_eq!(count(DAY + 1), 0);
    }

    #[test]
    fn more_than_the_bound_are_not_remembered() {
        let stale = Stale::register(&Registry::new()).expect("metrics");
        for n in 0..STALE_MAX + 5 {
            stale.note(&named(n), "company", OLD * 2, UnixMillis(0));
        }
        stale.look(UnixMillis(1));
        assert_eq!(stale.connections.get(), i64::try_from(STALE_MAX).expect("small"));
    }
}
