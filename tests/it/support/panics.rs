//! Panics of perch's own code, in whichever thread they happen: a task of the gateway's that panics ends no test by itself.

use perch::vault::process::DEFECT;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there were in this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics from now on, beside what is done with them anyway.
pub fn watch() -> NoPanic {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|at| is_perchs(at.file())) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
    NoPanic
}

/// Whether a place is in `src/`, and neither in a test nor in somebody else's code.
fn is_perchs(file: &str) -> bool {
    file.starts_with("src/")
}

/// Fails when it is dropped or asked, if perch's code has panicked.
pub struct NoPanic;

impl NoPanic {
    /// Fails if perch's code has panicked.
    pub fn assert(&self) {
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "perch panicked; its place is told above");
    }
}

impl Drop for NoPanic {
    fn drop(&mut self) {
        // A test that fails already says why.
        if !std::thread::panicking() {
            self.assert();
        }
    }
}

/// Fails if a process has told of a panic.
pub fn assert_none_told(err: &str) {
    assert!(!err.contains(DEFECT), "perch panicked: {err}");
}

#[test]
fn a_panic_of_perchs_is_told_from_a_tests() {
    assert!(is_perchs("src/app.rs"));
    assert!(!is_perchs("tests/it/main.rs") && !is_perchs("registry/src/x-1.0/src/lib.rs"));
    assert!(is_perchs("src/vault/process.rs"), "{}", file!());
    assert_none_told("{\"message\":\"perch listens\"}");
    let told = format!("{DEFECT} at src/app.rs:1: a panic");
    assert!(std::panic::catch_unwind(|| assert_none_told(&told)).is_err());
}
