//! A call as the door hands it over, and what the door gets back.

use super::relay::Relay;
use crate::policy::batch::Repair;
use crate::policy::problem::Evidence;
use crate::policy::{App, Class, Refusal, Selector};
use crate::telemetry::AccessLine;
use crate::types::{AccessToken, AppName, Priority, RequestId, UnixMillis};
use crate::vault::Entry;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A request, read and bounded, its framing and target already found sound. It does not print what it
/// holds: an app may have brought a secret along.
pub struct Call {
    /// perch's id of it.
    pub request_id: RequestId,
    /// When it came in.
    pub received_at: UnixMillis,
    /// The method as it came.
    pub method: String,
    /// The path, plain.
    pub path: String,
    /// The query, as it came.
    pub query: Option<String>,
    /// All headers as they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Which app it is, when apps are told apart.
    pub app: Option<Arc<App>>,
    /// Whose will it is.
    pub by: By,
}

/// Whose will a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An app's.
    App,
    /// An operator's, at the admin door or the command line.
    Operator,
    /// perch's own.
    Perch,
}

impl Call {
    /// The name of the app, when apps are told apart.
    pub(super) fn app_name(&self) -> Option<&AppName> {
        self.app.as_ref().map(|app| &app.name)
    }

    /// The same call with another body.
    pub(super) fn asking(&self, body: impl Into<Bytes>) -> Call {
        Call {
            request_id: self.request_id.clone(),
            received_at: self.received_at,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: body.into(),
            app: self.app.clone(),
            by: self.by,
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

/// What the headers of a call say about it.
#[derive(Debug)]
pub(super) struct Caller {
    /// Which app calls, when apps are told apart.
    pub(super) app: Option<Arc<App>>,
    /// Whose will the call is.
    pub(super) by: By,
    pub(super) selector: Selector,
    pub(super) priority: Priority,
    pub(super) patience: Duration,
    /// Which failed items of a batch are asked for once more.
    pub(super) repair: Repair,
    /// Whether it says which page of a list it wants.
    pub(super) names_page: bool,
    /// Whether it still waits for quota, told to whoever joined it.
    pub(super) sent: Sent,
}

/// How far a call is, told to whoever joined it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(watch::Sender<Stage>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// It waits for quota.
    #[default]
    Waits,
    /// It has been admitted.
    Admitted,
    /// What was sent settled nothing, and it waits to be sent again.
    WaitsAgain,
}

impl Sent {
    /// It has been admitted.
    pub(super) fn admit(&self) {
        self.0.send_replace(Stage::Admitted);
    }

    /// What was sent settled nothing: it waits again.
    pub(super) fn waits(&self) {
        self.0.send_replace(Stage::WaitsAgain);
    }

    /// Whether it waits no longer.
    pub(super) fn is_admitted(&self) -> bool {
        *self.0.borrow() == Stage::Admitted
    }

    /// Whether it has ever been admitted.
    pub(super) fn was_admitted(&self) -> bool {
        *self.0.borrow() != Stage::Waits
    }

    /// Waits until it has been admitted.
    pub(super) async fn admitted(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.0.subscribe().wait_for(|stage| *stage == Stage::Admitted).await;
    }

    /// Waits until it waits again.
    pub(super) async fn waiting(&self) {
        // As above.
        let _ = self.0.subscribe().wait_for(|stage| *stage == Stage::WaitsAgain).await;
    }
}

/// With whose credentials an attempt is made.
#[derive(Debug, Clone)]
pub(super) enum Identity {
    /// A customer's connection.
    Connection(Arc<Entry>),
    /// The application itself.
    Application,
    /// The application, inside the body.
    InBody,
    /// Nobody's.
    Nobody,
    /// The app's own token, while an operator allows that.
    Brought(Arc<AccessToken>),
}

/// What the app gets.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Every header but framing.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
    /// Whether the app's connection must be closed after it.
    pub closes: bool,
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// Larger than perch holds: it passes as it comes.
    Streamed(Box<Relay>),
}

/// The end of a call inside the engine: the answer for the app and the line for the log, which is
/// written when the answer has left.
#[derive(Debug)]
pub struct Finished {
    /// For the app.
    pub answer: Answer,
    /// For the log.
    pub line: AccessLine,
}

/// Tells an engine that its client has left.
#[derive(Debug, Clone)]
pub struct Client(watch::Receiver<bool>);

/// The door's end of [`Client`].
#[derive(Debug)]
pub struct ClientWatch(watch::Sender<bool>);

impl Client {
    /// A client that is there, and the way to say that it has left.
    pub fn present() -> (ClientWatch, Client) {
        let (gone, client) = watch::channel(false);
        (ClientWatch(gone), Client(client))
    }

    /// Whether the client is known to have left.
    pub(super) fn has_left(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the client has left; for ever when it stays.
    pub(super) async fn gone(&mut self) {
        if self.0.wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ClientWatch {
    /// The client has left.
    pub fn has_left(&self) {
        self.0.send_replace(true);
    }
}

/// Why a call ends without Finch's answer.
#[derive(Debug)]
pub(super) enum Ended {
    /// perch says no, or found no answer.
    Refused(Refusal),
    /// The client left while the call waited.
    Abandoned,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Ended::Refused(refusal)
    }
}

/// What an error body tells about the call.
pub(super) fn evidence(line: &AccessLine, now: UnixMillis) -> Evidence<'_> {
    Evidence {
        request_id: &line.request_id,
        finch_request_id: line.finch_request_id.last(),
        customer: line.customer.as_ref(),
        connection_id: line.connection_id.as_ref(),
        attempts: line.attempts,
        now,
    }
}

/// What the last attempt found, for the case that no further one is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) class: Class,
    pub(super) wait: Option<Duration>,
    pub(super) scope: Option<&'static str>,
}
