//! What keeps the gateway from starting: the exit code, the words, and that nothing was changed.

use crate::support::{CLIENT_SECRET, Process, World};
use nix::sys::signal::Signal::SIGTERM;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Every file of the world's folder, byte for byte, but the lock that says only who is there.
fn files(world: &World) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(world.dir.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("readable"))
        })
        .filter(|(name, _)| !name.ends_with(".lock"))
        .collect()
}

/// A world whose store has a connection and whose gateway has gone.
async fn with_a_store() -> World {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    world
}

/// Starting must fail with this code and these words, and leave every file as it is.
async fn assert_refused(world: &World, code: i32, words: &[&str]) {
    let before = files(world);
    let ended = world.perch(&["serve"]).await;
    assert_eq!(ended.code, Some(code), "{}", ended.err);
    for word in words {
        assert!(ended.err.contains(word), "{word:?} is not in: {}", ended.err);
    }
    assert_eq!(ended.out, "", "standard output is for access lines");
    assert!(!ended.all().contains(CLIENT_SECRET), "{}", ended.err);
    assert!(files(world) == before, "a refused start changed {:?}", changed(&before, &files(world)));
}

fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_key_it_does_not_start_and_makes_no_store() {
    let world = World::with().without_gateway().await;
    fs::remove_file(world.path("perch.key")).expect("it was there");
    assert_refused(&world, 78, &["there is no key file", "perch.key", "perch keys generate"]).await;
    assert!(!world.path("perch.db").exists());

    let world = with_a_store().await;
    fs::remove_file(world.path("perch.key")).expect("it was there");
    assert_refused(&world, 78, &["there is no key file", "restore it from its backup"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_store_is_told_by_both_fingerprints() {
    let mut world = with_a_store().await;
    let fingerprint =
        |said: &str| said.split(['(', ')']).nth(1).unwrap_or_default().replace("fingerprint ", "");
    fs::rename(world.path("perch.key"), world.path("first.key")).expect("it is there");
    let made = world.perch(&["keys", "generate", "perch.key"]).await;
    let got = format!("got {}", fingerprint(&made.out));
    assert_eq!(got.len(), "got ".len() + 16, "{got}");
    assert_refused(&world, 78, &["wrong key, expected fingerprint ", &got, "vault.key"]).await;
    let listed = world.perch(&["connections", "list"]).await;
    assert_eq!((listed.code, listed.out.as_str()), (Some(78), ""), "{}", listed.err);

    fs::rename(world.path("first.key"), world.path("perch.key")).expect("it is there");
    let perch = world.serve().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let world = with_a_store().await;
    let key = world.path("perch.key");
    for mode in [0o644, 0o604, 0o640, 0o660] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("it is ours");
        assert_refused(&world, 78, &["open to others", &format!("{mode:04o}"), "chmod 600"]).await;
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("it is ours");
    for (bytes, words) in [
        ("c2hvcnQ=\n", "holds a key of 5 bytes"),
        ("", "is empty"),
        ("a password is not a key", "holds 23 bytes that are not base64"),
        // Any 32 bytes are a key, but not this store's.
        ("hunter2 is a password, not a key", "wrong key"),
    ] {
        fs::write(&key, bytes).expect("it is ours");
        assert_refused(&world, 78, &[words]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_with_a_configuration_is_told_at_once() {
    let world = World::with().without_gateway().await;
    world.set(
        "limits.windw = \"2s\"\nlimits.replicas = 3\nlimits.products.directory = \"many\"\ndrain.grace = 25\n\
         apps.auth = \"mtls\"\nfinch.ca_file = \"nowhere.pem\"\nlog.level = \"loud\"",
    );
    let line = |key: &str| {
        let text = fs::read_to_string(world.path("perch.toml")).expect("settings");
        let at = text.lines().position(|line| line.starts_with(key)).expect("it is there") + 1;
        format!("perch.toml:{at}:")
    };
    let told: Vec<String> =
        ["limits.windw", "limits.replicas", "limits.products", "drain", "apps", "finch.ca", "log"]
            .map(line)
            .into();
    let mut words: Vec<&str> = told.iter().map(String::as_str).collect();
    words.extend(["did you mean `limits.window`?", "7 problems in the configuration", "nowhere.pem"]);
    assert_refused(&world, 64, &words).await;

    let checked = world.perch(&["check"]).await;
    let served = world.perch(&["serve"]).await;
    assert_eq!(checked.code, Some(64));
    let problems = |text: &str| text.lines().map(|l| l.replace("perch: ", "")).collect::<Vec<_>>();
    assert_eq!(problems(&checked.err), problems(&served.err), "check says what starting would say");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_not_there_is_named_by_where_it_was_looked_for() {
    let world = World::with().without_gateway().await;
    for words in [&["serve"] as &[&str], &["check"], &["connections", "list"], &["config"]] {
        let mut command = world.command(words);
        command.env_remove("FINCH_CLIENT_SECRET");
        let ended = world.run(command).await;
        assert_eq!(ended.code, Some(64), "{words:?}: {}", ended.err);
        assert!(
            ended.err.contains("finch.client_secret") && ended.err.contains("FINCH_CLIENT_SECRET"),
            "{}",
            ended.err
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_or_a_store_that_is_taken_is_named() {
    let mut world = World::with().without_gateway().await;
    let first = world.serve().await;
    let taken = world.proxy;
    let second = |name: &str, value: &str| {
        let mut command = world.command(&["serve"]);
        command.env(name, value);
        command
    };
    let ended = world.run(second("PERCH_LISTEN__PROXY", &taken.to_string())).await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(ended.err.contains(&format!("cannot listen on {taken}")), "{}", ended.err);
    let ended = world.run(world.command(&["serve"])).await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(
        ended.err.contains("another perch gateway is using") && ended.err.contains("perch.db"),
        "{}",
        ended.err
    );
    assert_eq!(world.operator().get("/readyz").await.status, 200, "the first is not disturbed");
    stop(first).await;

    world.set("vault.cache_ttl = \"5s\"");
    let perch = world.serve().await;
    stop(perch).await;
}

async fn stop(perch: Process) {
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trust_anchor_that_is_none_is_refused() {
    let world = World::with().settings("finch.ca_file = \"anchor.pem\"").without_gateway().await;
    fs::write(world.path("anchor.pem"), "not a certificate").expect("a writable folder");
    let ended = world.perch(&["serve"]).await;
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert!(ended.err.contains("finch.ca_file anchor.pem holds no certificate"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_perch_does_not_know_end_with_2() {
    let world = World::with().without_gateway().await;
    for (words, said) in [
        (&[] as &[&str], "Usage: perch"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["connections"], "Usage: perch connections"),
        (&["connections", "show"], "<ID>"),
        (&["serve", "--port", "1"], "unexpected argument '--port'"),
    ] {
        let ended = world.perch(words).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(ended.err.contains(said), "{words:?}: {}", ended.err);
    }
}
