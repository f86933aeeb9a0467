//! The container image as it is written: its bill of materials, its own configuration, and what it says of itself. The image
//! at work is `make smoke-image`, because building it takes too long for every run of the tests.

use perch::config::{self, Environ, KeySource, MANUAL, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A target whose library every machine that runs these tests can do without: only Cargo is asked about it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The bill of materials, as `make image` would write it for this program and these anchors.
fn bill(more: &[&str]) -> String {
    let told = Command::new("python3")
        .current_dir(root())
        .args(["scripts/sbom.py", "--target", TARGET])
        .args(more)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .expect("python3");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).expect("a text")
}

fn parsed(bill: &str) -> Value {
    serde_json::from_str(bill).expect("JSON")
}

/// What is wrong with a bill, by the schema of its makers.
fn wrong_with(bill: &str) -> Option<String> {
    let python = root().join(".cache/sdk/sbom/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/sdks.sh", python.display());
    let mut child = Command::new(python)
        .arg(root().join("tests/sbom/check.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(bill.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    (!done.status.success()).then(|| String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn the_bill_of_materials_obeys_its_schema_and_is_the_same_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("some-file");
    fs::write(&file, "some bytes").expect("a writable folder");
    let path = file.to_str().expect("a path");
    let first = bill(&["--binary", path, "--roots", path]);
    assert_eq!(first, bill(&["--binary", path, "--roots", path]));
    assert_eq!(wrong_with(&first), None);
    let told = &parsed(&first)["metadata"]["component"]["hashes"][0]["content"];
    assert_eq!(
        told, "0d22cdcc10e6d049dbe1af5123d50873fdfc1a4f58306e58cb6241be9472014d",
        "the SHA-256 of the program"
    );
    // The judge is no rubber stamp.
    for (from, to) in [
        ("\"scope\": \"excluded\"", "\"scope\": \"elsewhere\""),
        ("\"alg\": \"SHA-256\"", "\"alg\": \"SHA-257\""),
        ("\"type\": \"library\"", "\"kind\": \"library\""),
    ] {
        assert!(first.contains(from), "{from}");
        assert!(wrong_with(&first.replace(from, to)).is_some(), "{to} was taken");
    }
}

#[test]
fn the_bill_of_materials_names_what_is_linked_and_tells_it_from_what_only_builds() {
    let bill = parsed(&bill(&[]));
    let components = bill["components"].as_array().expect("a list");
    let of = |scope: &str| -> BTreeSet<&str> {
        let those = components.iter().filter(|one| one["scope"] == scope);
        those.filter_map(|one| one["name"].as_str()).collect()
    };
    let (linked, building) = (of("required"), of("excluded"));
    // The ways into perch and out of it, and the C code that crates carry.
    for name in
        ["pingora-core", "rustls", "ring", "rusqlite", "sqlite", "zlib-ng", "zstd", "tokio", "rust-std"]
    {
        assert!(linked.contains(name), "{name} is linked");
    }
    for name in ["serde_derive", "maud_macros", "cc", "cmake"] {
        assert!(building.contains(name) && !linked.contains(name), "{name} only builds");
    }
    // What only tests need is in neither.
    for name in ["proptest", "rcgen", "opentelemetry-proto"] {
        assert!(!linked.contains(name) && !building.contains(name), "{name} is for tests");
    }

    // Every crate is the one that Cargo.lock holds to a digest.
    let lock: toml::Table = read("Cargo.lock").parse().expect("TOML");
    let text = |value: &toml::Value, name: &str| value[name].as_str().expect("a text").to_owned();
    let locked: BTreeMap<(String, String), String> = lock["package"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|package| package.get("checksum").is_some())
        .map(|package| ((text(package, "name"), text(package, "version")), text(package, "checksum")))
        .collect();
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut crates = 0;
    for one in components.iter().filter(|one| word(&one["purl"]).starts_with("pkg:cargo/")) {
        crates += 1;
        let crate_ = (word(&one["name"]), word(&one["version"]));
        let digest = locked.get(&crate_).unwrap_or_else(|| panic!("{crate_:?} is not in Cargo.lock"));
        assert_eq!(one["hashes"][0]["content"], digest.as_str(), "{crate_:?}");
        assert!(one["licenses"][0]["expression"].is_string(), "{crate_:?} has no licence");
    }
    assert!(crates > 200, "{crates} crates only");

    // Whatever is named as needed is there, once.
    let references: Vec<String> = components.iter().map(|one| word(&one["bom-ref"])).collect();
    let known: BTreeSet<&String> = references.iter().collect();
    assert_eq!(known.len(), references.len());
    for row in bill["dependencies"].as_array().expect("a list") {
        for other in row["dependsOn"].as_array().expect("a list") {
            assert!(known.contains(&word(other)), "{other} is needed and not listed");
        }
    }
}

#[test]
fn the_images_own_configuration_is_one_that_perch_takes() {
    let env: Environ = [("FINCH_CLIENT_ID", "id"), ("FINCH_CLIENT_SECRET", "secret")].into_iter().collect();
    let loaded =
        config::load(Some(&root().join("config/image/perch.toml")), &env).expect("a sound configuration");
    let vault = &loaded.config.vault;
    assert_eq!(vault.store, Store::Sqlite(PathBuf::from("/var/lib/perch/perch.db")));
    assert!(
        matches!(&vault.key, KeySource::File(path) if path == Path::new("/run/secrets/perch/sealing-key"))
    );
    assert!(vault.key_group_readable);
}

#[test]
fn the_image_is_nobodys_and_holds_nothing_but_perch() {
    let file = read("config/image/Containerfile");
    let steps: Vec<&str> =
        file.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    let has = |step: &str| steps.contains(&step);
    for step in [
        "FROM scratch",
        "USER 65532:65532",
        "STOPSIGNAL SIGTERM",
        "WORKDIR /var/lib/perch",
        "ENTRYPOINT [\"/perch\"]",
        "CMD [\"serve\"]",
        "ADD rootfs.tar /",
    ] {
        assert!(has(step), "{step}");
    }
    let verbs: BTreeSet<&str> = steps.iter().filter_map(|step| step.split(' ').next()).collect();
    for verb in ["RUN", "VOLUME", "COPY"] {
        assert!(!verbs.contains(verb), "{verb} is not meant to be there");
    }
    // The ports are those of the manual, and a file of the user's wins over what the image says: no setting by variable.
    let exposed = steps.iter().find_map(|step| step.strip_prefix("EXPOSE ")).expect("ports");
    for port in exposed.split(' ') {
        assert!(MANUAL.contains(&format!(":{port}\"")), "the manual knows no port {port}");
    }
    let variables: Vec<&str> = steps.iter().filter_map(|step| step.strip_prefix("ENV ")).collect();
    assert_eq!(variables, ["PERCH_CONFIG=/etc/perch/perch.toml"]);
    assert!(
        read("scripts/image.sh")
            .contains("cp config/image/perch.toml \"$context/root/etc/perch/perch.toml\"")
    );
}
