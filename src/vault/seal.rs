//! Sealing: how one secret is encrypted at rest, and the only place that touches a cipher.
//!
//! ```text
//! LP(x..)  = for each x: u32be(len) || x            injective, no separators to confuse
//! ks       = HKDF-SHA256(key, info = "perch/v1/salt")
//! salt     = HMAC-SHA256(ks, LP(random32, aad, plaintext))
//! ek||com  = HKDF-SHA256(key, salt, info = "perch/v1/record" || SHA256(aad), 64 bytes)
//! ct       = AES-256-GCM(ek, nonce = 0, plaintext, aad)
//! blob     = version(1) suite(1) key_id(8) salt(32) com(32) ct(n + 16)
//! ```
//! Each blob has a key of its own, so no nonce is ever counted and no limit of encryptions per key
//! exists. The salt is hedged: with a random source that repeats (a restored snapshot, a fork), two
//! different secrets still get two different keys. `com` commits to the key: GCM alone lets one
//! ciphertext open under two. The additional data is the place of the blob; it opens nowhere else.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The format's version and its one suite: the first two bytes of a blob.
const HEAD: [u8; 2] = [1, 1];
const SALT_AT: usize = 10;
const COM_AT: usize = 42;
const CT_AT: usize = 74;
const TAG_BYTES: usize = 16;

/// The largest secret sealed, in bytes. A token is below 100; a bound keeps a damaged store small.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;

/// What sealing adds to the length of a secret, in bytes.
pub const OVERHEAD_BYTES: usize = CT_AT + TAG_BYTES;

/// A data encryption key. It has no way to be printed, copied or written out.
///
/// ```compile_fail
/// let dek = perch::vault::seal::Dek::new([0; 32]);
/// println!("{dek:?}");
/// ```
///
/// ```compile_fail
/// let dek = perch::vault::seal::Dek::new([0; 32]);
/// let copy = dek.clone();
/// ```
pub struct Dek(Zeroizing<[u8; 32]>);

impl Dek {
    /// Takes a copy and wipes the original.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let dek = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        dek
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The blob does not open: wrong key, wrong place, damaged or forged. Nobody is told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

/// The place of a sealed column: what a blob is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The store, named at random when it was made.
    pub store_id: &'a [u8; 16],
    /// The data key that seals.
    pub dek_id: u64,
    /// The table.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// The Finch application.
    pub application: &'a str,
    /// The environment's name.
    pub environment: &'a str,
    /// The customer, or an empty text for a connection without one.
    pub customer_id: &'a str,
    /// The connection.
    pub connection_id: &'a str,
    /// The version of the row.
    pub version: u64,
}

impl Place<'_> {
    /// The additional data of the cipher.
    pub fn aad(&self) -> Vec<u8> {
        lp(&[
            b"perch.vault",
            &HEAD,
            self.store_id,
            &self.dek_id.to_be_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.application.as_bytes(),
            self.environment.as_bytes(),
            self.customer_id.as_bytes(),
            self.connection_id.as_bytes(),
            &self.version.to_be_bytes(),
        ])
    }
}

/// Parts one after another, each behind its length: no two lists give the same bytes.
pub(super) fn lp(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 4).sum());
    for part in parts {
        // Every part is bounded far below 4 GiB: ids by their types, plaintext by its bound.
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Seals `plaintext` with `key` for the place that `aad` describes. `random` must be 32 fresh random
/// bytes; it is an argument so that the reference vector can be checked.
///
/// # Errors
/// [`Rejected`] when the plaintext is longer than [`PLAINTEXT_BYTES_MAX`].
pub fn seal(
    key: &[u8; 32],
    key_id: u64,
    aad: &[u8],
    plaintext: &[u8],
    random: &[u8; 32],
) -> Result<Vec<u8>, Rejected> {
    seal_within(PLAINTEXT_BYTES_MAX, key, key_id, aad, plaintext, random)
}

/// The same, for something of another size.
pub(super) fn seal_within(
    bytes_max: usize,
    key: &[u8; 32],
    key_id: u64,
    aad: &[u8],
    plaintext: &[u8],
    random: &[u8; 32],
) -> Result<Vec<u8>, Rejected> {
    if plaintext.len() > bytes_max {
        return Err(Rejected);
    }
    let mut salt_key = Zeroizing::new([0_u8; 32]);
    Hkdf::<Sha256>::new(None, key).expand(b"perch/v1/salt", &mut *salt_key).map_err(|_| Rejected)?;
    let salted = Zeroizing::new(lp(&[random, aad, plaintext]));
    let salt = hmac(&*salt_key, &salted);
    let derived = derive(key, &salt, aad)?;
    let (ek, com) = derived.split_at(32);

    let mut blob = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    blob.extend_from_slice(&HEAD);
    blob.extend_from_slice(&key_id.to_be_bytes());
    blob.extend_from_slice(&salt);
    blob.extend_from_slice(com);
    blob.extend_from_slice(plaintext);
    let cipher = Aes256Gcm::new_from_slice(ek).map_err(|_| Rejected)?;
    match cipher.encrypt_in_place_detached(&Nonce::default(), aad, &mut blob[CT_AT..]) {
        Ok(tag) => {
            blob.extend_from_slice(&tag);
            Ok(blob)
        }
        Err(_) => {
            blob.zeroize();
            Err(Rejected)
        }
    }
}

/// Opens what [`seal`] made with the same key, key id and place.
///
/// # Errors
/// [`Rejected`], whatever the reason.
pub fn open(key: &[u8; 32], key_id: u64, aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rejected> {
    open_within(PLAINTEXT_BYTES_MAX, key, key_id, aad, blob)
}

/// The same, for something of another size.
pub(super) fn open_within(
    bytes_max: usize,
    key: &[u8; 32],
    key_id: u64,
    aad: &[u8],
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Rejected> {
    if blob.len() < OVERHEAD_BYTES || blob.len() > bytes_max.saturating_add(OVERHEAD_BYTES) {
        return Err(Rejected);
    }
    if blob[..2] != HEAD || blob[2..SALT_AT] != key_id.to_be_bytes() {
        return Err(Rejected);
    }
    let derived = derive(key, &blob[SALT_AT..COM_AT], aad)?;
    let (ek, com) = derived.split_at(32);
    if !bool::from(com.ct_eq(&blob[COM_AT..CT_AT])) {
        return Err(Rejected);
    }
    let (ct, tag) = blob[CT_AT..].split_at(blob.len() - CT_AT - TAG_BYTES);
    let mut plaintext = Zeroizing::new(ct.to_vec());
    Aes256Gcm::new_from_slice(ek)
        .map_err(|_| Rejected)?
        .decrypt_in_place_detached(&Nonce::default(), aad, &mut plaintext, Tag::from_slice(tag))
        .map_err(|_| Rejected)?;
    Ok(plaintext)
}

/// The key a blob says it was sealed with: an index into our own ring, trusted for nothing else.
pub fn key_id(blob: &[u8]) -> Option<u64> {
    blob.get(2..SALT_AT)?.try_into().ok().map(u64::from_be_bytes)
}

fn derive(key: &[u8; 32], salt: &[u8], aad: &[u8]) -> Result<Zeroizing<[u8; 64]>, Rejected> {
    let mut derived = Zeroizing::new([0_u8; 64]);
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(&[b"perch/v1/record", &Sha256::digest(aad)], &mut *derived)
        .map_err(|_| Rejected)?;
    Ok(derived)
}

/// HMAC-SHA256.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const PLAINTEXT: &[u8] = br#"{"access_token":"7e965183-9332-423c-9259-3edafb332ad2"}"#;
    const VECTOR: &str = "01010000000000000007b8d3f3fe8eadeb873e6789900f74b0cf1f2f85ee3b3b795f3e44d2c55ec906f6\
        8817dcd5d43580a5521a3d01f27852d88f41a0705f7fc96eb50125733323bfd3\
        fd50d316c4e91284fe2f5b0e52191440ddf78f1909131578de61efb181ce54f41bad57ce742002cbeabb9f43e4ea7e58\
        85d33fb391b7922cce0402d60329d4864a2372ef9aba9e";

    fn key() -> [u8; 32] {
        std::array::from_fn(|i| i as u8)
    }

    fn place() -> Place<'static> {
        Place {
            store_id: &[0x11; 16],
            dek_id: 7,
            table: "connection",
            column: "token",
            application: "app-1",
            environment: "prod",
            customer_id: "cust-A",
            connection_id: "conn-1",
            version: 1,
        }
    }

    fn vector() -> Vec<u8> {
        (0..VECTOR.len()).step_by(2).map(|i| u8::from_str_radix(&VECTOR[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn v1_the_reference_vector_is_met_byte_for_byte() {
        let blob = seal(&key(), 7, &place().aad(), PLAINTEXT, &[0x22; 32]).unwrap();
        assert_eq!(blob, vector());
        assert_eq!(blob.len(), PLAINTEXT.len() + OVERHEAD_BYTES);
        assert_eq!(open(&key(), 7, &place().aad(), &blob).unwrap().as_slice(), PLAINTEXT);
        assert_eq!(key_id(&blob), Some(7));
    }

    #[test]
    fn v1_each_of_the_nine_parts_of_the_place_is_bound() {
        let blob = vector();
        let p = place();
        let swaps = [
            Place { store_id: &[0x12; 16], ..p },
            Place { dek_id: 8, ..p },
            Place { table: "exchange", ..p },
            Place { column: "note", ..p },
            Place { application: "app-2", ..p },
            Place { environment: "sandbox", ..p },
            Place { customer_id: "cust-B", ..p },
            Place { connection_id: "conn-2", ..p },
            Place { version: 2, ..p },
        ];
        for swap in swaps {
            assert_eq!(open(&key(), 7, &swap.aad(), &blob).err(), Some(Rejected), "{swap:?}");
        }
        assert!(open(&key(), 8, &p.aad(), &blob).is_err(), "another key id");
        // Characters that move from one part to the next make another place.
        let moved = Place { customer_id: "cust-Ac", connection_id: "onn-1", ..p };
        assert_ne!(moved.aad(), p.aad());
    }

    #[test]
    fn v1_every_flipped_bit_and_every_truncation_is_rejected() {
        let (blob, aad) = (vector(), place().aad());
        for bit in 0..blob.len() * 8 {
            let mut bad = blob.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key(), 7, &aad, &bad).err(), Some(Rejected), "bit {bit}");
        }
        for len in 0..blob.len() {
            assert_eq!(open(&key(), 7, &aad, &blob[..len]).err(), Some(Rejected), "{len} bytes");
        }
        let mut longer = blob;
        longer.push(0);
        assert!(open(&key(), 7, &aad, &longer).is_err());
    }

    #[test]
    fn v2_salts_never_repeat_even_when_the_random_source_is_stuck() {
        let aad = place().aad();
        let mut salts = HashSet::new();
        for n in 0..2_000_u32 {
            let blob = seal(&key(), 7, &aad, &n.to_be_bytes(), &[0; 32]).unwrap();
            assert!(salts.insert(blob[SALT_AT..COM_AT].to_vec()), "secret {n}");
        }
        for n in 0..2_000_u32 {
            let mut random = [1; 32];
            random[..4].copy_from_slice(&n.to_be_bytes());
            let blob = seal(&key(), 7, &aad, PLAINTEXT, &random).unwrap();
            assert!(salts.insert(blob[SALT_AT..COM_AT].to_vec()), "random {n}");
        }
    }

    #[test]
    fn v3_a_blob_opens_under_one_key_only() {
        let (blob, aad) = (vector(), place().aad());
        for bit in 0..256 {
            let mut other = key();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&other, 7, &aad, &blob).is_err(), "key bit {bit}");
        }
    }

    #[test]
    fn a_secret_beyond_the_bound_is_not_sealed() {
        let aad = place().aad();
        assert!(seal(&key(), 7, &aad, &vec![0; PLAINTEXT_BYTES_MAX], &[0; 32]).is_ok());
        assert!(seal(&key(), 7, &aad, &vec![0; PLAINTEXT_BYTES_MAX + 1], &[0; 32]).is_err());
    }
}
