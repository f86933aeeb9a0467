//! `perch serve`: the gateway, until a signal.

use super::End;
use super::exit::Exit;
use crate::app::Gateway;
use crate::config::{self, Config, Environ};
use crate::telemetry::log;
use crate::vault::process;
use std::io::Write;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs until SIGTERM or Ctrl-C; a second one ends it at once.
///
/// # Errors
/// Everything that keeps the gateway from starting, with its exit code.
pub fn run(named: Option<&Path>, env: &Environ) -> End {
    // Before any secret is read: no core files, no reading of our memory by others of our user.
    let warnings = process::harden();
    process::hush_panics();
    let config = load(named, env)?;
    // A log that runs already is somebody else's, and fine.
    let _ = log::start(config.log.level.as_str());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(serve(config))
}

async fn serve(config: Config) -> End {
    let unavailable =
        |error: std::io::Error| (Exit::Unavailable, format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
    let gateway =
        Gateway::start(config, std::io::stdout()).await.map_err(|e| (Exit::from(&e), e.to_string()))?;
    either(&mut terminate, &mut interrupt).await;
    tokio::select! {
        0 = gateway.stop() => Ok(Exit::Done),
        () = either(&mut terminate, &mut interrupt) => Err((Exit::Failed, "stopped at once by a second signal".to_owned())),
        else => Err((Exit::Failed, "calls were cut off when the grace ended; raise drain.grace".to_owned())),
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// The configuration, or every problem it has.
///
/// # Errors
/// Exit code 64 and all problems at once.
pub fn load(named: Option<&Path>, env: &Environ) -> Result<Config, (Exit, String)> {
    let path = config::locate(named, env);
    match config::load(path.as_deref(), env) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            Err((Exit::BadConfiguration, "the configuration is not sound; nothing was started".to_owned()))
        }
    }
}

/// The threads perch runs on.
///
/// # Errors
/// They cannot be started.
pub fn runtime() -> Result<tokio::runtime::Runtime, (Exit, String)> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| (Exit::Unavailable, format!("cannot start threads: {error}")))
}
