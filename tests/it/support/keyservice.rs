//! Key services on this machine, by the protocols of the real ones: `HashiCorp` Vault's transit engine and AWS KMS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The token that the transit engine believes.
pub const VAULT_TOKEN: &str = "CANARY-vault-token-77";
/// The credentials that KMS believes.
pub const AWS_ID: &str = "AKIDEXAMPLE";
pub const AWS_SECRET: &str = "CANARY-aws-secret/7+";
pub const AWS_SESSION: &str = "CANARY-aws-session";

/// Which service it is.
#[derive(Clone, Copy)]
pub enum Kind {
    Transit,
    Kms,
}

/// What was wrapped: the plaintext and where it belongs. A number names it, as a ciphertext would.
type Kept = Arc<Mutex<Vec<(Value, Value)>>>;

/// The service. It is gone when this is dropped.
pub struct KeyService {
    pub address: SocketAddr,
    kept: Kept,
    server: AbortHandle,
}

impl KeyService {
    pub async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, kept) = (listener.local_addr().expect("an address"), Kept::default());
        let served = Arc::clone(&kept);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let kept = Arc::clone(&served);
                let service = service_fn(move |request| answer(kind, request, Arc::clone(&kept)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, kept, server: server.abort_handle() }
    }

    /// How many keys it has wrapped.
    pub fn wrapped(&self) -> usize {
        self.kept.lock().expect("no test panics in here").len()
    }
}

impl Drop for KeyService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(kind: Kind, request: Request<Incoming>, kept: Kept) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, said) = match kind {
        Kind::Transit => transit(&head, &asked, &kept),
        Kind::Kms => kms(&head, &asked, &body, &kept),
    };
    let response = Response::builder().status(status).body(Full::new(said.to_string().into()));
    Ok(response.expect("a sound answer"))
}

fn text<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn keep(kept: &Kept, plain: &Value, place: &Value) -> usize {
    let mut kept = kept.lock().expect("no test panics in here");
    kept.push((plain.clone(), place.clone()));
    kept.len()
}

fn find(kept: &Kept, number: Option<usize>, place: &Value) -> Option<Value> {
    let kept = kept.lock().expect("no test panics in here");
    let (plain, there) = kept.get(number?.checked_sub(1)?)?;
    (there == place).then(|| plain.clone())
}

fn transit(head: &Parts, asked: &Value, kept: &Kept) -> (u16, Value) {
    if text(head, "x-vault-token") != VAULT_TOKEN {
        return (403, json!({ "errors": ["permission denied"] }));
    }
    let place = &asked["associated_data"];
    match head.uri.path() {
        "/v1/team/transit/encrypt/perch" => {
            let number = keep(kept, &asked["plaintext"], place);
            (200, json!({ "data": { "ciphertext": format!("vault:v1:{number}"), "key_version": 1 } }))
        }
        "/v1/team/transit/decrypt/perch" => {
            let number =
                asked["ciphertext"].as_str().and_then(|text| text.strip_prefix("vault:v1:")?.parse().ok());
            match find(kept, number, place) {
                Some(plain) => (200, json!({ "data": { "plaintext": plain } })),
                None => (400, json!({ "errors": ["invalid ciphertext: unable to decrypt"] })),
            }
        }
        _ => (404, json!({ "errors": [] })),
    }
}

/// A key of the region and account of the tests.
pub const KMS_KEY: &str = "arn:aws:kms:eu-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn kms(head: &Parts, asked: &Value, body: &[u8], kept: &Kept) -> (u16, Value) {
    if !is_signed(head, body) || text(head, "x-amz-security-token") != AWS_SESSION {
        return (400, json!({ "__type": "com.amazon.coral.service#InvalidSignatureException" }));
    }
    if asked["KeyId"] != KMS_KEY {
        return (400, json!({ "__type": "NotFoundException" }));
    }
    let place = &asked["EncryptionContext"];
    match text(head, "x-amz-target") {
        "TrentService.Encrypt" => {
            let number = keep(kept, &asked["Plaintext"], place);
            (200, json!({ "CiphertextBlob": STANDARD.encode(number.to_string()), "KeyId": KMS_KEY }))
        }
        "TrentService.Decrypt" => {
            let blob = asked["CiphertextBlob"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let number = blob.and_then(|blob| String::from_utf8(blob).ok()?.parse().ok());
            match find(kept, number, place) {
                Some(plain) => (200, json!({ "Plaintext": plain, "KeyId": KMS_KEY })),
                None => (400, json!({ "__type": "InvalidCiphertextException" })),
            }
        }
        _ => (400, json!({ "__type": "UnknownOperationException" })),
    }
}

/// Computes the signature anew from what came over the wire, as AWS describes it.
fn is_signed(head: &Parts, body: &[u8]) -> bool {
    let authorization = text(head, "authorization");
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(name).unwrap_or_default();
        rest.split(", ").next().unwrap_or_default().to_owned()
    };
    let (credential, names, signature) = (part("Credential="), part("SignedHeaders="), part("Signature="));
    let Some((id, scope)) = credential.split_once('/') else { return false };
    let at = text(head, "x-amz-date");
    for needed in ["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        if !names.split(';').any(|name| name == needed) {
            return false;
        }
    }
    let headers: String = names.split(';').map(|name| format!("{name}:{}\n", text(head, name))).collect();
    let request = format!("{}\n{}\n\n{headers}\n{names}\n{}", head.method, head.uri.path(), sha256(body));
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", sha256(request.as_bytes()));
    let key = scope.split('/').fold(format!("AWS4{AWS_SECRET}").into_bytes(), |key, part| mac(&key, part));
    let region = scope.split('/').nth(1);
    id == AWS_ID && region == Some("eu-north-1") && hex(&mac(&key, &to_sign)) == signature
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
