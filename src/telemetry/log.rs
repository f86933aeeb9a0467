//! The operator's log: JSON on stderr through `tracing`. It tells what perch does, never what a call
//! carried; a call's own facts are in its access line.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

struct Rfc3339;

impl FormatTime for Rfc3339 {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", super::clock::unix_now())
    }
}

/// The level of the log that was started, to be changed while perch runs.
pub struct Level(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Level")
    }
}

impl Level {
    /// Writes from this level on from now on.
    pub fn set(&self, level: &str) {
        (self.0)(filter(level));
    }
}

/// Starts the log at this level (`error`, `warn`, `info`, `debug`, `trace`) for perch's own messages.
/// What libraries say stays out: their messages may quote what came over a wire.
///
/// # Errors
/// A log was started before.
pub fn start(level: &str) -> Result<Level, TryInitError> {
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_timer(Rfc3339)
        .with_writer(std::io::stderr)
        .with_env_filter(filter(level))
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.finish().try_init()?;
    Ok(Level(Box::new(move |filter| {
        // It fails when the log is gone, and then there is nothing to say.
        let _ = handle.reload(filter);
    })))
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("off,perch={level}"))
}
