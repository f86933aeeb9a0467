//! Looks at the server for `perch check --online`: who it is, how far away, and how it is set.

use super::advice::Facts;
use super::connect::Redis;
use super::link::Server;
use super::reply::{LinkError, Reply};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What is called in place of the ledger: it needs the same rights, and changes nothing.
pub const PROBE: &str = "return {redis.call('TIME')[1], redis.call('EXISTS', KEYS[1])}";

/// How many round trips are measured. Odd ones out do not move the median of so many.
const PINGS: usize = 20;

/// What was found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Who answers: of a cluster, the owner of the quota's slot.
    pub server: Server,
    /// The median round trip of twenty.
    pub round_trip: Duration,
    /// What it says of itself and of its settings.
    pub facts: Facts,
}

/// Looks, by a way whose script is [`PROBE`]. Changes nothing but the server's cache of scripts.
///
/// # Errors
/// [`LinkError`]: there is no such server, or it does not let perch in, or not at its keys.
pub async fn survey(redis: &Redis, within: Duration) -> Result<Survey, LinkError> {
    let link = redis.connect(within).await?;
    link.call(&[], within).await?;
    let looking = async {
        let mut round_trips = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            link.ping().await?;
            round_trips.push(began.elapsed());
        }
        round_trips.sort_unstable();
        let info = link.info().await?;
        let mut config = BTreeMap::new();
        for name in ["timeout", "min-replicas-to-write", "maxmemory-policy"] {
            match link.config(name).await {
                Ok(reply) => config.extend(pairs(&reply)),
                // Many providers forbid it: unknown command, or no permission.
                Err(LinkError::BadReply(_) | LinkError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let round_trip = round_trips.get(PINGS / 2).copied().unwrap_or_default();
        Ok(Survey { server: link.server().clone(), round_trip, facts: Facts { info, config, round_trip } })
    };
    timeout(within, looking).await.unwrap_or(Err(LinkError::TimedOut))
}

/// `[name, value, …]`.
fn pairs(reply: &Reply) -> Vec<(String, String)> {
    let owned = |pair: &[Reply]| match pair {
        [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
        _ => None,
    };
    reply.as_list().unwrap_or_default().chunks(2).filter_map(owned).collect()
}
