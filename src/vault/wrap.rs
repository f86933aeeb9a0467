//! What wraps the store's keys: a key in this process, or a service that keeps its key to itself.
//!
//! Which one it is, and under which name, the configuration decides. What stands beside a wrapped key in
//! the store only tells two apart: a name from there would let whoever writes the store choose the service.

use super::aws::AwsKms;
use super::gcp::GcpKms;
use super::kek::Fingerprint;
use super::ring::OpenError;
use super::seal::{self, Dek, Rejected, lp};
use super::transit::Transit;
use crate::store::keys::Purpose;
use crate::types::Kek;
use zeroize::Zeroizing;

/// What wraps the keys of a store.
#[derive(Debug)]
pub enum Wrapper {
    /// A key that perch holds itself.
    Local(Kek),
    /// A key of `HashiCorp` Vault.
    Transit(Box<Transit>),
    /// A key of AWS.
    AwsKms(Box<AwsKms>),
    /// A key of Google Cloud.
    GcpKms(Box<GcpKms>),
}

/// What a store is opened with.
#[derive(Debug)]
pub struct Wrappers {
    /// It wraps every new key.
    pub current: Wrapper,
    /// It may still open older ones, while the wrapping key is being changed.
    pub previous: Option<Wrapper>,
}

impl From<Kek> for Wrappers {
    fn from(kek: Kek) -> Self {
        Self { current: Wrapper::Local(kek), previous: None }
    }
}

impl Wrappers {
    /// The one with this fingerprint.
    pub(super) fn with(&self, fingerprint: [u8; 8]) -> Option<&Wrapper> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|wrapper| wrapper.fingerprint().0 == fingerprint)
    }

    /// Their fingerprints, for people.
    pub(super) fn fingerprints(&self) -> String {
        match &self.previous {
            None => self.current.fingerprint().to_string(),
            Some(previous) => format!("{} and {}", self.current.fingerprint(), previous.fingerprint()),
        }
    }
}

/// The place of a wrapped key: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPlace<'a> {
    pub store_id: &'a [u8; 16],
    pub dek_id: u64,
    pub purpose: Purpose,
}

impl KeyPlace<'_> {
    /// A record key cannot be passed off as the index key.
    fn aad(&self) -> Vec<u8> {
        let label: &[u8] = match self.purpose {
            Purpose::Record => b"dek",
            Purpose::Index => b"index",
        };
        lp(&[label, self.store_id, &self.dek_id.to_be_bytes()])
    }
}

/// Why a key was not wrapped or unwrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WrapError {
    /// It does not open: another key's, another place's, or damaged.
    Rejected,
    /// The service, or the system's chance, is not to be had.
    Unavailable(String),
}

impl From<Rejected> for WrapError {
    fn from(_: Rejected) -> Self {
        WrapError::Rejected
    }
}

impl From<WrapError> for OpenError {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Rejected => OpenError::Store("a key of the store could not be wrapped".to_owned()),
            WrapError::Unavailable(why) => OpenError::Store(why),
        }
    }
}

impl Wrapper {
    /// What it may be called aloud.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Wrapper::Local(kek) => Fingerprint::of(kek),
            Wrapper::Transit(_) | Wrapper::AwsKms(_) | Wrapper::GcpKms(_) => {
                Fingerprint::of_name(self.name())
            }
        }
    }

    /// The name kept beside what it wraps.
    pub(super) fn name(&self) -> &str {
        match self {
            Wrapper::Local(_) => "local",
            Wrapper::Transit(key) => key.name(),
            Wrapper::AwsKms(key) => key.name(),
            Wrapper::GcpKms(key) => key.name(),
        }
    }

    pub(super) async fn wrap(&self, place: KeyPlace<'_>, dek: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        match self {
            Wrapper::Local(kek) => Ok(seal::seal(kek.expose(), place.dek_id, &place.aad(), dek, &random()?)?),
            Wrapper::Transit(key) => key.wrap(&place.aad(), dek).await,
            Wrapper::AwsKms(key) => key.wrap(place, dek).await,
            Wrapper::GcpKms(key) => key.wrap(&place.aad(), dek).await,
        }
    }

    pub(super) async fn open(&self, place: KeyPlace<'_>, wrapped: &[u8]) -> Result<Dek, WrapError> {
        let bytes = match self {
            Wrapper::Local(kek) => seal::open(kek.expose(), place.dek_id, &place.aad(), wrapped)?,
            Wrapper::Transit(key) => key.open(&place.aad(), wrapped).await?,
            Wrapper::AwsKms(key) => key.open(place, wrapped).await?,
            Wrapper::GcpKms(key) => key.open(&place.aad(), wrapped).await?,
        };
        dek(&bytes)
    }
}

fn dek(bytes: &Zeroizing<Vec<u8>>) -> Result<Dek, WrapError> {
    Ok(Dek::new(bytes.as_slice().try_into().map_err(|_| WrapError::Rejected)?))
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], WrapError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|cause| WrapError::Unavailable(format!("the system gave no random bytes: {cause}")))?;
    Ok(bytes)
}
