//! The newest version seen of each connection, so that an older row put back into the store is not
//! believed. It lasts as long as the process: across restarts only the store's own count of changes tells.

use crate::types::ConnectionId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Connections remembered; twice the most perch is made for.
const SEEN_MAX: usize = 200_000;

#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<ConnectionId, u64>>);

impl Seen {
    /// Whether `version` is not older than one seen before; remembers it when so.
    pub(super) fn admits(&self, id: &ConnectionId, version: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(id) {
            Some(newest) if version < *newest => false,
            Some(newest) => {
                *newest = version;
                true
            }
            None => {
                // Which one goes does not matter: the attacker who replays a row does not choose it.
                if seen.len() >= SEEN_MAX
                    && let Some(one) = seen.keys().next().cloned()
                {
                    seen.remove(&one);
                }
                seen.insert(id.clone(), version);
                true
            }
        }
    }

    /// The newest version seen, 0 for none.
    pub(super) fn newest(&self, id: &ConnectionId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_not_admitted_and_memory_is_bounded() {
        let seen = Seen::default();
        let id = |n: usize| ConnectionId::new(format!("c{n}")).unwrap();
        assert!(seen.admits(&id(0), 2));
        assert!(seen.admits(&id(0), 2));
        assert!(!seen.admits(&id(0), 1));
        assert_eq!(seen.newest(&id(0)), 2);
        for n in 0..=SEEN_MAX {
            assert!(seen.admits(&id(n + 1), 1));
        }
        assert_eq!(seen.0.lock().unwrap().len(), SEEN_MAX);
    }
}
