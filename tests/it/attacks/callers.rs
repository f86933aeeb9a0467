//! Callers who name somebody twice, nobody, or bring a credential of their own; and addresses of a code exchange that perch
//! does not have. C01 to C12, O01 and O03 of the list.

use super::By::{Parser, Perch};
use super::Siege;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_not_clear_is_refused() {
    let named = |lines: &str| {
        format!("GET /employer/company HTTP/1.1\r\nHost: perch\r\nConnection: close\r\n{lines}\r\n")
            .into_bytes()
    };
    let rows = vec![
        ("C09", named("Perch-Customer: acme\r\nPerch-Customer: globex\r\n"), 400, Perch),
        ("C09 case", named("Perch-Customer: acme\r\nPERCH-CUSTOMER: acme\r\n"), 400, Perch),
        (
            "C09 bearer",
            named("Authorization: Bearer customer:acme\r\nAuthorization: Bearer customer:globex\r\n"),
            400,
            Perch,
        ),
        ("C09 both", named("Perch-Customer: acme\r\nAuthorization: Bearer customer:globex\r\n"), 400, Perch),
        ("C09 pick", named("Perch-Customer: acme\r\nPerch-Connection: c-globex\r\n"), 404, Perch),
        (
            "C09 two picks",
            named("Perch-Customer: acme\r\nPerch-Connection: c-acme\r\nPerch-Connection: c-globex\r\n"),
            400,
            Perch,
        ),
        (
            "C09 reference",
            named("Perch-Customer: acme\r\nAuthorization: Bearer connection:c-globex\r\n"),
            400,
            Perch,
        ),
        ("C10", named("Perch-Customer: acme, globex\r\n"), 404, Perch),
        ("C12", named(""), 400, Perch),
        ("C12 empty", named("Perch-Customer:\r\n"), 400, Perch),
        (
            "C01",
            named("Perch-Customer: acme\r\nAuthorization: Bearer 7e965183-9332-423c-9259-3edafb332ad2\r\n"),
            400,
            Perch,
        ),
        (
            "C02",
            named("Perch-Customer: acme\r\nAuthorization: Bearer EVIL\r\nAuthorization: Bearer b\r\n"),
            400,
            Perch,
        ),
        ("C04", named("Perch-Customer: acme\r\nAuthorization : Bearer customer:globex\r\n"), 400, Parser),
        ("C06 look-alike", named("Perch_Customer: acme\r\nX-Perch-Customer: acme\r\n"), 400, Perch),
    ];
    Siege::clear().await.assert_refused(rows).await;
}

/// perch has no callback: an app redeems its code by `POST /auth/token`. So no address of one exchanges anything or sends
/// a browser on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_callback_to_attack() {
    let siege = Siege::clear().await;
    let get = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: perch\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let rows = vec![
        ("O01", get("/callback?code=c1"), 404, Perch),
        ("O01 unknown", get("/callback?code=c1&state=EVIL"), 404, Perch),
        ("O01 empty", get("/auth/callback?code=c1&state="), 404, Perch),
        ("O01 doubled", get("/connect/callback?code=c1&state=a&state=b"), 404, Perch),
        ("O03", get("/callback?code=c1&redirect_uri=http://evil.test/&next=//evil.test"), 404, Perch),
        ("O01 GET", get("/auth/token?code=c1&state=a"), 405, Perch),
    ];
    siege.assert_refused(rows).await;
}
