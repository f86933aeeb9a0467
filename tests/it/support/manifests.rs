//! The manifests of `config/kubernetes`, as a cluster would get them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What can be applied as it is: whole deployments.
pub const OVERLAYS: [&str; 3] = ["sidecar-embedded", "sidecar-shared", "gateway"];
/// What is run once: the overlay, and the folder in it.
pub const JOBS: [&str; 4] =
    ["sidecar-embedded.restore", "sidecar-shared.move", "sidecar-shared.tables", "gateway.tables"];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program to its end and gives what it said, which must be good.
pub fn said(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}; run scripts/setup.sh test"));
    assert!(done.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// The folder of an overlay or a job.
pub fn folder(name: &str) -> PathBuf {
    root().join("config/kubernetes/overlays").join(name.replace('.', "/"))
}

/// A folder as kustomize renders it.
pub fn render(folder: &Path) -> String {
    said(Command::new("kubectl").arg("kustomize").arg(folder))
}

/// What `tests/kubernetes/judge.py` says about these files.
pub fn judge(words: &[&str], files: &[PathBuf]) -> Value {
    let python = root().join(".cache/sdk/kubernetes/bin/python");
    assert!(python.exists(), "the judges are installed by `make test`, or by scripts/sdks.sh alone");
    let told =
        said(Command::new(python).arg(root().join("tests/kubernetes/judge.py")).args(words).args(files));
    serde_json::from_str(&told).expect("JSON")
}

/// Everything rendered, each in a file of its own.
pub fn rendered() -> (TempDir, Vec<PathBuf>) {
    let dir = TempDir::new().expect("a folder");
    let write = |name: &&str| {
        let file = dir.path().join(format!("{name}.yaml"));
        fs::write(&file, render(&folder(name))).expect("a writable folder");
        file
    };
    let files = OVERLAYS.iter().chain(&JOBS).map(write).collect();
    (dir, files)
}

/// The objects of each overlay and job.
pub fn documents() -> BTreeMap<String, Vec<Value>> {
    let (_dir, files) = rendered();
    let mut all: BTreeMap<String, Vec<Value>> =
        serde_json::from_value(judge(&["--read"], &files)["documents"].clone()).expect("lists by name");
    for documents in all.values_mut() {
        look_up(documents);
    }
    all
}

/// Puts what the containers of these take from a `ConfigMap` into them, as a kubelet does. What is not there fails.
fn look_up(documents: &mut [Value]) {
    let maps = documents.to_vec();
    for pod in documents {
        for kind in ["initContainers", "containers"] {
            let path = format!("/spec/template/spec/{kind}");
            for container in pod.pointer_mut(&path).and_then(Value::as_array_mut).into_iter().flatten() {
                for variable in container["env"].as_array_mut().into_iter().flatten() {
                    let from = variable["valueFrom"]["configMapKeyRef"].clone();
                    if from.is_object() {
                        let map = one(&maps, "ConfigMap", text(&from["name"]));
                        let value = text(&map["data"][text(&from["key"])]);
                        *variable = json!({ "name": variable["name"], "value": value });
                    }
                }
            }
        }
    }
}

/// The objects of a kind.
pub fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Vec<&'d Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// The one object of this kind and name.
pub fn one<'d>(documents: &'d [Value], kind: &str, name: &str) -> &'d Value {
    let found: Vec<_> =
        of_kind(documents, kind).into_iter().filter(|d| d["metadata"]["name"] == name).collect();
    assert_eq!(found.len(), 1, "{kind}/{name}");
    found[0]
}

/// What a pod is made of, of each thing that makes pods.
pub fn pods(documents: &[Value]) -> Vec<&Value> {
    let makers = documents.iter().filter(|d| matches!(d["kind"].as_str(), Some("Deployment" | "Job")));
    makers.map(|maker| &maker["spec"]["template"]["spec"]).collect()
}

/// A list, empty where there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every container of a pod, those that begin before the others first.
pub fn containers(pod: &Value) -> Vec<&Value> {
    list(&pod["initContainers"]).iter().chain(list(&pod["containers"])).collect()
}

/// The containers that are perch.
pub fn perches(pod: &Value) -> Vec<&Value> {
    let is_perch = |c: &&Value| text(&c["image"]).starts_with("registry.example.com/perch:");
    containers(pod).into_iter().filter(is_perch).collect()
}

/// A text that must be one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// What a container's environment says, with what Kubernetes puts into it.
pub fn environment(container: &Value) -> BTreeMap<String, String> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for variable in list(&container["env"]) {
        let from_pod = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => Some("app-7d4b9c-x2x9k".to_owned()),
            Some("status.podIP") => Some("127.0.0.1".to_owned()),
            Some(other) => panic!("{other}: what would that be here?"),
            None => None,
        };
        let value = from_pod.unwrap_or_else(|| {
            // Only what stands before a variable is replaced in it.
            said.iter().fold(text(&variable["value"]).to_owned(), |value, (name, by)| {
                value.replace(&format!("$({name})"), by)
            })
        });
        assert!(!value.contains("$("), "{value} names a variable that comes later");
        said.insert(text(&variable["name"]).to_owned(), value);
    }
    said
}
