//! `HashiCorp` Vault's transit engine as what wraps the store's keys: its key never leaves it.
//!
//! `POST /v1/MOUNT/encrypt/NAME` and `decrypt`, with the place of the wrapped key as `associated_data`, so
//! that what is wrapped for one place opens in no other. The engine's own versions of its key are its affair.

use super::ask::{Answer, Plain, Service};
use super::wrap::WrapError;
use crate::config::TransitKey;
use crate::types::KeyToken;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use zeroize::Zeroizing;

/// One key of a transit engine.
pub struct Transit {
    service: Service,
    mount: String,
    key: String,
    token: KeyToken,
    namespace: Option<String>,
    name: String,
}

impl std::fmt::Debug for Transit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Deserialize)]
struct Said {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    ciphertext: Option<String>,
    plaintext: Option<Plain>,
}

impl Transit {
    /// # Errors
    /// A sentence: there is nobody to trust.
    pub(super) fn new(
        key: &TransitKey,
        ca_file: Option<&Path>,
        token: KeyToken,
        namespace: Option<String>,
    ) -> Result<Self, String> {
        Ok(Self {
            service: Service::at(key.server.clone(), ca_file)?,
            mount: key.mount.clone(),
            key: key.name.clone(),
            token,
            namespace,
            // Without the host: the same key behind another address is the same key.
            name: format!("vault-transit:{}/keys/{}", key.mount, key.name),
        })
    }

    /// The key's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn wrap(&self, aad: &[u8], dek: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        let plain = Zeroizing::new(STANDARD.encode(dek));
        let body = json!({ "plaintext": *plain, "associated_data": STANDARD.encode(aad) });
        let said = self.ask("encrypt", body.to_string()).await?;
        let wrapped = said.data.ciphertext.ok_or_else(|| self.strange())?;
        Ok(wrapped.into_bytes())
    }

    pub(super) async fn open(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
        let wrapped = std::str::from_utf8(wrapped).map_err(|_| WrapError::Rejected)?;
        let body = json!({ "ciphertext": wrapped, "associated_data": STANDARD.encode(aad) });
        let said = self.ask("decrypt", body.to_string()).await?;
        let plain = said.data.plaintext.ok_or_else(|| self.strange())?;
        plain.decode().ok_or_else(|| self.strange())
    }

    async fn ask(&self, what: &str, body: String) -> Result<Said, WrapError> {
        let path = format!("/v1/{}/{what}/{}", self.mount, self.key);
        let mut headers = vec![("content-type", "application/json"), ("x-vault-token", self.token.expose())];
        if let Some(namespace) = &self.namespace {
            headers.push(("x-vault-namespace", namespace));
        }
        let answer = self.service.post(&path, &headers, body.into_bytes()).await;
        let Answer { status, body, .. } = answer.map_err(WrapError::Unavailable)?;
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| self.strange()),
            // Damaged, of another key, or of another place.
            400 if what == "decrypt" => Err(WrapError::Rejected),
            403 => Err(WrapError::Unavailable(format!(
                "{} is not open to perch's token (403): it needs update on {path} and must not have expired; see \
                 vault.key_token",
                self.name
            ))),
            404 => Err(WrapError::Unavailable(format!("there is no {}; see vault.key", self.name))),
            status => Err(WrapError::Unavailable(format!("{} answers {status}", self.name))),
        }
    }

    fn strange(&self) -> WrapError {
        WrapError::Unavailable(format!("{} answers what no transit engine answers", self.name))
    }
}
