//! What the request ledger knows, for operators.

use super::Engine;
use crate::store::StoreError;
use crate::store::requests::{Found, Recorded, Requests, Search, UsageRow};

impl Engine {
    /// The calls that a search is for, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger is off or does not answer.
    pub async fn search_requests(&self, search: &Search) -> Result<Vec<Recorded>, StoreError> {
        Ok(self.find_requests(search).await?.calls)
    }

    /// The same, and where to go on.
    ///
    /// # Errors
    /// As [`Engine::search_requests`].
    pub async fn find_requests(&self, search: &Search) -> Result<Found, StoreError> {
        self.ledger()?.search(search).await
    }

    /// What each connection was used for in a month, such as `2026-11`, in UTC.
    ///
    /// # Errors
    /// As [`Engine::search_requests`].
    pub async fn usage(&self, month: &str) -> Result<Vec<UsageRow>, StoreError> {
        self.ledger()?.usage(month).await
    }

    fn ledger(&self) -> Result<&Requests, StoreError> {
        self.requests.as_deref().ok_or_else(|| {
            StoreError::Refused(
                "there is no request ledger: ledger.keep is \"off\", or the file is a newer perch's"
                    .to_owned(),
            )
        })
    }
}
