//! `perch pause`, `perch resume` and `perch pauses`: the brakes. They are written to the store, so they work beside a
//! running gateway and without one; every gateway on the store obeys within two seconds.

use super::exit::{Exit, Failure};
use super::output::Format;
use super::{serve, table};
use crate::app;
use crate::config::{Config, Environ};
use crate::policy::brake::PauseScope;
use crate::telemetry::clock::unix_now;
use crate::vault::pauses::{Pause, PauseError, Paused, Resumed};
use crate::vault::{Actor, Vault};
use std::io::Write;
use std::path::Path;

/// Whose calls.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// What is to be paused
    #[arg(value_enum)]
    pub scope: Scope,
    /// The customer's id, the product, such as payment, or the provider's id, such as gusto
    pub name: String,
    /// Why, for whoever finds it; at most 200 bytes, and no data of people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Whose calls go on.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// What is paused
    #[arg(value_enum)]
    pub scope: Scope,
    /// Which one
    pub name: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What is shown.
#[derive(Debug, clap::Args)]
pub struct PausesArgs {
    /// Who paused and resumed what lately, from the audit trail, newest first
    #[arg(long)]
    pub history: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What a pause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// One customer
    Customer,
    /// One product of Finch's, for every customer
    Product,
    /// One employment system, for every customer
    Provider,
}

impl From<Scope> for PauseScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Customer => PauseScope::Customer,
            Scope::Product => PauseScope::Product,
            Scope::Provider => PauseScope::Provider,
        }
    }
}

impl From<PauseError> for Failure {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::Vault(error) => error.into(),
            PauseError::Name { .. }
            | PauseError::Reason
            | PauseError::NotPaused(..)
            | PauseError::Configured(..)
            | PauseError::TooMany => Self { exit: Exit::Failed, message: error.to_string() },
        }
    }
}

/// Pauses.
///
/// # Errors
/// [`Failure`] with its exit code: 1 when there can be nothing of this name.
pub fn pause(
    named: Option<&Path>,
    env: &Environ,
    args: &PauseArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let scope = PauseScope::from(args.scope);
    let pause = Pause { scope, name: args.name.clone(), reason: args.reason.clone() };
    // What is wrong with the words is said before anything is opened.
    pause.check()?;
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        vault.pause(pause, Actor::Operator, unix_now()).await?;
        let done = format!(
            "{scope} {} is paused; a running gateway refuses its calls within two seconds",
            args.name
        );
        said(args.output, "paused", (scope, &args.name), &done, out)
    })
}

/// Resumes.
///
/// # Errors
/// [`Failure`] with its exit code: 1 when it is not paused, or by the configuration, which alone can end it.
pub fn resume(
    named: Option<&Path>,
    env: &Environ,
    args: &ResumeArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let scope = PauseScope::from(args.scope);
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let is_configured = configured(&config).iter().any(|p| p.scope == scope && p.name == args.name);
        match vault.resume(scope, args.name.clone(), Actor::Operator, unix_now()).await {
            Err(PauseError::NotPaused(..)) if is_configured => {
                Err(PauseError::Configured(scope, args.name.clone()).into())
            }
            done => {
                done?;
                let done = match is_configured {
                    true => Resumed::StillConfigured.said(scope, &args.name),
                    false => format!(
                        "{scope} {} goes on; a running gateway sends its calls within two seconds",
                        args.name
                    ),
                };
                said(args.output, "resumed", (scope, &args.name), &done, out)
            }
        }
    })
}

/// Shows what is paused: by operators, then by the configuration.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn list(
    named: Option<&Path>,
    env: &Environ,
    args: &PausesArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        if args.history {
            return history(&vault, args.output, out).await;
        }
        let mut all = vault.paused();
        all.extend(configured(&config));
        match args.output {
            Format::Json => writeln!(out, "{}", serde_json::json!(all))?,
            Format::Text if all.is_empty() => writeln!(out, "nothing is paused")?,
            Format::Text => {
                let rows = all.iter().map(|p| {
                    let since = p.since.map_or_else(|| "-".to_owned(), |at| at.to_string());
                    let reason = p.reason.clone().unwrap_or_else(|| "-".to_owned());
                    [p.scope.to_string(), p.name.clone(), since, p.by.clone(), reason]
                });
                table::print(["SCOPE", "NAME", "SINCE", "BY", "REASON"], rows, out)?;
            }
        }
        Ok(())
    })
}

async fn history(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    let deeds = vault.brake_deeds().await?;
    match format {
        Format::Json => writeln!(out, "{}", serde_json::json!(deeds))?,
        Format::Text if deeds.is_empty() => writeln!(out, "nothing was ever paused")?,
        Format::Text => {
            let rows = deeds.into_iter().map(|d| [d.at.to_string(), d.actor, d.action, d.connection_id]);
            table::print(["AT", "BY", "DID", "WHAT"], rows, out)?;
        }
    }
    Ok(())
}

/// What the configuration pauses.
fn configured(config: &Config) -> Vec<Paused> {
    let paused = &config.pause;
    let customers = paused.customers.iter().map(|id| (PauseScope::Customer, id.as_str()));
    let products = paused.products.iter().map(|product| (PauseScope::Product, product.as_str()));
    let providers = paused.providers.iter().map(|id| (PauseScope::Provider, id.as_str()));
    let all = customers.chain(products).chain(providers);
    all.map(|(scope, name)| Paused::configured(scope, name)).collect()
}

fn said(
    format: Format,
    did: &str,
    (scope, name): (PauseScope, &str),
    text: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match format {
        Format::Text => writeln!(out, "{text}")?,
        Format::Json => {
            writeln!(out, "{}", serde_json::json!({ "scope": scope, "name": name, "done": did }))?
        }
    }
    Ok(())
}
