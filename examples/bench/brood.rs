//! The processes a run starts: each is ended by its own id, whatever ends the run.

use super::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Every child of this run.
#[derive(Default)]
pub(crate) struct Brood(Mutex<State>);

#[derive(Default)]
struct State {
    children: Vec<Child>,
    is_over: bool,
}

impl Brood {
    /// Starts a process.
    pub(crate) fn start(&self, command: &mut Command) -> Outcome<u32> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return Err("the run is over".into());
        }
        let child = command
            .spawn()
            .map_err(|why| format!("cannot start {}: {why}", command.get_program().to_string_lossy()))?;
        let pid = child.id();
        state.children.push(child);
        Ok(pid)
    }

    /// Starts this program in another role. Its standard input stays open as long as this process
    /// lives, which is how a role notices that it has been left alone.
    pub(crate) fn start_role(&self, args: &[&str]) -> Outcome<u32> {
        let own = std::env::current_exe()?;
        self.start(Command::new(own).args(args).stdin(Stdio::piped()).stdout(Stdio::null()))
    }

    /// Ends one and waits until it is gone.
    pub(crate) fn end(&self, pid: u32) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = state.children.iter().position(|child| child.id() == pid) {
            end(state.children.swap_remove(at));
        }
    }

    /// Asks one to come to its end, as Ctrl-C does, and waits for that; one that does not is ended.
    pub(crate) fn interrupt(&self, pid: u32) {
        if let Ok(id) = i32::try_from(pid) {
            // An error means that it has ended already.
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        for _ in 0..500 {
            if self.is_gone(pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.end(pid);
    }

    fn is_gone(&self, pid: u32) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = state.children.iter_mut().find(|child| child.id() == pid);
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends all of them and lets no more come.
    pub(crate) fn end_all(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        state.children.drain(..).for_each(end);
    }
}

impl Drop for Brood {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn end(mut child: Child) {
    // An error means that it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Ends this process when the one that started it is gone.
pub(crate) fn live_no_longer_than_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

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
