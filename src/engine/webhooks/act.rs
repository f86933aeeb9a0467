//! What perch itself does with an event: a connection's status is believed, data that may have changed is let go.

use super::courier::Whose;
use crate::engine::Engine;
use crate::engine::resolve::in_time;
use crate::finch::webhook::{Topic, topic_of};
use crate::store::webhooks::Arrived;
use crate::types::{ConnectionId, EntityId, UnixMillis};
use crate::vault::VaultError;
use std::collections::HashMap;

/// The most logins whose newest word is remembered.
const WORDS_MAX: usize = 10_000;

/// When Finch last spoke of each login: its messages may come in any order.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<(ConnectionId, Option<EntityId>), UnixMillis>);

/// How a word stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// None is newer.
    Newest,
    /// One is of the same second: nobody can tell which was last.
    Tied,
    /// One is newer: this one is history.
    Overtaken,
}

impl Words {
    fn hear(&mut self, login: (ConnectionId, Option<EntityId>), at: UnixMillis) -> Order {
        match self.0.get_mut(&login) {
            Some(newest) if at < *newest => return Order::Overtaken,
            Some(newest) if at == *newest => return Order::Tied,
            Some(newest) => {
                *newest = at;
                return Order::Newest;
            }
            None => {}
        }
        if self.0.len() >= WORDS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(login, _)| login.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(login, at);
        Order::Newest
    }
}

impl Engine {
    /// Does what an event asks of perch. Doing it again is no harm. `may_ask` allows to ask Finch about it.
    ///
    /// # Errors
    /// The vault does not answer; the event is acted on later.
    pub(super) async fn act_on(
        &self,
        event: &Arrived,
        status: Option<&str>,
        may_ask: bool,
    ) -> Result<(), VaultError> {
        let id = &event.event_id;
        if topic_of(&event.event_type) != Topic::Test {
            self.let_go(event).await?;
        }
        match topic_of(&event.event_type) {
            Topic::Account => {
                let whose = self.whose_event(event).await?;
                let (Some(connection), Some(word)) = (whose.connection, status) else {
                    tracing::warn!(event.id = %id, "webhook {id} tells of a status without telling whose or which");
                    return Ok(());
                };
                let login = (connection.clone(), event.entity_id.clone());
                let order = self.webhooks.words.lock().hear(login, event.sent_at);
                if order == Order::Overtaken {
                    tracing::info!(event.id = %id, "webhook {id} is older than what Finch has told since");
                    return Ok(());
                }
                let is_last = order == Order::Newest;
                let entity = event.entity_id.as_ref();
                return self
                    .told_by_finch(&connection, entity, word, (event.sent_at, is_last), may_ask)
                    .await;
            }
            Topic::Job => tracing::info!(
                event.id = %id, connection.id = event.connection_id.as_ref().map(ConnectionId::as_str),
                "Finch has finished a job ({}): its data is fresh, or the job failed", event.event_type
            ),
            Topic::Data => tracing::debug!(
                event.id = %id, connection.id = event.connection_id.as_ref().map(ConnectionId::as_str),
                "data changed at Finch ({})", event.event_type
            ),
            Topic::Test | Topic::Other => {}
        }
        Ok(())
    }

    /// Something happened to a connection: what is kept of its answers may be out of date, and a new one may have data by
    /// now. An event that names a company alone is about every connection of it.
    async fn let_go(&self, event: &Arrived) -> Result<(), VaultError> {
        let concerned = match (&event.connection_id, &event.company_id) {
            (Some(connection), _) => vec![connection.clone()],
            (None, Some(company)) => {
                let all = in_time(self.vault.list()).await?;
                let theirs = all.into_iter().filter(|facts| facts.company_id.as_ref() == Some(company));
                theirs.map(|facts| facts.connection_id).collect()
            }
            (None, None) => Vec::new(),
        };
        for connection in &concerned {
            self.forget_answers(connection).await;
            if let Some(warming) = &self.answers.warming {
                warming.heard(connection);
            }
        }
        Ok(())
    }

    /// Whose event it is: by its connection, else by its company where that has one connection only.
    ///
    /// # Errors
    /// The vault does not answer.
    pub(super) async fn whose_event(&self, event: &Arrived) -> Result<Whose, VaultError> {
        if let Some(connection) = &event.connection_id {
            let customer = match in_time(self.vault.connection(connection)).await {
                Ok(entry) => entry.facts.customer_id.clone(),
                Err(error @ VaultError::Store(_)) => return Err(error),
                Err(_) => None,
            };
            return Ok(Whose { connection: Some(connection.clone()), customer });
        }
        let Some(company) = &event.company_id else { return Ok(Whose::default()) };
        let all = in_time(self.vault.list()).await?;
        let mut of_company = all.into_iter().filter(|facts| facts.company_id.as_ref() == Some(company));
        match (of_company.next(), of_company.next()) {
            (Some(facts), None) => {
                Ok(Whose { connection: Some(facts.connection_id), customer: facts.customer_id })
            }
            _ => Ok(Whose::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts_whatever_comes_later() {
        let mut words = Words::default();
        let login = |entity: Option<&str>| {
            (ConnectionId::new("c").unwrap(), entity.map(|id| EntityId::new(id).unwrap()))
        };
        assert_eq!(words.hear(login(None), UnixMillis(10)), Order::Newest);
        assert_eq!(words.hear(login(None), UnixMillis(12)), Order::Newest);
        assert_eq!(words.hear(login(None), UnixMillis(11)), Order::Overtaken);
        assert_eq!(words.hear(login(None), UnixMillis(12)), Order::Tied);
        assert_eq!(words.hear(login(Some("e")), UnixMillis(1)), Order::Newest, "each entity by itself");
    }

    #[test]
    fn words_are_remembered_up_to_a_bound_and_the_oldest_goes() {
        let mut words = Words::default();
        let login = |n: usize| (ConnectionId::new(format!("c{n}")).unwrap(), None);
        for n in 0..=WORDS_MAX {
            words.hear(login(n), UnixMillis(n as i64 + 1));
        }
        assert_eq!(words.0.len(), WORDS_MAX);
        assert!(!words.0.contains_key(&login(0)) && words.0.contains_key(&login(1)));
    }
}
