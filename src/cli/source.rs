//! Where a running gateway's configuration comes from, and whether that has changed since it was read.

use crate::config::{self, Environ, Loaded, Place, Problems};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often the files are looked at. What has changed is read when it was the same for two looks, so that a file that is
/// being written is not taken for one that is done.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More of a file is not looked at: loading refuses it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The most files with secrets that are looked at for a text that could not be read as a configuration.
const NAMED_MAX: usize = 64;

/// The file and the environment, as the command line named them.
#[derive(Debug, Clone)]
pub(super) struct Source {
    named: Option<PathBuf>,
    /// The file, once there was one. Should it go, that is a mistake, and no return to the defaults.
    found: Arc<OnceLock<PathBuf>>,
    env: Environ,
}

/// What was there when the configuration was last read, whatever came of it.
#[derive(Debug)]
pub(super) struct Watched {
    is_on: bool,
    /// The files with secrets that the configuration in force names.
    in_force: Vec<PathBuf>,
    seen: Seen,
}

/// What there is of a configuration: its file, and the files with secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    text: Text,
    secrets: Vec<Secret>,
}

/// A digest of the configuration's file; nothing where it cannot be read, or only once.
type Text = Option<[u8; 32]>;

/// A file with a secret that the configuration names, and which file that is: it is not read for this. A mount that is
/// swapped as a whole changes what its links lead to, and so this.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Secret {
    path: PathBuf,
    stamp: Option<(u64, u64, u64, i64, i64)>,
}

impl Secret {
    fn at(path: PathBuf) -> Self {
        let stamp = fs::metadata(&path).ok().map(|m| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        Self { path, stamp }
    }

    fn again(&self) -> Self {
        Self::at(self.path.clone())
    }
}

impl Source {
    pub(super) fn new(named: Option<&Path>, env: &Environ) -> Self {
        Self { named: named.map(Path::to_path_buf), found: Arc::default(), env: env.clone() }
    }

    /// The file: the same one as long as perch runs.
    fn path(&self) -> Option<PathBuf> {
        if let Some(path) = self.found.get() {
            return Some(path.clone());
        }
        let path = config::locate(self.named.as_deref(), &self.env)?;
        Some(self.found.get_or_init(|| path).clone())
    }

    /// Reads it, and tells what was there before that: what changes meanwhile is read again, not missed.
    pub(super) fn load(&self) -> (Result<Loaded, Problems>, Seen) {
        let path = self.path();
        let (text, named) = self.text();
        let mut seen = Seen { text, secrets: named.into_iter().map(Secret::at).collect() };
        let loaded = config::load(path.as_deref(), &self.env);
        if let Ok(loaded) = &loaded {
            let files = loaded.secret_files();
            seen.secrets.retain(|secret| files.contains(&secret.path));
            seen.add(&files);
        }
        (loaded, seen)
    }

    /// Reads it once more. What can be read only once (a pipe) said everything at the start.
    pub(super) fn load_again(&self) -> (Result<Loaded, Problems>, Seen) {
        let path = self.path();
        match path.filter(|path| fs::metadata(path).is_ok_and(|found| !found.is_file())) {
            None => self.load(),
            Some(path) => {
                let what = "is no file that can be read again while perch runs";
                let hint = "name a file with -c or PERCH_CONFIG, or restart perch".to_owned();
                let place = Place::File(path.display().to_string());
                (Err(Problems::of(place, what, Some(hint))), Seen::default())
            }
        }
    }

    /// The text's digest, and the files with secrets that it names.
    fn text(&self) -> (Text, Vec<PathBuf>) {
        let read = || {
            let path = self.path()?;
            let found = fs::metadata(&path).ok()?;
            // A pipe that is read here is empty for whoever loads the configuration.
            let is_readable = found.is_file() && found.len() <= FILE_BYTES_MAX;
            is_readable.then(|| fs::read(&path).ok()).flatten()
        };
        match read() {
            Some(text) => (Some(Sha256::digest(&text).into()), named_in(&text)),
            None => (None, Vec::new()),
        }
    }

    /// Ends when something has changed since it was last read; never when nobody wants to know.
    pub(super) async fn changes(&self, watched: &Watched) {
        if !watched.is_on {
            return std::future::pending().await;
        }
        let mut before = None;
        loop {
            let (source, secrets) = (self.clone(), watched.seen.secrets.clone());
            let look =
                move || Seen { text: source.text().0, secrets: secrets.iter().map(Secret::again).collect() };
            let look = tokio::task::spawn_blocking(look).await.ok();
            let is_new = look.as_ref().is_some_and(|seen| *seen != watched.seen);
            if is_new && look == before {
                return;
            }
            before = look;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Seen {
    fn add(&mut self, files: &[PathBuf]) {
        for file in files {
            if !self.secrets.iter().any(|secret| secret.path == *file) {
                self.secrets.push(Secret::at(file.clone()));
            }
        }
    }
}

impl Watched {
    /// Begins with what was loaded.
    pub(super) fn new(loaded: &Loaded, seen: Seen) -> Self {
        Self { is_on: loaded.config.reload.watch, in_force: loaded.secret_files(), seen }
    }

    /// It was read again, and what was read is in force.
    pub(super) fn taken(&mut self, (is_on, in_force): (bool, Vec<PathBuf>), seen: Seen) {
        *self = Self { is_on, in_force, seen };
    }

    /// It was read again and is not in force. It is read once more when it changes, or a file with a secret that it
    /// names, or one of those that are in force: a secret may have come later than the text that names it.
    pub(super) fn refused(&mut self, mut seen: Seen) {
        seen.add(&self.in_force);
        self.seen = seen;
    }
}

/// The files with secrets that a text names, sound or not.
fn named_in(text: &[u8]) -> Vec<PathBuf> {
    let table = std::str::from_utf8(text).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let mut files = table.map(|table| config::files_in(&toml::Value::Table(table))).unwrap_or_default();
    files.truncate(NAMED_MAX);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path) -> Source {
        let env = [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", "one")].into_iter().collect();
        Source::new(Some(path), &env)
    }

    fn paths(seen: &Seen) -> Vec<&Path> {
        seen.secrets.iter().map(|secret| secret.path.as_path()).collect()
    }

    #[test]
    fn a_file_that_is_gone_is_a_mistake_and_not_the_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("perch.toml");
        fs::write(&path, "").expect("written");
        // Found by itself, as config/perch.toml is.
        let source = Source { named: None, ..source(&path) };
        source.found.set(path.clone()).expect("nothing was found yet");
        let (loaded, seen) = source.load();
        assert!(loaded.is_ok());
        fs::remove_file(&path).expect("removed");
        let (loaded, missing) = source.load_again();
        let why = loaded.expect_err("it is gone").to_string();
        assert!(why.contains("cannot be read"), "{why}");
        assert_ne!(seen, missing, "its going is seen");
    }

    #[test]
    fn a_pipe_is_read_once_and_never_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let (source, to) = (source(&path), path.clone());
        let writer = std::thread::spawn(move || fs::write(to, "[retry]\nattempts = 2\n"));
        let (loaded, seen) = source.load();
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        writer.join().expect("it ran").expect("written");
        assert_eq!(loaded.written("retry.attempts"), "2", "all of it was there for the configuration");
        assert_eq!(seen, Seen::default());
        let (again, seen) = source.load_again();
        let why = again.expect_err("there is nothing more in it").to_string();
        assert!(why.contains("no file that can be read again"), "{why}");
        assert_eq!(seen, Seen::default(), "or it would be looked at again at once");
    }

    #[test]
    fn a_secret_that_came_later_than_its_text_is_watched_and_so_are_those_in_force() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, old, new] = ["perch.toml", "old", "new"].map(|name| folder.path().join(name));
        let name = |secret: &Path| {
            let text = format!("[finch]\nclient_secret = \"file:{}\"\n", secret.display());
            fs::write(&path, text).expect("written");
        };
        fs::write(&old, "first-secret").expect("written");
        name(&old);
        let source = source(&path);
        let (loaded, seen) = source.load();
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let mut watched = Watched::new(&loaded, seen);
        assert_eq!(paths(&watched.seen), [&old]);
        name(&new);
        let (loaded, seen) = source.load_again();
        assert!(loaded.is_err(), "the secret is not there yet");
        watched.refused(seen);
        assert_eq!(paths(&watched.seen), [&new, &old]);
        let before = watched.seen.clone();
        fs::write(&new, "other-secret").expect("written");
        let again: Vec<Secret> = watched.seen.secrets.iter().map(Secret::again).collect();
        assert_ne!(again, before.secrets, "its coming is seen");
        // Refused for another reason: whether it wants to be watched decides nothing.
        fs::write(&path, "[reload]\nwatch = false\n[listen]\nidle_timeout = \"1s\"\n").expect("written");
        let (_, seen) = source.load_again();
        watched.refused(seen);
        assert!(watched.is_on);
        assert_eq!(paths(&watched.seen), [&old]);
    }
}
