//! What an operator sees: which configurations load, and as what. How the others are refused is in `refusals`.

mod damage;
mod doors;
mod ledger;
mod refusals;
mod shared;
mod traces;
mod variables;

use super::*;
use crate::types::Product;
use std::num::NonZeroU32;
use std::time::Duration;
use tempfile::TempDir;

/// The secrets without which nothing starts, and what a test adds.
fn environ(more: &[(&str, &str)]) -> Environ {
    let needed = [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", "finch-secret-1")];
    needed.iter().chain(more).copied().collect()
}

/// Loads `text` as `perch.toml` of a folder of its own.
fn load_text(text: &str, env: &Environ) -> Result<Loaded, Problems> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("perch.toml");
    std::fs::write(&path, text).expect("written");
    load(Some(&path), env)
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let config = load(None, &environ(&[])).expect("the defaults load").config;
    assert_eq!(config.finch.base_url.to_string(), "https://api.tryfinch.com");
    assert_eq!(config.finch.client_id.as_str(), "3fa85f64");
    assert_eq!(config.finch.client_secret.expose(), "finch-secret-1");
    assert!(config.finch.webhook_secret.is_none() && config.finch.ca_file.is_none());
    assert_eq!(config.finch.timeout, Duration::from_secs(370));
    assert_eq!(config.listen.proxy.to_string(), "127.0.0.1:4600");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:4601");
    assert_eq!(config.listen.webhooks, None);
    assert!(config.webhooks.deliver.is_none() && config.finch.webhook_secret_previous.is_none());
    assert_eq!((config.webhooks.queue, config.webhooks.keep), (10_000, Duration::from_secs(30 * 24 * 3600)));
    assert_eq!(config.listen.request_bytes_max, 16 << 20);
    assert!(config.admin.token.is_none());
    assert_eq!(config.vault.store, Store::Sqlite("perch.db".into()));
    assert_eq!(config.vault.key, KeySource::File("perch.key".into()));
    assert_eq!(config.limits.arrival_bound, Some(Duration::from_secs(5)));
    assert_eq!(config.limits.on_outage, OnOutage::Share);
    assert_eq!(config.limits.ip.requests.get(), 800);
    assert_eq!(config.limits.wait.batch, Duration::from_secs(600));
    assert_eq!(config.apps.writes, Writes::Deny);
    assert_eq!(config.drain.grace, Duration::from_secs(25));
    assert_eq!(config.log.level, Level::Info);
    let limit = |product| config.limits.products.of(product).map(NonZeroU32::get);
    assert_eq!(limit(Product::Directory), Some(20));
    assert_eq!(limit(Product::PayStatement), Some(12));
    assert_eq!(limit(Product::Benefits), Some(12));
    for product in Product::ALL {
        assert_eq!(limit(product).is_some(), product.is_metered(), "{product}");
    }
}

#[test]
fn the_example_of_the_interface_loads() {
    let folder = TempDir::new().expect("a folder");
    let secret = folder.path().join("finch-webhook");
    std::fs::write(&secret, "whsec_1\n").expect("written");
    let text = r#"
[finch]
base_url = "https://api.tryfinch.com"   # http:// only to loopback
environment = "production"              # production | development | sandbox; a token of another kind is refused
client_id = "env:FINCH_CLIENT_ID"
client_secret = "env:FINCH_CLIENT_SECRET"
webhook_secret = "file:SECRET"
ca_file = ""                            # an extra trust anchor
timeout = "370s"

[listen]
proxy = "127.0.0.1:4600"                # also unix:/run/perch/proxy.sock
admin = "127.0.0.1:4601"
webhooks = "off"

[vault]
store = "sqlite:perch.db"               # or postgres://…
key = "file:perch.key"                  # env: | file: | command: | aws-kms: | gcp-kms: | vault-transit:
cache_ttl = "60s"

[limits]
store = "memory"                        # or redis://… (Valkey, Redis Cluster)
replicas = 1
window = "60s"
on_outage = "share"                     # share | refuse
[limits.products]                       # any product of Finch; others fall to `default`
directory = 20
payment = 12
default = 12
[limits.ip]
requests = 800
window = "5m"
[limits.wait]
interactive = "15s"
batch = "10m"

[apps]                                  # who may call, and for whom; keys are stored as hashes
auth = "loopback"                       # loopback | key | mtls
writes = "deny"                         # deny | allow, per app: Finch asks to be told before write access goes live
pass_through = false

[rollout]                               # start small: a few trusted customers, the most reliable providers, then all
customers = "all"                       # all | [ids] | "10%"
providers = "all"

[merge]
coalesce = true
resend_memory = "2m"
batch = false                           # gather single-id calls while they wait for quota
cache = { }                             # e.g. { company = "10m" }; off by default
"#
    .replace("file:SECRET", &format!("file:{}", secret.display()));
    let config = load_text(&text, &environ(&[])).expect("the example loads").config;
    assert_eq!(config.finch.webhook_secret.expect("read").expose(), "whsec_1");
    let limit = |product| config.limits.products.of(product).map(NonZeroU32::get);
    assert_eq!((limit(Product::Directory), limit(Product::Company)), (Some(20), Some(12)));
}

#[test]
fn a_named_file_has_to_be_there_and_the_default_one_need_not() {
    let folder = TempDir::new().expect("a folder");
    let missing = folder.path().join("absent.toml");
    let problems = load(Some(&missing), &environ(&[])).expect_err("refused").to_string();
    assert!(problems.starts_with(&format!("{}: the configuration cannot be read", missing.display())));
    assert!(load(Some(folder.path()), &environ(&[])).is_err(), "a folder is no file");

    let env = environ(&[("PERCH_CONFIG", "/etc/perch.toml")]);
    assert_eq!(locate(Some(&missing), &env), Some(missing));
    assert_eq!(locate(None, &env), Some("/etc/perch.toml".into()));
}

#[test]
fn doors_on_port_0_or_on_sockets_do_not_meet() {
    for listen in [
        "proxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"",
        "proxy = \"unix:/run/perch/proxy.sock\"\nadmin = \"unix:/run/perch/admin.sock\"",
        "proxy = \"127.0.0.1:4600\"\nadmin = \"127.0.0.2:4600\"",
    ] {
        assert!(load_text(&format!("[listen]\n{listen}"), &environ(&[])).is_ok(), "{listen}");
    }
    let text = "[listen]\nadmin = \"0.0.0.0:4601\"\n[admin]\ntoken = \"env:ADMIN\"";
    let loaded = load_text(text, &environ(&[("ADMIN", "x")])).expect("a token opens the door to others");
    assert_eq!(loaded.config.admin.token.expect("read").expose(), "x");
}

#[test]
fn an_operators_default_limit_holds_for_every_product_that_is_not_named() {
    let limits = |text: &str, env: &[(&str, &str)]| {
        let products = load_text(text, &environ(env)).expect("loads").config.limits.products;
        [Product::Directory, Product::Company, Product::Benefits, Product::Jobs]
            .map(|product| products.of(product).map(NonZeroU32::get))
    };
    assert_eq!(limits("", &[]), [Some(20), Some(20), Some(12), None]);
    assert_eq!(
        limits("[limits.products]\ncompany = 3\njobs = 2", &[]),
        [Some(20), Some(3), Some(12), Some(2)]
    );
    assert_eq!(limits("[limits.products]\ndefault = 5", &[]), [Some(5), Some(5), Some(5), None]);
    let text = "[limits.products]\ndirectory = 9\ndefault = 5";
    assert_eq!(limits(text, &[]), [Some(9), Some(5), Some(5), None]);
    let env = [("PERCH_LIMITS__PRODUCTS__DIRECTORY", "4"), ("PERCH_LIMITS__PRODUCTS__JOBS", "1")];
    assert_eq!(limits(text, &env), [Some(4), Some(5), Some(5), Some(1)]);
}

#[test]
fn the_environment_wins_over_the_file_and_is_read_as_toml_or_as_text() {
    let text =
        "[limits]\nwindow = \"wrong\"\n[listen]\nproxy = \"127.0.0.1:1\"\n[finch]\nclient_id = \"file-id\"";
    let env = environ(&[
        ("PERCH_LIMITS__WINDOW", "2s"),
        ("PERCH_LIMITS__PAD", "\"50ms\""),
        ("PERCH_LIMITS__PRODUCTS__PAY_STATEMENT", "10"),
        ("PERCH_LIMITS__ARRIVAL_BOUND", "off"),
        ("PERCH_LISTEN__PROXY", "127.0.0.1:2"),
        ("PERCH_LISTEN__REQUEST_BYTES_MAX", "64KiB"),
        ("PERCH_APPS__PASS_THROUGH", "true"),
        ("PERCH_FINCH__CLIENT_ID", "0123"),
        ("PERCH_FINCH__CA_FILE", ""),
        ("PERCH_MERGE__CACHE", "{}"),
        ("PERCH_CONFIG", "ignored"),
        ("PERCH_PORT_4600_TCP", "tcp://10.0.0.1:4600"),
    ]);
    let config = load_text(text, &env).expect("loads").config;
    assert_eq!(config.limits.window, Duration::from_secs(2));
    assert_eq!(config.limits.pad, Duration::from_millis(50));
    assert_eq!(config.limits.products.of(Product::PayStatement), NonZeroU32::new(10));
    assert_eq!(config.limits.arrival_bound, None);
    assert_eq!(config.listen.proxy.to_string(), "127.0.0.1:2");
    assert_eq!(config.listen.request_bytes_max, 65_536);
    assert!(config.apps.pass_through);
    assert_eq!(config.finch.client_id.as_str(), "0123");
}

#[test]
fn requests_are_shared_for_all_products_some_or_none() {
    let merge = |text: &str| load_text(&format!("[merge]\n{text}"), &environ(&[]));
    let products = |text: &str| merge(text).expect("loads").config.merge.batch;
    let all = [Product::Individual, Product::Employment, Product::PayStatement];
    assert_eq!((products(""), products("batch = false"), products("batch = []")), (vec![], vec![], vec![]));
    assert_eq!(products("batch = true"), all);
    assert_eq!(products("batch = [\"pay-statement\", \"pay-statement\"]"), all[2..]);
    let env =
        environ(&[("PERCH_MERGE__BATCH", "[\"individual\"]"), ("PERCH_MERGE__BATCH_APPS", "[\"sync\"]")]);
    let config = load_text("", &env).expect("loads").config.merge;
    assert_eq!((config.batch, config.batch_apps.len(), config.split), (all[..1].to_vec(), 1, true));
    for (text, why) in [
        ("batch = [\"individuals\"]", "did you mean \"individual\"?"),
        ("batch = [\"directory\"]", "the products whose calls can share a request are"),
        ("batch = \"yes\"", "write true"),
        ("batch = [7]", "products are texts"),
        ("batch_apps = \"sync\"", "a list of apps is needed"),
        ("batch_apps = [\"\"]", "no app can be called"),
    ] {
        let problems = merge(text).expect_err("refused").to_string();
        assert!(problems.contains(why), "{text}: {problems}");
    }
}

/// The manual's keys, each with the number of its line.
fn keys_of_manual() -> Vec<(usize, String)> {
    let loaded = load(None, &environ(&[])).expect("the defaults load");
    let is_own_line = |origin: &Origin| {
        MANUAL.lines().nth(origin.place.line().unwrap_or(1) - 1).is_some_and(|line| {
            let name = origin.key.rsplit('.').next().unwrap_or_default();
            line.split(" = ").next() == Some(name)
        })
    };
    loaded
        .origins
        .iter()
        .filter(|origin| is_own_line(origin))
        .map(|origin| (origin.place.line().expect("a default has a line"), origin.key.clone()))
        .collect()
}

#[test]
fn every_key_of_the_manual_says_why() {
    let lines: Vec<&str> = MANUAL.lines().collect();
    let keys = keys_of_manual();
    let written = lines.iter().filter(|line| !line.starts_with('#') && line.contains(" = ")).count();
    assert_eq!(keys.len(), written, "every setting of the manual is a key");
    for (line, key) in keys {
        assert!(lines[line - 2].starts_with("# "), "{key}, line {line}, has no comment above it");
    }
}

#[test]
fn every_key_can_be_set_by_environment() {
    let loaded = load(None, &environ(&[])).expect("the defaults load");
    assert!(loaded.origins.len() > 50);
    for origin in loaded.origins {
        let name = reader::variable(&origin.key);
        let text = match &origin.value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let set =
            load(None, &environ(&[(&name, &text)])).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let now = set.origins.iter().find(|it| it.key == origin.key).expect("still there");
        assert_eq!(now.place, Place::Variable(name));

        // Every key is also read: a value of no key's type is noticed.
        let name = reader::variable(&origin.key);
        let wrong = load(None, &environ(&[(&name, "\"\\u0007\"")])).expect_err(&name).to_string();
        assert!(wrong.starts_with(&format!("{name}: `{}`", origin.key)), "{wrong}");
    }
}

#[test]
fn the_manual_as_a_file_changes_nothing() {
    let loaded = load_text(MANUAL, &environ(&[])).expect("the manual loads");
    let defaults = load(None, &environ(&[])).expect("the defaults load");
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", defaults.config));
}

#[test]
fn no_secret_stands_in_what_can_be_printed() {
    let text = "[finch]\nwebhook_secret = \"env:HOOK\"";
    let loaded = load_text(text, &environ(&[("HOOK", "finch-secret-2")])).expect("loads");
    let printed = format!("{loaded:?}");
    assert!(printed.contains("env:HOOK") && !printed.contains("finch-secret"), "{printed}");
}

#[test]
fn the_webhooks_door_and_the_app_that_is_told_are_read() {
    let text = "[finch]\nwebhook_secret = \"env:NEW\"\nwebhook_secret_previous = \"env:OLD\"\n\
                [listen]\nwebhooks = \"0.0.0.0:4602\"\n\
                [webhooks]\ndeliver_to = \"http://127.0.0.1:8080/finch?from=perch\"\nsign_with = \"env:OWN\"";
    let env = environ(&[("NEW", "AAEC"), ("OLD", "AwQF"), ("OWN", "BgcI")]);
    let config = load_text(text, &env).expect("loads").config;
    assert_eq!(config.listen.webhooks.expect("a door").to_string(), "0.0.0.0:4602");
    assert_eq!(config.finch.webhook_secret_previous.expect("a secret").expose(), "AwQF");
    let deliver = config.webhooks.deliver.expect("an app");
    assert_eq!(deliver.target.base.to_string(), "http://127.0.0.1:8080");
    assert_eq!(deliver.target.path, "/finch?from=perch");
    assert_eq!(deliver.sign_with.expect("a secret").expose(), "BgcI");
    for (url, path) in
        [("https://app.example.com", "/"), ("http://localhost:1/", "/"), ("http://[::1]:1?a", "?a")]
    {
        let text = format!("[webhooks]\ndeliver_to = \"{url}\"");
        let told = load_text(&text, &env).map(|loaded| loaded.config.webhooks.deliver.map(|d| d.target.path));
        match path.starts_with('/') {
            true => assert_eq!(told.expect(url).as_deref(), Some(path)),
            false => assert!(told.is_err(), "{url}"),
        }
    }
}

#[test]
fn the_webhooks_door_has_a_place_of_its_own() {
    for (door, other) in [("127.0.0.1:4600", "listen.proxy"), ("0.0.0.0:4601", "listen.admin")] {
        let text = format!("[finch]\nwebhook_secret = \"env:HOOK\"\n[listen]\nwebhooks = \"{door}\"");
        let problems = load_text(&text, &environ(&[("HOOK", "AAEC")])).expect_err(door).to_string();
        let told = format!("`listen.webhooks` is {door}, where `{other}` listens already");
        assert!(problems.contains(&told), "{problems}");
    }
}

#[test]
fn a_secret_that_has_no_use_is_a_mistake() {
    for (text, told) in [
        ("[webhooks]\nsign_with = \"env:HOOK\"", "there is no `webhooks.deliver_to` to sign anything for"),
        (
            "[finch]\nwebhook_secret_previous = \"env:HOOK\"",
            "there is no `finch.webhook_secret` that replaces it",
        ),
    ] {
        let problems = load_text(text, &environ(&[("HOOK", "AAEC")])).expect_err(text).to_string();
        assert!(problems.contains(told), "{problems}");
    }
}

#[test]
fn one_key_can_be_small_without_another_having_to_follow() {
    for text in [
        "[limits]\nwindow = \"50ms\"",
        "[finch]\ntimeout = \"1s\"",
        "[limits.queue]\ntotal = 1",
        "[limits.wait]\ninteractive = \"0s\"",
    ] {
        assert!(load_text(text, &environ(&[])).is_ok(), "{text}");
    }
}
