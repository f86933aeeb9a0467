//! Looks through every file that was written: for tokens, for the application's secret, for the sealing key, for panics.

use super::furnish::{CLIENT_SECRET, TOKEN_MARKER};
use super::notes::{Bound, Notes};
use super::site::Site;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read at once; what lies across two pieces is found too.
const PIECE_BYTES: usize = 1 << 20;
/// How a panic of Rust's begins.
const PANIC: &str = "panicked at";

/// Searches everything. What Finch itself is given is where a token must be found: else the search is no search.
pub(crate) fn all(site: &Site, notes: &Notes) {
    let key = std::fs::read_to_string(site.home(0).join("perch.key")).unwrap_or_default();
    let key = key.trim().to_owned();
    let secrets: Vec<&str> =
        [TOKEN_MARKER, CLIENT_SECRET, key.as_str()].into_iter().filter(|s| s.len() >= 16).collect();
    let mut is_found_at_finch = false;
    for file in site.folders().iter().flat_map(|folder| files(folder)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = holds(&file, &secrets);
        notes.count("files searched", 1);
        match name.as_str() {
            "scenario.toml" => is_found_at_finch = found.contains(&0),
            "perch.key" => {}
            _ => {
                for at in found {
                    let what = ["a token", "the application's secret", "the key"][at];
                    notes.broken(Bound::Tokens, format!("{what} is in {}", file.display()));
                }
            }
        }
        if name.ends_with(".log") && !holds(&file, &[PANIC]).is_empty() {
            notes.broken(Bound::Panics, format!("{} tells of a panic", file.display()));
        }
    }
    if !is_found_at_finch || secrets.len() != 3 {
        notes.broken(Bound::Tokens, "the search finds nothing where a token is");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

/// Which of these texts a file holds.
fn holds(file: &Path, texts: &[&str]) -> Vec<usize> {
    let Ok(mut file) = File::open(file) else { return Vec::new() };
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(1);
    let (mut piece, mut kept, mut found) = (vec![0; PIECE_BYTES], Vec::new(), Vec::new());
    while let Ok(count @ 1..) = file.read(&mut piece) {
        kept.extend_from_slice(&piece[..count]);
        for (at, text) in texts.iter().enumerate() {
            if !found.contains(&at) && memchr::memmem::find(&kept, text.as_bytes()).is_some() {
                found.push(at);
            }
        }
        kept.drain(..kept.len().saturating_sub(longest - 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_even_across_two_pieces() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        let mut bytes = vec![b'.'; PIECE_BYTES - 5];
        bytes.extend_from_slice(b"tunafish");
        std::fs::write(&file, &bytes).expect("a file");
        assert_eq!(holds(&file, &["salmon", "tunafish"]), [1]);
        assert_eq!(files(folder.path()), [file]);
    }
}
