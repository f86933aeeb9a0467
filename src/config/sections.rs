//! Each section of the configuration, key by key. A key of the interface that this version cannot serve is accepted at
//! its default and refused otherwise, so that nobody believes a protection or a store to be there that is not.

use super::address::{address, base_url};
use super::ledger::ledger;
use super::limits::limits;
use super::merging;
use super::postgres_url::{is_postgres, postgres_url};
use super::problem::{Check, Complaint, nearest, shown};
use super::reader::Reader;
use super::reference::{is_reference, key_source, reference, resolve};
use super::sound::*;
use super::steering::{pause, reload, rollout};
use super::traces::traces;
use super::value::{Setting, bytes, duration, duration_or_zero, flag, kind, percent, whole, word};
use super::webhooks::{webhook_secret, webhooks};
use crate::types::{AdminToken, ApplicationId, ClientSecret, Environment, KeyToken, Product};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The largest number of connections of one door.
const CONNECTIONS_MAX: u32 = 100_000;

/// The largest memory for kept answers.
const CACHE_BYTES_MAX: u64 = 1 << 34;

/// The longest time for which an answer is kept: Finch renews its data once a day.
const KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest body held.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Reads everything; `None` when anything was wrong, which the reader has noted.
pub(super) fn config(r: &mut Reader<'_>) -> Option<Config> {
    // Every section is read before the first `?`: all problems at once.
    let finch = finch(r);
    let listen = listen(r);
    let token = secret(r, "admin.token");
    let vault = vault(r);
    let limits = limits(r, finch.as_ref().map(|finch| &finch.client_id));
    let apps = apps(r);
    let rollout = rollout(r);
    let pause = pause(r);
    let reload = reload(r);
    let merge = merge(r);
    let attempts = r.get("retry.attempts", |s| whole(s, 1, 10));
    let budget = r.get("retry.budget", |s| percent(s, 0, 100));
    let probe = r.get("shield.probe", |s| match s.text() {
        Ok("off") => Ok(None),
        _ => duration(s).map(Some),
    });
    let introspect_every = r.get("connections.introspect_every", |s| match s.text() {
        Ok("off") => Ok(None),
        _ => duration(s).map(Some),
    });
    let disconnect_retry = r.get("connections.disconnect_retry", duration);
    let webhooks = webhooks(r);
    let ledger = ledger(r);
    let traces = traces(r);
    let drain = drain(r);
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let level = r.get("log.level", |s| word(s, &levels.map(|level| (level.as_str(), level))));
    Some(Config {
        finch: finch?,
        listen: listen?,
        admin: Admin { token: token?.map(AdminToken::new) },
        vault: vault?,
        limits: limits?,
        apps: apps?,
        rollout: rollout?,
        pause: pause?,
        reload: reload?,
        merge: merge?,
        retry: Retry { attempts: attempts?, budget: budget? },
        shield: Shield { probe: probe? },
        connections: Connections { introspect_every: introspect_every?, disconnect_retry: disconnect_retry? },
        webhooks: webhooks?,
        ledger: ledger?,
        traces: traces?,
        drain: drain?,
        log: Log { level: level? },
    })
}

fn drain(r: &mut Reader<'_>) -> Option<Drain> {
    let grace = r.get("drain.grace", duration_or_zero);
    let linger = r.get("drain.linger", |s| match s.text() {
        Ok("auto") => Ok(None),
        _ => duration_or_zero(s).map(Some),
    });
    let drain = Drain { grace: grace?, linger: linger? };
    if drain.linger.is_some_and(|linger| linger > drain.grace) {
        let why = "is longer than drain.grace, of which it is a part";
        r.complain("drain.linger", Complaint::new(why).hint("lower it, or raise drain.grace"));
        return None;
    }
    Some(drain)
}

fn finch(r: &mut Reader<'_>) -> Option<Finch> {
    let base_url = r.get("finch.base_url", base_url);
    let whose = whose(r);
    let client_secret = if r.is_empty("finch.client_secret") {
        r.complain("finch.client_secret", Complaint::new("is empty").hint("write file:… or env:…"));
        None
    } else {
        secret(r, "finch.client_secret").flatten()
    };
    let current = webhook_secret(r, "finch.webhook_secret");
    let previous = webhook_secret(r, "finch.webhook_secret_previous");
    let ca_file = r.get_unless_empty("finch.ca_file", pem_file);
    let redirect_uri = r.get_unless_empty("finch.redirect_uri", redirect_uri);
    let timeout = r.get("finch.timeout", duration);
    let connect_timeout = r.get("finch.connect_timeout", duration);
    let (client_id, environment) = whose?;
    Some(Finch {
        base_url: base_url?,
        environment,
        client_id,
        client_secret: Arc::new(ClientSecret::new(client_secret?)),
        webhook_secret: current?,
        webhook_secret_previous: previous?,
        ca_file: ca_file?,
        redirect_uri: redirect_uri?,
        timeout: timeout?,
        connect_timeout: connect_timeout?,
    })
}

/// Finch takes https, and http to this machine ("Finch Connect guide").
fn redirect_uri(s: &Setting) -> Check<String> {
    let text = s.text()?;
    let is_local = ["http://localhost", "http://127.0.0.1", "http://[::1]"].iter().any(|base| {
        text.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
    });
    let is_plain = text.len() <= 2_048 && text.bytes().all(|b| b.is_ascii_graphic());
    match is_plain && (is_local || text.starts_with("https://")) {
        true => Ok(text.to_owned()),
        false => Err(Complaint::new(format!("is \"{}\", which Finch does not redirect to", shown(text)))
            .hint("write the https:// address that is registered in Finch's dashboard")),
    }
}

/// The Finch application and its environment; neither is a secret.
pub(super) fn whose(r: &mut Reader<'_>) -> Option<(ApplicationId, Environment)> {
    let env = r.env;
    let environment = r.get("finch.environment", |s| word(s, &Environment::ALL.map(|e| (e.as_str(), e))));
    let client_id = r.get("finch.client_id", |s| {
        let text = s.text()?;
        let text =
            if is_reference(text) { resolve(&reference(s)?, env)? } else { Zeroizing::new(text.to_owned()) };
        ApplicationId::new(&*text)
            .map_err(|why| Complaint::new(why.to_string()).hint("write the id, file:… or env:…"))
    });
    client_id.zip(environment)
}

/// A secret that may be left empty, read from where it is.
pub(super) fn secret(r: &mut Reader<'_>, key: &str) -> Option<Option<String>> {
    let env = r.env;
    r.get_unless_empty(key, |s| resolve(&reference(s)?, env).map(|mut text| std::mem::take(&mut *text)))
}

pub(super) fn pem_file(s: &Setting) -> Check<PathBuf> {
    let path = PathBuf::from(s.text()?);
    let complaint = |what: &str| Complaint::new(format!("is {}, which {what}", path.display()));
    match std::fs::metadata(&path) {
        Ok(file) if file.is_dir() => Err(complaint("is a folder").hint("name a PEM file")),
        Ok(_) => Ok(path),
        Err(error) => {
            Err(complaint(&format!("cannot be used: {error}")).hint("name a PEM file that is there"))
        }
    }
}

fn listen(r: &mut Reader<'_>) -> Option<Listen> {
    let proxy = r.get("listen.proxy", address);
    let admin = r.get("listen.admin", address);
    let webhooks = r.get("listen.webhooks", optional_door);
    let probes = r.get("listen.probes", optional_door);
    let cert_file = r.get_unless_empty("listen.cert_file", pem_file);
    let key_file = r.get_unless_empty("listen.key_file", pem_file);
    let client_ca_file = r.get_unless_empty("apps.client_ca_file", pem_file);
    let names = r.get("listen.names", names);
    let connections_max = r.get("listen.connections_max", |s| whole(s, 1, CONNECTIONS_MAX));
    let head_timeout = r.get("listen.head_timeout", duration);
    let body_timeout = r.get("listen.body_timeout", duration);
    let idle_timeout = r.get("listen.idle_timeout", duration);
    let write_timeout = r.get("listen.write_timeout", duration);
    let request_bytes_max = r.get("listen.request_bytes_max", |s| bytes(s, 1 << 10, BODY_BYTES_MAX));
    let inspect_bytes_max = r.get("listen.inspect_bytes_max", |s| bytes(s, 1 << 10, BODY_BYTES_MAX));
    Some(Listen {
        proxy: proxy?,
        admin: admin?,
        webhooks: webhooks?,
        probes: probes?,
        tls: tls_files(cert_file?, key_file?, client_ca_file?),
        names: names?,
        connections_max: usize::try_from(connections_max?).ok()?,
        head_timeout: head_timeout?,
        body_timeout: body_timeout?,
        idle_timeout: idle_timeout?,
        write_timeout: write_timeout?,
        request_bytes_max: request_bytes_max?,
        inspect_bytes_max: inspect_bytes_max?,
    })
}

/// The files of a door that speaks TLS; the rules say when some are missing.
pub(super) fn tls_files(
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
) -> Option<TlsFiles> {
    cert_file.zip(key_file).map(|(cert_file, key_file)| TlsFiles { cert_file, key_file, client_ca_file })
}

/// Names of hosts, as `Host` has them, without ports.
fn names(s: &Setting) -> Check<Vec<String>> {
    /// Names of one gateway.
    const NAMES_MAX: usize = 64;
    /// The longest name there is (RFC 1035 §2.3.4).
    const NAME_BYTES_MAX: usize = 253;
    let Some(list) = s.value.as_array() else {
        return Err(Complaint::new(format!("is {}; a list is needed", kind(&s.value)))
            .hint("write [\"perch.internal\"]"));
    };
    if list.len() > NAMES_MAX {
        return Err(Complaint::new(format!("has {} names; {NAMES_MAX} is the most", list.len())));
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let name = |value: &toml::Value| {
        let name = value
            .as_str()
            .ok_or_else(|| Complaint::new(format!("has {} in it; names are texts", kind(value))))?;
        match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
            true => Ok(name.to_owned()),
            false => Err(Complaint::new(format!("has \"{}\", which is no name of a host", shown(name)))
                .hint("write the name alone, without scheme and port")),
        }
    };
    list.iter().map(name).collect()
}

/// Reads the address of a door that need not be there, or `off`.
pub(super) fn optional_door(s: &Setting) -> Check<Option<Address>> {
    match s.text()? {
        "off" => Ok(None),
        text => address(s).map(Some).map_err(|complaint| match complaint.suggestion {
            None => Complaint::new(format!(
                "is \"{}\"; it can be \"off\", ADDRESS:PORT or unix:/PATH",
                shown(text)
            )),
            Some(_) => complaint,
        }),
    }
}

fn vault(r: &mut Reader<'_>) -> Option<Vault> {
    let store = vault_store(r);
    let key = r.get("vault.key", key_source);
    let key_previous = r.get_unless_empty("vault.key_previous", key_source);
    let key_token = secret(r, "vault.key_token");
    let key_ca_file = r.get_unless_empty("vault.key_ca_file", pem_file);
    let key_group_readable = r.get("vault.key_group_readable", flag);
    let generation_file = r.get_unless_empty("vault.generation_file", file_to_write);
    let cache_ttl = r.get("vault.cache_ttl", duration_or_zero);
    Some(Vault {
        store: store?,
        key: key?,
        key_previous: key_previous?,
        key_token: key_token?.map(KeyToken::new),
        key_ca_file: key_ca_file?,
        key_group_readable: key_group_readable?,
        generation_file: generation_file?,
        cache_ttl: cache_ttl?,
    })
}

/// Reads the path of a file that perch makes.
fn file_to_write(s: &Setting) -> Check<PathBuf> {
    let text = s.text()?;
    if text.chars().any(char::is_control) || text.ends_with('/') {
        return Err(Complaint::new("names a file that cannot be").hint("write a path"));
    }
    match std::fs::metadata(text) {
        Ok(found) if found.is_dir() => Err(Complaint::new("names a folder").hint("name a file in it")),
        _ => Ok(text.into()),
    }
}

/// The store with what it takes to sign in.
pub(super) fn vault_store(r: &mut Reader<'_>) -> Option<Store> {
    const PASSWORD: &str = "vault.password";
    let env = r.env;
    let store = r.get("vault.store", |s| {
        let text = s.text()?;
        if is_reference(text) {
            let url = postgres_url(&resolve(&reference(s)?, env)?);
            return url.map(|url| Store::Postgres(Postgres { url, ca_file: None })).map_err(|complaint| {
                Complaint { what: format!("refers to a text that {}", complaint.what), ..complaint }
            });
        }
        store(s)
    });
    let password = secret(r, PASSWORD);
    let ca_file = r.get_unless_empty("vault.ca_file", pem_file);
    let (store, password, ca_file) = (store?, password?, ca_file?);
    let Store::Postgres(mut server) = store else { return Some(store) };
    if let Some(password) = password {
        if server.url.has_password() {
            let complaint = Complaint::new("is set, and so is a password in `vault.store`");
            r.complain(PASSWORD, complaint.hint("keep one of them"));
            return None;
        }
        server.url.set_password(&password);
    }
    server.ca_file = ca_file;
    Some(Store::Postgres(server))
}

/// Reads `sqlite:PATH` or `postgres://…`. A URL is never shown whole: it may hold a password, which may stand in the
/// environment and never in a file.
pub(super) fn store(s: &Setting) -> Check<Store> {
    let text = s.text()?;
    if is_postgres(text) {
        let url = postgres_url(text)?;
        if url.has_password() && s.place.variable().is_none() {
            return Err(Complaint::new("holds a password; secrets never stand in the configuration").hint(
                "set vault.password to file:… or env:…, or vault.store to env:NAME, where NAME holds the whole URL",
            ));
        }
        return Ok(Store::Postgres(Postgres { url, ca_file: None }));
    }
    if let Some(path) = text.strip_prefix("sqlite:") {
        return match path {
            "" => Err(Complaint::new("names no file").hint("write sqlite:PATH")),
            ":memory:" => {
                Err(Complaint::new("would forget every connection at exit").hint("write sqlite:PATH"))
            }
            _ if path.starts_with("//") => {
                Err(Complaint::new("is a sqlite:// address")
                    .hint(format!("write {}", s.written("sqlite:/PATH"))))
            }
            _ => Ok(Store::Sqlite(path.into())),
        };
    }
    Err(match scheme(text) {
        Some(scheme) => not_available(&format!("{scheme}://…"), "`sqlite:PATH` or postgres://…"),
        None => Complaint::new("does not begin with sqlite: or postgres://").hint("write sqlite:PATH"),
    })
}

fn apps(r: &mut Reader<'_>) -> Option<Apps> {
    let auth = r.get("apps.auth", app_auth);
    let writes = r.get("apps.writes", |s| word(s, &[("deny", Writes::Deny), ("allow", Writes::Allow)]));
    let pass_through = r.get("apps.pass_through", flag);
    Some(Apps { auth: auth?, writes: writes?, pass_through: pass_through? })
}

/// Reads `apps.auth`.
pub(super) fn app_auth(s: &Setting) -> Check<AppAuth> {
    word(s, &AppAuth::ALL.map(|auth| (auth.as_str(), auth)))
}

fn merge(r: &mut Reader<'_>) -> Option<Merge> {
    let coalesce = r.get("merge.coalesce", flag);
    let across_replicas = r.get("merge.across_replicas", flag);
    let resend_memory = r.get("merge.resend_memory", duration_or_zero);
    let batch = r.get("merge.batch", merging::batch);
    let batch_apps = r.get("merge.batch_apps", merging::apps);
    let split = r.get("merge.split", flag);
    let cache = r.get("merge.cache", kept);
    let cache_bytes = r.get("merge.cache_bytes", |s| bytes(s, 1 << 20, CACHE_BYTES_MAX));
    let warm_up = r.get("merge.warm_up", flag);
    let repairs = [("off", Repair::Off), ("failed", Repair::Failed), ("pending", Repair::Pending)];
    let repair = r.get("merge.repair", |s| word(s, &repairs));
    let not_ready =
        r.get("merge.not_ready", |s| word(s, &[("pass", NotReady::Pass), ("error", NotReady::Error)]));
    Some(Merge {
        coalesce: coalesce?,
        across_replicas: across_replicas?,
        resend_memory: resend_memory?,
        batch: batch?,
        batch_apps: batch_apps?,
        split: split?,
        cache: cache?,
        cache_bytes: cache_bytes?,
        warm_up: warm_up?,
        repair: repair?,
        not_ready: not_ready?,
    })
}

/// Reads `{ company = "10m" }`.
pub(super) fn kept(s: &Setting) -> Check<BTreeMap<Product, Duration>> {
    let Some(table) = s.value.as_table() else {
        let complaint = Complaint::new(format!("is {}; a table is needed", kind(&s.value)));
        return Err(complaint.hint("write { company = \"10m\" }"));
    };
    let names = || Product::ALL.into_iter().filter(|product| product.is_metered()).map(Product::as_str);
    table
        .iter()
        .map(|(name, value)| {
            let Some(product) = Product::parse(name).filter(|product| product.is_metered()) else {
                let complaint =
                    Complaint::new(format!("names \"{}\", whose answers are not kept", shown(name)));
                return Err(match nearest(name, names()) {
                    Some(near) => complaint.hint(format!("did you mean {near}?")),
                    None => complaint.hint("write a product with data, such as company or directory"),
                });
            };
            let of = |complaint: Complaint| Complaint {
                what: format!("of {product} {}", complaint.what),
                ..complaint
            };
            let span = duration(&Setting { value: value.clone(), place: s.place.clone() }).map_err(of)?;
            match span <= KEPT_MAX {
                true => Ok((product, span)),
                false => Err(of(Complaint::new("is longer than 24h, by when Finch has newer data"))),
            }
        })
        .collect()
}

/// What the interface promises and this version does not have yet.
fn not_available(what: &str, instead: &str) -> Complaint {
    Complaint::new(format!("is {what}, which is not available in this version")).hint(format!("{instead} is"))
}

/// The scheme of a URL.
pub(super) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    (!scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')).then_some(scheme)
}
