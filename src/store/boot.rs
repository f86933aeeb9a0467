//! A clock that goes on while perch does not run: how long ago something was, measured across a restart.
//!
//! On Linux it is the time since the machine booted, suspended time included, named by the id of that
//! boot. Nothing sets that clock, so a span on it is as good as one inside the process. Where the kernel
//! has no such clock or no boot id the wall clock stands in: a span across a restart is then wrong by as
//! much as somebody sets the clock meanwhile. Setting it back is noticed; setting it forward is not.

use crate::telemetry::clock::unix_now;
use crate::types::UnixMillis;
use std::time::Duration;

/// The epoch of a machine whose boots cannot be told apart.
const WALL: &str = "wall clock";

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Since the beginning of the clock's epoch.
    pub steady: Duration,
    /// By the wall clock, for comparison across epochs.
    pub wall: UnixMillis,
}

/// The clock, and the epoch that its readings belong to. Readings of two epochs cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootClock {
    epoch: String,
    source: Source,
}

/// Where readings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Boot,
    Wall,
    /// A clock that stands still.
    #[cfg(test)]
    Stopped(Stamp),
}

impl BootClock {
    /// The clock of this machine since its boot.
    pub fn of_this_machine() -> Self {
        match since_boot().and_then(|_| boot_id()) {
            Some(epoch) => Self { epoch, source: Source::Boot },
            None => Self { epoch: WALL.to_owned(), source: Source::Wall },
        }
    }

    /// What the readings can be compared within.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// This moment.
    pub fn now(&self) -> Stamp {
        let wall = unix_now();
        let steady = match self.source {
            Source::Boot => since_boot().expect("a clock that answered once answers"),
            Source::Wall => Duration::from_millis(wall.0.unsigned_abs()),
            #[cfg(test)]
            Source::Stopped(at) => return at,
        };
        Stamp { steady, wall }
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<Duration> {
    None
}

/// The kernel's name of this boot. A container with a time namespace of its own shifts the clock, so the
/// namespace is part of the name.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    let namespace = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    (!id.is_empty()).then(|| format!("{id} {}", namespace.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A clock that stands still at this moment of a boot.
    pub(in crate::store) fn stopped(boot: &str, at: Stamp) -> BootClock {
        BootClock { epoch: boot.to_owned(), source: Source::Stopped(at) }
    }

    #[test]
    fn two_readings_of_one_boot_are_in_order_and_of_one_epoch() {
        let (one, other) = (BootClock::of_this_machine(), BootClock::of_this_machine());
        assert_eq!(one.epoch(), other.epoch());
        assert!(!one.epoch().trim().is_empty());
        let (before, after) = (one.now(), other.now());
        assert!(before.steady <= after.steady && before.steady > Duration::ZERO);
    }

    #[test]
    fn without_a_boot_clock_the_wall_clock_stands_in() {
        let clock = BootClock { epoch: WALL.to_owned(), source: Source::Wall };
        let now = clock.now();
        assert_eq!(now.steady.as_millis(), u128::from(now.wall.0.unsigned_abs()));
    }
}
