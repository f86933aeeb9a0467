//! What the processes take meanwhile, and whether one ends that was not killed.

use super::judge;
use super::notes::{Bound, Notes};
use super::plan::GROWTH_MAX_KIB;
use super::site::{Part, Site};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// What one part took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Resident memory at the first look, at most, and at the last, in KiB.
    pub(crate) first_kib: u64,
    pub(crate) most_kib: u64,
    pub(crate) last_kib: u64,
    /// Open files, at most and at the last look.
    pub(crate) most_files: usize,
    pub(crate) last_files: usize,
}

/// All looks so far.
#[derive(Default)]
pub(crate) struct Watch(Mutex<BTreeMap<Part, Taken>>);

impl Watch {
    /// What each part took.
    pub(crate) fn taken(&self) -> BTreeMap<Part, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for ever.
    pub(crate) async fn look(self: Arc<Self>, site: Arc<Site>, notes: Arc<Notes>) {
        let mut told: Vec<Part> = Vec::new();
        loop {
            for part in site.ended_by_themselves() {
                // A PostgreSQL that refuses to start beside the rest of the one before tries again.
                if part != Part::Postgres && !told.contains(&part) {
                    notes.broken(Bound::Processes, format!("{part:?} ended by itself; see its log"));
                    told.push(part);
                }
            }
            for gateway in 0..site.arm.gateways() {
                let part = Part::Gateway(gateway);
                let Some(taken) = site.pid(part).and_then(|pid| Some((resident_kib(pid)?, files(pid))))
                else {
                    continue;
                };
                self.add(part, taken, &notes);
                let pid = site.pid(part).unwrap_or_default();
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if judge::secrets(&words).is_err() {
                    notes.broken(
                        Bound::Tokens,
                        "a secret stands in the words that a process was started with",
                    );
                }
            }
            sleep(LOOK).await;
        }
    }

    fn add(&self, part: Part, (kib, files): (u64, usize), notes: &Notes) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Taken { first_kib: kib, ..Taken::default() };
        let taken = all.entry(part).or_insert(first);
        let was_small = taken.most_kib <= taken.first_kib + GROWTH_MAX_KIB;
        taken.most_kib = taken.most_kib.max(kib);
        taken.last_kib = kib;
        taken.most_files = taken.most_files.max(files);
        taken.last_files = files;
        if was_small && taken.most_kib > taken.first_kib + GROWTH_MAX_KIB {
            notes.broken(Bound::Memory, format!("{part:?} took {kib} KiB, and {} at first", taken.first_kib));
        }
    }
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
