//! Errands: what an operator, or perch by itself, wants of Finch for a connection. They are calls like any other, so
//! they keep the limits, are shielded, and leave a line in the log with Finch's request id.

use super::super::call::{Answer, By, Call, Client, Finished};
use super::super::{AnswerBody, Engine};
use crate::finch::headers::PERCH_PRIORITY;
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, RequestId};
use crate::vault::{Action, Actor, VaultError};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::Instant;

/// The life that perch asks for a link, Finch's own default (30 days), in minutes.
const LINK_MINUTES: u32 = 43_200;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// `/introspect`; what it tells is kept.
    Introspect,
    /// A link through which the customer renews the login.
    ReauthLink {
        /// Where the customer lands, when not where the configuration says.
        redirect_uri: Option<String>,
    },
    /// The end of the connection.
    Disconnect,
}

impl Engine {
    /// Does it for an operator, who is written down.
    ///
    /// # Errors
    /// [`VaultError`]: there is no such connection, or the store does not answer; nothing is sent then.
    pub async fn operate(self: &Arc<Self>, errand: Errand, id: &ConnectionId) -> Result<Answer, VaultError> {
        let version = self.vault.connection(id).await?.facts.version;
        let action = match errand {
            Errand::Introspect => Some(Action::Introspect),
            Errand::ReauthLink { .. } => Some(Action::ReauthLink),
            // Written down in the transaction that begins it.
            Errand::Disconnect => None,
        };
        if let Some(action) = action {
            self.vault.note_deed(Actor::Operator, action, (id, version), unix_now()).await?;
        }
        // In a task of its own: what has begun is finished, whoever has left.
        let (engine, id) = (Arc::clone(self), id.clone());
        let running = tokio::spawn(async move { engine.run_errand(&errand, &id, By::Operator).await });
        running.await.map_err(|_| VaultError::Store("perch is stopping".to_owned()))
    }

    pub(super) async fn run_errand(self: &Arc<Self>, errand: &Errand, id: &ConnectionId, by: By) -> Answer {
        self.run_own(self.call_for(errand, id, by)).await
    }

    /// Carries out a call that came through no door, and leaves its line.
    pub(in super::super) async fn run_own(self: &Arc<Self>, call: Call) -> Answer {
        let _running = self.drain.enter();
        let began = Instant::now();
        let (_here, client) = Client::present();
        // On the heap: a call of perch's own may come out of a call.
        let running: Pin<Box<dyn Future<Output = Finished> + Send>> =
            Box::pin(Arc::clone(self).run(call, client));
        let Finished { answer, mut line } = running.await;
        line.total = began.elapsed();
        if let AnswerBody::Whole(body) = &answer.body {
            line.bytes_out = body.len() as u64;
        }
        self.telemetry.record(line);
        answer
    }

    fn call_for(&self, errand: &Errand, id: &ConnectionId, by: By) -> Call {
        let (method, path, body) = match errand {
            Errand::Introspect => ("GET", "/introspect", None),
            Errand::Disconnect => ("POST", "/disconnect", Some(serde_json::json!({}))),
            Errand::ReauthLink { redirect_uri } => {
                let mut wanted =
                    serde_json::json!({ "connection_id": id, "minutes_to_expire": LINK_MINUTES });
                let settings = self.settings.now();
                if let Some(uri) = redirect_uri.as_ref().or(settings.redirect_uri.as_ref()) {
                    wanted["redirect_uri"] = uri.as_str().into();
                }
                ("POST", "/connect/sessions/reauthenticate", Some(wanted))
            }
        };
        let mut headers = HeaderMap::new();
        if let Ok(named) = HeaderValue::try_from(format!("Bearer connection:{id}")) {
            headers.insert(AUTHORIZATION, named);
        }
        if by == By::Perch {
            headers.insert(PERCH_PRIORITY, HeaderValue::from_static("batch"));
        }
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request_id = uuid::Uuid::now_v7().simple().to_string();
        Call {
            request_id: RequestId::new(request_id).expect("thirty-two hex digits are an id"),
            received_at: unix_now(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: None,
            headers,
            body: body.map(|body| body.to_string().into()).unwrap_or_default(),
            app: None,
            by,
        }
    }
}
