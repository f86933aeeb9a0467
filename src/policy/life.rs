//! When a connection is looked after without being called: the daily question about it, and the next try of a
//! disconnect that Finch did not confirm.

use super::class::Class;
use crate::finch::error::FinchError;
use crate::types::{ConnectionId, UnixMillis};
use std::time::Duration;

/// The longest pause between two tries of a disconnect.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// The shortest pause between two questions of a round.
const GAP_MAX: Duration = Duration::from_secs(1);

/// What Finch's answer to `/disconnect` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The connection is gone there.
    Done,
    /// It may still be there, and billed.
    Pending,
}

/// Reads an answer to `/disconnect`. A dead token and a connection that is not there are as good as success; a 401 for
/// another reason is not, for its token still counts. A 404 is Finch's when it is in Finch's words: one of something on
/// the way, or of a wrong `finch.base_url`, would cost the token.
pub const fn parting(status: u16, class: Class, error: &FinchError) -> Parting {
    let is_finchs = error.name.is_some() || error.finch_code.is_some();
    match (status, class) {
        (200..=299, _) | (401, Class::Disconnected) => Parting::Done,
        (404, _) if is_finchs => Parting::Done,
        _ => Parting::Pending,
    }
}

/// How long to wait after a disconnect failed this often: `first` and then twice as long each time, up to an hour, give
/// or take a quarter. `chance` is from 0 to below 1.
pub fn pause(failures: u32, first: Duration, chance: f64) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX.max(first)).mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
}

/// The latest time, not after `now`, at which this connection was to be asked about. Connections are spread evenly over
/// `every` by their ids, the same on every replica and after every restart.
pub fn beat(id: &ConnectionId, every: Duration, now: UnixMillis) -> UnixMillis {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let offset = i64::try_from(spread(id.as_str()) >> 1).unwrap_or_default() % every;
    UnixMillis(now.0 - (now.0 - offset).rem_euclid(every))
}

/// Whether a connection is to be asked about now; `last` is when it was.
pub fn is_due(id: &ConnectionId, every: Duration, last: Option<UnixMillis>, now: UnixMillis) -> bool {
    last.is_none_or(|last| last < beat(id, every, now))
}

/// How long a round rests between two questions, so that what was missed is not asked for all at once.
pub fn gap(every: Duration, connections: usize) -> Duration {
    let share = u32::try_from(connections.max(1)).unwrap_or(u32::MAX).saturating_mul(4);
    (every / share).min(GAP_MAX)
}

/// FNV-1a and a finishing mix: the same everywhere, and even enough for a schedule.
fn spread(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MINUTE: Duration = Duration::from_secs(60);

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new(format!("7e965183-9332-423c-9259-3edafb33{n:04}")).expect("an id")
    }

    #[test]
    fn only_what_shows_that_a_connection_is_gone_ends_its_disconnect() {
        for (status, class, parting_of_it) in [
            (200, Class::Ok, Parting::Done),
            (401, Class::Disconnected, Parting::Done),
            (404, Class::InvalidRequest, Parting::Done),
            (302, Class::FinchError, Parting::Pending),
            (401, Class::ReauthenticationRequired, Parting::Pending),
            (401, Class::ApplicationBlocked, Parting::Pending),
            (400, Class::InvalidRequest, Parting::Pending),
            (403, Class::PermissionDenied, Parting::Pending),
            (429, Class::RateLimited, Parting::Pending),
            (500, Class::FinchError, Parting::Pending),
            (502, Class::ProviderError, Parting::Pending),
        ] {
            let error = FinchError { name: Some("not_found_error".to_owned()), ..FinchError::default() };
            assert_eq!(parting(status, class, &error), parting_of_it, "{status} {class:?}");
        }
        let page = FinchError::read(b"<html>404 page not found</html>");
        assert_eq!(parting(404, Class::InvalidRequest, &page), Parting::Pending, "not in Finch's words");
    }

    #[test]
    fn pauses_double_from_a_minute_to_an_hour_give_or_take_a_quarter() {
        for (failures, minutes) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (u32::MAX, 60)]
        {
            let middle = MINUTE * minutes;
            assert_eq!(pause(failures, MINUTE, 0.5), middle, "{failures}");
            assert_eq!(pause(failures, MINUTE, 0.0), middle.mul_f64(0.75), "{failures}");
            assert!(pause(failures, MINUTE, 1.0) <= middle.mul_f64(1.25), "{failures}");
        }
    }

    #[test]
    fn a_connection_is_due_once_in_a_span_and_at_the_same_time_of_it() {
        let (one, now) = (id(1), UnixMillis(1_700_000_000_000));
        let at = beat(&one, DAY, now);
        assert!(at <= now && now.0 - at.0 < 86_400_000);
        for (last, now, due) in [
            (None, now, true),
            (Some(UnixMillis(at.0 - 1)), now, true),
            (Some(at), now, false),
            (Some(now), UnixMillis(at.0 + 86_399_999), false),
            (Some(now), UnixMillis(at.0 + 86_400_000), true),
        ] {
            assert_eq!(is_due(&one, DAY, last, now), due, "{last:?} {now:?}");
        }
        assert_eq!(beat(&one, DAY, UnixMillis(at.0 + 86_400_000)).0, at.0 + 86_400_000);
        // Before 1970 and spans of nothing are nobody's, and no reason to fall over.
        assert!(beat(&one, Duration::ZERO, UnixMillis(-5)).0 <= -5);
    }

    #[test]
    fn connections_are_spread_evenly() {
        let now = UnixMillis(1_700_000_000_000);
        let mut hours = [0_u32; 24];
        for n in 0..2_400 {
            let at = usize::try_from(beat(&id(n), DAY, now).0.rem_euclid(86_400_000) / 3_600_000);
            hours[at.expect("an hour")] += 1;
        }
        assert!(hours.iter().all(|n| (60..=140).contains(n)), "{hours:?}");
    }

    #[test]
    fn a_round_that_is_behind_does_not_rush() {
        assert_eq!(gap(DAY, 10), Duration::from_secs(1));
        assert_eq!(gap(DAY, 100_000), Duration::from_millis(216));
        assert_eq!(gap(Duration::from_secs(1), 0), Duration::from_millis(250));
    }
}
