//! From the configuration's words to what wraps the store's keys.

use super::wrap::{Wrapper, Wrappers};
use super::{KeyError, command, kek};
use crate::config::{self, KeySource};

/// What the configuration names, read and ready.
///
/// # Errors
/// [`KeyError`]: a sentence that says which key is not to be had, and what to do.
pub async fn wrappers(vault: &config::Vault) -> Result<Wrappers, KeyError> {
    let current = wrapper(&vault.key, vault).await?;
    let previous = match &vault.key_previous {
        Some(source) => Some(wrapper(source, vault).await.map_err(|error| {
            KeyError(format!("vault.key_previous: {error}; take it out once the keys are rotated"))
        })?),
        None => None,
    };
    Ok(Wrappers { current, previous })
}

async fn wrapper(source: &KeySource, vault: &config::Vault) -> Result<Wrapper, KeyError> {
    match source {
        KeySource::File(path) => kek::from_file(path, vault.key_group_readable).map(Wrapper::Local),
        KeySource::Env(name) => {
            kek::from_env(name, &std::env::var(name).unwrap_or_default()).map(Wrapper::Local)
        }
        KeySource::Command { program, words } => {
            let (program, words) = (program.clone(), words.clone());
            let run = move || command::from_command(&program, &words, command::COMMAND_MAX);
            let stopping = |_| KeyError("perch is stopping".to_owned());
            tokio::task::spawn_blocking(run).await.map_err(stopping)?.map(Wrapper::Local)
        }
    }
}
