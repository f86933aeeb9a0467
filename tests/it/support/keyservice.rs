//! Key services on this machine, by the protocols of the real ones: `HashiCorp` Vault's transit engine, AWS KMS, and
//! Google Cloud KMS with a metadata server.

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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// What it says about the damage of messages is as it is told.
    Gcp(&'static Damage),
}

/// What happens to messages between perch and the service, and how long a token is good.
#[derive(Default)]
pub struct Damage {
    pub question: AtomicBool,
    pub answer: AtomicBool,
    pub tokens: AtomicUsize,
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
        Kind::Gcp(damage) => gcp(&head, &asked, &kept, damage),
    };
    let response = Response::builder()
        .status(status)
        .header("metadata-flavor", "Google")
        .body(Full::new(said.to_string().into()));
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

/// A key of the project of the tests.
pub const GCP_KEY: &str = "projects/perch-test/locations/europe-north1/keyRings/perch/cryptoKeys/tokens";
/// The token that an operator gives.
pub const GCP_TOKEN: &str = "CANARY-gcp-token-31";
/// The tokens that the metadata server gives: this, and a number.
const MACHINE_TOKEN: &str = "CANARY-gcp-machine-";

fn gcp(head: &Parts, asked: &Value, kept: &Kept, damage: &Damage) -> (u16, Value) {
    let failed = |code: u16, status: &str, message: &str| {
        (code, json!({ "error": { "code": code, "message": message, "status": status } }))
    };
    let path = head.uri.path();
    if path == "/computeMetadata/v1/instance/service-accounts/default/token" {
        if text(head, "metadata-flavor") != "Google" || head.method != "GET" {
            return (403, json!({}));
        }
        let number = damage.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!("{MACHINE_TOKEN}{number}");
        return (200, json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }));
    }
    let token = text(head, "authorization").strip_prefix("Bearer ").unwrap_or_default();
    if token != GCP_TOKEN && !token.starts_with(MACHINE_TOKEN) {
        return failed(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    }
    let Some(what) = path.strip_prefix(&format!("/v1/{GCP_KEY}:")) else {
        return failed(404, "NOT_FOUND", "CryptoKey not found.");
    };
    let bytes =
        |name: &str| asked[name].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let is_whole = |name: &str| {
        let sum = asked[format!("{name}Crc32c")].as_str().map(str::to_owned);
        sum == Some(castagnoli(&bytes(name)).to_string())
    };
    let sum = |bytes: &[u8]| {
        let flip = u32::from(damage.answer.load(Ordering::SeqCst));
        (castagnoli(bytes) ^ flip).to_string()
    };
    let place = &asked["additionalAuthenticatedData"];
    match what {
        "encrypt" if is_whole("plaintext") && is_whole("additionalAuthenticatedData") => {
            let number = keep(kept, &asked["plaintext"], place).to_string();
            let is_sound = !damage.question.load(Ordering::SeqCst);
            (
                200,
                json!({
                    "name": format!("{GCP_KEY}/cryptoKeyVersions/3"),
                    "ciphertext": STANDARD.encode(&number),
                    "ciphertextCrc32c": sum(number.as_bytes()),
                    "verifiedPlaintextCrc32c": is_sound,
                    "verifiedAdditionalAuthenticatedDataCrc32c": true,
                    "protectionLevel": "SOFTWARE",
                }),
            )
        }
        "decrypt" if is_whole("ciphertext") && is_whole("additionalAuthenticatedData") => {
            let number = String::from_utf8(bytes("ciphertext")).ok().and_then(|text| text.parse().ok());
            match find(kept, number, place) {
                Some(plain) => {
                    let bytes =
                        plain.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
                    (200, json!({ "plaintext": plain, "plaintextCrc32c": sum(&bytes), "usedPrimary": true }))
                }
                None => failed(
                    400,
                    "INVALID_ARGUMENT",
                    "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
                ),
            }
        }
        _ => failed(400, "INVALID_ARGUMENT", "The checksum in the request did not match."),
    }
}

/// CRC-32C by its table, another way than perch's.
fn castagnoli(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|n| (0..8).fold(n, |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 }))
        .collect();
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ table[usize::from((crc as u8) ^ byte)];
    bytes.iter().fold(u32::MAX, step) ^ u32::MAX
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
