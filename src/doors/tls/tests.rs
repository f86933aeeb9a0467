//! Certificates that change under the door.

use super::*;
use crate::telemetry::Metrics;
use std::fs;
use std::path::Path;

fn write(dir: &Path, name: &str) -> TlsFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let files = TlsFiles {
        cert_file: dir.join("cert.pem"),
        key_file: dir.join("key.pem"),
        client_ca_file: Some(dir.join("clients.pem")),
    };
    fs::write(&files.cert_file, certificate.pem()).unwrap();
    fs::write(&files.key_file, key.serialize_pem()).unwrap();
    fs::write(dir.join("clients.pem"), certificate.pem()).unwrap();
    files
}

#[test]
fn what_was_read_holds_until_what_is_new_fits_together() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "one");
    let metrics = Metrics::new().unwrap();
    let door = DoorTls::new(files.clone(), metrics.handshakes.clone(), metrics.ages.clone()).unwrap();
    let shown = || Arc::as_ptr(&door.current.read().unwrap().config);
    let first = shown();
    assert!(!door.look() && shown() == first, "nothing has changed");
    let other = tempfile::tempdir().unwrap();
    write(other.path(), "two");
    fs::copy(other.path().join("key.pem"), &files.key_file).unwrap();
    assert!(!door.look() && shown() == first, "a key alone fits nothing");
    assert!(!door.look(), "and is not complained about twice");
    fs::remove_file(&files.cert_file).unwrap();
    assert!(!door.look() && shown() == first);
    fs::copy(other.path().join("cert.pem"), &files.cert_file).unwrap();
    assert!(door.look() && shown() != first);
    fs::write(files.client_ca_file.as_ref().unwrap(), "").unwrap();
    assert!(!door.look(), "nobody would be let in");
}

#[test]
fn the_ends_of_the_certificates_that_hold_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "one");
    let own = |year| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["one".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let told = |metrics: &Metrics, which: &str| {
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let name = format!("perch_certificate_expiry_timestamp_seconds{{which=\"{which}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<i64>().ok())
    };
    let ((pem, key), (sooner, _), (later, _)) = (own(2040), own(2035), own(2045));
    fs::write(&files.cert_file, format!("{pem}{sooner}")).unwrap();
    fs::write(&files.key_file, &key).unwrap();
    fs::write(files.client_ca_file.as_ref().unwrap(), format!("{sooner}{later}")).unwrap();
    let metrics = Metrics::new().unwrap();
    assert_eq!(told(&metrics, "proxy"), None, "no door, no certificate");
    let door = DoorTls::new(files.clone(), metrics.handshakes.clone(), metrics.ages.clone()).unwrap();
    let new_year = |year| Some(rcgen::date_time_ymd(year, 1, 1).unix_timestamp());
    assert_eq!(told(&metrics, "proxy"), new_year(2035), "the first of the chain to end");
    assert_eq!(told(&metrics, "client_ca"), new_year(2045), "the last that vouches");
    fs::write(&files.cert_file, pem).unwrap();
    assert!(door.look());
    assert_eq!(told(&metrics, "proxy"), new_year(2040));
}
