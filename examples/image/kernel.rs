//! What the kernel says of a process and of its control group. Linux only.

use super::Outcome;
use nix::time::ClockId;
use std::path::PathBuf;
use std::time::Duration;

/// Hundredths of a second, the unit of `/proc/PID/stat` on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// The lines of `/proc/PID/status` that count here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Real, effective, saved and file system user.
    pub(crate) users: Vec<u32>,
    /// The same of groups.
    pub(crate) groups: Vec<u32>,
    /// Every set of capabilities, or-ed: nothing is left to take.
    pub(crate) capabilities: u64,
    /// Whether nothing it starts may gain any.
    pub(crate) no_new: bool,
    /// Whether a filter of system calls is in force.
    pub(crate) filtered: bool,
}

/// As whom a process runs, and what it may.
pub(crate) fn rights(pid: u32) -> Outcome<Rights> {
    let status = status(pid)?;
    let ids = |name: &str| -> Outcome<Vec<u32>> {
        Ok(field(&status, name)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    };
    let mut capabilities = 0;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        capabilities |= u64::from_str_radix(field(&status, set)?, 16)?;
    }
    Ok(Rights {
        users: ids("Uid:")?,
        groups: ids("Gid:")?,
        capabilities,
        no_new: field(&status, "NoNewPrivs:")? == "1",
        filtered: field(&status, "Seccomp:")? == "2",
    })
}

/// What a process holds in memory now, and held at most, in bytes (`VmRSS`, `VmHWM`).
pub(crate) fn resident(pid: u32) -> Outcome<(u64, u64)> {
    let status = status(pid)?;
    let bytes = |name: &str| -> Outcome<u64> {
        Ok(field(&status, name)?.trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok((bytes("VmRSS:")?, bytes("VmHWM:")?))
}

/// The CPU time a process has used so far.
pub(crate) fn cpu(pid: u32) -> Outcome<Duration> {
    let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(i32::try_from(pid)?))?;
    Ok(clock.now()?.into())
}

/// How long ago a process was made; exact to a hundredth of a second.
pub(crate) fn age(pid: u32) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold blanks; the start is the 20th field behind it.
    let behind = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks: u32 = behind.split_whitespace().nth(19).ok_or("no start in stat")?.parse()?;
    Ok(Duration::from(ClockId::CLOCK_BOOTTIME.now()?).saturating_sub(TICK * ticks))
}

/// Why a file cannot be made in a process's root by root itself; none: it can.
pub(crate) fn refusal_to_write(pid: u32, folder: &str) -> Option<i32> {
    let file = format!("/proc/{pid}/root{folder}/written-by-the-test");
    match std::fs::File::create(&file) {
        Ok(_) => {
            let _ = std::fs::remove_file(file);
            None
        }
        Err(why) => Some(why.raw_os_error().unwrap_or(0)),
    }
}

/// How often the kernel killed in a process's control group for want of memory, and the most that was charged to the
/// group, pages of files included; none where this kernel does not say.
pub(crate) fn memory_group(pid: u32) -> Outcome<(u64, Option<u64>)> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |controllers: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next()?.split(',').any(|one| one == controllers)).then(|| parts.next())?
        })
    };
    let (folder, events, peak) = match of("memory") {
        Some(path) => {
            (format!("/sys/fs/cgroup/memory{path}"), "memory.oom_control", "memory.max_usage_in_bytes")
        }
        None => {
            let path = of("").ok_or("no control group")?;
            (format!("/sys/fs/cgroup{path}"), "memory.events", "memory.peak")
        }
    };
    let folder = PathBuf::from(folder);
    let told = std::fs::read_to_string(folder.join(events))?;
    let killed = told.lines().find_map(|line| line.strip_prefix("oom_kill ")).ok_or("no oom_kill")?;
    let peak = std::fs::read_to_string(folder.join(peak)).ok().and_then(|text| text.trim().parse().ok());
    Ok((killed.trim().parse()?, peak))
}

fn status(pid: u32) -> Outcome<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|why| format!("process {pid} cannot be looked at: {why}").into())
}

fn field<'a>(status: &'a str, name: &str) -> Outcome<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or_else(|| format!("no {name} in the status of the process"))?.trim())
}
