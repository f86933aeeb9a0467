//! Quota that several replicas share: where it is, how one signs in, and who is who.

use super::super::*;
use super::{environ, load_text};
use crate::types::{CustomerId, StorePassword, StoreUser};

fn limits(text: &str, env: &[(&str, &str)]) -> Limits {
    load_text(&format!("[limits]\n{text}"), &environ(env))
        .unwrap_or_else(|p| panic!("{text}: {p}"))
        .config
        .limits
}

/// The store's URL as it is shown, its user and its password.
fn store(text: &str, env: &[(&str, &str)]) -> (String, Option<String>, Option<String>) {
    match limits(text, env).store {
        LimitStore::Memory => ("memory".to_owned(), None, None),
        LimitStore::Redis(url) => (
            url.to_string(),
            url.user.as_ref().map(StoreUser::expose).map(str::to_owned),
            url.password.as_ref().map(StorePassword::expose).map(str::to_owned),
        ),
    }
}

#[test]
fn a_shared_store_is_named_in_the_file_the_environment_or_a_secret() {
    let secret = |text: &str| Some(text.to_owned());
    assert_eq!(store("", &[]), ("memory".to_owned(), None, None));
    assert_eq!(store("store = \"redis://h\"\nreplicas = 3", &[]), ("redis://h:6379".to_owned(), None, None));
    let whole = "rediss://perch:hunter2@a,b:1/2";
    let read = ("rediss://a:6379,b:1/2".to_owned(), secret("perch"), secret("hunter2"));
    assert_eq!(store("", &[("PERCH_LIMITS__STORE", whole)]), read);
    assert_eq!(store("store = \"env:REDIS_URL\"", &[("REDIS_URL", whole)]), read);
    let password = "password = \"env:PW\"";
    assert_eq!(
        store(&format!("store = \"redis://perch@h\"\n{password}"), &[("PW", "hunter2")]),
        ("redis://h:6379".to_owned(), secret("perch"), secret("hunter2"))
    );

    let refused = |text: &str, env: &[(&str, &str)]| {
        let problems = load_text(&format!("[limits]\n{text}"), &environ(env)).expect_err(text).to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
        problems
    };
    let both = refused(&format!("store = \"env:URL\"\n{password}"), &[("URL", whole), ("PW", "hunter2")]);
    assert!(
        both.contains("`limits.password` is set, and so is a password in `limits.store`; keep one"),
        "{both}"
    );
    let no_url = refused("store = \"env:URL\"", &[("URL", "hunter2")]);
    assert!(no_url.contains("`limits.store` refers to a text that does not begin with redis://"), "{no_url}");
}

#[test]
fn what_is_shown_of_a_store_signs_nobody_in() {
    let env = environ(&[("PERCH_LIMITS__STORE", "redis://perch:hunter2@h/1"), ("PW", "hunter2")]);
    let loaded = load_text("", &env).expect("loads");
    assert_eq!(loaded.written("limits.store"), "redis://h:6379/1");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let loaded = load_text("[limits]\nstore = \"env:URL\"", &environ(&[("URL", "redis://:hunter2@h")]))
        .expect("loads");
    assert_eq!(loaded.written("limits.store"), "env:URL");
    assert!(loaded.origins.iter().any(|origin| origin.key == "limits.store" && origin.is_reference));
}

#[test]
fn replicas_share_a_namespace_that_does_not_tell_the_application() {
    let named = |id| limits("", &[("FINCH_CLIENT_ID", id)]).namespace;
    let name = named("3fa85f64");
    assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    assert_eq!(named("3fa85f64"), name);
    assert_ne!(named("3fa85f65"), name);
    assert_eq!(limits("namespace = \"office-1\"", &[]).namespace, "office-1");
}

#[test]
fn a_replica_keeps_its_name_and_shares_it_with_no_other() {
    let of = |more: &str, env: &[(&str, &str)]| limits(&format!("pad = \"1s\"\n{more}"), env).member;
    assert_eq!(of("member = \"pod-7\"", &[]), "pod-7");
    let pod = [("HOSTNAME", "node"), ("POD_NAME", "perch-0")];
    assert!(of("", &pod).starts_with("perch-0/"), "{}", of("", &pod));
    assert!(of("", &[("HOSTNAME", "node {1}")]).starts_with("node1/"));
    assert!(!of("", &[]).starts_with('/'), "the system has a name");
    assert_eq!(of("", &pod), of("", &pod));
    let door = "[listen]\nproxy = \"127.0.0.1:4610\"";
    let vault = "[vault]\nstore = \"sqlite:other.db\"";
    let names = [of("", &pod), of(door, &pod), of(vault, &pod), of(&format!("{door}\n{vault}"), &pod)];
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "two gateways of one machine are both {name}");
    }
}

#[test]
fn how_quota_is_shared_can_be_said() {
    let limits_of = |text| limits(text, &[]);
    let defaults = limits_of("");
    assert_eq!((defaults.share, defaults.pacing), (50, true));
    for (text, percent) in [("share = \"10%\"", 10), ("share = \"90%\"", 90), ("share = 0.7", 70)] {
        assert_eq!(limits_of(text).share, percent);
    }
    let told = limits_of("pacing = false\nweights = { acme = 5, \"Müller & Söhne\" = 100 }");
    assert!(!told.pacing);
    let weight =
        |customer| told.weights.all().get(&CustomerId::new(customer).expect("an id")).map(|w| w.get());
    assert_eq!((weight("acme"), weight("Müller & Söhne"), weight("globex")), (Some(5), Some(100), None));
}
