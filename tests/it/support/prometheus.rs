//! A real Prometheus in a folder of its own, with perch's rules, and what it is asked.

use super::App;
use super::process::Process;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::interval;

/// Far beyond what a busy machine needs between two looks of Prometheus.
const LOOKS_MAX: usize = 600;

/// The server. It is killed when it is dropped.
pub struct Prometheus {
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

/// One sample of an answer.
#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A door that is watched, and the labels that whoever deployed it gave it.
pub struct Target {
    pub address: SocketAddr,
    pub labels: &'static [(&'static str, &'static str)],
}

impl Prometheus {
    /// Watches these doors every second as one job, under perch's own rules.
    pub async fn watching(targets: &[Target]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/rules/perch.rules.yml");
        let mut config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{}]\nscrape_configs:\n  - job_name: perch\n    static_configs:\n",
            rules.display()
        );
        for Target { address, labels } in targets {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let _ = writeln!(
                config,
                "      - {{ targets: [\"{address}\"], labels: {{ {} }} }}",
                labels.join(", ")
            );
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a writable folder");
        // It takes no port 0, so somebody else may be quicker.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = free.local_addr().expect("an address");
            drop(free);
            let mut command = Command::new("prometheus");
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join(address.to_string()).display()))
                .arg(format!("--web.listen-address={address}"));
            let process = Process::spawn(command, None);
            if process.err.says("Server is ready to receive web requests").await {
                return Self { _process: process, _folder: folder, address };
            }
        }
        panic!("prometheus does not start: run scripts/setup.sh test");
    }

    async fn get(&self, path: &str) -> Value {
        let answer = App::at(self.address).get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["data"].clone()
    }

    /// What a query gives now: an error of it fails the test.
    pub async fn query(&self, expr: &str) -> Vec<Sample> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expr.bytes() {
            match byte.is_ascii_alphanumeric() {
                true => path.push(byte.into()),
                false => {
                    let _ = write!(path, "%{byte:02X}");
                }
            }
        }
        let data = self.get(&path).await;
        let samples = data["result"].as_array().unwrap_or_else(|| panic!("no vector: {expr}"));
        samples
            .iter()
            .map(|sample| Sample {
                labels: serde_json::from_value(sample["metric"].clone()).expect("labels"),
                value: sample["value"][1].as_str().and_then(|v| v.parse().ok()).expect("a number"),
            })
            .collect()
    }

    /// Looks until this is so of what a query gives.
    pub async fn until(&self, expr: &str, mut is_so: impl FnMut(&[Sample]) -> bool) {
        let mut pace = interval(Duration::from_millis(100));
        let mut last = Vec::new();
        for _ in 0..LOOKS_MAX {
            pace.tick().await;
            last = self.query(expr).await;
            if is_so(&last) {
                return;
            }
        }
        panic!("this did not become so: {expr}: {last:?}");
    }

    /// Every rule it evaluates, as its API tells them.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules").await;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }
}
