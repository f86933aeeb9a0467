//! From the configuration's words to what wraps the store's keys.

use super::aws::AwsKms;
use super::gcp::{GcpKms, METADATA_HOST};
use super::sigv4::Credentials;
use super::transit::Transit;
use super::wrap::{Wrapper, Wrappers};
use super::{KeyError, command, kek};
use crate::config::{self, BaseUrl, KeySource};
use crate::types::KeyToken;

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
        KeySource::Transit(key) => {
            let token = match &vault.key_token {
                Some(token) => KeyToken::new(token.expose().to_owned()),
                None => KeyToken::new(variable("VAULT_TOKEN").ok_or_else(|| {
                    KeyError("vault-transit needs a token: set vault.key_token or VAULT_TOKEN".to_owned())
                })?),
            };
            let transit = Transit::new(key, vault.key_ca_file.as_deref(), token, variable("VAULT_NAMESPACE"));
            Ok(Wrapper::Transit(Box::new(transit.map_err(KeyError)?)))
        }
        KeySource::AwsKms(key) => {
            let needed = |name: &str| {
                variable(name).ok_or_else(|| {
                    KeyError(format!("aws-kms needs credentials of the environment, and {name} is not set"))
                })
            };
            let credentials = Credentials {
                id: needed("AWS_ACCESS_KEY_ID")?,
                secret: KeyToken::new(needed("AWS_SECRET_ACCESS_KEY")?),
                session: variable("AWS_SESSION_TOKEN").map(KeyToken::new),
            };
            let endpoint = endpoint("AWS_ENDPOINT_URL_KMS")?;
            let kms = AwsKms::new(key, endpoint, vault.key_ca_file.as_deref(), credentials);
            Ok(Wrapper::AwsKms(Box::new(kms.map_err(KeyError)?)))
        }
        KeySource::GcpKms(key) => {
            let server = endpoint("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS")?;
            let token = vault.key_token.as_ref().map(|token| KeyToken::new(token.expose().to_owned()));
            let kms = GcpKms::new(key, server, vault.key_ca_file.as_deref(), token, metadata_server()?);
            Ok(Wrapper::GcpKms(Box::new(kms.map_err(KeyError)?)))
        }
    }
}

/// Another address of a service than its own.
fn endpoint(name: &str) -> Result<Option<BaseUrl>, KeyError> {
    let Some(url) = variable(name) else { return Ok(None) };
    // Google's tools want a stroke at its end, and take it without.
    match BaseUrl::parse(url.strip_suffix('/').unwrap_or(&url)) {
        Some(url) => Ok(Some(url)),
        None => Err(KeyError(format!("{name} is not https://HOST:PORT, nor http:// to loopback"))),
    }
}

/// Google's metadata server. It speaks in the clear, and is reached without leaving the machine.
fn metadata_server() -> Result<BaseUrl, KeyError> {
    const NAME: &str = "GCE_METADATA_HOST";
    let host = variable(NAME).unwrap_or_else(|| METADATA_HOST.to_owned());
    // Read as if it were https://, for the rest of the rules.
    let url = BaseUrl::parse(&format!("https://{host}"))
        .ok_or_else(|| KeyError(format!("{NAME} is neither HOST nor HOST:PORT")))?;
    let port = if host.ends_with(&format!(":{}", url.port)) { url.port } else { 80 };
    Ok(BaseUrl { tls: false, host: url.host, port })
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
