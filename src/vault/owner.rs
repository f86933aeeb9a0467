//! Whose a sealed token is: proven by opening it in its place, changed by sealing it in another.

use super::ring::Ring;
use super::stored::Mark;
use super::{Shared, VaultError, seal};
use crate::store::Tx;
use crate::store::{Row, SealedToken};
use crate::types::{AccessToken, CustomerId};

impl Shared {
    /// Seals a row's token anew, for this customer.
    pub(super) fn give(&self, ring: &Ring, row: &mut Row, customer: CustomerId) -> Result<(), VaultError> {
        let facts = &mut row.facts;
        let Some(sealed) = &row.sealed else {
            return Err(VaultError::Disconnected { connection: facts.connection_id.clone() });
        };
        let owner = self.owner(facts.customer_id.as_ref(), &facts.connection_id, facts.version);
        // The old record must open in its old place before anything is sealed for a new one.
        let token = ring.open_token(owner, &sealed.blob).map_err(|_| {
            self.unreadable(&facts.connection_id, "its sealed token does not open in its place")
        })?;
        facts.customer_id = Some(customer);
        facts.version = self.next_version(&facts.connection_id, facts.version);
        row.sealed = Some(reseal(self, ring, facts, &token)?);
        Ok(())
    }

    /// The owner a row names, when its sealed token proves it: the readable column alone could have
    /// been changed by whoever can write the store.
    pub(super) fn proven_owner(
        &self,
        ring: &Ring,
        tx: &Tx<'_>,
        old: Option<&Row>,
    ) -> Result<Option<CustomerId>, VaultError> {
        let Some((old, sealed)) = old.and_then(|old| Some((old, old.sealed.as_ref()?))) else {
            return Ok(None);
        };
        let facts = &old.facts;
        // That its key is not at hand says nothing about a row.
        if let Some(key) = seal::key_id(&sealed.blob).filter(|key| !ring.has(*key))
            && Mark::read(tx)?.state(key).is_some_and(|state| state.is_in_use())
        {
            return Err(VaultError::Store(format!(
                "connection {} is sealed with key {key}, which does not open here; see the log",
                facts.connection_id
            )));
        }
        let owner = self.owner(facts.customer_id.as_ref(), &facts.connection_id, facts.version);
        Ok(ring.open_token(owner, &sealed.blob).ok().and_then(|_| facts.customer_id.clone()))
    }
}

/// Seals a token in the place that these facts name.
pub(super) fn reseal(
    shared: &Shared,
    ring: &Ring,
    facts: &crate::store::Connection,
    token: &AccessToken,
) -> Result<SealedToken, VaultError> {
    let owner = shared.owner(facts.customer_id.as_ref(), &facts.connection_id, facts.version);
    ring.seal(owner, token).map_err(|_| {
        VaultError::Store("the token could not be sealed: the system gave no random bytes".to_owned())
    })
}
