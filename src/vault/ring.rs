//! The key ring: the store's own keys, opened at start with the key from outside.
//!
//! Exactly one record key seals; older ones open what they sealed. The blind index has a key of its
//! own. A ring does not change: when the store's keys have, another one takes its place.

use super::seal::{self, Dek, Place, Rejected, hmac, lp};
use super::stored::{Mark, Stored, lost_keys, open_key};
use super::wrap::Wrappers;
use crate::store::keys::{KeyState, Purpose};
use crate::store::{SealedToken, StoreError};
use crate::types::AccessToken;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
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
    records: BTreeMap<u64, Arc<Dek>>,
    primary: u64,
    index: (u64, Arc<Dek>),
    mark: Mark,
}

impl Ring {
    /// Opens every key that is in use.
    ///
    /// # Errors
    /// [`OpenError::Key`] when a key was wrapped with another key than those given.
    pub(super) async fn open(stored: &Stored, wrappers: &Wrappers) -> Result<Self, OpenError> {
        let (ring, failed) = Self::gather(stored, wrappers, None).await;
        match failed {
            Some(error) => Err(error),
            None => ring.ok_or_else(lost_keys),
        }
    }

    /// The ring that the store's keys make now. What this one has opened is not opened again, and a new key
    /// that does not open is left out and told: those that seal and open today go on.
    ///
    /// # Errors
    /// [`OpenError`] when the keys in the store make no ring.
    pub(super) async fn follow(
        &self,
        stored: &Stored,
        wrappers: &Wrappers,
    ) -> Result<(Self, Option<OpenError>), OpenError> {
        if stored.store_id != self.store_id {
            return Err(OpenError::Store(
                "another store has taken the place of this one; restart".to_owned(),
            ));
        }
        match Self::gather(stored, wrappers, Some(self)).await {
            (Some(ring), failed) => Ok((ring, failed)),
            (None, failed) => Err(failed.unwrap_or_else(lost_keys)),
        }
    }

    async fn gather(
        stored: &Stored,
        wrappers: &Wrappers,
        known: Option<&Ring>,
    ) -> (Option<Self>, Option<OpenError>) {
        let (mut records, mut primary, mut index, mut failed) = (BTreeMap::new(), None, None, None);
        for key in stored.keys.iter().filter(|key| key.state.is_in_use()) {
            let dek = match known.and_then(|ring| ring.key(key.purpose, key.dek_id)) {
                Some(dek) => dek,
                None => match open_key(&stored.store_id, key, wrappers).await {
                    Ok(dek) => Arc::new(dek),
                    Err(error) => {
                        failed = failed.or(Some(error));
                        continue;
                    }
                },
            };
            match (key.purpose, key.state) {
                (Purpose::Index, KeyState::Primary) => index = Some((key.dek_id, dek)),
                (Purpose::Index, _) => {}
                (Purpose::Record, state) => {
                    if state == KeyState::Primary {
                        primary = Some(key.dek_id);
                    }
                    records.insert(key.dek_id, dek);
                }
            }
        }
        let ring = match (primary, index) {
            (Some(primary), Some(index)) => {
                // A ring that lacks a key is never the store's: it is tried again.
                let mark = if failed.is_none() { stored.mark() } else { Mark::none() };
                Some(Self { store_id: stored.store_id, records, primary, index, mark })
            }
            _ => None,
        };
        (ring, failed)
    }

    fn key(&self, purpose: Purpose, dek_id: u64) -> Option<Arc<Dek>> {
        match purpose {
            Purpose::Record => self.records.get(&dek_id).map(Arc::clone),
            Purpose::Index => (self.index.0 == dek_id).then(|| Arc::clone(&self.index.1)),
        }
    }

    /// The key that seals.
    pub(super) fn primary(&self) -> u64 {
        self.primary
    }

    /// The newest key that seals or opens here.
    pub(super) fn newest(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(id, _)| *id)
    }

    /// Whether it has a key.
    pub(super) fn has(&self, dek_id: u64) -> bool {
        self.records.contains_key(&dek_id)
    }

    /// Whether every key in use has opened.
    pub(super) fn is_whole(&self) -> bool {
        self.mark != Mark::none()
    }

    /// Whether these are the store's keys still, in the same states.
    pub(super) fn is_of(&self, mark: &Mark) -> bool {
        self.mark == *mark
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
        let mac = hmac(self.index.1.bytes(), &named);
        std::array::from_fn(|i| mac[i])
    }

    /// The key of the audit trail. It comes from the index key, which stays when record keys change.
    pub(super) fn audit_key(&self) -> [u8; 32] {
        self.derived_key(b"perch/v1/audit")
    }

    /// A key for one purpose, of the index key.
    pub(super) fn derived_key(&self, purpose: &[u8]) -> [u8; 32] {
        hmac(self.index.1.bytes(), purpose)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::WrappedKey;
    use crate::types::{Kek, UnixMillis};
    use crate::vault::kek::Fingerprint;
    use crate::vault::stored::wrapped;
    use crate::vault::wrap::{KeyPlace, Wrapper};

    const STORE: [u8; 16] = [3; 16];

    fn kek() -> Kek {
        Kek::new([9; 32])
    }

    async fn key(dek_id: u64, purpose: Purpose, state: KeyState) -> WrappedKey {
        let place = KeyPlace { store_id: &STORE, dek_id, purpose };
        wrapped(&Wrapper::Local(kek()), place, state, &[dek_id as u8; 32], UnixMillis(0)).await.unwrap()
    }

    async fn ring(primary: u64) -> Ring {
        let state = |id| if id == primary { KeyState::Primary } else { KeyState::DecryptOnly };
        let keys = vec![
            key(1, Purpose::Record, state(1)).await,
            key(2, Purpose::Index, KeyState::Primary).await,
            key(3, Purpose::Record, state(3)).await,
        ];
        Ring::open(&Stored { store_id: STORE, keys }, &kek().into()).await.unwrap()
    }

    async fn good() -> [WrappedKey; 2] {
        [key(1, Purpose::Record, KeyState::Primary).await, key(2, Purpose::Index, KeyState::Primary).await]
    }

    async fn refusal(keys: &[WrappedKey], store_id: [u8; 16]) -> Option<OpenError> {
        Ring::open(&Stored { store_id, keys: keys.to_vec() }, &kek().into()).await.err()
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

    #[tokio::test]
    async fn v3_a_token_opens_under_the_key_that_sealed_it_and_no_other_of_the_ring() {
        let older = ring(1).await.seal(owner(), &token()).unwrap();
        assert_eq!(older.dek_id, 1);
        let now = ring(3).await;
        assert_eq!(now.open_token(owner(), &older.blob).unwrap().expose(), token().expose());
        assert_eq!(now.seal(owner(), &token()).unwrap().dek_id, 3);

        let mut renamed = older.blob;
        renamed[9] = 3;
        assert!(now.open_token(owner(), &renamed).is_err());
        renamed[9] = 2;
        assert!(now.open_token(owner(), &renamed).is_err(), "the index key opens nothing");
    }

    #[tokio::test]
    async fn the_wrapped_keys_cannot_be_swapped_renamed_or_repurposed() {
        assert_eq!(refusal(&good().await, STORE).await, None);
        let [mut one, mut two] = good().await;
        std::mem::swap(&mut one.wrapped, &mut two.wrapped);
        assert!(matches!(refusal(&[one, two], STORE).await, Some(OpenError::Store(_))));
        let [mut one, mut two] = good().await;
        std::mem::swap(&mut one.purpose, &mut two.purpose);
        assert!(matches!(refusal(&[one, two], STORE).await, Some(OpenError::Store(_))));
        assert!(refusal(&good().await, [4; 16]).await.is_some(), "another store");
        let said = refusal(&good().await[..1], STORE).await.unwrap().to_string();
        assert!(said.contains("has lost its name or its keys"), "{said}");
    }

    #[tokio::test]
    async fn v5_the_wrong_key_is_told_by_its_fingerprint() {
        let stored = Stored { store_id: STORE, keys: good().await.into() };
        let other = || Kek::new([8; 32]);
        let refused = Ring::open(&stored, &other().into()).await.err().unwrap();
        assert!(matches!(refused, OpenError::Key(_)));
        let (right, wrong) = (Fingerprint::of(&kek()).to_string(), Fingerprint::of(&other()).to_string());
        let said = refused.to_string();
        assert!(said.contains(&format!("expected fingerprint {right}, got {wrong}")), "{said}");
        assert_eq!(right.len(), 16);

        let third = Fingerprint::of(&Kek::new([7; 32])).to_string();
        let both = |previous| Wrappers {
            current: Wrapper::Local(other()),
            previous: Some(Wrapper::Local(Kek::new(previous))),
        };
        let said = Ring::open(&stored, &both([7; 32])).await.err().unwrap().to_string();
        assert!(said.contains(&format!("got {wrong} and {third}")), "{said}");
        assert!(Ring::open(&stored, &both([9; 32])).await.is_ok(), "the previous key opens");
    }

    #[tokio::test]
    async fn a_ring_follows_its_store_and_keeps_what_it_has_when_a_new_key_does_not_open() {
        let now = ring(1).await;
        let mut keys = vec![
            key(1, Purpose::Record, KeyState::DecryptOnly).await,
            key(2, Purpose::Index, KeyState::Primary).await,
            key(3, Purpose::Record, KeyState::Primary).await,
        ];
        // What is open needs no wrapping key, whatever lies in the store in its place.
        keys[0].wrapped.clear();
        let mut stored = Stored { store_id: STORE, keys };
        assert!(!now.is_of(&stored.mark()));
        let (next, failed) = now.follow(&stored, &Kek::new([8; 32]).into()).await.unwrap();
        assert_eq!((next.primary(), next.newest(), failed), (3, 3, None));
        assert!(next.is_of(&stored.mark()));
        let sealed = now.seal(owner(), &token()).unwrap();
        assert_eq!(next.open_token(owner(), &sealed.blob).unwrap().expose(), token().expose());

        stored.keys.push(key(4, Purpose::Record, KeyState::Pending).await);
        let (next, failed) = now.follow(&stored, &Kek::new([8; 32]).into()).await.unwrap();
        assert!(matches!(failed, Some(OpenError::Key(_))), "{failed:?}");
        assert_eq!((next.primary(), next.has(4)), (3, false));
        stored.keys[0].state = KeyState::Retired;
        let (next, failed) = now.follow(&stored, &kek().into()).await.unwrap();
        assert_eq!((next.has(1), next.has(4), failed), (false, true, None));
        assert!(next.open_token(owner(), &sealed.blob).is_err(), "a retired key opens nothing");

        stored.keys[2].state = KeyState::DecryptOnly;
        assert!(now.follow(&stored, &kek().into()).await.is_err(), "no key seals");
        stored.store_id = [4; 16];
        assert!(now.follow(&stored, &kek().into()).await.is_err(), "another store");
    }

    #[tokio::test]
    async fn the_index_is_equal_for_equal_tokens_only() {
        let ring = ring(1).await;
        assert_eq!(ring.index_of(&token()), ring.index_of(&token()));
        assert_ne!(ring.index_of(&token()), ring.index_of(&AccessToken::new("other".to_owned())));
    }
}
