//! Rules between keys. They read the keys again, so that a rule speaks whenever the keys it is about are sound, whatever
//! else is wrong.

use super::address::{Address, address, base_url};
use super::limits::written_store;
use super::problem::Complaint;
use super::reader::Reader;
use super::reference::{is_reference, reference, resolve};
use super::sections::{app_auth, kept, optional_door, pem_file, store, tls_files};
use super::sound::{AppAuth, LimitStore, Store, WARMED};
use super::tls::{CERT, CLIENTS, KEY};
use super::traces::{endpoint, traces_have_a_collector};
use super::value::{Setting, duration_or_zero, flag, whole};
use super::webhooks::target;

/// Holds every rule against the settings.
pub(super) fn hold(r: &mut Reader<'_>) {
    doors(r);
    door_users(r);
    token_is_long(r);
    door_proofs(r);
    door_files(r);
    nobody_is_perch(r);
    webhooks_are_signed(r);
    traces_have_a_collector(r);
    no_shared_quota_in_memory(r);
    shared_vault_has_shared_quota(r);
    waits(r);
    warms_what_is_kept(r);
    kept_answers_are_ended_everywhere(r);
}

/// A write through one replica has to end what the others keep.
fn kept_answers_are_ended_everywhere(r: &mut Reader<'_>) {
    let keeps = r.again("merge.cache", kept).is_some_and(|kept| !kept.is_empty());
    let is_alone = matches!(r.again("limits.store", written_store), Some(LimitStore::Memory));
    if keeps && !is_alone && r.again("merge.across_replicas", flag) == Some(false) {
        let complaint = Complaint::new(
            "is false, and `merge.cache` keeps answers in each replica: a write through one would not end what another keeps",
        );
        r.complain("merge.across_replicas", complaint.hint("write true, or leave merge.cache empty"));
    }
}

/// What is fetched ahead and not kept would be fetched for nobody.
fn warms_what_is_kept(r: &mut Reader<'_>) {
    let is_on = r.again("merge.warm_up", flag) == Some(true);
    let Some(kept) = r.again("merge.cache", kept).filter(|_| is_on) else { return };
    if !kept.keys().any(|product| WARMED.contains(product)) {
        let complaint = Complaint::new("is true, and `merge.cache` keeps nothing of what it would fetch");
        r.complain(
            "merge.warm_up",
            complaint.hint("add company, directory, individual or employment to merge.cache, or write false"),
        );
    }
}

/// Who has a person behind it does not wait longer than a job.
fn waits(r: &mut Reader<'_>) {
    const PERSON: &str = "limits.wait.interactive";
    const JOB: &str = "limits.wait.batch";
    let (Some(person), Some(job)) = (r.again(PERSON, duration_or_zero), r.again(JOB, duration_or_zero))
    else {
        return;
    };
    if person <= job {
        return;
    }
    let text = |key| r.again(key, |s| s.text().map(str::to_owned)).unwrap_or_default();
    let (person, job) = (text(PERSON), text(JOB));
    // The one to look at is the one that the operator wrote.
    if r.is_default(PERSON) {
        r.complain(JOB, Complaint::new(format!("is {job}, shorter than `{PERSON}`, {person}")));
    } else {
        r.complain(PERSON, Complaint::new(format!("is {person}, longer than `{JOB}`, {job}")));
    }
}

/// Two doors cannot be one. Port 0 is always a new port.
fn doors(r: &mut Reader<'_>) {
    let all = [
        ("listen.admin", r.again("listen.admin", address)),
        ("listen.proxy", r.again("listen.proxy", address)),
        ("listen.webhooks", r.again("listen.webhooks", optional_door).flatten()),
        ("listen.probes", r.again("listen.probes", optional_door).flatten()),
    ];
    let mut told = Vec::new();
    for (at, (key, door)) in all.iter().enumerate() {
        for (other, place) in &all[..at] {
            let (Some(door), Some(place)) = (door, place) else { continue };
            if !are_one(door, place) {
                continue;
            }
            // The one to look at is the one that the operator wrote.
            let (key, other) = if r.is_default(other) || matches!(*key, "listen.webhooks" | "listen.probes") {
                (*key, *other)
            } else {
                (*other, *key)
            };
            if !told.contains(&key) {
                told.push(key);
                let complaint = Complaint::new(format!("is {door}, where `{other}` listens already"));
                r.complain(key, complaint.hint("give each door a place of its own"));
            }
        }
    }
}

fn are_one(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(a), Address::Tcp(b)) => {
            let any = a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() != 0 && a.port() == b.port() && (any || a.ip().to_canonical() == b.ip().to_canonical())
        }
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
    }
}

/// A door that others can reach needs the authentication its users have.
fn door_users(r: &mut Reader<'_>) {
    let is_open = r.again("apps.auth", app_auth).is_some_and(|auth| auth == AppAuth::Loopback);
    if let Some(door) = r.again("listen.proxy", address).filter(|door| !door.is_local() && is_open) {
        let what =
            format!("is {door}, which other machines can reach, and `apps.auth` = \"loopback\" lets in");
        let complaint = Complaint::new(format!("{what} whoever reaches it"));
        r.complain(
            "listen.proxy",
            complaint.hint(
                "set apps.auth to \"key\" or \"mtls\", or listen on 127.0.0.1, [::1] or unix:/…, beside the app",
            ),
        );
    }
    if let Some(door) = r.again("listen.admin", address).filter(|door| !door.is_local())
        && r.is_empty("admin.token")
    {
        let what = format!("is {door}, which other machines can reach, and there is no `admin.token`");
        let complaint = Complaint::new(what);
        r.complain(
            "listen.admin",
            complaint.hint("set admin.token to file:… or env:…, or listen on 127.0.0.1"),
        );
    }
}

/// The shortest admin token of a door that others can reach.
const TOKEN_BYTES_MIN: usize = 16;

/// Whoever reaches the door may guess as often as it answers, so the token must be out of reach of guesses.
fn token_is_long(r: &mut Reader<'_>) {
    let env = r.env;
    let length = |s: &Setting| resolve(&reference(s)?, env).map(|text| text.len());
    let is_open = r.again("listen.admin", address).is_some_and(|door| !door.is_local());
    if !is_open || r.is_empty("admin.token") {
        return;
    }
    if let Some(length) = r.again("admin.token", length).filter(|length| *length < TOKEN_BYTES_MIN) {
        let what = format!("is {length} bytes long, and other machines can reach `listen.admin`");
        r.complain(
            "admin.token",
            Complaint::new(what).hint("take one of 16 bytes or more, by chance: openssl rand -hex 32"),
        );
    }
}

/// What proves an app must be there to be asked for.
fn door_proofs(r: &mut Reader<'_>) {
    let (Some(auth), Some(door)) = (r.again("apps.auth", app_auth), r.again("listen.proxy", address)) else {
        return;
    };
    let is_unix = matches!(door, Address::Unix(_));
    let [no_cert, no_key, no_clients] = [CERT, KEY, CLIENTS].map(|key| r.is_empty(key));
    if no_cert != no_key {
        let (there, missing) = if no_cert { (KEY, CERT) } else { (CERT, KEY) };
        let complaint = Complaint::new(format!("is set, and there is no `{missing}`"));
        r.complain(there, complaint.hint("set both for a door that speaks TLS, or leave both empty"));
    }
    let says = |why: String| Complaint::new(format!("is \"{}\", {why}", auth.as_str()));
    match auth {
        AppAuth::Mtls if is_unix => {
            let complaint = says(format!("and `listen.proxy` is {door}, which is reached without TLS"));
            r.complain("apps.auth", complaint.hint("write \"uid\", or listen on ADDRESS:PORT"));
        }
        AppAuth::Mtls => {
            let needed = [(CERT, no_cert), (KEY, no_key), (CLIENTS, no_clients)];
            let missing: Vec<String> = needed
                .iter()
                .filter(|(_, is_missing)| *is_missing)
                .map(|(key, _)| format!("`{key}`"))
                .collect();
            if !missing.is_empty() {
                let complaint = says(format!("and there is no {}", missing.join(", no ")));
                r.complain("apps.auth", complaint.hint("name PEM files that are there"));
            }
        }
        AppAuth::Uid if !is_unix => {
            let complaint = says(format!("and `listen.proxy` is {door}, where nobody's user can be told"));
            r.complain("apps.auth", complaint.hint("listen on unix:/…, or write \"key\" or \"mtls\""));
        }
        AppAuth::Loopback | AppAuth::Key | AppAuth::Uid => {
            if !no_clients {
                let complaint = Complaint::new(format!(
                    "is set, and `apps.auth` is \"{}\": nobody is asked for a certificate",
                    auth.as_str()
                ));
                r.complain(CLIENTS, complaint.hint("set apps.auth to \"mtls\", or leave it empty"));
            }
        }
    }
    if is_unix && !no_cert && auth != AppAuth::Mtls {
        let complaint =
            Complaint::new(format!("is set, and `listen.proxy` is {door}, which is reached without TLS"));
        r.complain(CERT, complaint.hint("leave it empty, or listen on ADDRESS:PORT"));
    }
}

/// What the door shows must fit together.
fn door_files(r: &mut Reader<'_>) {
    let [cert, key, clients] = [CERT, KEY, CLIENTS].map(|key| r.again(key, pem_file));
    if let Some(Err(error)) = tls_files(cert, key, clients).map(|files| files.read()) {
        let complaint =
            Complaint::new(format!("is {}, which cannot be used: {}", error.file.display(), error.why));
        r.complain(error.setting, complaint.hint("name a PEM file that fits"));
    }
}

/// perch calling itself would call itself again.
fn nobody_is_perch(r: &mut Reader<'_>) {
    let finch = r.again("finch.base_url", base_url).map(|url| (url, "Finch or of the simulator"));
    let app = r.again("webhooks.deliver_to", target).map(|target| (target.base, "the app"));
    let collector = r.again("traces.endpoint", endpoint).map(|target| (target.base, "the collector"));
    let all = [("finch.base_url", finch), ("webhooks.deliver_to", app), ("traces.endpoint", collector)];
    for (called, to) in all {
        let Some((url, who)) = to else { continue };
        for key in ["listen.proxy", "listen.admin", "listen.webhooks", "listen.probes"] {
            if r.again(key, optional_door).flatten().is_some_and(|door| url.is_door(&door)) {
                let complaint =
                    Complaint::new(format!("is {url}, perch's own `{key}`: it would call itself"));
                r.complain(called, complaint.hint(format!("name the address of {who}")));
            }
        }
    }
}

/// Nobody is believed without a secret, and nothing is signed for nobody.
fn webhooks_are_signed(r: &mut Reader<'_>) {
    let door = r.again("listen.webhooks", optional_door).flatten();
    if let Some(door) = door.filter(|_| r.is_empty("finch.webhook_secret")) {
        let what = format!("is {door}, and there is no `finch.webhook_secret` to tell Finch from anybody");
        let hint = "set finch.webhook_secret to file:… or env:…, or write off";
        r.complain("listen.webhooks", Complaint::new(what).hint(hint));
    }
    if r.is_empty("webhooks.deliver_to") && !r.is_empty("webhooks.sign_with") {
        let complaint = Complaint::new("is set, and there is no `webhooks.deliver_to` to sign anything for");
        r.complain("webhooks.sign_with", complaint.hint("set webhooks.deliver_to, or leave it empty"));
    }
    if r.is_empty("finch.webhook_secret") && !r.is_empty("finch.webhook_secret_previous") {
        let complaint = Complaint::new("is set, and there is no `finch.webhook_secret` that replaces it");
        r.complain("finch.webhook_secret_previous", complaint.hint("set finch.webhook_secret"));
    }
}

/// A server's connections are used by several gateways, and each would spend the whole quota.
fn shared_vault_has_shared_quota(r: &mut Reader<'_>) {
    let is_server = matches!(r.again("vault.store", store), Some(Store::Postgres(_)))
        || r.again("vault.store", |s| Ok(is_reference(s.text()?))) == Some(true);
    let is_memory = matches!(r.again("limits.store", written_store), Some(LimitStore::Memory));
    if is_server && is_memory {
        let complaint = Complaint::new(
            "is \"memory\", and `vault.store` is a server that several gateways share: each would spend the whole quota",
        );
        r.complain("limits.store", complaint.hint("write redis://…, which they share too"));
    }
}

/// Several replicas need one store between them.
fn no_shared_quota_in_memory(r: &mut Reader<'_>) {
    let is_memory =
        r.again("limits.store", written_store).is_some_and(|store| matches!(store, LimitStore::Memory));
    if let Some(replicas) = r.again("limits.replicas", |s| whole(s, 2, u32::MAX)).filter(|_| is_memory) {
        let what =
            format!("is {replicas}, and quota is kept in each one's memory: every replica would spend");
        let complaint =
            Complaint::new(format!("{what} the whole of it and Finch would see {replicas} times"));
        r.complain(
            "limits.replicas",
            complaint.hint("set limits.store to redis://… for all of them, or write 1"),
        );
    }
}
