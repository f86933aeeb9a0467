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
    let door = DoorTls::new(files.clone(), Metrics::new().unwrap().handshakes).unwrap();
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
