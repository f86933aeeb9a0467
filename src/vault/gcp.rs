//! Google Cloud KMS as what wraps the store's keys: `encrypt` and `decrypt` of its REST interface, v1. The place of the
//! wrapped key is the additional authenticated data, which KMS binds. Both ways carry CRC32C sums, as Google asks: what
//! was damaged between here and there is neither stored nor believed.
//!
//! perch shows a token of its operator's, or one that the machine's metadata server gives for its service account.

use super::ask::{Answer, Plain, Service};
use super::wrap::WrapError;
use crate::config::{BaseUrl, GcpKey};
use crate::types::KeyToken;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Where the metadata server answers, to the machine's own programs only.
pub(super) const METADATA_HOST: &str = "metadata.google.internal";

/// Whose token it gives.
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// A token is not used in its last minute: it must still be good when the question arrives.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// One key of Google Cloud KMS.
pub struct GcpKms {
    service: Service,
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    key: String,
    token: Token,
    name: String,
}

/// What perch shows.
enum Token {
    /// The operator's.
    Given(Arc<KeyToken>),
    /// The machine's, and until when the last one is good.
    OfMachine { server: Service, last: Mutex<Option<(Arc<KeyToken>, Instant)>> },
}

impl std::fmt::Debug for GcpKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    name: String,
    ciphertext: String,
    ciphertext_crc32c: Sum,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decrypted {
    plaintext: Plain,
    plaintext_crc32c: Sum,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

#[derive(Deserialize)]
struct Failure {
    status: String,
    #[serde(default)]
    message: String,
}

/// A sum, as a whole number in a text: so JSON has 64 bits.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Sum(u32);

impl TryFrom<String> for Sum {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl GcpKms {
    /// Without a token of the operator's the metadata server at `metadata` is asked for the machine's.
    ///
    /// # Errors
    /// A sentence: there is nobody to trust.
    pub(super) fn new(
        key: &GcpKey,
        server: Option<BaseUrl>,
        ca_file: Option<&Path>,
        token: Option<KeyToken>,
        metadata: BaseUrl,
    ) -> Result<Self, String> {
        let google = || BaseUrl { tls: true, host: "cloudkms.googleapis.com".to_owned(), port: 443 };
        let token = match token {
            Some(token) => Token::Given(Arc::new(token)),
            None => Token::OfMachine { server: Service::at(metadata, None)?, last: Mutex::new(None) },
        };
        Ok(Self {
            service: Service::at(server.unwrap_or_else(google), ca_file)?,
            key: key.name.clone(),
            token,
            name: format!("gcp-kms:{}", key.name),
        })
    }

    /// The key's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn wrap(&self, aad: &[u8], dek: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        let plain = Zeroizing::new(STANDARD.encode(dek));
        let body = json!({
            "plaintext": *plain,
            "plaintextCrc32c": crc32c(dek).to_string(),
            "additionalAuthenticatedData": STANDARD.encode(aad),
            "additionalAuthenticatedDataCrc32c": crc32c(aad).to_string(),
        });
        let said: Encrypted = self.ask("encrypt", body.to_string()).await?;
        let is_ours = said.name.strip_prefix(&self.key).is_some_and(|v| v.starts_with("/cryptoKeyVersions/"));
        if !is_ours {
            return Err(self.strange());
        }
        if !(said.verified_plaintext_crc32c && said.verified_additional_authenticated_data_crc32c) {
            return Err(self.damaged());
        }
        let wrapped = STANDARD.decode(said.ciphertext).map_err(|_| self.strange())?;
        if crc32c(&wrapped) != said.ciphertext_crc32c.0 {
            return Err(self.damaged());
        }
        Ok(wrapped)
    }

    pub(super) async fn open(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
        let body = json!({
            "ciphertext": STANDARD.encode(wrapped),
            "ciphertextCrc32c": crc32c(wrapped).to_string(),
            "additionalAuthenticatedData": STANDARD.encode(aad),
            "additionalAuthenticatedDataCrc32c": crc32c(aad).to_string(),
        });
        let said: Decrypted = self.ask("decrypt", body.to_string()).await?;
        let plain = said.plaintext.decode().ok_or_else(|| self.strange())?;
        if crc32c(&plain) != said.plaintext_crc32c.0 {
            return Err(self.damaged());
        }
        Ok(plain)
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, what: &str, body: String) -> Result<T, WrapError> {
        // The key is the configuration's; nothing that came out of the store is in the path.
        let path = format!("/v1/{}:{what}", self.key);
        let token = self.token().await?;
        let authorization = Zeroizing::new(format!("Bearer {}", token.expose()));
        let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
        let answer = self.service.post(&path, &headers, body.into_bytes()).await;
        let Answer { status, body, .. } = answer.map_err(WrapError::Unavailable)?;
        if status == 200 {
            return serde_json::from_slice(&body).map_err(|_| self.strange());
        }
        if status == 401 {
            self.forget_token().await;
        }
        let failed = serde_json::from_slice::<Failed>(&body).ok().map(|failed| failed.error);
        let (kind, message) = match &failed {
            Some(failure) => (failure.status.as_str(), failure.message.as_str()),
            None => ("no reason", ""),
        };
        // Damaged, of another key, or of another place; every other mistake of a question has the same status.
        if what == "decrypt" && kind == "INVALID_ARGUMENT" && message.starts_with("Decryption failed") {
            return Err(WrapError::Rejected);
        }
        let kind: String =
            kind.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ')).take(64).collect();
        Err(WrapError::Unavailable(format!(
            "{} refuses {what} ({status}, {kind}); see vault.key, vault.key_token and the service account's role",
            self.name
        )))
    }

    async fn token(&self) -> Result<Arc<KeyToken>, WrapError> {
        let (server, last) = match &self.token {
            Token::Given(token) => return Ok(Arc::clone(token)),
            Token::OfMachine { server, last } => (server, last),
        };
        // Held over the question: who needs one meanwhile waits for this one.
        let mut last = last.lock().await;
        if let Some((token, until)) = &*last
            && Instant::now() < *until
        {
            return Ok(Arc::clone(token));
        }
        let asked_at = Instant::now();
        let answer = server.get(TOKEN_PATH, &[("metadata-flavor", "Google")]).await;
        let Answer { status, headers, body } = answer.map_err(|why| {
            WrapError::Unavailable(format!("gcp-kms needs a token, and there is no vault.key_token: {why}"))
        })?;
        // Whatever else answers there is no metadata server.
        let is_google = headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
        let issued = serde_json::from_slice::<Issued>(&body).ok().filter(|_| status == 200 && is_google);
        let Some(Issued { access_token, expires_in }) = issued else {
            return Err(WrapError::Unavailable(format!(
                "gcp-kms needs a token: the metadata server gives none ({status}); give the machine a service account, or \
                 set vault.key_token"
            )));
        };
        let token = Arc::new(KeyToken::new(access_token));
        // A number that no clock can hold is as good as none.
        let good_for = Duration::from_secs(expires_in.min(24 * 60 * 60)).saturating_sub(TOKEN_MARGIN);
        *last = Some((Arc::clone(&token), asked_at + good_for));
        Ok(token)
    }

    /// It was refused, whatever had been said of its end.
    async fn forget_token(&self) {
        if let Token::OfMachine { last, .. } = &self.token {
            *last.lock().await = None;
        }
    }

    fn strange(&self) -> WrapError {
        WrapError::Unavailable(format!("{} answers what KMS does not answer", self.name))
    }

    fn damaged(&self) -> WrapError {
        WrapError::Unavailable(format!(
            "what perch and {} said to each other was damaged on the way (CRC32C); try again",
            self.name
        ))
    }
}

/// CRC-32C (Castagnoli), as in RFC 3720 appendix B.4. Bit by bit: a key has 32 bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_rfc() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }
}
