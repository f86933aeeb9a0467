//! `make smoke-batch`: a thousand calls for one person each, with and without `merge.batch`, in real time and with real
//! processes. Both arms have the same limits and Finch's own window; each call's answer is looked into.
//!
//! ```text
//! apps -> perch serve -> perch sim        once for each arm, side by side
//! ```

mod arm;
#[path = "../common/brood.rs"]
#[allow(dead_code)] // each program uses its own part of it
mod brood;
#[path = "../common/guard.rs"]
mod guard;
#[path = "../common/home.rs"]
#[allow(dead_code)] // as above
mod home;
mod http;
#[path = "../common/machine.rs"]
mod machine;

use arm::{Arm, Found};
use clap::Parser;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

/// Why there is no number: a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many times fewer requests there have to be.
const FEWER: f64 = 30.0;

/// What may be asked of a run.
#[derive(Debug, Parser)]
#[command(name = "gather")]
struct Options {
    /// Calls of each arm.
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Requests of one window; more than Finch's 20, or the arm without batching would take an hour.
    #[arg(long, default_value_t = 40)]
    limit: u32,
    /// Leaves out the arm in which every call is sent alone.
    #[arg(long)]
    no_alone: bool,
}

fn main() -> ExitCode {
    match gather(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

/// All arms, side by side. `false`: one of them shows a defect.
fn gather(options: &Options) -> Outcome<bool> {
    let temporary = tempfile::Builder::new().prefix("perch-gather-").tempdir()?;
    let mut arms = vec![
        Arm { name: "shared", calls: options.calls, limit: options.limit, shares: true },
        Arm { name: "shared, Finch's limit", calls: options.calls, limit: 20, shares: true },
    ];
    if !options.no_alone {
        arms.push(Arm { name: "alone", calls: options.calls, limit: options.limit, shares: false });
    }
    let folder = temporary.path().to_owned();
    let facts = machine::facts();
    let found = guard::guarded(move |brood| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let mut running = Vec::new();
            for (number, arm) in arms.into_iter().enumerate() {
                let (brood, folder) = (std::sync::Arc::clone(brood), folder.join(number.to_string()));
                running.push(tokio::spawn(async move { arm::run(&brood, arm, &folder).await }));
            }
            let mut found = Vec::new();
            for arm in running {
                found.push(arm.await??);
            }
            Ok(found)
        })
    })?;
    let report = markdown(&found, &facts)?;
    let file = machine::output_folder()?.with_file_name("smoke-batch.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    say(&format!("written to {}", file.display()));
    let defects: Vec<String> = found.iter().flat_map(defects).collect();
    defects.iter().for_each(|defect| say(&format!("DEFECT: {defect}")));
    Ok(defects.is_empty())
}

/// What is wrong with an arm.
fn defects(found: &Found) -> Vec<String> {
    let mut defects = Vec::new();
    let name = found.arm.name;
    if found.good != found.arm.calls {
        defects.push(format!("{name}: {} of {} calls got their person", found.good, found.arm.calls));
    }
    if found.refused > 0 {
        defects.push(format!("{name}: Finch said 429 {} times", found.refused));
    }
    if found.arm.shares && found.fewer() < FEWER {
        defects.push(format!("{name}: {} requests are not {FEWER} times fewer", found.requests));
    }
    defects
}

fn markdown(found: &[Found], facts: &[String]) -> Outcome<String> {
    let mut out = String::new();
    let mut row = |name: &str, value: &dyn Fn(&Found) -> String| {
        let values: Vec<String> = found.iter().map(value).collect();
        writeln!(out, "| {name} | {} |", values.join(" | "))
    };
    row("", &|found| found.arm.name.to_owned())?;
    row("---", &|_| "---:".to_owned())?;
    row("`individual`: limit a minute", &|found| found.arm.limit.to_string())?;
    row("calls, for 3 customers", &|found| found.arm.calls.to_string())?;
    row("calls that got their person", &|found| found.good.to_string())?;
    row("requests that Finch counted", &|found| found.requests.to_string())?;
    row("**429s of Finch**", &|found| found.refused.to_string())?;
    row("fullest window at Finch", &|found| found.fullest.to_string())?;
    row("until the last answer", &|found| format!("{:.1} s", found.took.as_secs_f64()))?;
    row("until half of the answers", &|found| format!("{:.1} s", found.half.as_secs_f64()))?;
    row("fewer requests than calls", &|found| format!("{:.1} times", found.fewer()))?;
    writeln!(out)?;
    for fact in facts {
        writeln!(out, "{fact}")?;
    }
    Ok(out)
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "gather: {what}");
}
