//! How a configuration that cannot hold is refused: where, in which words, with which suggestion.

use super::super::*;
use super::{environ, load_text};
use tempfile::TempDir;

/// The problems of `text`, each as `LINE:COLUMN message; suggestion` or `VARIABLE message; suggestion`.
pub(super) fn problems_of(text: &str, env: &Environ) -> Vec<String> {
    let problems = load_text(text, env).expect_err("refused");
    problems
        .iter()
        .map(|problem| {
            let place = match (problem.place.line(), problem.place.column()) {
                (Some(line), Some(column)) => format!("{line}:{column}"),
                _ => problem.place.variable().unwrap_or("whole file").to_owned(),
            };
            match &problem.suggestion {
                Some(suggestion) => format!("{place} {}; {suggestion}", problem.message),
                None => format!("{place} {}", problem.message),
            }
        })
        .collect()
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_with_its_place_and_what_to_write() {
    let text = r#"[finch]
base_url = "http://api.tryfinch.com"
environment = "prod"
client_secret = "hunter2"
timeout = 370

[limts]
window = "60s"

[limits]
store = "redis://:hunter2@cache:6379"
window = "60 seconds"
replicas = 3

[listen]
proxy = "0.0.0.0:4600"
admin = "0.0.0.0:4600"
"#;
    assert_eq!(
        problems_of(text, &environ(&[])),
        [
            "2:12 `finch.base_url` is http:// to another machine; tokens would travel in the clear; write https://",
            "3:15 `finch.environment` is \"prod\"; it can be \"production\", \"development\" or \"sandbox\"",
            "4:17 `finch.client_secret` is neither file: nor env:; write file:… or env:…; \
             secrets never stand in the configuration",
            "5:11 `finch.timeout` is 370 without a unit; a duration is a whole number and one of ms, s, m, h, d; \
             write \"370s\"",
            "8:1 unknown key `limts.window`; did you mean `limits.window`?",
            "11:9 `limits.store` holds a password; secrets never stand in the configuration; \
             set limits.password to file:… or env:…, or limits.store to env:NAME, where NAME holds the whole URL",
            "12:10 `limits.window` is \"60 seconds\"; a duration is a whole number and one of ms, s, m, h, d; \
             write \"60s\"",
            "16:9 `listen.proxy` is 0.0.0.0:4600, which other machines can reach, and `apps.auth` = \"loopback\" \
             lets in whoever reaches it; set apps.auth to \"key\" or \"mtls\", or listen on 127.0.0.1, [::1] or unix:/…, beside the app",
            "17:9 `listen.admin` is 0.0.0.0:4600, where `listen.proxy` listens already; \
             give each door a place of its own",
            "17:9 `listen.admin` is 0.0.0.0:4600, which other machines can reach, and there is no `admin.token`; \
             set admin.token to file:… or env:…, or listen on 127.0.0.1",
        ]
    );
}

#[test]
fn what_cannot_hold_is_refused_where_it_stands() {
    let long_path = format!("[listen]\nproxy = \"unix:/{}\"", "x".repeat(200));
    for (text, expected) in [
        // Spelling.
        ("[limits]\nwindw = \"60s\"", "2:1 unknown key `limits.windw`; did you mean `limits.window`?"),
        ("[finch]\nreplicas = 1", "2:1 unknown key `finch.replicas`; did you mean `limits.replicas`?"),
        ("\"limits.window\" = \"5s\"", "1:1 unknown key `\"limits.window\"`; did you mean `limits.window`?"),
        (
            "[limits.products]\npay_statement = 3",
            "2:1 unknown key `limits.products.pay_statement`; \
          did you mean `limits.products.pay-statement`?",
        ),
        ("[wibble]\nwobble = 1", "2:1 unknown key `wibble.wobble`"),
        ("[wibble]", "1:2 unknown key `wibble`"),
        ("[\"wib\\u001bble\"]", "1:2 unknown key `wib\\u{1b}ble`"),
        ("limits = 5", "1:10 `limits` is a section, not a value; write [limits] and its keys below"),
        (
            "[[limits]]\nwindow = \"60s\"",
            "1:1 `limits` is a section, not a value; \
          write [limits] and its keys below",
        ),
        ("[finch.timeout]\nseconds = 5", "2:1 unknown key `finch.timeout.seconds`"),
        // TOML.
        ("[limits]\nwindow = \"60s\"\nwindow = \"61s\"", "3:1 `window` is set twice; keep one of them"),
        (
            "[limits]\nreplicas = 99999999999999999999",
            "2:12 `limits.replicas` is a number beyond what 64 bits can hold",
        ),
        // Types.
        (
            "[apps]\npass_through = \"no\"",
            "2:16 `apps.pass_through` is \"no\"; true or false, without quotes, is \
          needed; write false",
        ),
        ("[apps]\npass_through = 0", "2:16 `apps.pass_through` is a whole number; true or false is needed"),
        (
            "[limits]\nreplicas = \"1\"",
            "2:12 `limits.replicas` is a text; a whole number is needed; \
          write 1, without quotes",
        ),
        (
            "[limits]\nreplicas = 1.0",
            "2:12 `limits.replicas` is a number with a fraction; a whole number is needed",
        ),
        ("[finch]\nclient_id = 7", "2:13 `finch.client_id` is a whole number; a text in quotes is needed"),
        ("[log]\nlevel = [\"info\"]", "2:9 `log.level` is a list; a text in quotes is needed"),
        (
            "[log]\nlevel = \"inof\"",
            "2:9 `log.level` is \"inof\"; it can be \"error\", \"warn\", \"info\", \"debug\" \
          or \"trace\"; did you mean \"info\"?",
        ),
        // Bounds.
        (
            "[limits.products]\ndirectory = 0",
            "2:13 `limits.products.directory` is 0; it must be between 1 and 100000",
        ),
        (
            "[limits.products]\ndefault = -1",
            "2:11 `limits.products.default` is -1; it must be between 1 and 100000",
        ),
        ("[limits.ip]\nrequests = 0", "2:12 `limits.ip.requests` is 0; it must be between 1 and 100000"),
        ("[limits]\nreplicas = 0", "2:12 `limits.replicas` is 0; it must be between 1 and 4294967295"),
        ("[finch]\ntimeout = \"0s\"", "2:11 `finch.timeout` is zero; it must be longer"),
        (
            "[listen]\nrequest_bytes_max = \"2GiB\"",
            "2:21 `listen.request_bytes_max` must be between 1KiB and 1GiB",
        ),
        (
            "[listen]\nconnections_max = 0",
            "2:19 `listen.connections_max` is 0; it must be between 1 and 100000",
        ),
        (&long_path, "2:9 `listen.proxy` has a path of 201 bytes; a socket's can have 107"),
        // What this version does not have.
        (
            "[vault]\nstore = \"postgres://u:hunter2@db/perch\"",
            "2:9 `vault.store` holds a password; secrets never stand in the configuration; set vault.password to file:… or \
             env:…, or vault.store to env:NAME, where NAME holds the whole URL",
        ),
        (
            "[vault]\nstore = \"mysql://u:hunter2@db/perch\"",
            "2:9 `vault.store` is mysql://…, which is not available in this version; \
          `sqlite:PATH` or postgres://… is",
        ),
        (
            "[vault]\nstore = \"perch.db\"",
            "2:9 `vault.store` does not begin with sqlite: or postgres://; write sqlite:PATH",
        ),
        (
            "[vault]\nstore = \"sqlite::memory:\"",
            "2:9 `vault.store` would forget every connection at exit; \
          write sqlite:PATH",
        ),
        (
            "[vault]\nkey = \"gcp-kms:projects/p\"",
            "2:7 `vault.key` does not name a key of Google Cloud KMS; \
          write gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K",
        ),
        (
            "[vault]\nkey = \"gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1\"",
            "2:7 `vault.key` does not name a key of Google Cloud KMS; \
          write gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K",
        ),
        (
            "[vault]\nkey = \"gcp-kms:projects/p/locations/../keyRings/r/cryptoKeys/k\"",
            "2:7 `vault.key` does not name a key of Google Cloud KMS; \
          write gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K",
        ),
        (
            "[vault]\nkey = \"aws-kms:arn:aws:s3:::hunter2\"",
            "2:7 `vault.key` does not name a key of AWS KMS; write aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID",
        ),
        (
            "[vault]\nkey = \"vault-transit:https://hunter2.example/transit\"",
            "2:7 `vault.key` does not name a key of a transit engine; \
          write vault-transit:https://HOST:8200/transit/keys/NAME",
        ),
        (
            "[vault]\nkey = \"vault-transit:http://vault.example:8200/transit/keys/perch\"",
            "2:7 `vault.key` is http:// to another machine; tokens would travel in the clear; write https://",
        ),
        (
            "[vault]\nkey_previous = \"command:print-key hunter2\"",
            "2:16 `vault.key_previous` names no program by its whole path; write command:/PATH WORD…",
        ),
        (
            "[vault]\nkey = \"aHVudGVyMg==\"",
            "2:7 `vault.key` is neither file: nor env:; write file:… or env:…; \
          secrets never stand in the configuration",
        ),
        (
            "[limits]\nstore = \"memroy\"",
            "2:9 `limits.store` is \"memroy\"; it can be \"memory\", redis://… or rediss://…; \
          did you mean \"memory\"?",
        ),
        (
            "[limits]\nstore = \"memcache://:hunter2@h\"",
            "2:9 `limits.store` is memcache://…, which is no store of limits; \
          write \"memory\", redis://… or rediss://…",
        ),
        (
            "[limits]\nstore = \"redis://h\"\npassword = \"hunter2\"",
            "3:12 `limits.password` is neither file: nor env:; write file:… or env:…; \
          secrets never stand in the configuration",
        ),
        (
            "[limits]\nshare = \"95%\"",
            "2:9 `limits.share` is \"95%\"; it must be between \"10%\" and \"90%\"",
        ),
        ("[limits]\nshare = 0.05", "2:9 `limits.share` is 0.05; it must be between \"10%\" and \"90%\""),
        (
            "[limits]\nshare = 50",
            "2:9 `limits.share` is 50, a number of what is not said; it must be between \"10%\" and \"90%\"; \
          write \"50%\"",
        ),
        (
            "[limits]\nmember = \"pod {1}\"",
            "2:10 `limits.member` is \"pod {1}\"; it can have letters, digits and - _ . : / @",
        ),
        (
            "[limits]\nnamespace = \"{a}\"",
            "2:13 `limits.namespace` is \"{a}\"; it can have letters, digits and - _ .",
        ),
        (
            "[limits.weights]\nacme = 101",
            "1:1 `limits.weights` of \"acme\" is 101; it must be between 1 and 100",
        ),
        (
            "[limits]\nweights = { \" a\" = 1 }",
            "2:11 `limits.weights` of \" a\" names a customer whose id has control characters or blanks at its ends",
        ),
        (
            "[listen]\nnames = \"perch\"",
            "2:9 `listen.names` is a text; a list is needed; write [\"perch.internal\"]",
        ),
        (
            "[listen]\nnames = [\"perch:80\"]",
            "2:9 `listen.names` has \"perch:80\", which is no name of a host; write the name alone, without scheme and port",
        ),
        ("[listen]\nnames = [7]", "2:9 `listen.names` has a whole number in it; names are texts"),
        (
            "[listen]\nwebhooks = \"0.0.0.0:4602\"",
            "2:12 `listen.webhooks` is 0.0.0.0:4602, and there is no `finch.webhook_secret` to tell Finch from anybody; \
          set finch.webhook_secret to file:… or env:…, or write off",
        ),
        (
            "[listen]\nwebhooks = \"on\"",
            "2:12 `listen.webhooks` is \"on\"; it can be \"off\", ADDRESS:PORT or unix:/PATH",
        ),
        (
            "[finch]\nwebhook_secret = \"env:FINCH_CLIENT_SECRET\"\n[listen]\nwebhooks = \"127.0.0.1:4602\"",
            "2:18 `finch.webhook_secret` refers to a secret that is not base64, which signs nothing; \
          copy the whole secret, as the dashboard shows it",
        ),
        (
            "[webhooks]\ndeliver_to = \"http://app.example.com/finch\"",
            "2:14 `webhooks.deliver_to` is http:// to another machine; what Finch tells would travel in the clear; \
          write https://, or an address of this machine",
        ),
        (
            "[webhooks]\ndeliver_to = \"127.0.0.1:8080\"",
            "2:14 `webhooks.deliver_to` does not begin with https:// (or http://, to loopback); \
          write the whole address, such as https://api.tryfinch.com",
        ),
        (
            "[webhooks]\ndeliver_to = \"http://localhost:4601/finch\"",
            "2:14 `webhooks.deliver_to` is http://localhost:4601, perch's own `listen.admin`: it would call itself; \
          name the address of the app",
        ),
        (
            "[webhooks]\ndeliver_to = \"http://localhost:8080/a b\"",
            "2:14 `webhooks.deliver_to` has a path that cannot be called; write /… after the host",
        ),
        (
            "[webhooks]\ndeliver_to = \"https://app.example.com\"\nsign_with = \"env:FINCH_CLIENT_SECRET\"",
            "3:13 `webhooks.sign_with` refers to a secret that is not base64, which signs nothing; \
          copy the whole secret, as the dashboard shows it",
        ),
        ("[webhooks]\nattempts = 0", "2:12 `webhooks.attempts` is 0; it must be between 1 and 100"),
        (
            "[rollout]\ncustomers = \"110%\"",
            "2:13 `rollout.customers` is \"110%\"; it can be \"all\", [\"acme\"] or \"10%\"; write a whole number from 0% \
             to 100%",
        ),
        (
            "[rollout]\nproviders = \"10%\"",
            "2:13 `rollout.providers` is a share; only customers are rolled out by shares; write a list of providers",
        ),
        ("[pause]\ncustomers = [\"\"]", "2:13 `pause.customers` has \"\" in it, a name that is empty"),
        (
            "[limits]\nmode = \"watch\"",
            "2:8 `limits.mode` is \"watch\"; it can be \"enforce\" or \"observe\"",
        ),
        (
            "[merge]\nbatch = [\"individuals\"]",
            "2:9 `merge.batch` has \"individuals\" in it; the products whose calls can share a request are \
             \"individual\", \"employment\", \"pay-statement\"; did you mean \"individual\"?",
        ),
        (
            "[merge]\nrepair = \"all\"",
            "2:10 `merge.repair` is \"all\"; it can be \"off\", \"failed\" or \"pending\"",
        ),
        (
            "[merge]\nnot_ready = \"503\"",
            "2:13 `merge.not_ready` is \"503\"; it can be \"pass\" or \"error\"",
        ),
        (
            "[merge]\ncache = [\"company\"]",
            "2:9 `merge.cache` is a list; a table is needed; write { company = \"10m\" }",
        ),
        (
            "[merge]\ncache = { compani = \"10m\" }",
            "2:9 `merge.cache` names \"compani\", whose answers are not kept; did you mean company?",
        ),
        (
            "[merge.cache]\nintrospect = \"10m\"",
            "1:1 `merge.cache` names \"introspect\", whose answers are not kept; write a product with data, such as \
          company or directory",
        ),
        (
            "[merge]\ncache = { company = 600 }",
            "2:9 `merge.cache` of company is 600 without a unit; a duration is a whole number and one of ms, s, m, h, d; \
          write \"600s\"",
        ),
        (
            "[merge]\ncache = { company = \"25h\" }",
            "2:9 `merge.cache` of company is longer than 24h, by when Finch has newer data",
        ),
        (
            "[merge]\nwarm_up = true\ncache = { payment = \"10m\" }",
            "2:11 `merge.warm_up` is true, and `merge.cache` keeps nothing of what it would fetch; add company, \
          directory, individual or employment to merge.cache, or write false",
        ),
        // Between keys.
        (
            "[limits]\nstore = \"redis://cache\"\n[merge]\nacross_replicas = false\ncache = { company = \"10m\" }",
            "4:19 `merge.across_replicas` is false, and `merge.cache` keeps answers in each replica: a write through one \
          would not end what another keeps; write true, or leave merge.cache empty",
        ),
        (
            "[limits]\nreplicas = 3",
            "2:12 `limits.replicas` is 3, and quota is kept in each one's memory: every replica would spend the \
          whole of it and Finch would see 3 times; set limits.store to redis://… for all of them, or write 1",
        ),
        (
            "[listen]\nproxy = \"127.0.0.1:4601\"",
            "2:9 `listen.proxy` is 127.0.0.1:4601, where `listen.admin` listens \
          already; give each door a place of its own",
        ),
        (
            "[finch]\nbase_url = \"http://localhost:4600\"",
            "2:12 `finch.base_url` is http://localhost:4600, perch's own \
          `listen.proxy`: it would call itself; name the address of Finch or of the simulator",
        ),
        (
            "[finch]\nbase_url = \"http://127.0.0.1:4601\"",
            "2:12 `finch.base_url` is http://127.0.0.1:4601, perch's own \
          `listen.admin`: it would call itself; name the address of Finch or of the simulator",
        ),
        (
            "[limits.wait]\ninteractive = \"11m\"",
            "2:15 `limits.wait.interactive` is 11m, longer than \
          `limits.wait.batch`, 10m",
        ),
        (
            "[limits.wait]\nbatch = \"5s\"",
            "2:9 `limits.wait.batch` is 5s, shorter than `limits.wait.interactive`, 15s",
        ),
        ("[finch]\nclient_secret = \"\"", "2:17 `finch.client_secret` is empty; write file:… or env:…"),
        (
            "[finch]\nclient_id = \" x\"",
            "2:13 `finch.client_id` has control characters or blanks at its ends; \
          write the id, file:… or env:…",
        ),
    ] {
        assert_eq!(problems_of(text, &environ(&[])), [expected], "{text}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    const NO_QUOTES: &str =
        "not TOML: a text without quotes; write texts in straight quotes, and flags as true or false";
    for (text, expected) in [
        ("[limits]\nwindow = 60s", format!("2:10 {NO_QUOTES}")),
        ("[limits]\nwindow = “60s”", format!("2:10 {NO_QUOTES}")),
        ("[finch]\nclient_secret = hunter2", format!("2:17 {NO_QUOTES}")),
        ("[apps]\npass_through = no\n", format!("2:16 {NO_QUOTES}")),
        ("[apps]\npass_through = n # off\n", format!("2:16 {NO_QUOTES}")),
        ("[limits]\nwindow =\n", "2:9 not TOML: a key without a value".to_owned()),
        ("[limits\nwindow = \"60s\"", "1:8 not TOML: unclosed table, expected `]`".to_owned()),
        ("[limits]\nwindow = \"60s", "2:14 not TOML: invalid basic string, expected `\"`".to_owned()),
    ] {
        assert_eq!(problems_of(text, &environ(&[])), [expected], "{text}");
    }
    let text = "[apps]\npass_through = no\nwrites = yes\n[limits]\nwindow: 60s\n";
    let problems = problems_of(text, &environ(&[]));
    for place in ["2:16 ", "3:10 ", "5:7 "] {
        assert!(problems.iter().any(|problem| problem.starts_with(place)), "{place}: {problems:?}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused_before_it_costs_anything() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("perch.toml");
    let nest = "a = {".repeat(10_000);
    let dots = format!("{}b = 1", "a.".repeat(300_000));
    let brackets = format!("x = {}", "[".repeat(100_000));
    // As deep as the bounds on dots and brackets allow: taking it down must not exhaust the stack.
    let chain = "a.".repeat(32) + "a = {\n";
    let deepest = format!("{}b = 1{}", chain.repeat(32), "}".repeat(32));
    let large = "# perch\n".repeat(1 << 18);
    for (content, complaint) in [
        (large.as_bytes(), "larger than 1 MiB"),
        (&b"[limits]\n# \xff"[..], "not UTF-8"),
        (nest.as_bytes(), "more than 32 inline tables"),
        (dots.as_bytes(), "more than 32 dots"),
        (brackets.as_bytes(), "not TOML"),
        (deepest.as_bytes(), "unknown key `a.a.a."),
    ] {
        std::fs::write(&path, content).expect("written");
        let problems = load(Some(&path), &environ(&[])).expect_err("refused").to_string();
        assert!(problems.contains(complaint), "{complaint}: {problems:.300}");
    }
}

#[test]
fn thousands_of_problems_are_listed_up_to_a_bound() {
    let text: String = (0..5_000).map(|n| format!("key{n} = 1\n")).collect();
    let problems = load_text(&text, &environ(&[])).expect_err("refused");
    assert_eq!((problems.count(), problems.iter().count()), (5_000, PROBLEMS_MAX));
    let printed = problems.to_string();
    assert!(printed.ends_with("… and 4800 more\n5000 problems in the configuration"), "{printed}");
}

#[test]
fn without_the_application_nothing_starts_and_the_message_says_what_to_set() {
    let problems = load(None, &Environ::default()).expect_err("refused").to_string();
    for name in ["FINCH_CLIENT_ID", "FINCH_CLIENT_SECRET"] {
        assert!(problems.contains(&format!("environment variable {name}, which is not set; set {name}")));
    }
    assert!(problems.ends_with("2 problems in the configuration"), "{problems}");
}

#[test]
fn missing_secrets_are_reported_with_everything_else() {
    let text = "[finch]\nwebhook_secret = \"file:/nowhere/secret\"\ntimeout = 1\nca_file = \"/nowhere/ca.pem\"\n\
                [admin]\ntoken = \"env:ADMIN\"";
    let problems = problems_of(text, &environ(&[]));
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(
        problems[0]
            .starts_with("2:18 `finch.webhook_secret` refers to /nowhere/secret, which cannot be read")
    );
    assert!(problems[2].starts_with("4:11 `finch.ca_file` is /nowhere/ca.pem, which cannot be used"));
    assert!(
        problems[3]
            .starts_with("6:9 `admin.token` refers to the environment variable ADMIN, which is not set")
    );
}
