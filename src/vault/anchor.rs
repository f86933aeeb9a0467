//! A memory of the store outside the store: its name and how many changes it has had. A store that has
//! fewer changes at the next start is an older copy, and a token that was erased may be in it again.
//!
//! Only a place that whoever can replace the store cannot write makes this a protection; anywhere else it
//! still notices an accident.

use super::OpenError;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two writes of the file.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What is remembered of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub store_id: [u8; 16],
    pub generation: i64,
}

/// The file, and what was last written there.
pub(super) struct Anchor {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    written: Memory,
    known: Memory,
    written_at: Option<Instant>,
}

impl Anchor {
    /// Compares the store with what is remembered, and remembers it from now on. `now` is `None` for a store
    /// that was never used.
    ///
    /// # Errors
    /// [`OpenError::Store`] when the store is older than remembered, is another one or is gone, unless
    /// `accept_rollback`; and when the file cannot be read.
    pub(super) fn check(path: &Path, now: Option<&Memory>, accept_rollback: bool) -> Result<(), OpenError> {
        let name = path.display();
        let Some(then) = read(path).map_err(OpenError::Store)? else { return Ok(()) };
        if accept_rollback {
            return Ok(());
        }
        let why = match now {
            Some(now) if now.store_id != then.store_id => {
                format!("the store is not the one that {name} remembers")
            }
            Some(now) if now.generation < then.generation => format!(
                "the store has had {} changes and {name} remembers {}: it is an older copy, and tokens that were \
                 erased or replaced since may be in it again",
                now.generation, then.generation
            ),
            Some(_) => return Ok(()),
            None => {
                format!("the store is empty and {name} remembers one that had {} changes", then.generation)
            }
        };
        Err(OpenError::Store(format!(
            "{why}; put the newest store back, or accept this one with --accept-rollback"
        )))
    }

    /// Remembers the store from now on. With `accept_rollback` what was remembered before is forgotten; without, the
    /// file never goes back: a gateway may have written it since the store was read.
    ///
    /// # Errors
    /// [`OpenError::Store`] when the file cannot be written.
    pub(super) fn hold(path: PathBuf, now: Memory, accept_rollback: bool) -> Result<Self, OpenError> {
        let then = read(&path).map_err(OpenError::Store)?;
        if then.as_ref() != Some(&now) && (accept_rollback || !is_newer(then.as_ref(), &now)) {
            write(&path, &now).map_err(|cause| unwritable(&path, &cause)).map_err(OpenError::Store)?;
        }
        let state = State { written: now.clone(), known: now, written_at: None };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Notes the store's count of changes, and writes it unless that was done within the last second.
    pub(super) fn note(&self, generation: i64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.generation = state.known.generation.max(generation);
        if state.written_at.is_none_or(|at| at.elapsed() >= WRITE_EVERY) {
            self.write(&mut state);
        }
    }

    fn write(&self, state: &mut State) {
        if state.known == state.written {
            return;
        }
        // Another process of the same store remembers in the same file.
        if let Ok(then) = read(&self.path)
            && is_newer(then.as_ref(), &state.known)
        {
            return;
        }
        state.written_at = Some(Instant::now());
        match write(&self.path, &state.known) {
            Ok(()) => state.written = state.known.clone(),
            Err(cause) => {
                let why = unwritable(&self.path, &cause);
                tracing::error!("{why}; an older copy of the store may go unnoticed at the next start");
            }
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut state);
    }
}

/// Whether what the file remembers is a later state of this store.
fn is_newer(then: Option<&Memory>, now: &Memory) -> bool {
    then.is_some_and(|then| then.store_id == now.store_id && then.generation > now.generation)
}

fn unwritable(path: &Path, cause: &io::Error) -> String {
    format!("vault.generation_file {} cannot be written: {cause}", path.display())
}

/// What the file remembers; `None` when there is none yet.
pub(super) fn read(path: &Path) -> Result<Option<Memory>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(format!("vault.generation_file {} cannot be read: {cause}", path.display()));
        }
    };
    parse(&text).map(Some).ok_or_else(|| {
        format!(
            "vault.generation_file {} is not what perch writes; if it is lost, remove it and look at the store first",
            path.display()
        )
    })
}

fn parse(text: &str) -> Option<Memory> {
    let (store, generation) = text.trim_end().split_once(' ')?;
    if store.len() != 32 || !store.is_ascii() {
        return None;
    }
    let mut store_id = [0; 16];
    for (at, byte) in store_id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&store[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Memory { store_id, generation: generation.parse().ok()? })
}

/// Writes a file of its own and puts it in the place of the old one: a crash leaves one or the other.
pub(super) fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let store: String = memory.store_id.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{store} {}", memory.generation)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(generation: i64) -> Memory {
        Memory { store_id: [7; 16], generation }
    }

    #[test]
    fn v7_an_older_another_or_an_empty_store_is_refused_unless_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        assert_eq!(Anchor::check(&path, None, false), Ok(()), "the first start");
        drop(Anchor::hold(path.clone(), memory(5), false).unwrap());
        for good in [5, 6] {
            assert_eq!(Anchor::check(&path, Some(&memory(good)), false), Ok(()));
        }
        let other = Memory { store_id: [8; 16], generation: 9 };
        for (now, told) in [
            (Some(&memory(4)), "has had 4 changes and"),
            (Some(&other), "not the one"),
            (None, "the store is empty"),
        ] {
            let said = Anchor::check(&path, now, false).unwrap_err().to_string();
            assert!(said.contains(told) && said.contains("--accept-rollback"), "{said}");
            assert_eq!(Anchor::check(&path, now, true), Ok(()));
        }
    }

    #[test]
    fn it_is_written_once_a_second_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        let anchor = Anchor::hold(path.clone(), memory(5), false).unwrap();
        assert_eq!(read(&path), Ok(Some(memory(5))));
        anchor.note(6);
        assert_eq!(read(&path), Ok(Some(memory(6))));
        anchor.state.lock().unwrap().written_at = Some(Instant::now() + WRITE_EVERY);
        anchor.note(8);
        anchor.note(7);
        assert_eq!(read(&path), Ok(Some(memory(6))), "a moment ago it was written");
        drop(anchor);
        assert_eq!(read(&path), Ok(Some(memory(8))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "x 1").unwrap();
        assert!(read(&path).unwrap_err().contains("not what perch writes"));
    }

    #[test]
    fn of_two_processes_the_one_that_knows_less_does_not_take_the_file_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        let command = Anchor::hold(path.clone(), memory(5), false).unwrap();
        command.note(6);
        // Within the same second: it is kept for the end.
        command.state.lock().unwrap().written_at = Some(Instant::now() + WRITE_EVERY);
        command.note(7);
        let gateway = Anchor::hold(path.clone(), memory(7), false).unwrap();
        gateway.note(9);
        drop(command);
        assert_eq!(read(&path), Ok(Some(memory(9))), "a command that ends later knows less");
        let late = Anchor::hold(path.clone(), memory(8), false).unwrap();
        assert_eq!(read(&path), Ok(Some(memory(9))), "and one whose look at the store was earlier");
        late.note(10);
        assert_eq!(read(&path), Ok(Some(memory(10))));
        drop(Anchor::hold(path.clone(), memory(3), true).unwrap());
        assert_eq!(read(&path), Ok(Some(memory(3))), "an operator wants it so");
    }
}
