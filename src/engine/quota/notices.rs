//! What replicas tell each other through the store that they share, and who among them does what one should do alone.
//! A replica that shares nothing has nobody to tell, and claims for itself.

use super::{Book, Quota};
use crate::limit::Notice;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notices that were heard and wait to be taken. While there is no room, no more are fetched.
const HEARD_MAX: usize = 256;

impl Quota {
    /// Tells the other replicas something that lasts this long, those that start meanwhile too. What one replica says is
    /// heard in the order of its saying. Never waits; what the store did not take for as long as it lasts, or for half a
    /// minute, is dropped, and so is what finds a thousand others waiting. A [`Notice::Well`] has to last as long as what
    /// it takes back, or who comes late hears that alone.
    pub fn post(&self, notice: Notice, span: Duration) {
        match &self.book {
            Book::Own(_) => {}
            Book::Shared(shared) => shared.tell(notice, span),
        }
    }

    /// What the other replicas tell, and how long it still lasts: first what lasts already, then what is told, within about
    /// a second. A replica does not hear itself, but it hears its earlier runs. The channel ends with the gateway; it has
    /// ended already where nothing is shared.
    pub fn news(&self) -> mpsc::Receiver<(Notice, Duration)> {
        let (heard, news) = mpsc::channel(HEARD_MAX);
        match &self.book {
            Book::Own(_) => {}
            Book::Shared(shared) => shared.listen(heard),
        }
        news
    }

    /// Claims to be the only one with this name within the span: among all replicas, or, while their store is out, among
    /// the calls of this one. A name may hold Finch's ids, but not a customer's.
    pub async fn claim(&self, name: &str, span: Duration) -> bool {
        if !self.claims.lock().claim(name, span, self.now()) {
            return false;
        }
        let is_first = match &self.book {
            Book::Own(_) => true,
            Book::Shared(shared) => shared.claim(name, span).await.unwrap_or(true),
        };
        if !is_first {
            // Whoever has it may have had it for a while: what is claimed here would last longer.
            self.claims.lock().release(name);
        }
        is_first
    }
}
