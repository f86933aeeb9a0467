//! The environment as a value, so that the parser never reads the process's own and tests bring theirs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// Environment variables. Some of them are secrets, so it prints how many there are and nothing else.
#[derive(Clone, Default)]
pub struct Environ(BTreeMap<String, OsString>);

impl Environ {
    /// The environment of this process. A name that is not UTF-8 is none that perch knows, and is left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect(),
        )
    }

    /// The variable's value, UTF-8 or not.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// The variables whose names begin with `prefix`.
    pub(super) fn beginning<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a OsStr)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.as_os_str()))
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environ {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environ({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_does_not_print_what_it_holds() {
        let env: Environ = [("FINCH_CLIENT_SECRET", "s3cret")].into_iter().collect();
        assert_eq!(format!("{env:?}"), "Environ(1 variables)");
        assert_eq!(env.get("FINCH_CLIENT_SECRET"), Some(OsStr::new("s3cret")));
    }
}
