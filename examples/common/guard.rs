//! Work with processes of its own: whatever ends it, they end too.

use super::Outcome;
use super::brood::Brood;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Does the work on a thread of its own, so that a signal or a panic there still ends every child here.
pub(crate) fn guarded<T: Send + 'static>(
    work: impl FnOnce(&Arc<Brood>) -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let brood = Arc::new(Brood::default());
    let work = std::thread::spawn({
        let brood = Arc::clone(&brood);
        move || work(&brood)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let finished = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = tokio::task::spawn_blocking(move || work.join());
        tokio::select! {
            joined = work => joined?.map_err(|_| "a panic ended the work")?,
            _ = interrupt.recv() => Err("stopped by Ctrl-C".into()),
            _ = terminate.recv() => Err("stopped by SIGTERM".into()),
        }
    });
    brood.end_all();
    // Work that was stopped sits in a call to a child that is gone now, or in its next pause.
    runtime.shutdown_background();
    finished
}
