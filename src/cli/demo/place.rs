//! Where the demo keeps its files, and what it remembers of the access lines.

use serde_json::Value;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A folder of its own, gone when the demo is.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("perch-demo-{}", uuid::Uuid::now_v7().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Access lines, written to a file as `perch serve` writes them to stdout, and kept for the summary.
#[derive(Clone)]
pub(super) struct Lines {
    file: Arc<File>,
    kept: Arc<Mutex<Vec<u8>>>,
}

/// The story has some fifty lines; whoever calls perch afterwards adds to the file only.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

impl Lines {
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(File::create(path)?), kept: Arc::default() })
    }

    /// The lines so far.
    pub(super) fn all(&self) -> Vec<Value> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.file).write_all(bytes)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + bytes.len() <= KEPT_BYTES_MAX {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.file).flush()
    }
}
