//! `make bench`: what perch adds to a call. perch and a bare pingora proxy that only picks its peer
//! stand before the same upstream and are measured in turns within one run, so that the ratio holds
//! on a machine whose speed changes from minute to minute. Linux only: CPU is read from the kernel.
//!
//! ```text
//! load -> perch serve | bare pingora | nothing -> upstream     each a process of its own
//! ```

mod bare;
mod brood;
mod costs;
mod load;
mod machine;
mod perch;
mod report;
mod rounds;
mod stats;
mod upstream;

use brood::Brood;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Why there is no number: a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => measure(),
        [upstream::ROLE, port] => upstream::run(port),
        [bare::ROLE, port, upstream] => bare::run(port, upstream),
        _ => Err("bench takes no arguments; run: make bench".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures on a thread of its own, so that a signal or a panic there still ends every child here.
fn measure() -> Outcome<()> {
    if cfg!(debug_assertions) {
        return Err(
            "this is not an optimised build, and its numbers would mean nothing; run: make bench".into()
        );
    }
    let brood = Arc::new(Brood::default());
    let dir = tempfile::Builder::new().prefix("perch-bench-").tempdir()?;
    let work = std::thread::spawn({
        let (brood, dir) = (Arc::clone(&brood), dir.path().to_owned());
        move || whole_run(&brood, &dir)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let finished = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = tokio::task::spawn_blocking(move || work.join());
        tokio::select! {
            joined = work => joined?.map_err(|_| "a panic ended the measurement")?,
            _ = interrupt.recv() => Err("stopped by Ctrl-C".into()),
            _ = terminate.recv() => Err("stopped by SIGTERM".into()),
        }
    });
    brood.end_all();
    // A run that was stopped sits in a call to a child that is gone now, or in its next pause.
    runtime.shutdown_background();
    let report: String = finished?;
    let file = machine::target_folder()?.join("bench.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    writeln!(std::io::stderr(), "bench: written to {}", file.display())?;
    Ok(())
}

fn whole_run(brood: &Brood, dir: &Path) -> Outcome<String> {
    let machine = machine::facts();
    let found = rounds::run(brood, dir)?;
    Ok(report::markdown(&found, &machine))
}
