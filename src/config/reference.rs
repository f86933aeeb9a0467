//! Secrets are named, never written: `file:PATH` or `env:NAME`. This is where they are read, once, at load.

use super::address::{BaseUrl, base_url_of};
use super::environ::Environ;
use super::problem::{Check, Complaint};
use super::value::Setting;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest secret. Certificates and signed tokens have a few kilobytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    File(PathBuf),
    Env(String),
}

/// Where the key that seals the vault is. It is read by the vault, which knows what a key looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file with the key.
    File(PathBuf),
    /// An environment variable with the key.
    Env(String),
    /// A program that prints the key.
    Command {
        /// Its whole path.
        program: PathBuf,
        /// What it is told.
        words: Vec<String>,
    },
    /// A key of `HashiCorp` Vault's transit engine.
    Transit(TransitKey),
    /// A key of AWS KMS.
    AwsKms(AwsKey),
    /// A key of Google Cloud KMS.
    GcpKms(GcpKey),
}

/// A key of `HashiCorp` Vault's transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// Where Vault answers.
    pub server: BaseUrl,
    /// The path the engine is mounted at.
    pub mount: String,
    /// The key's name.
    pub name: String,
}

/// A key of AWS KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKey {
    /// Its whole ARN.
    pub arn: String,
    /// The region, which the ARN names.
    pub region: String,
}

/// A key of Google Cloud KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpKey {
    /// Its resource name.
    pub name: String,
}

/// Whether a text means to be a reference.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// Reads a reference. What it finds instead is never shown: it may be the secret.
pub(super) fn reference(setting: &Setting) -> Check<Reference> {
    let text = setting.text()?;
    if let Some(path) = text.strip_prefix("file:") {
        return match path {
            "" => Err(Complaint::new("names no file").hint("write file:PATH")),
            _ if path.starts_with("//") => {
                Err(Complaint::new("is a file:// address").hint("write file:/PATH"))
            }
            _ if path.contains('\0') => Err(Complaint::new("names a file that cannot be")),
            _ => Ok(Reference::File(path.into())),
        };
    }
    if let Some(name) = text.strip_prefix("env:") {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        return match !name.is_empty() && name.chars().all(is_name) {
            true => Ok(Reference::Env(name.to_owned())),
            false => Err(Complaint::new("does not name an environment variable").hint("write env:NAME")),
        };
    }
    Err(Complaint::new("is neither file: nor env:")
        .hint("write file:… or env:…; secrets never stand in the configuration"))
}

/// Reads the vault's key source.
pub(super) fn key_source(setting: &Setting) -> Check<KeySource> {
    let text = setting.text()?;
    if let Some(line) = text.strip_prefix("command:") {
        return command(line);
    }
    if let Some(url) = text.strip_prefix("vault-transit:") {
        return transit(url).map(KeySource::Transit);
    }
    if let Some(arn) = text.strip_prefix("aws-kms:") {
        return aws(arn).map(KeySource::AwsKms);
    }
    if let Some(name) = text.strip_prefix("gcp-kms:") {
        return gcp(name).map(KeySource::GcpKms);
    }
    Ok(match reference(setting)? {
        Reference::File(path) => KeySource::File(path),
        Reference::Env(name) => KeySource::Env(name),
    })
}

/// Reads a program and its words. There is no shell and there are no quotes: blanks divide.
fn command(line: &str) -> Check<KeySource> {
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    match words.next() {
        Some(program) if program.starts_with('/') && !line.contains('\0') => {
            Ok(KeySource::Command { program: program.into(), words: words.collect() })
        }
        _ => Err(Complaint::new("names no program by its whole path").hint("write command:/PATH WORD…")),
    }
}

/// Reads `https://HOST:PORT/MOUNT/keys/NAME`, as Vault itself calls the key.
fn transit(url: &str) -> Check<TransitKey> {
    let wrong = || {
        Complaint::new("does not name a key of a transit engine")
            .hint("write vault-transit:https://HOST:8200/transit/keys/NAME")
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').ok_or_else(wrong)?;
    let (mount, name) = path.rsplit_once("/keys/").ok_or_else(wrong)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_path = |path: &str| {
        path.split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_name))
    };
    if !is_path(mount) || !is_path(name) || name.contains('/') {
        return Err(wrong());
    }
    let server = base_url_of(&format!("{scheme}://{authority}"))?;
    Ok(TransitKey { server, mount: mount.to_owned(), name: name.to_owned() })
}

/// Reads `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`, or an alias in the place of the key.
fn aws(arn: &str) -> Check<AwsKey> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/'))
    };
    match parts.as_slice() {
        ["arn", "aws" | "aws-us-gov", "kms", region, account, key]
            if [region, account, key].into_iter().all(|part| is_plain(part))
                && !region.contains('/')
                && (key.starts_with("key/") || key.starts_with("alias/")) =>
        {
            Ok(AwsKey { arn: arn.to_owned(), region: (*region).to_owned() })
        }
        _ => Err(Complaint::new("does not name a key of AWS KMS")
            .hint("write aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID")),
    }
}

/// Reads `projects/P/locations/L/keyRings/R/cryptoKeys/K`: never one version of a key, for its rotation is the service's.
fn gcp(name: &str) -> Check<GcpKey> {
    // A project may belong to a domain: `example.com:project`.
    let is_plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
            && !part.starts_with('.')
    };
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["projects", project, "locations", place, "keyRings", ring, "cryptoKeys", key]
            if is_plain(project)
                && [place, ring, key].into_iter().all(|part| is_plain(part) && !part.contains(':')) =>
        {
            Ok(GcpKey { name: name.to_owned() })
        }
        _ => Err(Complaint::new("does not name a key of Google Cloud KMS")
            .hint("write gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K")),
    }
}

/// Reads what a reference names.
pub(super) fn resolve(reference: &Reference, env: &Environ) -> Check<Zeroizing<String>> {
    match reference {
        Reference::File(path) => {
            let secret = read(path)?;
            sound(secret, &format!("refers to {}, which", path.display()), "put the secret into the file")
        }
        Reference::Env(name) => {
            let value = env.get(name).ok_or_else(|| {
                Complaint::new(format!("refers to the environment variable {name}, which is not set"))
                    .hint(format!("set {name}, or name another place"))
            })?;
            let text = value.to_str().ok_or_else(|| {
                Complaint::new(format!("refers to the environment variable {name}, which is not UTF-8"))
            })?;
            let whose = format!("refers to the environment variable {name}, which");
            sound(Zeroizing::new(text.to_owned()), &whose, &format!("set {name}"))
        }
    }
}

fn read(path: &Path) -> Check<Zeroizing<String>> {
    let refers = |what: String| Complaint::new(format!("refers to {}, which {what}", path.display()));
    let unreadable = |error: std::io::Error| {
        refers(format!("cannot be read: {error}")).hint("mount it, or name another place")
    };
    // Room for all of it at once, so that no copy stays behind where a buffer grew; one byte more tells that it is too large.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let file = File::open(path).map_err(unreadable)?;
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(refers(format!("is larger than {SECRET_BYTES_MAX} bytes: not a secret")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| refers("is not UTF-8 text".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

/// A secret goes into headers and bodies: a control character in it is a mistake that Finch would report as a wrong secret.
fn sound(secret: Zeroizing<String>, whose: &str, fix: &str) -> Check<Zeroizing<String>> {
    if secret.is_empty() {
        return Err(Complaint::new(format!("{whose} is empty")).hint(fix));
    }
    if secret.chars().any(char::is_control) {
        return Err(Complaint::new(format!("{whose} has a line break or another control character inside")));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Place;
    use super::*;

    fn setting(text: &str) -> Setting {
        Setting { value: text.into(), place: Place::Default { line: 1, column: 1 } }
    }

    fn resolved(text: &str, env: &Environ) -> Check<String> {
        reference(&setting(text)).and_then(|it| resolve(&it, env)).map(|secret| secret.to_string())
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        for text in ["hunter2", "$hunter2", "file:", "env:", "env:hunter2=x", "file:///hunter2", ""] {
            let complaint = reference(&setting(text)).expect_err(text);
            assert!(!format!("{complaint:?}").contains("hunter2"), "{complaint:?}");
        }
    }

    #[test]
    fn a_secret_file_loses_one_line_break_at_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        for (content, read) in [
            ("s3cret", Ok("s3cret")),
            ("s3cret\n", Ok("s3cret")),
            ("s3cret\r\n", Ok("s3cret")),
            (" s ", Ok(" s ")),
        ] {
            std::fs::write(&path, content).expect("written");
            let text = format!("file:{}", path.display());
            assert_eq!(resolved(&text, &Environ::default()), read.map(str::to_owned), "{content:?}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_one_is_a_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let text = format!("file:{}", path.display());
        let what = |text: &str, env: &Environ| resolved(text, env).expect_err("refused").what;
        assert!(what(&text, &Environ::default()).contains("cannot be read"));
        for (content, complaint) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"a\n\n", "control character"),
            (b"a\nb", "control character"),
            (b"\xff", "not UTF-8"),
            (&[b'x'; SECRET_BYTES_MAX + 1], "larger than"),
        ] {
            std::fs::write(&path, content).expect("written");
            assert!(what(&text, &Environ::default()).contains(complaint), "{complaint}");
        }
        let env: Environ = [("EMPTY", ""), ("TWO_LINES", "a\nb")].into_iter().collect();
        assert!(what("env:MISSING", &env).contains("MISSING, which is not set"));
        assert!(what("env:EMPTY", &env).contains("EMPTY, which is empty"));
        assert!(what("env:TWO_LINES", &env).contains("control character"));
    }
}
