//! Places where a process can be made to die, so that a test can see what is left behind. Not in a release.

/// Ends the process here, as a kill would, when `PERCH_FAILPOINT` names this place.
#[cfg(debug_assertions)]
pub(crate) fn hit(place: &str) {
    if std::env::var_os("PERCH_FAILPOINT").is_some_and(|named| named == place) {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn hit(_: &str) {}
