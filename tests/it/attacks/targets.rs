//! Targets that are not plain paths. T01 to T24 of the list.

use super::By::{Parser, Perch};
use super::{APPS, Row, Siege, Site};
use std::net::SocketAddr;

/// The attacks, each with what the apps' door makes of it; some point at `evil`.
pub(super) fn rows(site: Site, evil: SocketAddr) -> Vec<Row> {
    let absolute = |target: String, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nPerch-Customer: acme\r\n\r\n").into_bytes()
    };
    let long = format!("/employer/company?{}", "a".repeat(9_000));
    // What would be served if it were read with more goodwill: each door's own good path in disguise.
    let get = site.get;
    let (parent, leaf) = get.rsplit_once('/').expect("a path");
    let (start, end) = leaf.split_at(1);
    let escaped: String = start.bytes().map(|byte| format!("%{byte:x}")).collect();
    let mut rows = vec![
        ("T01", absolute(format!("http://{evil}/employer/company"), &evil.to_string()), 400, Perch),
        ("T01 other host", absolute(format!("http://{evil}/employer/company"), "perch"), 400, Parser),
        ("T02", absolute(format!("https://{evil}/employer/company"), &evil.to_string()), 400, Perch),
        ("T03", absolute(format!("http://api.tryfinch.com@{evil}/"), &evil.to_string()), 400, Parser),
        ("T23", absolute("*".to_owned(), "perch"), 400, Perch),
        (
            "T23 OPTIONS",
            b"OPTIONS * HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n".to_vec(),
            400,
            Perch,
        ),
        (
            "T19 bytes",
            b"GET /employer/\xffcompany HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n".to_vec(),
            400,
            Parser,
        ),
        ("T24", site.get(&long, ""), 400, Perch),
    ];
    for (id, target) in [
        ("T05", format!("//{evil}/employer/company")),
        ("T06", format!("@{evil}/employer/company")),
        ("T07", "employer/company".to_owned()),
        ("T07 query", "?x".to_owned()),
        ("T05 own path", format!("/{get}")),
        ("T08", format!("/x/..{get}")),
        ("T08 above", format!("{parent}/../{leaf}")),
        ("T08 one", format!("{parent}/./{leaf}")),
        ("T09", format!("/x/%2e%2e{get}")),
        ("T09 letter", format!("{parent}/{escaped}{end}")),
        ("T10", format!("/x/..;{get}")),
        ("T11", format!("/x\\..{get}")),
        ("T12", format!("{parent}%2f{leaf}")),
        ("T13", format!("/x/%252e%252e{get}")),
        ("T14", format!("{get}%00")),
        ("T15", format!("{parent}/\0{leaf}")),
        ("T17", format!("{parent}/\u{1}{leaf}")),
        ("T18", "/employer/company#x".to_owned()),
        ("T19", format!("{parent}/ö{leaf}")),
        ("T21", format!("{parent}/{start} {end}")),
        ("T22", "/employer/%zz".to_owned()),
        ("T22 query", "/employer/company?a=%zz".to_owned()),
    ] {
        rows.push((id, site.get(&target, ""), 400, Perch));
    }
    rows.push(("T21 version", site.get("/employer/company HTTP/1.1", ""), 400, Parser));
    rows.push(("T20", site.get("/SMUGGLED", ""), 404, Perch));
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_a_plain_path_is_refused() {
    let siege = Siege::clear().await;
    let rows = rows(APPS, siege.evil());
    siege.assert_refused(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_a_plain_path_is_refused_over_tls_too() {
    let siege = Siege::over_tls().await;
    let rows = rows(APPS, siege.evil());
    siege.assert_refused(rows).await;
}
