//! What an operator decides. A text becomes a sound [`Config`] or a list of everything that is wrong with it: nothing
//! starts in between, and nothing later asks whether a value holds.
//!
//! `config/perch.toml` is the manual, the list of keys and the defaults, all in one ([`MANUAL`]); the operator's file
//! lies over it, and the environment over both. The process's own environment is never read here: it is an argument.

mod address;
mod document;
mod environ;
mod ledger;
mod limits;
mod merging;
mod postgres_url;
mod problem;
mod reader;
mod redis_url;
mod reference;
mod reload;
mod rules;
mod sections;
mod shown;
mod sound;
mod steering;
mod tls;
mod traces;
mod value;
mod webhooks;

#[cfg(test)]
mod tests;

pub use environ::Environ;
pub use problem::{PROBLEMS_MAX, Place, Problem, Problems};
pub use reload::{Changes, Written, is_live};
pub use shown::as_json;
pub use sound::*;
pub use value::parse_duration;

use crate::types::{ApplicationId, Environment};
use reader::Reader;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `config/perch.toml`: every key, its default, and why.
pub const MANUAL: &str = include_str!("../../config/perch.toml");

/// The file that is read when nobody names one, if it is there.
pub const PATH_DEFAULT: &str = "config/perch.toml";

/// The key whose value is a table of references.
const TRACES_HEADERS: &str = "traces.headers";

/// A sound configuration, and where each of its values comes from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key with its value as written, in the order of the manual. Secrets are references here, as anywhere.
    pub origins: Vec<Origin>,
    /// What was read where the configuration refers to something, told apart by digests.
    marks: reload::Marks,
}

impl Loaded {
    /// A key's value as the operator, or the manual, wrote it.
    pub fn written(&self, key: &str) -> String {
        match self.origins.iter().find(|origin| origin.key == key).map(|origin| &origin.value) {
            Some(toml::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// The files with secrets that it names, which perch has read. The sealing key's is the vault's to read.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let refer = |origin: &&Origin| origin.is_reference || origin.key == TRACES_HEADERS;
        self.origins.iter().filter(refer).flat_map(|origin| files_in(&origin.value)).collect()
    }
}

/// The files that a value refers to, itself or in what it holds.
pub fn files_in(value: &toml::Value) -> Vec<PathBuf> {
    match value {
        toml::Value::String(text) => text.strip_prefix("file:").map(PathBuf::from).into_iter().collect(),
        toml::Value::Array(values) => values.iter().flat_map(files_in).collect(),
        toml::Value::Table(table) => table.values().flat_map(files_in).collect(),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => Vec::new(),
    }
}

/// One key's value as written, and who wrote it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The key, such as `limits.window`.
    pub key: String,
    /// The value as written: `"60s"`, not 60 seconds; a secret's reference, not the secret; a store's URL without
    /// user and password.
    pub value: toml::Value,
    /// Whether it refers to a secret or an id that has been read.
    pub is_reference: bool,
    /// Where it stands. For a product without a limit of its own: where `limits.products.default` does.
    pub place: Place,
}

/// Which file to read: the one named on the command line, else in `PERCH_CONFIG`, else [`PATH_DEFAULT`] when there is
/// one. A named file has to be there, which [`load`] finds out.
pub fn locate(named: Option<&Path>, env: &Environ) -> Option<PathBuf> {
    let by_environment = || env.get("PERCH_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let by_default = || {
        let path = PathBuf::from(PATH_DEFAULT);
        // When it cannot be told whether it is there, reading it tells why.
        path.try_exists().unwrap_or(true).then_some(path)
    };
    named.map(Path::to_path_buf).or_else(by_environment).or_else(by_default)
}

/// Reads the configuration: the defaults, over them the file, over both the environment. Secrets are read too.
///
/// # Errors
/// [`Problems`]: everything that is wrong, at once.
pub fn load(path: Option<&Path>, env: &Environ) -> Result<Loaded, Problems> {
    let mut reader = Reader::of_manual(MANUAL, env);
    lay(&mut reader, path);
    // Before the values: one that changes in between is noticed the next time, not never.
    let marks = reload::Marks::of(&mut reader);
    let config = sections::config(&mut reader);
    rules::hold(&mut reader);
    match config {
        Some(config) if reader.problems.is_empty() => {
            Ok(Loaded { config, origins: origins(&mut reader), marks })
        }
        _ => Err(reader.problems),
    }
}

/// Reads the limits alone, for arithmetic: without any secret, and without the store that remembers them.
///
/// # Errors
/// [`Problems`]: everything that is wrong with them, at once.
pub fn load_limits(path: Option<&Path>, env: &Environ) -> Result<Limits, Problems> {
    let mut reader = Reader::of_manual(MANUAL, env);
    let store = ["limits.store", "limits.password", "limits.ca_file", "limits.namespace"];
    let defaults = store.map(|key| (key, reader.settings.get(key).cloned()));
    lay(&mut reader, path);
    for (key, setting) in defaults.into_iter().filter_map(|(key, setting)| Some((key, setting?))) {
        reader.settings.insert(key.to_owned(), setting);
    }
    // Who asks names the quota in a shared store only.
    let application = ApplicationId::new("nobody").ok();
    match limits::limits(&mut reader, application.as_ref()) {
        Some(limits) if reader.problems.is_empty() => Ok(limits),
        _ => Err(reader.problems),
    }
}

/// Reads where the store is and whose part of it is meant, for commands that look at what is not sealed: without a sealing
/// key, and without Finch's secrets.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, at once.
pub fn load_place(
    path: Option<&Path>,
    env: &Environ,
) -> Result<(Store, ApplicationId, Environment), Problems> {
    let mut reader = Reader::of_manual(MANUAL, env);
    lay(&mut reader, path);
    let (store, whose) = (sections::vault_store(&mut reader), sections::whose(&mut reader));
    match store.zip(whose) {
        Some((store, (application, environment))) if reader.problems.is_empty() => {
            Ok((store, application, environment))
        }
        _ => Err(reader.problems),
    }
}

/// Lays the file and the environment over the defaults.
fn lay(reader: &mut Reader<'_>, path: Option<&Path>) {
    if let Some(path) = path {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => reader.lay_file(&name, &text),
            Err((place, what)) => {
                reader.problems.push(place, what, Some("name another with -c or PERCH_CONFIG".to_owned()));
            }
        }
    }
    reader.lay_environment();
    reader.spread_default_limit();
}

/// The file's text, or where and why it cannot be read.
fn read(path: &Path) -> Result<String, (Place, String)> {
    let whole = || Place::File(path.display().to_string());
    let unreadable = |error: std::io::Error| (whole(), format!("the configuration cannot be read: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(document::FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > document::FILE_BYTES_MAX {
        return Err((whole(), "the configuration is larger than 1 MiB: not a configuration".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        let place = Place::Line { file: path.display().to_string(), line: line + 1, column: 1 };
        (place, "this line is not UTF-8".to_owned())
    })
}

fn origins(reader: &mut Reader<'_>) -> Vec<Origin> {
    let mut origins = Vec::with_capacity(reader.keys.len());
    for key in std::mem::take(&mut reader.keys) {
        let Some(mut setting) = reader.settings.remove(&key) else { continue };
        let may_refer = matches!(
            key.as_str(),
            "finch.client_id"
                | "finch.client_secret"
                | "finch.webhook_secret"
                | "finch.webhook_secret_previous"
                | "webhooks.sign_with"
                | "admin.token"
                | "limits.store"
                | "limits.password"
                | "vault.store"
                | "vault.password"
        );
        let is_reference = may_refer && setting.text().is_ok_and(reference::is_reference);
        if matches!(key.as_str(), "limits.store" | "vault.store") && !is_reference {
            limits::mask(&mut setting);
        }
        origins.push(Origin { key, value: setting.value, is_reference, place: setting.place });
    }
    origins
}
