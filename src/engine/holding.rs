//! How much of large bodies perch holds at once, of all calls together. One body has its own bound; a crowd of clients that
//! send slowly or never read would hold as many of them as there are connections.

use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Up to this a body needs no share: nearly every body of Finch's.
const FREE_BYTES: usize = 256 * 1024;
/// How many bodies of the largest size fit.
const BODIES_MAX: usize = 2;
/// How long a body waits for others to be done with theirs.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What is held of request bodies, and of answers.
#[derive(Debug, Default)]
pub struct Held {
    /// Bodies of calls.
    pub asked: Holding,
    /// Bodies of answers that are looked into.
    pub answered: Holding,
}

/// The bytes that shares are held of.
#[derive(Debug, Default)]
pub struct Holding(Arc<All>);

#[derive(Debug, Default)]
struct All {
    held: AtomicUsize,
    /// How much of that those hold who wait for more.
    waiting: AtomicUsize,
    freed: Notify,
}

/// What one body holds. Dropping it gives it back.
#[derive(Debug, Default)]
pub struct Share {
    of: Arc<All>,
    bytes: usize,
    is_short: bool,
}

impl Holding {
    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share { of: Arc::clone(&self.0), bytes: 0, is_short: false }
    }
}

impl Share {
    /// Lets a body grow to so many bytes; `false` when others hold too much for that. `one_max` is the largest size of one body.
    pub fn grow(&mut self, bytes: usize, one_max: usize) -> bool {
        if bytes <= FREE_BYTES || bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        let most = one_max.saturating_mul(BODIES_MAX);
        let fits = |held: usize| held.checked_add(more).filter(|held| *held <= most);
        let is_granted = self.of.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if is_granted {
            self.bytes = bytes;
        }
        self.is_short = !is_granted;
        is_granted
    }

    /// The same, and when others hold too much it waits a moment for them. Those who wait hold half of all at the most, so
    /// that nobody waits for those who wait.
    pub async fn grow_in_time(&mut self, bytes: usize, one_max: usize) -> bool {
        if self.grow(bytes, one_max) {
            return true;
        }
        let Some(_waiting) = Waiting::with(self, one_max) else { return false };
        let (all, deadline) = (Arc::clone(&self.of), Instant::now() + WAIT_MAX);
        loop {
            let mut freed = pin!(all.freed.notified());
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if self.grow(bytes, one_max) {
                return true;
            }
            if timeout_at(deadline, freed).await.is_err() {
                return false;
            }
        }
    }

    /// Whether the body is larger than others left room for.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// The body, which holds its share as long as anybody has it.
    pub fn keep(self, body: impl AsRef<[u8]> + Into<Bytes> + Send + 'static) -> Bytes {
        match self.bytes {
            0 => body.into(),
            _ => Bytes::from_owner(Kept { body, _share: self }),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.of.held.fetch_sub(self.bytes, Ordering::AcqRel);
            self.of.freed.notify_waiters();
        }
    }
}

/// A body that waits, and what it holds meanwhile.
struct Waiting {
    of: Arc<All>,
    bytes: usize,
}

impl Waiting {
    fn with(share: &Share, most: usize) -> Option<Self> {
        let (of, bytes) = (Arc::clone(&share.of), share.bytes);
        let fits = |waiting: usize| waiting.checked_add(bytes).filter(|waiting| *waiting <= most);
        of.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Self { of, bytes })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Kept<B> {
    body: B,
    _share: Share,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Kept<B> {
    fn as_ref(&self) -> &[u8] {
        self.body.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_MAX: usize = 1 << 20;

    #[test]
    fn large_bodies_share_a_bound_and_give_it_back_with_their_last_byte() {
        let holding = Holding::default();
        let (mut one, mut two, mut three) = (holding.share(), holding.share(), holding.share());
        assert!(one.grow(ONE_MAX, ONE_MAX) && two.grow(ONE_MAX - 1, ONE_MAX));
        assert!(three.grow(FREE_BYTES, ONE_MAX), "a small body is always held");
        assert!(
            !three.grow(FREE_BYTES + 1, ONE_MAX)
                && two.grow(ONE_MAX, ONE_MAX)
                && !two.grow(ONE_MAX + 1, ONE_MAX)
        );
        let body = one.keep(vec![7; ONE_MAX]);
        let other = body.slice(5..9);
        drop(body);
        assert!(!three.grow(FREE_BYTES + 1, ONE_MAX), "a part of it is still there");
        drop(other);
        assert!(three.grow(ONE_MAX, ONE_MAX));
        drop((two, three));
        assert_eq!(holding.0.held.load(Ordering::Acquire), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_room_a_moment_and_never_for_those_who_wait_too() {
        let holding = Holding::default();
        let (mut one, mut two, mut three) = (holding.share(), holding.share(), holding.share());
        for share in [&mut one, &mut two, &mut three] {
            assert!(share.grow(ONE_MAX * 2 / 3, ONE_MAX));
        }
        let first = tokio::spawn(async move { (one.grow_in_time(ONE_MAX, ONE_MAX).await, one) });
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert!(!two.grow_in_time(ONE_MAX, ONE_MAX).await && two.is_short());
        assert_eq!(began.elapsed(), Duration::ZERO, "the first one waits with half of all already");
        drop(two);
        let (is_granted, mut one) = first.await.expect("it ends");
        assert!(is_granted && !one.is_short() && began.elapsed() == Duration::ZERO);
        let mut four = holding.share();
        assert!(!four.grow_in_time(ONE_MAX, ONE_MAX).await, "nobody gives anything back");
        assert_eq!(began.elapsed(), WAIT_MAX);
        assert!(one.grow(ONE_MAX, ONE_MAX));
        drop((one, three, four));
        assert_eq!(
            (holding.0.held.load(Ordering::Acquire), holding.0.waiting.load(Ordering::Acquire)),
            (0, 0)
        );
    }
}
