//! Rules between keys. They read the keys again, so that a rule speaks whenever the keys it is about are sound, whatever
//! else is wrong.

use super::address::{Address, address, base_url};
use super::limits::written_store;
use super::problem::Complaint;
use super::reader::Reader;
use super::sections::app_auth;
use super::sound::{AppAuth, LimitStore};
use super::value::{duration_or_zero, whole};

/// Holds every rule against the settings.
pub(super) fn hold(r: &mut Reader<'_>) {
    doors(r);
    door_users(r);
    finch_is_not_perch(r);
    no_shared_quota_in_memory(r);
    waits(r);
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
    let (Some(proxy), Some(admin)) = (r.again("listen.proxy", address), r.again("listen.admin", address))
    else {
        return;
    };
    let are_one = match (&proxy, &admin) {
        (Address::Tcp(a), Address::Tcp(b)) => {
            let any = a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() != 0 && a.port() == b.port() && (any || a.ip().to_canonical() == b.ip().to_canonical())
        }
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
    };
    if are_one {
        let (key, other, door) = match r.is_default("listen.admin") {
            true => ("listen.proxy", "listen.admin", proxy),
            false => ("listen.admin", "listen.proxy", admin),
        };
        let complaint = Complaint::new(format!("is {door}, where `{other}` listens already"));
        r.complain(key, complaint.hint("give each door a place of its own"));
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
fn finch_is_not_perch(r: &mut Reader<'_>) {
    let Some(url) = r.again("finch.base_url", base_url) else { return };
    for key in ["listen.proxy", "listen.admin"] {
        if r.again(key, address).is_some_and(|door| url.is_door(&door)) {
            let complaint = Complaint::new(format!("is {url}, perch's own `{key}`: it would call itself"));
            r.complain("finch.base_url", complaint.hint("name the address of Finch or of the simulator"));
        }
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
