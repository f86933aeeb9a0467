//! The key that wraps the store's keys: where it comes from, and how it is told from another.
//!
//! A key is 32 bytes, raw or in base64, and is never a password. A file that others may read is
//! refused: whoever has it and the database has every token.

use super::seal::hmac;
use crate::types::Kek;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// No key file is longer, whatever its spelling.
const FILE_BYTES_MAX: u64 = 4096;

/// What a key may be called aloud: it tells two keys apart and says nothing about either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(super) [u8; 8]);

impl Fingerprint {
    /// `HMAC(KEK, "perch/kek-check/v1")[..8]`.
    pub fn of(kek: &Kek) -> Self {
        let mac = hmac(kek.expose(), b"perch/kek-check/v1");
        Self(std::array::from_fn(|i| mac[i]))
    }

    /// Of a key that never leaves its service, and is known by its name.
    pub(super) fn of_name(name: &str) -> Self {
        let mac = hmac(b"perch/kek-name/v1", name.as_bytes());
        Self(std::array::from_fn(|i| mac[i]))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why there is no key; a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(pub(super) String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

/// Reads the key from a file. `key_group_readable` allows the file's group to read it, which a
/// Kubernetes secret with an `fsGroup` needs; nothing allows others.
///
/// # Errors
/// [`KeyError`] when the file is missing, open to others, or holds no key.
pub fn from_file(path: &Path, key_group_readable: bool) -> Result<Kek, KeyError> {
    let name = path.display();
    let unreadable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => KeyError(format!(
            "there is no key file {name}: restore it from its backup, or for a new store run \"perch keys generate {name}\""
        )),
        _ => KeyError(format!("the key file {name} cannot be read: {cause}")),
    };
    // Asked before opening: opening a named pipe would wait for a writer that may never come.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(KeyError(format!(
            "{name} is not a file: the key must be a regular file of 32 bytes or their base64"
        )));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    // Asked of the opened file, so that what is checked is what is read.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    let allowed = if key_group_readable { 0o740 } else { 0o700 };
    if mode & !allowed != 0 {
        let or = match mode & !0o740 {
            0 => ", or set vault.key_group_readable = true when its group is meant to read it",
            _ => "",
        };
        return Err(KeyError(format!(
            "the key file {name} is open to others (mode {mode:04o}): run \"chmod 600 {name}\"{or}"
        )));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    parse(&bytes).map_err(|what| {
        KeyError(format!(
            "the key file {name} {what}: a key is 32 bytes or their base64; \"perch keys generate FILE\" makes one"
        ))
    })
}

/// Reads the key from the value of the environment variable `name`: base64 only.
///
/// # Errors
/// [`KeyError`] when it holds no key.
pub fn from_env(name: &str, value: &str) -> Result<Kek, KeyError> {
    base64_key(value.as_bytes()).map_err(|what| {
        KeyError(format!(
            "the environment variable {name} {what}: it must hold a key of 32 bytes in base64; \"perch keys generate FILE\" makes one"
        ))
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Kek, String> {
    match <[u8; 32]>::try_from(bytes) {
        Ok(raw) => Ok(Kek::new(raw)),
        Err(_) => base64_key(bytes),
    }
}

fn base64_key(text: &[u8]) -> Result<Kek, String> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > FILE_BYTES_MAX as usize {
        return Err("is too long".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD
        .decode_vec(text, &mut bytes)
        .map_err(|_| format!("holds {} bytes that are not base64", text.len()))?;
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(raw) => Ok(Kek::new(raw)),
        Err(_) => Err(format!("holds a key of {} bytes", bytes.len())),
    }
}

/// Writes a new random key in base64 to a new file that only its owner may read.
///
/// # Errors
/// [`KeyError`] when the file exists, for a key in use must never be overwritten, or cannot be written.
pub fn generate(path: &Path) -> Result<Fingerprint, KeyError> {
    let name = path.display();
    let mut raw = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *raw)
        .map_err(|cause| KeyError(format!("the system gave no random bytes for a key: {cause}")))?;
    let mut text = Zeroizing::new(STANDARD.encode(*raw));
    text.push('\n');

    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => KeyError(format!(
                "{name} exists already and is left as it is: without it the tokens it seals are lost; choose another name"
            )),
            _ => KeyError(format!("the key file {name} cannot be made: {cause}")),
        },
    )?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|cause| {
        // Half a key helps nobody; the file was made here a moment ago.
        drop(fs::remove_file(path));
        KeyError(format!("the key file {name} cannot be written: {cause}"))
    })?;
    Ok(Fingerprint::of(&Kek::new(*raw)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(dir: &tempfile::TempDir, bytes: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join("perch.key");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn said(result: Result<Kek, KeyError>) -> String {
        result.expect_err("no key").to_string()
    }

    #[test]
    fn s06_a_key_file_open_to_others_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o604, 0o602, 0o660, 0o644, 0o777, 0o641] {
            let path = file(&dir, &[7; 32], mode);
            for group in [false, true] {
                let said = said(from_file(&path, group));
                assert!(said.contains(&format!("chmod 600 {}", path.display())), "{said}");
                assert!(!said.contains("key_group_readable"), "{said}");
            }
        }
        let path = file(&dir, &[7; 32], 0o640);
        assert!(said(from_file(&path, false)).contains("vault.key_group_readable = true"));
        assert!(from_file(&path, true).is_ok());
        for mode in [0o600, 0o400] {
            assert!(from_file(&file(&dir, &[7; 32], mode), false).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn s01_what_is_no_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let base64 = STANDARD.encode([7; 32]);
        for (bytes, what) in [
            (&b""[..], "is empty"),
            (b"\n \n", "is empty"),
            (&[7; 31], "not base64"),
            (&[7; 33], "not base64"),
            (STANDARD.encode([7; 31]).as_bytes(), "31 bytes"),
            (STANDARD.encode([7; 33]).as_bytes(), "33 bytes"),
            (&[b'A'; 5000], "4097 bytes|too long"),
        ] {
            let said = said(from_file(&file(&dir, bytes, 0o600), false));
            assert!(said.contains("perch.key") && what.split('|').any(|w| said.contains(w)), "{said}");
        }
        assert!(said(from_file(&dir.path().join("none"), false)).contains("perch keys generate"));
        assert!(said(from_file(dir.path(), false)).contains("is not a file"));
        assert!(said(from_env("PERCH_KEY", "short")).contains("PERCH_KEY"));
        assert!(!said(from_env("PERCH_KEY", "hunter2!")).contains("hunter2"), "a key is never repeated");

        let spelled = from_file(&file(&dir, format!("{base64}\r\n").as_bytes(), 0o600), false).unwrap();
        let raw = from_file(&file(&dir, &[7; 32], 0o600), false).unwrap();
        assert_eq!(spelled.expose(), raw.expose());
        assert_eq!(from_env("PERCH_KEY", &base64).unwrap().expose(), raw.expose());
    }

    #[test]
    fn a_generated_key_is_private_readable_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.key");
        let fingerprint = generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Fingerprint::of(&from_file(&path, false).unwrap()), fingerprint);

        let before = fs::read(&path).unwrap();
        let said = generate(&path).unwrap_err().to_string();
        assert!(said.contains("exists already"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_ne!(generate(&dir.path().join("other.key")).unwrap(), fingerprint);
    }
}
