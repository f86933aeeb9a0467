//! The text files of the tree: those git knows or would add, or all of them where there is no git.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories that are made, not written.
const MADE: [&str; 5] = ["target", ".cache", ".git", "node_modules", "__pycache__"];

/// Every text file with its path from the root, sorted. Files that are not UTF-8 are left out.
pub(crate) fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = known_to_git(root).unwrap_or_else(|| walk(root));
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let bytes = std::fs::read(root.join(&name)).ok()?;
            Some((name, String::from_utf8(bytes).ok()?))
        })
        .filter(|(_, text)| !text.contains('\0'))
        .collect()
}

/// `None` where git is missing or the root is no repository of its own, as in an unpacked archive.
fn known_to_git(root: &Path) -> Option<Vec<String>> {
    if !root.join(".git").exists() {
        return None;
    }
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let text = String::from_utf8(listed.stdout).ok().filter(|_| listed.status.success())?;
    let names: Vec<String> = text.split('\0').filter(|n| !n.is_empty()).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

fn walk(root: &Path) -> Vec<String> {
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    let mut names = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_made = path.file_name().is_some_and(|n| MADE.iter().any(|m| n == *m));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_made => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    names.extend(path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    names
}
