//! What proves an app, and what the door shows: together or not at all.

use super::refusals::problems_of;
use super::*;

fn loaded(text: &str) -> Config {
    load_text(text, &environ(&[])).unwrap_or_else(|problems| panic!("{problems}")).config
}

#[test]
fn what_proves_an_app_must_be_there_to_be_asked_for() {
    for (text, expected) in [
        (
            "[apps]\nauth = \"mtls\"",
            "2:8 `apps.auth` is \"mtls\", and there is no `listen.cert_file`, no `listen.key_file`, no \
             `apps.client_ca_file`; name PEM files that are there",
        ),
        (
            "[apps]\nauth = \"mtls\"\n[listen]\nproxy = \"unix:/run/perch.sock\"",
            "2:8 `apps.auth` is \"mtls\", and `listen.proxy` is unix:/run/perch.sock, which is reached without TLS; \
             write \"uid\", or listen on ADDRESS:PORT",
        ),
        (
            "[apps]\nauth = \"uid\"",
            "2:8 `apps.auth` is \"uid\", and `listen.proxy` is 127.0.0.1:4600, where nobody's user can be told; \
             listen on unix:/…, or write \"key\" or \"mtls\"",
        ),
        (
            "[apps]\nauth = \"certificate\"",
            "2:8 `apps.auth` is \"certificate\"; it can be \"loopback\", \"key\", \"mtls\" or \"uid\"",
        ),
        (
            "[apps]\nclient_ca_file = \"Cargo.toml\"",
            "2:18 `apps.client_ca_file` is set, and `apps.auth` is \"loopback\": nobody is asked for a certificate; \
             set apps.auth to \"mtls\", or leave it empty",
        ),
        (
            "[listen]\nkey_file = \"Cargo.toml\"",
            "2:12 `listen.key_file` is set, and there is no `listen.cert_file`; set both for a door that speaks TLS, or \
             leave both empty",
        ),
        (
            "[listen]\ncert_file = \"Cargo.toml\"\nkey_file = \"Cargo.toml\"",
            "2:13 `listen.cert_file` is Cargo.toml, which cannot be used: it holds no certificate; name a PEM file that fits",
        ),
    ] {
        assert_eq!(problems_of(text, &environ(&[])), [expected], "{text}");
    }
}

#[test]
fn a_door_that_is_reached_without_tls_has_no_certificate() {
    let door = "[listen]\nproxy = \"unix:/run/perch.sock\"\n";
    let text = format!("{door}cert_file = \"Cargo.toml\"\nkey_file = \"Cargo.toml\"");
    let problems = problems_of(&text, &environ(&[]));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[1]
            .contains("is set, and `listen.proxy` is unix:/run/perch.sock, which is reached without TLS")
    );
    assert_eq!(loaded(&format!("{door}[apps]\nauth = \"uid\"")).apps.auth, AppAuth::Uid);
}

#[test]
fn a_door_for_certificates_needs_files_that_fit_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let made = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    };
    let ((cert, key), (other, other_key)) = (made("perch.internal"), made("other"));
    let (cert, key) = (write("cert.pem", cert), write("key.pem", key));
    let (other, other_key) = (write("other.pem", other), write("other.key", other_key));
    let text = |cert: &str, key: &str, clients: &str| {
        format!(
            "[listen]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n[apps]\nauth = \"mtls\"\nclient_ca_file = \"{clients}\""
        )
    };
    assert!(loaded(&text(&cert, &key, &other)).listen.tls.is_some());
    for (text, place, why) in [
        (text(&cert, &other_key, &other), "3:12 `listen.key_file`", "it does not fit"),
        (text(&key, &key, &other), "2:13 `listen.cert_file`", "it holds no certificate"),
        (text(&cert, &cert, &other), "3:12 `listen.key_file`", "cannot be used"),
        (text(&cert, &key, &other_key), "6:18 `apps.client_ca_file`", "it holds no certificate"),
        (text(&cert, &key, "nowhere.pem"), "6:18 `apps.client_ca_file`", "nowhere.pem"),
    ] {
        let problems = problems_of(&text, &environ(&[]));
        assert!(
            problems.len() == 1 && problems[0].starts_with(place) && problems[0].contains(why),
            "{problems:?}"
        );
    }
}
