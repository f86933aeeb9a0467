//! Who may do what one alone should do, among the tasks of one process: the first to claim a name has it for a while.

use crate::types::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// Names that are remembered at once. Beyond that, those that end first make room.
const NAMES_MAX: usize = 4_096;

/// The names that are claimed, each until when.
#[derive(Debug, Default)]
pub struct Claims(HashMap<Box<str>, Moment>);

impl Claims {
    /// Claims a name for this long; `false` when it is claimed already.
    pub fn claim(&mut self, name: &str, span: Duration, now: Moment) -> bool {
        if self.0.get(name).is_some_and(|until| *until > now) {
            return false;
        }
        if self.0.len() >= NAMES_MAX {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() >= NAMES_MAX
            && let Some(first) = self.0.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(name.into(), now + span);
        true
    }

    /// Gives a name back.
    pub fn release(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_name_has_one_owner_at_a_time() {
        let mut claims = Claims::default();
        assert!(claims.claim("a", SPAN, at(0)));
        assert!(!claims.claim("a", SPAN, at(9)));
        assert!(claims.claim("b", SPAN, at(9)), "another name is free");
        assert!(claims.claim("a", SPAN, at(10)), "it has run out");
        claims.release("a");
        assert!(claims.claim("a", SPAN, at(10)), "it was given back");
    }

    #[test]
    fn no_more_names_are_kept_than_there_is_room_for() {
        let mut claims = Claims::default();
        let named = NAMES_MAX + 100;
        for n in 0..named {
            assert!(claims.claim(&n.to_string(), SPAN + Duration::from_secs(n as u64), at(0)));
            assert!(claims.0.len() <= NAMES_MAX);
        }
        assert!(!claims.claim(&(named - 1).to_string(), SPAN, at(0)), "the one that ends last is kept");
    }
}
