//! `make smoke-image`: the container image as Kubernetes would run it, under podman. Nobody's user, a root that cannot be
//! written, no capabilities, 64 MiB; a customer connects, a load runs, SIGTERM ends it. Every bound that is broken is a defect.
//!
//! ```text
//! load -> [ perch serve ] -> perch sim        in brackets: the container; it shares the loopback, as a sidecar does
//! ```

#[path = "../common/brood.rs"]
mod brood;
mod course;
#[path = "../common/guard.rs"]
mod guard;
mod http;
mod kernel;
mod load;
#[expect(dead_code, reason = "the image has a program of its own")]
#[path = "../common/machine.rs"]
mod machine;
mod podman;
mod report;
mod site;
#[path = "../bench/stats.rs"]
mod stats;

use clap::Parser;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Why there is no number: a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs the container image, holds it against its bounds and measures it.
#[derive(Debug, Parser)]
#[command(name = "image")]
struct Options {
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long the load of each run lasts, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The image, in the store of scripts/podman.sh
    #[arg(long, default_value = concat!("perch:", env!("CARGO_PKG_VERSION")))]
    image: String,
}

fn main() -> ExitCode {
    match measure(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

/// `false`: a bound is broken.
fn measure(options: Options) -> Outcome<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(
            "this needs root: it hands a secret to a group of its own, tries to write into a container's \
                    root from outside, and sets limits of memory; run: sudo -E make smoke-image"
                .into(),
        );
    }
    let facts = machine::facts();
    let span = Duration::from_secs(options.seconds);
    // What a run that was killed has left behind.
    podman::clear();
    let found = guard::guarded(move |brood| course::run(brood, &options.image, options.runs, span));
    podman::clear();
    let found = found?;
    let report = report::markdown(&found, &facts);
    let file = machine::output_folder()?.with_file_name("smoke-image.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    say(&format!("written to {}", file.display()));
    let defects = report::defects(&found);
    defects.iter().for_each(|defect| say(&format!("DEFECT: {defect}")));
    Ok(defects.is_empty())
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "image: {what}");
}
