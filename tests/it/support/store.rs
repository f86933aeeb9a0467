//! The world's store, opened beside the running gateway as a command of `perch` does.

use super::World;
use perch::app;
use perch::cli::connections::import_unverified;
use perch::cli::output::Format;
use perch::config::{self, Config};
use perch::telemetry::clock::unix_now;
use perch::types::{ConnectionId, CustomerId};
use perch::vault::{Entry, Vault, VaultError};
use rusqlite::Connection;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

impl World {
    /// The vault, as an operator's command opens it.
    pub async fn vault(&self) -> Arc<Vault> {
        app::open_vault(&self.config(), false).await.expect("a sound store")
    }

    /// What the world was configured with.
    pub fn config(&self) -> Config {
        config::load(Some(&self.settings), &self.environment).expect("sound settings").config
    }

    /// What the vault holds of a connection now, whatever the gateway remembers.
    pub async fn stored(&self, connection: &str) -> Result<Arc<Entry>, VaultError> {
        self.vault().await.connection(&ConnectionId::new(connection).expect("an id")).await
    }

    /// What `perch connections assign` does.
    pub async fn assign(&self, connection: &str, customer: &str) {
        let (id, customer) = (ConnectionId::new(connection), CustomerId::new(customer));
        let vault = self.vault().await;
        let assigned = vault.assign(&id.expect("an id"), &customer.expect("an id"), unix_now()).await;
        assigned.expect("it may be assigned");
    }

    /// Takes every connection that the simulator began with into the vault, as `perch connections import` does.
    pub async fn import(&self) {
        self.import_from(self).await;
    }

    /// The same for the connections at another world's Finch.
    pub async fn import_from(&self, other: &World) {
        let mut lines = String::new();
        for connection in other.connections().await {
            let line = serde_json::json!({
                "customer_id": connection["customer_id"], "connection_id": connection["connection_id"],
                "access_token": connection["access_token"], "company_id": connection["company_id"],
                "provider_id": connection["provider_id"], "entity_ids": connection["entity_ids"],
            });
            writeln!(lines, "{line}").expect("room");
        }
        let (vault, mut out) = (self.vault().await, Vec::new());
        let imported = import_unverified(&vault, lines.as_bytes(), unix_now(), Format::Text, &mut out).await;
        imported.unwrap_or_else(|failure| panic!("{failure:?}"));
    }

    /// The simulator's own list of connections, tokens included.
    pub async fn connections(&self) -> Vec<Value> {
        let told = self.straight().get("/_sim/connections").await.json();
        told["connections"].as_array().expect("a list").clone()
    }

    /// Ends a customer's connection behind perch's back.
    pub async fn disconnect_at_finch(&self, customer: &str) {
        let all = self.connections().await;
        let row = all.iter().find(|c| c["customer_id"] == customer).expect("a connection");
        let bearer = format!("Bearer {}", row["access_token"].as_str().expect("a token"));
        let app = self.straight().with("authorization", &bearer).with("finch-api-version", "2020-09-17");
        assert_eq!(app.post("/disconnect", &serde_json::json!({})).await.status, 200);
    }

    /// A second hand on the store's file.
    pub fn sqlite(&self) -> Connection {
        Connection::open(self.dir.path().join("perch.db")).expect("the store's file")
    }

    /// How many changes the store has had.
    pub async fn generation(&self) -> i64 {
        self.database.generation().await
    }

    /// A second hand on the quota's journal.
    pub fn journal(&self) -> Connection {
        Connection::open(self.path("perch.db.quota")).expect("the journal's file")
    }
}
