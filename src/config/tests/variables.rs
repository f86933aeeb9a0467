//! Variables that say nothing, or nothing sound.

use super::super::*;
use super::environ;
use super::refusals::problems_of;

#[test]
fn a_variable_that_means_nothing_is_a_problem_at_its_name() {
    for (name, value, expected) in [
        ("PERCH_LIMTS__STORE", "memory", "no key of perch has this name; did you mean PERCH_LIMITS__STORE?"),
        ("PERCH_limits__store", "memory", "no key of perch has this name; did you mean PERCH_LIMITS__STORE?"),
        ("PERCH_LIMITS__PRODUCTS", "{}", "is a section; each of its keys has a variable of its own"),
        ("PERCH_WIBBLE__WOBBLE", "1", "no key of perch has this name"),
        (
            "PERCH_LIMITS__STORE",
            "redis://:hunter2@x:0",
            "`limits.store` has a port that is not between 1 and 65535",
        ),
        (
            "PERCH_FINCH__CLIENT_SECRET",
            "hunter2",
            "`finch.client_secret` is neither file: nor env:; write file:… or \
          env:…; secrets never stand in the configuration",
        ),
        (
            "PERCH_FINCH__TIMEOUT",
            "15",
            "`finch.timeout` is 15 without a unit; a duration is a whole number and one of \
          ms, s, m, h, d; write 15s",
        ),
        (
            "PERCH_APPS__PASS_THROUGH",
            "yes",
            "`apps.pass_through` is \"yes\"; true or false, without quotes, is needed; \
          write true",
        ),
    ] {
        assert_eq!(problems_of("", &environ(&[(name, value)])), [format!("{name} {expected}")]);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_a_problem() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![0xff]);
    let env: Environ = [
        ("FINCH_CLIENT_ID", OsString::from("x")),
        ("FINCH_CLIENT_SECRET", bad.clone()),
        ("PERCH_LOG__LEVEL", bad),
    ]
    .into_iter()
    .collect();
    let problems = load(None, &env).expect_err("refused").to_string();
    assert!(problems.contains("PERCH_LOG__LEVEL: its value is not UTF-8"), "{problems}");
    assert!(problems.contains("FINCH_CLIENT_SECRET, which is not UTF-8"), "{problems}");
}
