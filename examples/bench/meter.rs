//! What the kernel tells of a process: its CPU, its waits, its memory.

use super::Outcome;
use nix::time::ClockId;
use nix::unistd::Pid;
use std::time::Duration;

/// The CPU time a process has used so far, in user and in kernel mode, all its threads together. The
/// same account as `utime + stime` of `/proc/PID/stat`, in nanoseconds instead of hundredths of a second.
pub(crate) fn cpu(pid: u32) -> Outcome<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(clock.now()?.into())
}

/// How often a thread of a process has stopped to wait for something: a socket, a lock, a queue.
pub(crate) fn waits(pid: u32) -> Outcome<u64> {
    let mut waits = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended is no failure.
        let status = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        waits += line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(waits)
}

/// What a process holds in memory now and held at most, in bytes (`VmRSS`, `VmHWM`).
pub(crate) fn resident(pid: u32) -> Outcome<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Outcome<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
