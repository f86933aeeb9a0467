//! Where the numbers come from.

use super::Outcome;
use std::path::PathBuf;

/// The folder of Cargo's output that this program was built into: `target/release` or `target/debug`.
pub(crate) fn output_folder() -> Outcome<PathBuf> {
    // target/release/examples/bench
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(2).ok_or("this program is not where Cargo puts examples")?.to_owned())
}

/// `perch`, built with the same profile as this program.
pub(crate) fn program() -> Outcome<PathBuf> {
    let program = output_folder()?.join("perch");
    if !program.is_file() {
        let name = program.display();
        return Err(format!("{name} is not there; build it with `cargo build --bin perch` and this program's profile, or use make").into());
    }
    Ok(program)
}

/// One line each.
pub(crate) fn facts() -> Vec<String> {
    let model = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "CPU of unknown model".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let busy = load.split(' ').next().unwrap_or("unknown").to_owned();
    vec![
        format!("Machine: {model}, {cores} cores for all processes of the run, Linux {kernel}."),
        format!("Load average before the run: {busy}; far above 0 means that others worked on it too."),
    ]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn line_of(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
