//! The key ring: the store's own keys, opened once at start with the key from outside.
//!
//! Exactly one record key seals; older ones open what they sealed. The blind index has a key of its
//! own. The wrapping key is used here and not kept.

use super::kek::Fingerprint;
use super::seal::{self, Dek, Place, Rejected, hmac, lp};
use crate::store::keys::{self, KeyState, Purpose, WrappedKey};
use crate::store::{SealedToken, StoreError};
use crate::types::{AccessToken, Kek, UnixMillis};
use rusqlite::Transaction;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

const TABLE: &str = "connection";
const COLUMN: &str = "token";

/// Why a store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The key is wrong or missing.
    Key(String),
    /// The store does not answer or is not sound.
    Store(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (OpenError::Key(why) | OpenError::Store(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for OpenError {}

impl From<StoreError> for OpenError {
    fn from(cause: StoreError) -> Self {
        OpenError::Store(cause.to_string())
    }
}

impl From<super::kek::KeyError> for OpenError {
    fn from(cause: super::kek::KeyError) -> Self {
        OpenError::Key(cause.to_string())
    }
}

/// Whose token it is: the part of a place that the row itself decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub application: &'a str,
    pub environment: &'a str,
    pub customer_id: Option<&'a str>,
    pub connection_id: &'a str,
    pub version: u64,
}

/// The opened keys of one store.
pub struct Ring {
    store_id: [u8; 16],
    records: BTreeMap<u64, Dek>,
    primary: u64,
    index: Dek,
}

impl Ring {
    /// Opens the ring, or makes one when the store is new. Nothing is written unless it is new.
    ///
    /// # Errors
    /// [`OpenError::Key`] when `kek` is not the key the ring was wrapped with.
    pub fn open_or_create(tx: &Transaction<'_>, kek: &Kek, now: UnixMillis) -> Result<Self, OpenError> {
        match keys::store_id(tx)? {
            Some(store_id) => Self::open(store_id, &keys::all(tx)?, kek),
            None => Self::create(tx, kek, now),
        }
    }

    fn create(tx: &Transaction<'_>, kek: &Kek, now: UnixMillis) -> Result<Self, OpenError> {
        if !keys::is_untouched(tx)? {
            return Err(lost_keys());
        }
        let store_id: [u8; 16] = random()?;
        keys::name_store(tx, &store_id)?;
        let mut wrapped = Vec::new();
        for (dek_id, purpose) in [(1, Purpose::Record), (2, Purpose::Index)] {
            let dek = Zeroizing::new(random::<32>()?);
            let key = WrappedKey {
                dek_id,
                purpose,
                state: KeyState::Primary,
                kek_fp: Fingerprint::of(kek).0,
                wrapped: wrap(kek, &store_id, dek_id, purpose, &dek)?,
            };
            keys::add(tx, &key, now)?;
            wrapped.push(key);
        }
        Self::open(store_id, &wrapped, kek)
    }

    fn open(store_id: [u8; 16], wrapped: &[WrappedKey], kek: &Kek) -> Result<Self, OpenError> {
        let ours = Fingerprint::of(kek);
        let (mut records, mut primary, mut index) = (BTreeMap::new(), None, None);
        for key in wrapped {
            if key.kek_fp != ours.0 {
                return Err(OpenError::Key(format!(
                    "wrong key, expected fingerprint {}, got {ours}: vault.key must name the key this store was made with",
                    Fingerprint(key.kek_fp)
                )));
            }
            let dek = unwrap(kek, &store_id, key).map_err(|Rejected| {
                OpenError::Store(format!(
                    "key {} of the store does not open although the wrapping key is right: the store is damaged or was tampered with; restore it from a backup",
                    key.dek_id
                ))
            })?;
            match (key.purpose, key.state) {
                (Purpose::Index, KeyState::Primary) => index = Some(dek),
                (Purpose::Index, KeyState::Pending | KeyState::DecryptOnly) => {}
                (Purpose::Record, state) => {
                    if state == KeyState::Primary {
                        primary = Some(key.dek_id);
                    }
                    records.insert(key.dek_id, dek);
                }
            }
        }
        match (primary, index) {
            (Some(primary), Some(index)) => Ok(Self { store_id, records, primary, index }),
            _ => Err(lost_keys()),
        }
    }

    pub(super) fn seal(&self, owner: Owner<'_>, token: &AccessToken) -> Result<SealedToken, SealFailed> {
        let dek = self.records.get(&self.primary).ok_or(SealFailed)?;
        let mut random = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *random).map_err(|_| SealFailed)?;
        let aad = self.place(owner, self.primary).aad();
        let blob = seal::seal(dek.bytes(), self.primary, &aad, &envelope(token)?, &random)
            .map_err(|Rejected| SealFailed)?;
        Ok(SealedToken { blob, dek_id: self.primary, index: self.index_of(token) })
    }

    pub(super) fn open_token(&self, owner: Owner<'_>, blob: &[u8]) -> Result<AccessToken, Rejected> {
        let dek_id = seal::key_id(blob).ok_or(Rejected)?;
        let dek = self.records.get(&dek_id).ok_or(Rejected)?;
        let plaintext = seal::open(dek.bytes(), dek_id, &self.place(owner, dek_id).aad(), blob)?;
        let Envelope { access_token } = serde_json::from_slice(&plaintext).map_err(|_| Rejected)?;
        Ok(AccessToken::new(access_token))
    }

    /// The blind index: finds a token among the stored without opening any.
    pub(super) fn index_of(&self, token: &AccessToken) -> [u8; 16] {
        let named = Zeroizing::new(lp(&[COLUMN.as_bytes(), token.expose().as_bytes()]));
        let mac = hmac(self.index.bytes(), &named);
        std::array::from_fn(|i| mac[i])
    }

    /// The key of the audit trail. It comes from the index key, which stays when record keys change.
    pub(super) fn audit_key(&self) -> [u8; 32] {
        hmac(self.index.bytes(), b"perch/v1/audit")
    }

    fn place<'a>(&'a self, owner: Owner<'a>, dek_id: u64) -> Place<'a> {
        Place {
            store_id: &self.store_id,
            dek_id,
            table: TABLE,
            column: COLUMN,
            application: owner.application,
            environment: owner.environment,
            customer_id: owner.customer_id.unwrap_or_default(),
            connection_id: owner.connection_id,
            version: owner.version,
        }
    }
}

/// A token could not be sealed: the system gave no random bytes, or the token is beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealFailed;

/// What is sealed: an object, so that a later version may keep more beside the token.
#[derive(serde::Deserialize)]
struct Envelope {
    access_token: String,
}

fn envelope(token: &AccessToken) -> Result<Zeroizing<Vec<u8>>, SealFailed> {
    #[derive(serde::Serialize)]
    struct Open<'a> {
        access_token: &'a str,
    }
    let open = Open { access_token: token.expose() };
    // Room for the worst escaping, so that no half-written copy is left behind by a reallocation.
    let mut bytes = Zeroizing::new(Vec::with_capacity(token.expose().len() * 6 + 32));
    serde_json::to_writer(&mut *bytes, &open).map_err(|_| SealFailed)?;
    Ok(bytes)
}

/// The additional data of a wrapped key. A record key cannot be passed off as the index key.
fn wrap_aad(store_id: &[u8; 16], dek_id: u64, purpose: Purpose) -> Vec<u8> {
    let label: &[u8] = match purpose {
        Purpose::Record => b"dek",
        Purpose::Index => b"index",
    };
    lp(&[label, store_id, &dek_id.to_be_bytes()])
}

fn wrap(
    kek: &Kek,
    store_id: &[u8; 16],
    dek_id: u64,
    purpose: Purpose,
    dek: &[u8; 32],
) -> Result<Vec<u8>, OpenError> {
    seal::seal(kek.expose(), dek_id, &wrap_aad(store_id, dek_id, purpose), dek, &random()?)
        .map_err(|Rejected| OpenError::Store("a new key could not be sealed".to_owned()))
}

fn unwrap(kek: &Kek, store_id: &[u8; 16], key: &WrappedKey) -> Result<Dek, Rejected> {
    let aad = wrap_aad(store_id, key.dek_id, key.purpose);
    let bytes = seal::open(kek.expose(), key.dek_id, &aad, &key.wrapped)?;
    Ok(Dek::new(bytes.as_slice().try_into().map_err(|_| Rejected)?))
}

fn lost_keys() -> OpenError {
    OpenError::Store(
        "the store has lost its name or its keys (tables vault_meta, vault_key); restore it from a backup"
            .to_owned(),
    )
}

fn random<const N: usize>() -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| {
        OpenError::Store(format!("the system gave no random bytes for a new store: {cause}"))
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: [u8; 16] = [3; 16];

    fn kek() -> Kek {
        Kek::new([9; 32])
    }

    fn key(dek_id: u64, purpose: Purpose, state: KeyState) -> WrappedKey {
        let dek = [dek_id as u8; 32];
        WrappedKey {
            dek_id,
            purpose,
            state,
            kek_fp: Fingerprint::of(&kek()).0,
            wrapped: wrap(&kek(), &STORE, dek_id, purpose, &dek).unwrap(),
        }
    }

    fn ring(primary: u64) -> Ring {
        let state = |id| if id == primary { KeyState::Primary } else { KeyState::DecryptOnly };
        let keys = [
            key(1, Purpose::Record, state(1)),
            key(2, Purpose::Index, KeyState::Primary),
            key(3, Purpose::Record, state(3)),
        ];
        Ring::open(STORE, &keys, &kek()).unwrap()
    }

    fn owner() -> Owner<'static> {
        Owner {
            application: "app",
            environment: "sandbox",
            customer_id: None,
            connection_id: "conn-1",
            version: 1,
        }
    }

    fn token() -> AccessToken {
        AccessToken::new("7e965183-9332-423c-9259-3edafb332ad2".to_owned())
    }

    #[test]
    fn v3_a_token_opens_under_the_key_that_sealed_it_and_no_other_of_the_ring() {
        let older = ring(1).seal(owner(), &token()).unwrap();
        assert_eq!(older.dek_id, 1);
        let now = ring(3);
        assert_eq!(now.open_token(owner(), &older.blob).unwrap().expose(), token().expose());
        assert_eq!(now.seal(owner(), &token()).unwrap().dek_id, 3);

        let mut renamed = older.blob;
        renamed[9] = 3;
        assert!(now.open_token(owner(), &renamed).is_err());
        renamed[9] = 2;
        assert!(now.open_token(owner(), &renamed).is_err(), "the index key opens nothing");
    }

    #[test]
    fn the_wrapped_keys_cannot_be_swapped_renamed_or_repurposed() {
        let good = || [key(1, Purpose::Record, KeyState::Primary), key(2, Purpose::Index, KeyState::Primary)];
        assert!(Ring::open(STORE, &good(), &kek()).is_ok());
        let opened = |keys: &[WrappedKey], store| Ring::open(store, keys, &kek()).err();

        let [mut one, mut two] = good();
        std::mem::swap(&mut one.wrapped, &mut two.wrapped);
        assert!(matches!(opened(&[one, two], STORE), Some(OpenError::Store(_))));
        let [mut one, mut two] = good();
        std::mem::swap(&mut one.purpose, &mut two.purpose);
        assert!(matches!(opened(&[one, two], STORE), Some(OpenError::Store(_))));
        assert!(opened(&good(), [4; 16]).is_some(), "another store");
        let said = opened(&good()[..1], STORE).unwrap().to_string();
        assert!(said.contains("has lost its name or its keys"), "{said}");
    }

    #[test]
    fn v5_the_wrong_key_is_told_by_its_fingerprint() {
        let keys = [key(1, Purpose::Record, KeyState::Primary), key(2, Purpose::Index, KeyState::Primary)];
        let other = Kek::new([8; 32]);
        let refused = Ring::open(STORE, &keys, &other).err().unwrap();
        assert!(matches!(refused, OpenError::Key(_)));
        let (right, wrong) = (Fingerprint::of(&kek()).to_string(), Fingerprint::of(&other).to_string());
        let said = refused.to_string();
        assert!(said.contains(&format!("expected fingerprint {right}, got {wrong}")), "{said}");
        assert_eq!(right.len(), 16);
    }

    #[test]
    fn the_index_is_equal_for_equal_tokens_only() {
        let ring = ring(1);
        assert_eq!(ring.index_of(&token()), ring.index_of(&token()));
        assert_ne!(ring.index_of(&token()), ring.index_of(&AccessToken::new("other".to_owned())));
    }
}
