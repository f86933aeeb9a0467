//! How what is measured was built: compiler and profile.

use std::process::Command;

/// One line.
pub(crate) fn fact() -> String {
    format!("Build: {}, {}.", compiler(), profile())
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
