//! What an app shows at the proxy door: the form of its key, and how one is known without being kept.
//!
//! `perch_<16 hexadecimal digits>_<43 characters of base64url>`: a public id, by which the key is found, and 256
//! random bits. The store has the id and a digest. A digest without salt is enough: nobody guesses 256 bits.

use crate::types::AppKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "perch_";
/// Hexadecimal digits of the id.
const ID_DIGITS: usize = 16;
/// 32 bytes in base64url.
const SECRET_CHARS: usize = 43;

/// The public half of a key. It may stand in logs and answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Eight bytes of chance.
    pub const fn new(id: [u8; 8]) -> Self {
        Self(id)
    }

    /// Reads sixteen hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != ID_DIGITS || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|id| Self(id.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// SHA-256 of a whole key. Compared in constant time, and only so.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// What no key has: an unknown id is compared with it, so that it takes the time a known one takes.
    pub const NONE: Self = Self([0; 32]);

    /// As it came out of the store.
    pub const fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it goes into the store.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are of the same key.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// A key that somebody shows, digested. Whether it is anybody's is for those to say who know the digests.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// Under which id it is to be looked for.
    pub id: KeyId,
    /// What it must have there.
    pub digest: KeyDigest,
}

impl Shown {
    /// Reads a key; `None` when it has not the form of one.
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_at_checked(ID_DIGITS)?;
        let id = KeyId::parse(id)?;
        let secret = secret.strip_prefix('_').filter(|secret| secret.len() == SECRET_CHARS)?;
        // One key has one spelling: unused bits of the last character must be zero.
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        (bytes.len() == 32).then(|| Self { id, digest: KeyDigest::of(text) })
    }
}

/// Makes a key out of chance.
pub fn make(id: [u8; 8], secret: &Zeroizing<[u8; 32]>) -> (AppKey, Shown) {
    let id = KeyId(id);
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret.as_slice()));
    let shown = Shown { id, digest: KeyDigest::of(&text) };
    (AppKey::new(text), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn made() -> (AppKey, Shown) {
        make(
            0x0123_4567_89ab_cdef_u64.to_be_bytes(),
            &Zeroizing::new(std::array::from_fn(|i| u8::try_from(i).expect("below 32"))),
        )
    }

    #[test]
    fn a_key_that_was_made_is_read_as_the_same() {
        let (key, shown) = made();
        assert_eq!(key.expose(), KEY);
        let read = Shown::read(key.expose()).expect("a key");
        assert_eq!((read.id, read.id.to_string().as_str()), (shown.id, "0123456789abcdef"));
        assert!(read.digest.is(&shown.digest) && !read.digest.is(&KeyDigest::NONE));
        assert_eq!(KeyId::parse(&shown.id.to_string()), Some(shown.id));
    }

    #[test]
    fn every_character_of_a_key_counts() {
        let (_, shown) = made();
        for at in PREFIX.len()..KEY.len() {
            let mut other = KEY.as_bytes().to_vec();
            other[at] = if other[at] == b'1' { b'2' } else { b'1' };
            let other = String::from_utf8(other).expect("ASCII");
            let is_it = Shown::read(&other).is_some_and(|o| o.id == shown.id && o.digest.is(&shown.digest));
            assert!(!is_it, "{other}");
        }
    }

    #[test]
    fn what_has_another_form_is_no_key() {
        for bad in [
            "",
            "perch_",
            "Perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_0123456789ABCDEF_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_0123456789abcde_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_+123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_0123456789abcdefAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh",
            "perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9",
            "perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka/xwdHh8",
            " perch_0123456789abcdef_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "perch_0123456789abcdé_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        ] {
            assert!(Shown::read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn neither_a_key_nor_its_digest_prints() {
        let (key, shown) = made();
        assert_eq!(format!("{key:?}"), "AppKey(…)");
        assert!(format!("{shown:?}").contains("KeyDigest(…)"));
    }
}
