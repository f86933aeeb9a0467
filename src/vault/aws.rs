//! AWS KMS as what wraps the store's keys: `Encrypt` and `Decrypt` of its JSON protocol. The place of the
//! wrapped key is the encryption context, which KMS binds and writes to `CloudTrail`; nothing in it is secret.

use super::ask::{Answer, Plain, Service};
use super::sigv4::{Credentials, Signing};
use super::wrap::{KeyPlace, WrapError};
use crate::config::{AwsKey, BaseUrl};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use zeroize::Zeroizing;

const TYPE: &str = "application/x-amz-json-1.1";

/// One key of AWS KMS.
pub struct AwsKms {
    service: Service,
    arn: String,
    region: String,
    credentials: Credentials,
    name: String,
}

impl std::fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Deserialize)]
struct Encrypted {
    #[serde(rename = "CiphertextBlob")]
    blob: String,
}

#[derive(Deserialize)]
struct Decrypted {
    #[serde(rename = "Plaintext")]
    plain: Plain,
}

#[derive(Deserialize)]
struct Failed {
    #[serde(rename = "__type")]
    kind: String,
}

impl AwsKms {
    /// `endpoint` stands in for the region's own.
    ///
    /// # Errors
    /// A sentence: there is nobody to trust.
    pub(super) fn new(
        key: &AwsKey,
        endpoint: Option<BaseUrl>,
        ca_file: Option<&Path>,
        credentials: Credentials,
    ) -> Result<Self, String> {
        let host = format!("kms.{}.amazonaws.com", key.region);
        let server = endpoint.unwrap_or(BaseUrl { tls: true, host, port: 443 });
        Ok(Self {
            service: Service::at(server, ca_file)?,
            arn: key.arn.clone(),
            region: key.region.clone(),
            credentials,
            name: format!("aws-kms:{}", key.arn),
        })
    }

    /// The key's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn wrap(&self, place: KeyPlace<'_>, dek: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        let plain = Zeroizing::new(STANDARD.encode(dek));
        let body = json!({ "KeyId": self.arn, "Plaintext": *plain, "EncryptionContext": context(place) });
        let said: Encrypted = self.ask("Encrypt", &body).await?;
        STANDARD.decode(said.blob).map_err(|_| self.strange())
    }

    pub(super) async fn open(
        &self,
        place: KeyPlace<'_>,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, WrapError> {
        // The key is named here too: a blob must not choose the key it is opened with.
        let body = json!({
            "KeyId": self.arn, "CiphertextBlob": STANDARD.encode(wrapped), "EncryptionContext": context(place),
        });
        let said: Decrypted = self.ask("Decrypt", &body).await?;
        said.plain.decode().ok_or_else(|| self.strange())
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, what: &str, body: &Value) -> Result<T, WrapError> {
        let body = Zeroizing::new(body.to_string().into_bytes());
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let (host, target) = (self.service.authority(), format!("TrentService.{what}"));
        let mut headers = vec![("content-type", TYPE), ("host", &host), ("x-amz-date", &at)];
        if let Some(session) = &self.credentials.session {
            headers.push(("x-amz-security-token", session.expose()));
        }
        headers.push(("x-amz-target", &target));
        let signing = Signing {
            method: "POST",
            path: "/",
            headers: &headers,
            body: &body,
            at: &at,
            region: &self.region,
            service: "kms",
        };
        let authorization = signing.authorization(&self.credentials);
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", &authorization));
        let answer = self.service.post("/", &headers, body.to_vec()).await;
        let Answer { status, body, .. } = answer.map_err(WrapError::Unavailable)?;
        if status == 200 {
            return serde_json::from_slice(&body).map_err(|_| self.strange());
        }
        let kind = serde_json::from_slice(&body)
            .map_or_else(|_| "no reason".to_owned(), |failed: Failed| failed.kind);
        // Some answers carry a namespace before the name.
        match kind.rsplit('#').next().unwrap_or_default() {
            "InvalidCiphertextException" | "IncorrectKeyException" => Err(WrapError::Rejected),
            kind => Err(WrapError::Unavailable(format!(
                "{} refuses {what} ({status}, {kind}); see vault.key and the AWS_* credentials",
                self.name
            ))),
        }
    }

    fn strange(&self) -> WrapError {
        WrapError::Unavailable(format!("{} answers what KMS does not answer", self.name))
    }
}

fn context(place: KeyPlace<'_>) -> Value {
    let store: String = place.store_id.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "perch:store": store, "perch:key": place.dek_id.to_string(), "perch:purpose": place.purpose.as_str(),
    })
}
