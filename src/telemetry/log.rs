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

/// Starts the log at this level (`error`, `warn`, `info`, `debug`, `trace`) for perch's own messages.
/// What libraries say stays out: their messages may quote what came over a wire.
///
/// # Errors
/// A log was started before.
pub fn start(level: &str) -> Result<(), TryInitError> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_timer(Rfc3339)
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new(format!("off,perch={level}")))
        .finish()
        .try_init()
}
