//! `perch sim`: the Finch simulator alone.

use super::exit::{Exit, Failure};
use super::serve::runtime;
use super::signals::Signals;
use crate::finch::webhook::check_secret;
use crate::sim::{Options, Scenario, Sim, WEBHOOK_SECRET};
use crate::types::{ClientSecret, WebhookSecret};
use clap::Args as ClapArgs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// A simulated Finch: its 48 endpoints, its limits and its failures, with invented customers.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:4700", value_name = "ADDR")]
    pub listen: String,
    /// Customers, limits and faults, as TOML
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// What all invented data follows from; goes before the scenario's
    #[arg(long)]
    pub seed: Option<u64>,
    /// The application's client id
    #[arg(long, default_value = "sim-client", value_name = "ID")]
    pub client_id: String,
    /// A file with the application's client secret; else `FINCH_CLIENT_SECRET`, else `sim-secret`
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// A file with the secret that signs webhooks, in base64; else `FINCH_WEBHOOK_SECRET`, else
    /// `c2ltLXdlYmhvb2stc2VjcmV0`
    #[arg(long, value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}

/// Serves until Ctrl-C or SIGTERM, and says on `out` where.
///
/// # Errors
/// The scenario is not sound, or the address is taken.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let bad = |message: String| Failure { exit: Exit::BadConfiguration, message };
    let scenario = args.scenario.as_deref().map(read_scenario).transpose().map_err(bad)?.unwrap_or_default();
    let client_secret = secret(
        "client secret",
        args.client_secret_file.as_deref(),
        "FINCH_CLIENT_SECRET",
        "sim-secret",
        ClientSecret::new,
    )
    .map_err(bad)?;
    let webhook_secret = secret(
        "webhook secret",
        args.webhook_secret_file.as_deref(),
        "FINCH_WEBHOOK_SECRET",
        WEBHOOK_SECRET,
        WebhookSecret::new,
    )
    .map_err(bad)?;
    check_secret(&webhook_secret).map_err(|_| {
        bad("the webhook secret is no base64; Finch's dashboard shows one that is".to_owned())
    })?;
    let customers = scenario.customers.len();
    let faults = scenario.faults.len();
    let sim = Sim::new(Options {
        client_id: args.client_id.clone(),
        client_secret,
        webhook_secret,
        seed: args.seed,
        token_marker: None,
        scenario,
    });
    runtime()?.block_on(async {
        let listener = TcpListener::bind(&args.listen).await.map_err(|e| {
            Failure::unavailable(format_args!("cannot listen on {}: {e}; choose another with --listen", args.listen))
        })?;
        let address = listener.local_addr()?;
        let _ = writeln!(
            out,
            "Finch simulator on http://{address} (48 endpoints, client id {}, {customers} customers connected, \
             {faults} faults; what it saw: GET /_sim/report; a webhook: POST /_sim/webhooks)",
            args.client_id
        );
        let _ = out.flush();
        let mut signals = Signals::new()?;
        sim.serve(listener, async move {
            signals.next().await;
        }).await;
        Ok(())
    })
}

fn read_scenario(path: &Path) -> Result<Scenario, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the scenario {name}: {e}"))?;
    Scenario::parse(&text, &name).map_err(|e| e.to_string())
}

/// A secret out of a file, else of a variable, else the simulator's own.
fn secret<S>(
    what: &str,
    file: Option<&Path>,
    variable: &str,
    usual: &str,
    sealed: impl FnOnce(String) -> S,
) -> Result<S, String> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read the {what} {}: {e}", path.display()))?
            .trim_end()
            .to_owned(),
        None => std::env::var(variable).unwrap_or_else(|_| usual.to_owned()),
    };
    match text.is_empty() {
        true => Err(format!("the {what} is empty")),
        false => Ok(sealed(text)),
    }
}
