//! `perch support ID`: what is known of a request, a connection or a customer, ready to paste. A gateway that runs is asked,
//! because only it knows how limits stand; without one the store tells the rest.

use super::connections::gateway::AdminClient;
use super::exit::Failure;
use super::serve;
use crate::app;
use crate::config::{Config, Environ};
use crate::engine::{Sources, support};
use crate::telemetry::clock::unix_now;
use crate::types::id::ID_BYTES_MAX;
use std::io::Write;
use std::path::Path;

/// A support bundle.
#[derive(Debug, clap::Args)]
pub struct SupportArgs {
    /// Finch's or perch's id of a request, a connection, or a customer
    #[arg(value_parser = id)]
    pub id: String,
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t = BundleFormat::Markdown)]
    pub output: BundleFormat,
}

/// For a ticket or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BundleFormat {
    /// For a ticket
    #[value(alias = "text")]
    Markdown,
    /// For programs
    Json,
}

fn id(text: &str) -> Result<String, String> {
    match (1..=ID_BYTES_MAX).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!("an id has 1 to {ID_BYTES_MAX} bytes")),
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code; also when nobody knows the id.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &SupportArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let text = match ask(&config, args, err).await? {
            Some(text) => text,
            None => gather(&config, args).await?,
        };
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            writeln!(out)?;
        }
        Ok(())
    })
}

/// What the gateway that runs says; none when there is none, or it does not say.
async fn ask(config: &Config, args: &SupportArgs, err: &mut dyn Write) -> Result<Option<String>, Failure> {
    let Some(gateway) = AdminClient::running(config).await else { return Ok(None) };
    let format = match args.output {
        BundleFormat::Markdown => "markdown",
        BundleFormat::Json => "json",
    };
    let why = match gateway.look(&format!("/api/support/{}?format={format}", encoded(&args.id))).await {
        Ok((200, body)) => return Ok(Some(String::from_utf8_lossy(&body).into_owned())),
        Ok((404, _)) => return Err(unknown(&args.id)),
        Ok((status, _)) => format!("it answered {status}"),
        Err(failure) => failure.to_string(),
    };
    writeln!(
        err,
        "perch: a gateway runs and did not tell how limits stand: {why}; the rest is from the store"
    )?;
    Ok(None)
}

/// The same without a gateway.
async fn gather(config: &Config, args: &SupportArgs) -> Result<String, Failure> {
    let vault = app::open_vault(config, false).await?;
    let requests = super::usage::ledger(config).await?;
    let sources = Sources {
        vault: &vault,
        requests: requests.as_ref(),
        limiter: None,
        application: &config.finch.client_id,
        environment: config.finch.environment,
        essentials: &app::essentials(config),
    };
    let bundle = support(sources, &args.id, unix_now()).await?.ok_or_else(|| unknown(&args.id))?;
    match args.output {
        BundleFormat::Markdown => Ok(bundle.to_markdown()),
        BundleFormat::Json => serde_json::to_string(&bundle).map_err(Failure::failed),
    }
}

fn unknown(id: &str) -> Failure {
    let id: String = id.chars().filter(|c| !c.is_control()).collect();
    Failure::failed(format_args!(
        "neither the vault nor the request ledger knows {id}; calls are kept for ledger.keep"
    ))
}

/// An id as a part of a path.
fn encoded(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_part_of_a_path() {
        assert_eq!(encoded("a/b?c #é%"), "a%2Fb%3Fc%20%23%C3%A9%25");
        assert_eq!(encoded("c-1._~Z"), "c-1._~Z");
    }
}
