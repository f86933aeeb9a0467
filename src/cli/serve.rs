//! `perch serve`: the gateway, until a signal.

use super::exit::{Exit, Failure};
use super::signals::{Asked, Signals};
use super::source::{Source, Watched};
use crate::app::Gateway;
use crate::config::{self, Config, Environ, Loaded, Problems};
use crate::telemetry::log;
use crate::telemetry::metrics::Reloaded;
use crate::vault::process;
use std::path::Path;
use std::time::Duration;

/// What `perch serve` can be told.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Args {
    /// Start on a store although it is older than was remembered outside it
    #[arg(long)]
    pub accept_rollback: bool,
}

/// Runs until SIGTERM or Ctrl-C; a second one ends it at once. On SIGHUP, and when its file has changed, the configuration
/// is read anew. `warnings` are for the log's beginning.
///
/// # Errors
/// Everything that keeps the gateway from starting, with its exit code.
pub fn run(named: Option<&Path>, env: &Environ, args: Args, warnings: &[String]) -> Result<(), Failure> {
    // Before anything else: the first process of a container has no default action for signals, and one that comes while
    // perch starts must end it too.
    let runtime = runtime()?;
    let signals = {
        let _inside = runtime.enter();
        let deaf =
            |error: std::io::Error| Failure::unavailable(format_args!("cannot wait for signals: {error}"));
        Signals::new().map_err(deaf)?
    };
    let source = Source::new(named, env);
    let (loaded, seen) = source.load();
    let loaded = loaded.map_err(bad)?;
    let watched = Watched::new(&loaded, seen);
    let config = &loaded.config;
    // A log that runs already is somebody else's, and fine.
    let level = log::start(config.log.level.as_str()).ok();
    if let Some(files) = process::raise_file_limit()
        && files < config.listen.connections_max as u64 * 2
    {
        tracing::warn!(
            files,
            "fewer files may be open than listen.connections_max needs; raise the limit (ulimit -n) or lower it"
        );
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let ended = runtime.block_on(serve(loaded, (source, watched), (level, signals), args));
    // A name look-up or a disk that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(
    loaded: Loaded,
    (source, mut watched): (Source, Watched),
    (level, mut signals): (Option<log::Level>, Signals),
    args: Args,
) -> Result<(), Failure> {
    let mut starting = Box::pin(Gateway::start_accepting(loaded, std::io::stdout(), args.accept_rollback));
    // Asked for while perch starts, a reading is made up for as soon as it can be.
    let mut must_read = false;
    let gateway = loop {
        tokio::select! {
            gateway = &mut starting => break gateway?,
            asked = signals.next() => match asked {
                Asked::Stop => {
                    tracing::info!("perch stops before it has started; nothing was served");
                    return Ok(());
                }
                Asked::Reload => must_read = true,
            },
        }
    };
    loop {
        tokio::select! {
            asked = signals.next(), if !must_read => match asked {
                Asked::Stop => break,
                Asked::Reload => {}
            },
            () = source.changes(&watched), if !must_read => {}
            else => must_read = false,
        }
        let again = source.clone();
        let Ok((read, seen)) = tokio::task::spawn_blocking(move || again.load_again()).await else {
            continue;
        };
        let to_level = read.as_ref().ok().map(|loaded| loaded.config.log.level);
        let watch = read.as_ref().ok().map(|loaded| (loaded.config.reload.watch, loaded.secret_files()));
        // What is refused decides nothing, and not what is watched either.
        let reading = gateway.reload(read);
        match (reading.outcome, watch) {
            (Reloaded::Changed | Reloaded::Unchanged, Some(watch)) => watched.taken(watch, seen),
            (Reloaded::Changed | Reloaded::Unchanged | Reloaded::Refused, _) => watched.refused(seen),
        }
        if let (Some(level), Some(to), Reloaded::Changed) = (&level, to_level, reading.outcome) {
            level.set(to.as_str());
        }
    }
    tokio::select! {
        cut = gateway.stop() => match cut {
            0 => Ok(()),
            cut => Err(Failure::failed(format_args!("{cut} calls were cut off when the grace ended; raise drain.grace"))),
        },
        () = signals.stop() => Err(Failure::failed("stopped at once by a second signal")),
    }
}

/// The configuration, or every problem it has.
///
/// # Errors
/// Exit code 64 and all problems at once.
pub fn load(named: Option<&Path>, env: &Environ) -> Result<Config, Failure> {
    let path = config::locate(named, env);
    match config::load(path.as_deref(), env) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => Err(bad(problems)),
    }
}

fn bad(problems: Problems) -> Failure {
    Failure { exit: Exit::BadConfiguration, message: problems.to_string() }
}

/// The threads perch runs on.
///
/// # Errors
/// They cannot be started.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unavailable(format_args!("cannot start threads: {error}")))
}
