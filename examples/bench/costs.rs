//! Where the CPU goes: what `perf` sees of a process under load. Nothing is said where there is no
//! `perf`, or where it may not look.

use super::brood::Brood;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Samples a second: not a divisor of anything that happens regularly.
const SAMPLES_PER_SECOND: &str = "997";
/// Longer than any load it watches; it is ended before.
const WATCH_MAX_SECONDS: &str = "30";
/// Functions told.
pub(crate) const TOLD: usize = 15;

/// The CPU of one call, in µs, divided.
#[derive(Debug)]
pub(crate) struct Profile {
    /// By thread name and by program part (the kernel, the program, its libraries).
    pub(crate) parts: BTreeMap<(String, String), f64>,
    /// The functions outside the kernel that use most, with their part.
    pub(crate) functions: Vec<(String, String, f64)>,
}

/// A `perf` that watches.
pub(crate) struct Recording {
    watcher: u32,
    file: PathBuf,
}

/// Starts to watch a process.
pub(crate) fn record(brood: &Brood, pid: u32, dir: &Path) -> Option<Recording> {
    let file = dir.join(format!("perf-{pid}"));
    let mut perf = Command::new("perf");
    // The clock of the CPU, because virtual machines often have no counters.
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", SAMPLES_PER_SECOND, "-p", &pid.to_string(), "-o"]);
    perf.arg(&file).args(["--", "sleep", WATCH_MAX_SECONDS]);
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Recording { watcher: brood.start(&mut perf).ok()?, file })
}

impl Recording {
    /// Ends it and divides `micros`, the CPU of one call, as the samples lie.
    pub(crate) fn end(self, brood: &Brood, micros: f64) -> Option<Profile> {
        brood.interrupt(self.watcher);
        let mut report = Command::new("perf");
        report.args(["report", "-i"]).arg(&self.file);
        report.args(["--stdio", "-q", "-F", "overhead,comm,dso,sym", "-t", "\t", "--percent-limit", "0"]);
        let told = report.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        Profile::read(&String::from_utf8_lossy(&told.stdout), micros)
    }
}

impl Profile {
    fn read(table: &str, micros: f64) -> Option<Self> {
        let mut parts = BTreeMap::new();
        let mut functions = BTreeMap::new();
        for line in table.lines() {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            let [share, thread, part, function] = cells.as_slice() else { continue };
            let Ok(share) = share.trim_end_matches('%').parse::<f64>() else { continue };
            let cost = share / 100.0 * micros;
            let part = part.trim_matches(['[', ']']).replace("kernel.kallsyms", "kernel");
            let function = function.trim_start_matches("[k] ").trim_start_matches("[.] ").to_owned();
            // The same under one name, so that the two sides can be laid beside each other.
            let thread = match *thread {
                "tokio-rt-worker" | "Pingora HTTP Pr" => "workers",
                other => other,
            };
            let part = if part == "perch" || part == "bench" { "program".to_owned() } else { part };
            if part != "kernel" {
                *functions.entry((function, part.clone())).or_insert(0.0) += cost;
            }
            *parts.entry((thread.to_owned(), part)).or_insert(0.0) += cost;
        }
        let mut functions: Vec<(String, String, f64)> =
            functions.into_iter().map(|((function, part), cost)| (function, part, cost)).collect();
        functions.sort_by(|a, b| b.2.total_cmp(&a.2));
        functions.truncate(TOLD);
        (!functions.is_empty()).then_some(Self { parts, functions })
    }
}
