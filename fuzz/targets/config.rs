//! Any text as a configuration: it is sound, or every problem is told; nothing else. What is sound is printed, and the
//! print means the same.

use super::input::parts;
use perch::cli::config::{ConfigArgs, run};
use perch::config::{Environ, Loaded, PROBLEMS_MAX, load};
use std::path::Path;
use tempfile::TempDir;

const SECRET: &str = "CANARY-client-secret";

/// The file; then lines of `NAME=value`, which are environment variables.
pub fn target(data: &[u8]) {
    let [text, variables] = parts(data);
    let variables = String::from_utf8_lossy(variables);
    // What a reference names must not be a device that never ends its answer.
    if text.windows(5).any(|window| window == b"/dev/") || variables.contains("/dev/") {
        return;
    }
    let needed = [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", SECRET)];
    let named = variables.lines().filter_map(|line| line.split_once('='));
    let environment: Environ =
        needed.into_iter().chain(named.filter(|(_, value)| !value.contains('\0'))).collect();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("perch.toml");
    std::fs::write(&path, text).expect("a writable folder");
    let loaded = match load(Some(&path), &environment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().count() <= PROBLEMS_MAX);
            let shown = problems.to_string();
            assert!(!shown.contains(SECRET), "a problem tells a secret");
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
            for problem in problems.iter() {
                let is_here = problem.place.file().is_some_and(|file| file.ends_with("perch.toml"));
                assert!(!is_here || problem.place.line().is_none_or(|line| (1..=lines + 1).contains(&line)));
            }
            return;
        }
    };
    let printed = printed(&path, &environment);
    assert!(!printed.contains(SECRET), "a secret is printed");
    let second = folder.path().join("printed.toml");
    std::fs::write(&second, &printed).expect("a writable folder");
    // Who signs in at a store is not printed, so the print is another configuration.
    if text.contains(&b'@') || variables.contains('@') {
        return;
    }
    let again = load(Some(&second), &environment).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config), "{printed}");
    assert_eq!(values(&again), values(&loaded));
}

fn printed(path: &Path, environment: &Environ) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run(Some(path), environment, &ConfigArgs::default(), &mut out, &mut err).expect("it writes to memory");
    assert!(err.is_empty());
    String::from_utf8(out).expect("text")
}

fn values(loaded: &Loaded) -> Vec<(String, String)> {
    loaded.origins.iter().map(|origin| (origin.key.clone(), origin.value.to_string())).collect()
}
