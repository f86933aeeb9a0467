//! `make bench`: what perch adds to a call. perch and a bare pingora proxy that only picks its peer
//! stand before the same upstream and are measured in turns within one run, so that the ratio holds
//! on a machine whose speed changes from minute to minute. Linux only: CPU is read from the kernel.
//!
//! ```text
//! load -> perch serve | bare pingora | nothing -> upstream     each a process of its own
//! ```

mod bare;
#[path = "../common/brood.rs"]
mod brood;
mod build;
mod costs;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/home.rs"]
mod home;
mod load;
#[path = "../common/machine.rs"]
mod machine;
mod meter;
mod perch;
mod report;
mod roles;
mod rounds;
mod stats;
mod upstream;

use brood::Brood;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

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

fn measure() -> Outcome<()> {
    if cfg!(debug_assertions) {
        return Err(
            "this is not an optimised build, and its numbers would mean nothing; run: make bench".into()
        );
    }
    let dir = tempfile::Builder::new().prefix("perch-bench-").tempdir()?;
    let report = guard::guarded({
        let dir = dir.path().to_owned();
        move |brood| whole_run(brood, &dir)
    })?;
    let file = machine::output_folder()?.with_file_name("bench.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    writeln!(std::io::stderr(), "bench: written to {}", file.display())?;
    Ok(())
}

fn whole_run(brood: &Brood, dir: &Path) -> Outcome<String> {
    let mut facts = machine::facts();
    facts.push(build::fact());
    let found = rounds::run(brood, dir)?;
    Ok(report::markdown(&found, &facts))
}
