//! Looks through every file that was written: for tokens, for the application's secret, for the sealing key, for panics.

use super::furnish::{CLIENT_SECRET, TOKEN_MARKER};
use super::notes::{Bound, Notes};
use super::site::Site;
use perch::vault::process::DEFECT;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes read at once; what lies across two pieces is found too.
const PIECE_BYTES: usize = 1 << 20;
/// How a panic is told of: by a command of perch's, which withholds its text, and by Rust before and beside that.
const PANICS: [&str; 2] = [DEFECT, "panicked at"];

/// Searches everything. What Finch itself is given is where a token must be found: else the search is no search.
pub(crate) fn all(site: &Site, notes: &Notes) {
    let key = std::fs::read_to_string(site.home(0).join("perch.key")).unwrap_or_default();
    let key = key.trim().to_owned();
    let secrets: Vec<&str> =
        [TOKEN_MARKER, CLIENT_SECRET, key.as_str()].into_iter().filter(|s| s.len() >= 16).collect();
    let mut is_found_at_finch = false;
    let mut all = Vec::new();
    for folder in site.folders() {
        match files(&folder) {
            Ok(files) => all.extend(files),
            Err(why) => {
                notes.broken(Bound::Tokens, format!("{} cannot be searched: {why}", folder.display()));
            }
        }
    }
    for file in all {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = match holds(&file, &secrets) {
            Ok(found) => found,
            Err(why) => {
                notes.broken(Bound::Tokens, format!("{} cannot be read: {why}", file.display()));
                continue;
            }
        };
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
        if name.ends_with(".log") && tells_of_a_panic(&file) {
            notes.broken(Bound::Panics, format!("{} tells of a panic", file.display()));
        }
    }
    if !is_found_at_finch || secrets.len() != 3 {
        notes.broken(Bound::Tokens, "the search finds nothing where a token is");
    }
}

/// A log that cannot be read is taken for one that does.
fn tells_of_a_panic(log: &Path) -> bool {
    holds(log, &PANICS).map_or(true, |found| !found.is_empty())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// Which of these texts a file holds.
fn holds(file: &Path, texts: &[&str]) -> io::Result<Vec<usize>> {
    let mut file = File::open(file)?;
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(1);
    let (mut piece, mut kept, mut found) = (vec![0; PIECE_BYTES], Vec::new(), Vec::new());
    loop {
        let count = match file.read(&mut piece) {
            Ok(0) => return Ok(found),
            Ok(count) => count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        kept.extend_from_slice(&piece[..count]);
        for (at, text) in texts.iter().enumerate() {
            if !found.contains(&at) && memchr::memmem::find(&kept, text.as_bytes()).is_some() {
                found.push(at);
            }
        }
        kept.drain(..kept.len().saturating_sub(longest - 1));
    }
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
        assert_eq!(holds(&file, &["salmon", "tunafish"]).expect("it can be read"), [1]);
        assert_eq!(files(folder.path()).expect("it can be read"), [file]);
    }

    #[test]
    fn what_cannot_be_read_is_no_good_news() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing");
        assert!(holds(&missing, &["x"]).is_err() && files(&missing).is_err() && tells_of_a_panic(&missing));
    }

    #[test]
    fn a_panic_is_found_as_perch_tells_of_it_and_as_rust_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("gateway.log");
        let is_told = |line: &str| {
            std::fs::write(&file, format!("{{\"message\":\"perch listens\"}}\n{line}\n")).expect("a file");
            tells_of_a_panic(&file)
        };
        assert!(is_told("perch has a defect at src/app.rs:7: a panic; its text is withheld"));
        assert!(is_told("thread 'main' panicked at src/app.rs:7:3:"));
        assert!(!is_told("nothing of the kind"));
    }
}
