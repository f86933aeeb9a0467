//! What the process itself may give away: core dumps, its memory to others of the same user, and
//! the texts of panics. Called once, before any key is read.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Write;
use std::panic::PanicHookInfo;

/// Forbids core dumps and reading this process's memory from outside. What the system does not allow
/// is answered as sentences for the log; perch runs on without it.
pub fn harden() -> Vec<String> {
    let mut refused = Vec::new();
    #[cfg(target_os = "linux")]
    if let Err(cause) = nix::sys::prctl::set_dumpable(false) {
        refused.push(format!(
            "other processes of this user may read perch's memory: PR_SET_DUMPABLE failed: {cause}"
        ));
    }
    if let Err(cause) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        refused.push(format!(
            "a crash may write perch's memory to disk: RLIMIT_CORE cannot be set to 0: {cause}"
        ));
    }
    refused
}

/// Lets this process open as many files as the system allows it at all: a soft limit of 1024 ends well
/// before the connections it may hold. Answers that number.
pub fn raise_file_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(hard),
        Err(_) => Some(soft),
    }
}

/// Makes panics print where they happened and nothing of what they say: a panic's text can hold
/// whatever value was at hand.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // Nothing is left to do when stderr is gone.
        drop(writeln!(std::io::stderr(), "{}", report(panic)));
    }));
}

/// How every line about a panic begins: what logs are searched for.
pub const DEFECT: &str = "perch has a defect";

fn report(panic: &PanicHookInfo<'_>) -> String {
    match panic.location() {
        Some(at) => format!(
            "{DEFECT} at {}:{}: a panic; its text is withheld because it may hold a secret. Please report the place.",
            at.file(),
            at.line()
        ),
        None => format!("{DEFECT}: a panic at an unknown place; its text is withheld"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_hardened_process_dumps_no_core_and_cannot_be_read() {
        assert_eq!(harden(), Vec::<String>::new());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        #[cfg(target_os = "linux")]
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }

    #[test]
    fn a_panic_tells_its_place_and_not_its_text() {
        let said = Arc::new(Mutex::new(String::new()));
        let old = std::panic::take_hook();
        std::panic::set_hook(Box::new({
            let said = Arc::clone(&said);
            move |panic| *said.lock().unwrap() = report(panic)
        }));
        let line = line!() + 1;
        let panicked = std::panic::catch_unwind(|| panic!("token 7e965183"));
        std::panic::set_hook(old);
        assert!(panicked.is_err());
        let said = said.lock().unwrap();
        assert!(said.contains(&format!("process.rs:{line}")) && !said.contains("7e965183"), "{said}");
        // scripts/attack.sh looks for these very words.
        assert!(said.starts_with(DEFECT) && DEFECT == "perch has a defect", "{said}");
    }
}
