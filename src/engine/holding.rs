//! How much of large bodies perch holds at once, of all calls together. One body has its own bound; a crowd of clients that
//! send slowly or never read would hold as many of them as there are connections.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to this a body needs no share: nearly every body of Finch's.
const FREE_BYTES: usize = 256 * 1024;
/// How many bodies of the largest size fit.
const BODIES_MAX: usize = 2;

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
pub struct Holding(Arc<AtomicUsize>);

/// What one body holds. Dropping it gives it back.
#[derive(Debug, Default)]
pub struct Share {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Holding {
    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share { of: Arc::clone(&self.0), bytes: 0 }
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
        let is_granted = self.of.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if is_granted {
            self.bytes = bytes;
        }
        is_granted
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
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
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
        assert_eq!(holding.0.load(Ordering::Acquire), 0);
    }
}
