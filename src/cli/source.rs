//! Where a running gateway's configuration comes from, and whether that has changed since it was read.

use crate::config::{self, Environ, Loaded, Problems};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at. What has changed is read when it was the same for two looks, so that a file that is
/// being written is not taken for one that is done.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More of a file is not looked at: loading refuses it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file and the environment, as the command line named them.
#[derive(Debug, Clone)]
pub(super) struct Source {
    named: Option<PathBuf>,
    env: Environ,
}

/// What was there when the configuration was last read, whatever came of it.
#[derive(Debug)]
pub(super) struct Watched {
    is_on: bool,
    text: Text,
    secrets: Vec<Secret>,
}

/// A digest of the configuration's file; nothing where it cannot be read.
pub(super) type Text = Option<[u8; 32]>;

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
        Self { named: named.map(Path::to_path_buf), env: env.clone() }
    }

    /// Reads it. The digest is of what was there before: what changes meanwhile is read again, not missed.
    pub(super) fn load(&self) -> (Result<Loaded, Problems>, Text) {
        let text = self.text();
        let path = config::locate(self.named.as_deref(), &self.env);
        (config::load(path.as_deref(), &self.env), text)
    }

    fn text(&self) -> Text {
        let path = config::locate(self.named.as_deref(), &self.env)?;
        let length = fs::metadata(&path).ok()?.len();
        let text = if length <= FILE_BYTES_MAX { fs::read(&path).ok()? } else { return None };
        Some(Sha256::digest(text).into())
    }

    /// Ends when something has changed since it was last read; never when nobody wants to know.
    pub(super) async fn changes(&self, watched: &Watched) {
        if !watched.is_on {
            return std::future::pending().await;
        }
        let mut before = None;
        loop {
            let (source, secrets) = (self.clone(), watched.secrets.clone());
            let look = move || (source.text(), secrets.iter().map(Secret::again).collect::<Vec<_>>());
            let look = tokio::task::spawn_blocking(look).await.ok();
            let is_new = look
                .as_ref()
                .is_some_and(|(text, secrets)| *text != watched.text || *secrets != watched.secrets);
            if is_new && look == before {
                return;
            }
            before = look;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Watched {
    /// Begins with what was loaded.
    pub(super) fn new(loaded: &Loaded, text: Text) -> Self {
        Self { is_on: loaded.config.reload.watch, text, secrets: secrets_of(loaded) }
    }

    /// It was read again; it may have been unsound, and is not read again for that until it changes.
    pub(super) fn note(&mut self, loaded: Option<&Loaded>, text: Text) {
        match loaded {
            Some(loaded) => *self = Self::new(loaded, text),
            None => {
                self.text = text;
                self.secrets = self.secrets.iter().map(Secret::again).collect();
            }
        }
    }
}

/// The files with secrets that a configuration names.
fn secrets_of(loaded: &Loaded) -> Vec<Secret> {
    let named = loaded.origins.iter().filter(|origin| origin.is_reference);
    named
        .filter_map(|origin| Some(Secret::at(origin.value.as_str()?.strip_prefix("file:")?.into())))
        .collect()
}
