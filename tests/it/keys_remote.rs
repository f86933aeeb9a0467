//! Keys that never leave their service: what perch asks of it, and what it does without it.

use crate::keys::world;
use crate::support::keyservice::{
    AWS_ID, AWS_SECRET, AWS_SESSION, Damage, GCP_KEY, GCP_TOKEN, KMS_KEY, KeyService, Kind, VAULT_TOKEN,
};
use crate::support::{Ended, Process, World};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;
use std::fs;
use std::sync::atomic::Ordering;

/// A world with one customer whose key is in a transit engine.
async fn with_transit() -> (World, KeyService) {
    let service = KeyService::start(Kind::Transit).await;
    // Without a store: the one that is made belongs to the service's key.
    let world = world(0).await;
    fs::write(world.path("vault-token"), VAULT_TOKEN).expect("a writable folder");
    world.set_key(&format!("vault-transit:http://{}/team/transit/keys/perch", service.address));
    world.set(&format!("vault.key_token = \"file:{}\"", world.path("vault-token").display()));
    (world, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transit_key_wraps_the_ring_and_is_needed_at_start_and_rotation_only() {
    let (mut world, service) = with_transit().await;
    let perch = world.serve().await;
    assert_eq!(service.wrapped(), 2);
    world.connect("acme", "gusto").await;
    let rotated = world.perch(&["keys", "rotate", "-o", "json"]).await;
    assert_eq!((rotated.code, service.wrapped()), (Some(0), 3), "{}", rotated.err);
    assert_eq!(world.keys().await[0]["kek"], "vault-transit:team/transit/keys/perch");
    drop(service);
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let ended = world.perch(&["serve"]).await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(
        ended.err.contains("the key service http://127.0.0.1:") && !ended.err.contains(VAULT_TOKEN),
        "{}",
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transit_key_opens_nothing_in_another_place_nor_for_another_token() {
    let (mut world, service) = with_transit().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    fs::write(world.path("vault-token"), "another").expect("a writable folder");
    let refused = world.perch(&["keys", "list"]).await;
    assert_eq!(refused.code, Some(69));
    assert!(refused.err.contains("not open to perch's token (403)"), "{}", refused.err);
    fs::write(world.path("vault-token"), VAULT_TOKEN).expect("a writable folder");
    for code in [69, 0] {
        // Once there, once back.
        world.swap_wrapped_keys();
        let opened = world.perch(&["keys", "list"]).await;
        assert_eq!(opened.code, Some(code), "{}", opened.err);
    }
    // From the service to a file, and the service is not needed any more.
    let url = format!("vault-transit:http://{}/team/transit/keys/perch", service.address);
    world.set(&format!("vault.key_previous = \"{url}\""));
    world.set_key(&format!("file:{}", world.path("perch.key").display()));
    let moved = world.perch(&["keys", "rotate-kek", "-o", "json"]).await;
    assert_eq!((moved.code, &moved.json()["rewrapped"]), (Some(0), &json!(2)), "{}", moved.err);
    drop(service);
    world.assert_every_token_opens(1).await;
}

impl World {
    fn swap_wrapped_keys(&self) {
        let sqlite = self.sqlite();
        let wrapped = |id: i64| -> Vec<u8> {
            let select = "SELECT wrapped FROM vault_key WHERE dek_id = ?1";
            sqlite.query_row(select, [id], |row| row.get(0)).expect("a key")
        };
        for (id, bytes) in [(1, wrapped(2)), (2, wrapped(1))] {
            let update = "UPDATE vault_key SET wrapped = ?2 WHERE dek_id = ?1";
            sqlite.execute(update, rusqlite::params![id, bytes]).expect("a second hand");
        }
    }

    /// Runs a command with credentials for KMS.
    async fn perch_at_kms(&self, service: &KeyService, secret: &str, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.env("AWS_ACCESS_KEY_ID", AWS_ID).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_SESSION_TOKEN", AWS_SESSION);
        command.env("AWS_ENDPOINT_URL_KMS", format!("http://{}", service.address));
        let line = json!({ "customer_id": "acme", "connection_id": "c-1", "access_token": "t-1" });
        Process::spawn(command, Some(line.to_string().into_bytes())).end().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_kms_wraps_the_ring_for_who_signs_rightly() {
    let service = KeyService::start(Kind::Kms).await;
    let world = World::with().without_gateway().await;
    world.set_key(&format!("aws-kms:{KMS_KEY}"));
    let import = ["connections", "import", "--no-verify"];
    let refused = world.perch_at_kms(&service, "hunter2", &import).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert!(refused.err.contains("400, InvalidSignatureException"), "{}", refused.err);
    assert!(!refused.err.contains("hunter2") && !refused.err.contains(AWS_SESSION), "{}", refused.err);
    assert_eq!(service.wrapped(), 0);

    let imported = world.perch_at_kms(&service, AWS_SECRET, &import).await;
    assert_eq!((imported.code, service.wrapped()), (Some(0), 2), "{}", imported.err);
    let rotated = world.perch_at_kms(&service, AWS_SECRET, &["keys", "rotate", "-o", "json"]).await;
    assert_eq!((rotated.code, &rotated.json()["resealed"]), (Some(0), &json!(1)), "{}", rotated.err);
    world.swap_wrapped_keys();
    let refused = world.perch_at_kms(&service, AWS_SECRET, &["vault", "verify"]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert!(refused.err.contains("does not open although the wrapping key is right"), "{}", refused.err);

    let without = world.perch(&["keys", "list"]).await;
    assert_eq!(without.code, Some(78));
    assert!(without.err.contains("AWS_ACCESS_KEY_ID is not set"), "{}", without.err);
}

impl World {
    /// Runs a command at Google's stand-in.
    async fn perch_at_google(&self, service: &KeyService, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        let url = format!("http://{}/", service.address);
        command.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", url);
        command.env("GCE_METADATA_HOST", service.address.to_string());
        let line = json!({ "customer_id": "acme", "connection_id": "c-1", "access_token": "t-1" });
        Process::spawn(command, Some(line.to_string().into_bytes())).end().await
    }
}

/// A service whose messages a test may damage, and a world whose key it has.
async fn with_google() -> (World, KeyService, &'static Damage) {
    let damage: &'static Damage = Box::leak(Box::default());
    let service = KeyService::start(Kind::Gcp(damage)).await;
    let world = World::with().without_gateway().await;
    world.set_key(&format!("gcp-kms:{GCP_KEY}"));
    (world, service, damage)
}

const IMPORT: [&str; 3] = ["connections", "import", "--no-verify"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcp_kms_wraps_the_ring_for_the_machines_service_account_or_a_token() {
    let (world, service, damage) = with_google().await;
    let imported = world.perch_at_google(&service, &IMPORT).await;
    assert_eq!((imported.code, service.wrapped()), (Some(0), 2), "{}", imported.err);
    assert_eq!(damage.tokens.load(Ordering::SeqCst), 1, "one token for every question of a process");
    let rotated = world.perch_at_google(&service, &["keys", "rotate", "-o", "json"]).await;
    assert_eq!((rotated.code, &rotated.json()["resealed"]), (Some(0), &json!(1)), "{}", rotated.err);
    let listed = world.perch_at_google(&service, &["keys", "list", "-o", "json"]).await;
    assert_eq!(listed.json()[0]["kek"], format!("gcp-kms:{GCP_KEY}"), "{listed:?}");
    world.swap_wrapped_keys();
    let refused = world.perch_at_google(&service, &["vault", "verify"]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert!(refused.err.contains("does not open although the wrapping key is right"), "{}", refused.err);
    world.swap_wrapped_keys();

    let before = damage.tokens.load(Ordering::SeqCst);
    fs::write(world.path("gcp-token"), GCP_TOKEN).expect("a writable folder");
    world.set(&format!("vault.key_token = \"file:{}\"", world.path("gcp-token").display()));
    assert_eq!(world.perch_at_google(&service, &["vault", "verify"]).await.code, Some(0));
    assert_eq!(
        damage.tokens.load(Ordering::SeqCst),
        before,
        "the operator's token is used where there is one"
    );
    fs::write(world.path("gcp-token"), "hunter2").expect("a writable folder");
    let refused = world.perch_at_google(&service, &["vault", "verify"]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
    assert!(refused.err.contains("refuses decrypt (401, UNAUTHENTICATED)"), "{}", refused.err);
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_damaged_between_perch_and_gcp_kms_is_neither_stored_nor_believed() {
    let (world, service, damage) = with_google().await;
    let damaged = "was damaged on the way (CRC32C)";
    for flag in [&damage.question, &damage.answer] {
        flag.store(true, Ordering::SeqCst);
        let refused = world.perch_at_google(&service, &IMPORT).await;
        assert!(refused.code == Some(69) && refused.err.contains(damaged), "{refused:?}");
        flag.store(false, Ordering::SeqCst);
    }
    let imported = world.perch_at_google(&service, &IMPORT).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    damage.answer.store(true, Ordering::SeqCst);
    let refused = world.perch_at_google(&service, &["vault", "verify"]).await;
    assert!(refused.code == Some(69) && refused.err.contains(damaged), "{refused:?}");
    damage.answer.store(false, Ordering::SeqCst);
    assert_eq!(world.perch_at_google(&service, &["vault", "verify"]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_metadata_server_gcp_kms_says_what_to_set() {
    let (world, service, _) = with_google().await;
    let mut command = world.command(&IMPORT);
    command.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", format!("http://{}", service.address));
    // Nobody listens on this port any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    command.env("GCE_METADATA_HOST", gone.to_string());
    let ended = Process::spawn(command, Some(Vec::new())).end().await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(ended.err.contains("there is no vault.key_token"), "{}", ended.err);
}
