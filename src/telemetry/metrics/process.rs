//! The process as the system sees it, under the names that Prometheus' own clients use. Read when somebody asks.

use super::{MetricsError, register};
use crate::types::UnixMillis;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::{Counter, IntGauge, Registry};
use std::fs;

/// What the process uses.
#[derive(Debug)]
pub struct Process {
    cpu: Counter,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

impl Process {
    /// Registers the metrics of a process that began at `started`.
    pub(super) fn register(r: &Registry, started: UnixMillis) -> Result<Self, MetricsError> {
        let gauge = |name: &str, help: &str| register(r, IntGauge::new(name, help)?);
        gauge("process_start_time_seconds", "When perch started, as Unix time")?.set(started.0 / 1000);
        Ok(Self {
            cpu: register(
                r,
                Counter::new("process_cpu_seconds_total", "CPU time used, of all threads, in seconds")?,
            )?,
            resident: gauge("process_resident_memory_bytes", "Memory that is in RAM")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Memory that is reserved")?,
            open_fds: gauge("process_open_fds", "Open file descriptors, sockets among them")?,
            max_fds: gauge("process_max_fds", "The most file descriptors that the system allows")?,
        })
    }

    /// Looks. What the system does not tell stays as it was.
    pub fn look(&self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let seconds = std::time::Duration::from_micros(u64::try_from(micros).unwrap_or_default());
            // [`super::Metrics::render_after`] lets one look at a time: two would add the same twice.
            self.cpu.inc_by((seconds.as_secs_f64() - self.cpu.get()).max(0.0));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (gauge, name) in [(&self.resident, "VmRSS:"), (&self.virtual_memory, "VmSize:")] {
                if let Some(bytes) = kibibytes(&status, name).and_then(|kib| kib.checked_mul(1024)) {
                    gauge.set(bytes);
                }
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is read.
            let count = open.count().saturating_sub(1);
            self.open_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
    }
}

/// A line of `/proc/self/status` such as `VmRSS:     1234 kB`.
fn kibibytes(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_of_this_process_is_told() {
        let process = Process::register(&Registry::new(), UnixMillis(1_500)).expect("metrics");
        process.look();
        let first = process.cpu.get();
        assert!(process.resident.get() > 1024 * 1024, "a test has more than a mebibyte");
        assert!(process.virtual_memory.get() >= process.resident.get());
        assert!((3..=process.max_fds.get()).contains(&process.open_fds.get()));
        let file = fs::File::open("/proc/self/status").expect("a file");
        process.look();
        assert!(process.cpu.get() >= first, "a counter goes up");
        drop(file);
    }

    #[test]
    fn memory_is_read_from_its_own_line() {
        let status = "Name:\tVmRSS: 7\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(1024));
        assert_eq!(kibibytes(status, "VmSize:"), Some(2048));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }
}
