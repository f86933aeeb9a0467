//! Rules between keys. They read the keys again, so that a rule speaks whenever the keys it is about are sound, whatever
//! else is wrong.

use super::address::{Address, address, base_url};
use super::problem::Complaint;
use super::reader::Reader;
use super::value::{duration, duration_or_zero, whole};

/// Holds every rule against the settings.
pub(super) fn hold(r: &mut Reader<'_>) {
    doors(r);
    door_users(r);
    finch_is_not_perch(r);
    no_shared_quota_in_memory(r);
    order(r, "finch.connect_timeout", "finch.timeout");
    order(r, "limits.pad", "limits.window");
    order(r, "limits.arrival_bound", "limits.window");
    order(r, "limits.wait.interactive", "limits.wait.batch");
    let count = |r: &Reader<'_>, key| r.again(key, |s| whole(s, 1, u32::MAX));
    if let (Some(one), Some(all)) = (count(r, "limits.queue.per_customer"), count(r, "limits.queue.total"))
        && one > all
    {
        let what = format!("is {one}, more than `limits.queue.total`, {all}");
        r.complain("limits.queue.per_customer", Complaint::new(what));
    }
}

/// One duration may not be longer than another.
fn order(r: &mut Reader<'_>, shorter: &str, longer: &str) {
    let (Some(short), Some(long)) = (r.again(shorter, duration_or_zero), r.again(longer, duration)) else {
        return;
    };
    if short <= long {
        return;
    }
    let text = |key| r.again(key, |s| s.text().map(str::to_owned)).unwrap_or_default();
    let (short, long) = (text(shorter), text(longer));
    // The one to look at is the one that the operator wrote.
    if r.is_default(shorter) {
        let what = format!("is {long}, shorter than `{shorter}`, {short}");
        r.complain(longer, Complaint::new(what));
    } else {
        let what = format!("is {short}, longer than `{longer}`, {long}");
        r.complain(shorter, Complaint::new(what));
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
    if let Some(door) = r.again("listen.proxy", address).filter(|door| !door.is_local()) {
        let what =
            format!("is {door}, which other machines can reach, and `apps.auth` = \"loopback\" lets in");
        let complaint = Complaint::new(format!("{what} whoever reaches it"));
        r.complain("listen.proxy", complaint.hint("listen on 127.0.0.1, [::1] or unix:/…, beside the app"));
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

/// Only "memory" and "sqlite:" are there in this version, and neither is shared.
fn no_shared_quota_in_memory(r: &mut Reader<'_>) {
    if let Some(replicas) = r.again("limits.replicas", |s| whole(s, 2, u32::MAX)) {
        let what =
            format!("is {replicas}, and quota is kept in each one's memory: every replica would spend");
        let complaint =
            Complaint::new(format!("{what} the whole of it and Finch would see {replicas} times"));
        r.complain(
            "limits.replicas",
            complaint.hint("write 1; a shared store is not available in this version"),
        );
    }
}
