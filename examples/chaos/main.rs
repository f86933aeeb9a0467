//! `make chaos`: real processes, faults in random order between and under them, and an independent recorder that judges.
//! What must hold is [`notes::Bound`]; what is done is [`faults::Fault`].
//!
//! ```text
//! apps -> relay -> perch serve x 3 -> relay -> recorder -> perch sim
//!                       \-> relay -> redis-server
//!                       \-> relay -> postgres
//! ```

#[path = "../common/brood.rs"]
mod brood;
mod chance;
mod clocks;
mod course;
mod crowds;
mod faults;
mod furnish;
#[path = "../common/guard.rs"]
mod guard;
mod http;
mod inflict;
mod judge;
mod load;
#[path = "../common/machine.rs"]
mod machine;
mod mode;
mod notes;
mod plan;
mod recorder;
mod records;
mod relay;
mod report;
mod search;
mod site;
mod stores;
mod watch;
mod wire;
mod writes;

use clap::Parser;
use course::Wish;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use plan::{Options, Role};
use std::error::Error;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why there is no verdict: a sentence for a person.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    // Thousands of connections are held open at once.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let mut options = Options::parse();
    let done = match options.role.take() {
        Some(role) => play(role).map(|()| true),
        None => chaos(options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

fn play(role: Role) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = match role {
        Role::Relay { route } => runtime.block_on(relay::run(route)),
        Role::Recorder { listen, to, file } => runtime.block_on(recorder::run(listen, to, &file)),
    };
    runtime.shutdown_background();
    done
}

/// Every world that was asked for. `false`: a bound is broken.
fn chaos(options: Options) -> Outcome<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(u64::from(now.subsec_nanos()) % 1_000_000);
    let arms = options.arms()?;
    let temporary = tempfile::Builder::new().prefix("perch-chaos-").tempdir()?;
    // PostgreSQL's own user has to come through; what is secret below has a mode of its own.
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))?;
    let scratch = temporary.path().to_owned();
    let folder = match &options.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.canonicalize()?
        }
        None => scratch.clone(),
    };
    let facts = machine::facts();
    let (place, only) = (folder.clone(), options.only);
    let beyond = if options.sabotage { plan::SABOTAGE } else { 0 };
    let found = guard::guarded(move |brood| {
        let one = |(arm, length): (plan::Arm, _)| {
            let wish = Wish { arm, length, seed, only: only.clone(), beyond };
            course::run(brood, &wish, &place.join(arm.name()), &scratch)
        };
        arms.into_iter().map(one).collect::<Outcome<Vec<_>>>()
    });
    stores::unmount_below(&folder);
    let found = found?;
    let report = report::markdown(&found, &facts);
    let file = machine::output_folder()?.with_file_name("chaos.md");
    std::fs::write(&file, &report)?;
    writeln!(std::io::stdout(), "{report}")?;
    say(&format!("written to {}", file.display()));
    let (is_good, word) = verdict(&found);
    say(word);
    Ok(is_good)
}

/// The last word. Where nothing was broken on purpose, nothing was shown to hold.
fn verdict(found: &[course::Found]) -> (bool, &'static str) {
    if found.iter().any(|found| !found.broken.is_empty()) {
        return (false, "A BOUND IS BROKEN; the same seed brings the same faults in the same order");
    }
    match found.iter().any(|found| found.rounds.is_empty()) {
        true => {
            (false, "no fault was made in one of the worlds, so nothing was judged: ask for more minutes")
        }
        false => (true, "every bound holds"),
    }
}

/// The lines of standard input, read by a thread of its own.
fn orders() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, orders) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.take_while(|line| sender.blocking_send(line.clone()).is_ok()).for_each(drop);
    });
    orders
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "chaos: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use course::{Found, Round};
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn a_run_that_did_nothing_is_no_good_run() {
        let round = |fault: &str| Round {
            faults: vec![fault.to_owned()],
            lasted: Duration::ZERO,
            recovered: Vec::new(),
            classes: BTreeMap::new(),
        };
        let found = |rounds: Vec<Round>| Found {
            arm: plan::Arm::Alone,
            seed: 1,
            lasted: Duration::ZERO,
            rounds,
            drawable: 3,
            missing: Vec::new(),
            arrivals: BTreeMap::new(),
            taken: BTreeMap::new(),
            broken: BTreeMap::new(),
            counts: BTreeMap::new(),
            classes: BTreeMap::new(),
        };
        let some = || found(vec![round("a"), round("b"), round("a")]);
        assert_eq!(some().drawn(), 2);
        assert!(report::markdown(&[some()], &[]).contains("Faults drawn: 2 of 3."));
        assert!(verdict(&[some()]).0);
        assert!(!verdict(&[some(), found(Vec::new())]).0, "one world without a fault");
        let mut broken = some();
        broken.broken.insert(notes::Bound::Panics, (1, vec!["x".to_owned()]));
        assert!(!verdict(&[broken]).0);
    }
}
