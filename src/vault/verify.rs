//! A look at every row of the store: does it open, in its place, with the keys there are?

use super::ring::Ring;
use super::{KeysError, Vault};
use crate::store::Row;
use crate::store::connections::{self, Place};

/// Rows looked at in one view of the store.
const ROWS: usize = 500;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Rows whose token opened.
    pub opened: u64,
    /// Rows of disconnected connections, which have none.
    pub erased: u64,
    /// Connections whose row is not sound, and why.
    pub unsound: Vec<(String, &'static str)>,
}

impl Vault {
    /// Opens every row of the store, of all applications and environments. `seen` is told how many were
    /// looked at so far.
    ///
    /// # Errors
    /// [`KeysError::Open`] when the store does not answer.
    pub async fn verify(&self, mut seen: impl FnMut(u64)) -> Result<Verified, KeysError> {
        self.follow_keys().await?;
        let mut found =
            Verified { erased: self.store.read(connections::erased).await?, ..Verified::default() };
        let mut after: Option<Place> = None;
        loop {
            let ring = self.shared.ring();
            let (from, mut part) = (after.take(), Verified::default());
            let (part, next) = self
                .store
                .read(move |tx| {
                    let rows = connections::walk(tx, from.as_ref(), None, ROWS)?;
                    let next = rows.last().filter(|_| rows.len() == ROWS).map(|(place, _)| place.clone());
                    for (place, row) in rows {
                        match row
                            .map_or(Err("its row is not what perch writes"), |row| look(&ring, &place, &row))
                        {
                            Ok(()) => part.opened += 1,
                            Err(why) => part.unsound.push((place.connection_id, why)),
                        }
                    }
                    Ok::<_, KeysError>((part, next))
                })
                .await?;
            found.opened += part.opened;
            found.unsound.extend(part.unsound);
            seen(found.opened + found.unsound.len() as u64);
            match next {
                Some(place) => after = Some(place),
                None => return Ok(found),
            }
        }
    }
}

fn look(ring: &Ring, place: &Place, row: &Row) -> Result<(), &'static str> {
    let (facts, sealed) = (&row.facts, row.sealed.as_ref().ok_or("it has no token")?);
    let owner = super::Owner {
        application: &place.application,
        environment: &place.environment,
        customer_id: facts.customer_id.as_ref().map(|id| id.as_str()),
        connection_id: &place.connection_id,
        version: facts.version,
    };
    let token = ring.open_token(owner, &sealed.blob).map_err(|_| "its token does not open in its place")?;
    match ring.index_of(&token) == sealed.index {
        true => Ok(()),
        false => Err("its index is not its token's"),
    }
}
