//! The processes a program starts: each is ended by its own id, whatever ends the run.

use super::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

    /// Whether it has ended, by itself or by us.
    pub(crate) fn is_gone(&self, pid: u32) -> bool {
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

/// Ports that no system gives to connections on their way out, so that one stays free while its process is gone.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> Outcome<SocketAddr> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let width = u32::from(PORTS.end - PORTS.start);
    for step in 0..width {
        let port = PORTS.start + u16::try_from((now / 97).wrapping_add(step) % width)?;
        if let Ok(free) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(free.local_addr()?);
        }
    }
    Err(format!("every port of {PORTS:?} is in use").into())
}
