//! Where the numbers come from: machine, compiler, profile.

use super::Outcome;
use std::path::PathBuf;
use std::process::Command;

/// The folder of Cargo's output that this program was built into.
pub(crate) fn target_folder() -> Outcome<PathBuf> {
    // target/release/examples/bench
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(3).ok_or("this program is not where Cargo puts examples")?.to_owned())
}

/// One line each.
pub(crate) fn facts() -> Vec<String> {
    let model = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "CPU of unknown model".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let busy = load.split(' ').next().unwrap_or("unknown").to_owned();
    vec![
        format!("Machine: {model}, {cores} cores for everything (load, proxy, upstream), Linux {kernel}."),
        format!("Load average before the run: {busy}; far above 0 means that others worked on it too."),
        format!("Build: {}, {}.", compiler(), profile()),
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

fn compiler() -> String {
    let told = Command::new("rustc").arg("--version").output();
    told.map_or_else(|_| "rustc".to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The release profile, as the manifest sets it.
fn profile() -> String {
    let manifest = include_str!("../../Cargo.toml").parse::<toml::Table>().unwrap_or_default();
    let release = manifest.get("profile").and_then(|p| p.get("release")).and_then(toml::Value::as_table);
    let keys = release.into_iter().flatten().map(|(key, value)| format!("{key} = {value}"));
    format!("release profile with {}", keys.collect::<Vec<_>>().join(", "))
}
