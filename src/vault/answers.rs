//! What replicas of one vault pass to each other is named and sealed with keys of the vault's: whoever reads it on the
//! way learns neither what was asked nor what was answered. The keys come from the index key, which stays when record
//! keys change, and name nothing and open nothing of the store's.

use super::Vault;
use super::ring::Ring;
use super::seal::{self, hmac, lp};
use zeroize::Zeroizing;

/// The largest thing that is sealed to be passed on, in bytes.
pub const PASSED_BYTES_MAX: usize = 4 << 20;

/// The keys of what is passed on. They have no way to be printed.
pub struct PassingKeys {
    name: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
}

impl Vault {
    /// The keys under which replicas of this vault pass something on.
    pub fn passing_keys(&self) -> PassingKeys {
        PassingKeys::of(&self.shared.ring())
    }
}

impl PassingKeys {
    fn of(ring: &Ring) -> Self {
        let key = |purpose| Zeroizing::new(ring.derived_key(purpose));
        Self { name: key(b"perch/v1/passed/name"), seal: key(b"perch/v1/passed/seal") }
    }

    /// The name of something, the same on every replica of the vault.
    pub fn name(&self, what: &[&[u8]]) -> [u8; 32] {
        hmac(&*self.name, &lp(what))
    }

    /// Seals something for a place; `None` when it is too large, or the system gives no random bytes.
    pub fn seal(&self, place: &[&[u8]], plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut random = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *random).ok()?;
        seal::seal_within(PASSED_BYTES_MAX, &self.seal, 0, &lp(place), plaintext, &random).ok()
    }

    /// Opens what was sealed for this place; `None` for everything else.
    pub fn open(&self, place: &[&[u8]], blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        seal::open_within(PASSED_BYTES_MAX, &self.seal, 0, &lp(place), blob).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: u8) -> PassingKeys {
        PassingKeys { name: Zeroizing::new([n; 32]), seal: Zeroizing::new([n + 1; 32]) }
    }

    #[test]
    fn what_is_passed_on_opens_in_its_place_and_with_its_keys_alone() {
        let (mine, others) = (keys(1), keys(7));
        let large = vec![7; 1 << 20];
        let blob = mine.seal(&[b"a", b"b"], &large).expect("sealed");
        assert_eq!(mine.open(&[b"a", b"b"], &blob).as_deref(), Some(&large));
        assert!(mine.open(&[b"ab", b""], &blob).is_none() && others.open(&[b"a", b"b"], &blob).is_none());
        assert!(mine.seal(&[], &vec![0; PASSED_BYTES_MAX + 1]).is_none());
        assert_ne!(mine.name(&[b"a", b"b"]), mine.name(&[b"ab", b""]));
        assert_ne!(mine.name(&[b"a"]), others.name(&[b"a"]));
    }
}
