//! Rules between keys. They read the keys again, so that a rule speaks whenever the keys it is about are sound, whatever
//! else is wrong.

use super::address::{Address, address, base_url};
use super::limits::written_store;
use super::problem::Complaint;
use super::reader::Reader;
use super::sections::{app_auth, kept, webhook_door};
use super::sound::{AppAuth, LimitStore, WARMED};
use super::value::{duration_or_zero, flag, whole};
use super::webhooks::target;

/// Holds every rule against the settings.
pub(super) fn hold(r: &mut Reader<'_>) {
    doors(r);
    door_users(r);
    nobody_is_perch(r);
    webhooks_are_signed(r);
    no_shared_quota_in_memory(r);
    waits(r);
    warms_what_is_kept(r);
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
        ("listen.webhooks", r.again("listen.webhooks", webhook_door).flatten()),
    ];
    let mut told = Vec::new();
    for (at, (key, door)) in all.iter().enumerate() {
        for (other, place) in &all[..at] {
            let (Some(door), Some(place)) = (door, place) else { continue };
            if !are_one(door, place) {
                continue;
            }
            // The one to look at is the one that the operator wrote.
            let (key, other) = if r.is_default(other) || *key == "listen.webhooks" {
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
    let asks_for_keys = r.again("apps.auth", app_auth) == Some(AppAuth::Key);
    if let Some(door) = r.again("listen.proxy", address).filter(|door| !door.is_local() && !asks_for_keys) {
        let what =
            format!("is {door}, which other machines can reach, and `apps.auth` = \"loopback\" lets in");
        let complaint = Complaint::new(format!("{what} whoever reaches it"));
        r.complain(
            "listen.proxy",
            complaint
                .hint("set apps.auth to \"key\", or listen on 127.0.0.1, [::1] or unix:/…, beside the app"),
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

/// perch calling itself would call itself again.
fn nobody_is_perch(r: &mut Reader<'_>) {
    let finch = r.again("finch.base_url", base_url).map(|url| (url, "Finch or of the simulator"));
    let app = r.again("webhooks.deliver_to", target).map(|target| (target.base, "the app"));
    for (called, to) in [("finch.base_url", finch), ("webhooks.deliver_to", app)] {
        let Some((url, who)) = to else { continue };
        for key in ["listen.proxy", "listen.admin", "listen.webhooks"] {
            if r.again(key, webhook_door).flatten().is_some_and(|door| url.is_door(&door)) {
                let complaint =
                    Complaint::new(format!("is {url}, perch's own `{key}`: it would call itself"));
                r.complain(called, complaint.hint(format!("name the address of {who}")));
            }
        }
    }
}

/// Nobody is believed without a secret, and nothing is signed for nobody.
fn webhooks_are_signed(r: &mut Reader<'_>) {
    let door = r.again("listen.webhooks", webhook_door).flatten();
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
