//! What the engine takes from the configuration: swapped as a whole when that is read anew. Whoever needs two values that
//! belong together takes them out of one [`Settings`].

use super::OutlookRules;
use super::gather::Batching;
use crate::limit::patience::WaitRules;
use crate::policy::Proof;
use crate::policy::batch::Repair;
use crate::policy::brake::Brakes;
use crate::policy::rollout::Rollout;
use crate::types::{ApplicationId, ClientSecret, Environment};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What the engine takes from the configuration.
#[derive(Debug)]
pub struct Settings {
    /// The Finch application.
    pub client_id: ApplicationId,
    /// Its secret.
    pub client_secret: Arc<ClientSecret>,
    /// The one before, when it was changed while perch ran: a call that was sent with it may still be answered.
    pub client_secret_before: Option<Arc<ClientSecret>>,
    /// Which kind of tokens belong here.
    pub environment: Environment,
    /// How long calls wait when they do not say.
    pub wait: WaitRules,
    /// By what apps are known.
    pub known_by: Proof,
    /// Whether calls may change customers' employment systems.
    pub writes: bool,
    /// Whether an app may still bring a token of its own.
    pub pass_through: bool,
    /// For whom perch works already.
    pub rollout: Rollout,
    /// What the configuration pauses.
    pub brakes: Brakes,
    /// Whether identical reads under way at once are sent once.
    pub coalesce: bool,
    /// Whose calls, and to which products, share requests while they wait.
    pub batching: Batching,
    /// Whether a call with more ids than Finch takes becomes several requests.
    pub splits: bool,
    /// The largest answer that is held and looked into.
    pub inspect_bytes_max: usize,
    /// Where a customer who has renewed a login is sent, in the redirect flow.
    pub redirect_uri: Option<String>,
    /// Retries and the shield of dead logins.
    pub outlook: OutlookRules,
    /// Which failed items of a batch are asked for once more, when a call does not say.
    pub repair: Repair,
    /// How long after a disconnect that Finch did not confirm it is tried again.
    pub disconnect_retry: Duration,
    /// In which time each connection is asked about once; `None`: only when a call gives reason.
    pub introspect_every: Option<Duration>,
    /// Whether a 202 in place of data becomes an error.
    pub refuses_unready: bool,
    /// How long calls under way may take when perch stops.
    pub grace: Duration,
    /// How much of it perch goes on serving, because whoever sends calls here has not heard yet.
    pub linger: Duration,
    /// What perch is told to do, for a support bundle.
    pub essentials: Vec<(String, String)>,
}

/// A value that can be replaced while others use it.
#[derive(Debug)]
pub struct Current<T>(watch::Sender<Arc<T>>);

impl<T> Current<T> {
    /// Begins with this one.
    pub fn new(first: T) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    /// The value in force. It stays what it is for whoever has it.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces it, for whoever asks from now on.
    pub fn set(&self, next: T) {
        self.0.send_replace(Arc::new(next));
    }

    /// Hears of every replacement from now on.
    pub fn changes(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }
}
