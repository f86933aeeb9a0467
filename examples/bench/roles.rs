//! This program in another role: a process of its own that ends when the one that started it is gone.

use super::Outcome;
use super::brood::Brood;
use std::process::{Command, Stdio};

/// Starts this program in another role. Its standard input stays open as long as this process
/// lives, which is how a role notices that it has been left alone.
pub(crate) fn start(brood: &Brood, args: &[&str]) -> Outcome<u32> {
    let own = std::env::current_exe()?;
    brood.start(Command::new(own).args(args).stdin(Stdio::piped()).stdout(Stdio::null()))
}

/// Ends this process when the one that started it is gone.
pub(crate) fn live_no_longer_than_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}
