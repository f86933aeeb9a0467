//! `make smoke-limits`: several gateways before one simulated Finch, in real time and with real processes.
//! Apps ask for twice what Finch grants; Finch must not refuse once, and little of its quota may be left.
//!
//! ```text
//! apps -> perch serve x 3 -> perch sim
//!              \-> redis-server
//! ```

#[path = "../common/brood.rs"]
mod brood;
mod count;
mod course;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/home.rs"]
mod home;
mod http;
mod load;
#[path = "../common/machine.rs"]
mod machine;
mod plan;
mod redis;
mod report;
mod site;
mod story;
mod verdict;
mod watch;

use clap::Parser;
use plan::{Options, Plan};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why there is no number: a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match rush(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Every run that was asked for. `false`: one of them shows a defect.
fn rush(options: Options) -> Outcome<bool> {
    let plans = options.plans()?;
    let temporary = tempfile::Builder::new().prefix("perch-rush-").tempdir()?;
    let folder = match &options.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.canonicalize()?
        }
        None => temporary.path().to_owned(),
    };
    let facts = machine::facts();
    let found = guard::guarded(move |brood| {
        let course = |plan: Plan| {
            let place: PathBuf = folder.join(plan.name);
            course::run(brood, plan, &place)
        };
        plans.into_iter().map(course).collect::<Outcome<Vec<_>>>()
    })?;
    let verdicts: Vec<Vec<String>> = found.iter().map(verdict::defects).collect();
    let report = report::markdown(&found, &verdicts, &facts);
    let file = machine::output_folder()?.with_file_name("smoke-limits.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    say(&format!("written to {}", file.display()));
    for (found, defects) in found.iter().zip(&verdicts) {
        defects.iter().for_each(|defect| say(&format!("{}: DEFECT: {defect}", found.plan.name)));
    }
    Ok(verdicts.iter().all(Vec::is_empty))
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "rush: {what}");
}
