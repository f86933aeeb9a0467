//! `perch check`: the validation of startup without the start. All problems at once, or the facts that matter.

use super::exit::{Exit, Failure};
use super::online;
use super::output::Format;
use crate::config::{self, Config, Delivery, Environ, LimitStore, Loaded, Problems};
use crate::types::Product;
use std::io::{self, Write};
use std::path::Path;

/// What `perch check` can be told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckArgs {
    /// How to print the findings
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Also open what a start would need: the vault with its key, the shared store of limits, Finch
    #[arg(long)]
    pub online: bool,
}

/// Reads the configuration as `serve` would, prints what it found, and returns the exit code: [`Exit::Done`],
/// [`Exit::BadConfiguration`], and with `--online` that of the worst failure. `named` is the file of `-c`. Facts and JSON
/// go to `out`, problems for people to `err`.
///
/// # Errors
/// A handle that cannot be written, or no threads.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &CheckArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, Failure> {
    let path = config::locate(named, env);
    let loaded = match config::load(path.as_deref(), env) {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(refuse(&problems, args.output, out, err)?),
    };
    let facts = facts(path.as_deref(), &loaded);
    if args.output == Format::Text {
        for (name, fact) in &facts {
            writeln!(out, "ok  {name:<14}{fact}")?;
        }
    }
    let looks = if args.online { Some(online::look(loaded.config)?) } else { None };
    let exit = looks.as_deref().map_or(Exit::Done, online::exit);
    match args.output {
        Format::Text => {
            for look in looks.iter().flatten() {
                look.print(out)?;
            }
        }
        Format::Json => {
            let facts: serde_json::Map<_, _> =
                facts.into_iter().map(|(n, f)| (n.to_owned(), f.into())).collect();
            let mut answer = serde_json::json!({ "ok": exit == Exit::Done, "facts": facts });
            if let Some(looks) = looks {
                answer["online"] = looks.iter().map(|look| (look.name.to_owned(), look.json())).collect();
            }
            writeln!(out, "{answer}")?;
        }
    }
    Ok(exit)
}

/// Prints the problems of a configuration, for any command that cannot go on with it.
///
/// # Errors
/// Nothing but a handle that cannot be written.
pub fn refuse(
    problems: &Problems,
    output: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match output {
        Format::Text => writeln!(err, "{problems}")?,
        Format::Json => {
            let list: Vec<_> = problems.iter().collect();
            writeln!(
                out,
                "{}",
                serde_json::json!({ "ok": false, "count": problems.count(), "problems": list })
            )?;
        }
    }
    Ok(Exit::BadConfiguration)
}

/// What an operator wants to see before a start: whom perch will call, as whom, where it listens, what it may spend.
fn facts(path: Option<&Path>, loaded: &Loaded) -> Vec<(&'static str, String)> {
    let config = &loaded.config;
    let written = |key| loaded.written(key);
    let file = match path {
        Some(path) => path.display().to_string(),
        None => "no file; the defaults and the environment".to_owned(),
    };
    let references = loaded.origins.iter().filter(|origin| origin.is_reference);
    let secrets: Vec<String> =
        references.map(|origin| format!("{} from {}", origin.key, written(&origin.key))).collect();
    let limits: Vec<String> = Product::ALL
        .into_iter()
        .filter_map(|product| Some(format!("{product} {}", config.limits.products.of(product)?)))
        .collect();
    vec![
        ("configuration", file),
        (
            "finch",
            format!(
                "{}, {}, application {}",
                config.finch.base_url, config.finch.environment, config.finch.client_id
            ),
        ),
        ("secrets", secrets.join(", ")),
        (
            "doors",
            format!(
                "proxy {}{}, admin {}, webhooks {}, probes {}",
                config.listen.proxy,
                if config.listen.tls.is_some() { " with TLS" } else { "" },
                config.listen.admin,
                written("listen.webhooks"),
                written("listen.probes")
            ),
        ),
        (
            "vault",
            format!("{}, key {}; both are opened at start", written("vault.store"), written("vault.key")),
        ),
        (
            "limits",
            format!(
                "in {}: {}; in {}: {} from this address",
                written("limits.window"),
                limits.join(", "),
                written("limits.ip.window"),
                config.limits.ip.requests
            ),
        ),
        ("quota", quota(loaded)),
        ("webhooks", webhooks(config)),
        ("traces", traces(config)),
        (
            "apps",
            format!(
                "auth {}, writes {}, pass_through {}",
                written("apps.auth"),
                written("apps.writes"),
                config.apps.pass_through
            ),
        ),
    ]
}

/// Who is told of what Finch tells.
fn webhooks(config: &Config) -> String {
    match &config.webhooks.deliver {
        None => "delivered to nobody".to_owned(),
        Some(Delivery { target, sign_with, attempts, .. }) => format!(
            "delivered to {}, {}, {attempts} attempts",
            target.base,
            if sign_with.is_some() { "signed for the app" } else { "with Finch's signature" },
        ),
    }
}

/// Who gets traces, and of how much.
fn traces(config: &Config) -> String {
    let traces = &config.traces;
    match &traces.collector {
        None => "to nobody".to_owned(),
        Some(at) => format!(
            "to {}{}, {}% of those that begin here, {}",
            at.base,
            at.path,
            traces.sample,
            if traces.propagate { "Finch is told" } else { "Finch is not told" },
        ),
    }
}

/// Where spent quota is remembered, and as whom this replica spends it.
fn quota(loaded: &Loaded) -> String {
    let limits = &loaded.config.limits;
    match &limits.store {
        LimitStore::Memory => "in memory, for one perch".to_owned(),
        LimitStore::Redis(url) => format!(
            "in {url}, namespace {}, as {}, {}% of it leased for outages",
            limits.namespace, limits.member, limits.share
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, env: &Environ, output: Format) -> (Exit, String, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("perch.toml");
        std::fs::write(&path, text).expect("written");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(Some(&path), env, &CheckArgs { output, online: false }, &mut out, &mut err)
            .expect("memory can be written");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    fn environ() -> Environ {
        [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", "hunter2")].into_iter().collect()
    }

    #[test]
    fn a_sound_configuration_is_told_in_facts_without_its_secrets() {
        let (code, out, err) = check("[apps]\nwrites = \"allow\"", &environ(), Format::Text);
        assert_eq!((code, err.as_str()), (Exit::Done, ""));
        assert!(out.lines().all(|line| line.starts_with("ok  ")), "{out}");
        for fact in [
            "https://api.tryfinch.com, production, application 3fa85f64",
            "finch.client_secret from env:FINCH_CLIENT_SECRET",
            "proxy 127.0.0.1:4600, admin 127.0.0.1:4601, webhooks off, probes off",
            "in 60s: company 20, directory 20,",
            "traces        to nobody",
            "writes allow",
        ] {
            assert!(out.contains(fact), "{fact}: {out}");
        }
        let (code, json, _) = check("", &environ(), Format::Json);
        let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!((code, answer["ok"].as_bool()), (Exit::Done, Some(true)));
        assert_eq!(answer["facts"]["vault"], "sqlite:perch.db, key file:perch.key; both are opened at start");
        assert!(!out.contains("hunter2") && !json.contains("hunter2"));
    }

    #[test]
    fn a_bad_configuration_ends_with_64_and_all_its_problems() {
        let text = "[limits]\nwindow = 60\nreplica = 1";
        let (code, out, err) = check(text, &environ(), Format::Text);
        assert_eq!((code, out.as_str()), (Exit::BadConfiguration, ""));
        assert!(
            err.contains("perch.toml:2:10: `limits.window`") && err.contains("perch.toml:3:1: unknown key")
        );
        assert!(err.ends_with("2 problems in the configuration\n"), "{err}");

        let (code, out, err) = check(text, &environ(), Format::Json);
        assert_eq!((code, err.as_str()), (Exit::BadConfiguration, ""));
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((answer["ok"].as_bool(), answer["count"].as_u64()), (Some(false), Some(2)));
        assert_eq!(answer["problems"][1]["line"].as_u64(), Some(3));
        assert_eq!(answer["problems"][1]["suggestion"], "did you mean `limits.replicas`?");
    }
}
