//! The head of a request as it came -> one meaning or none: framing, target, endpoint.

use super::input;
use perch::finch::endpoints::ENDPOINTS;
use perch::policy::refusal::Refusal;
use perch::policy::route::route;
use perch::policy::wire::{check_framing, check_head, check_headers, check_target, raw_target};

/// A head, byte for byte.
pub fn target(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if check_head(data).is_ok() {
        let (_, ended) = lines.split_last().expect("a split has a part");
        assert!(ended.iter().all(|line| line.ends_with(b"\r")), "a bare line feed");
    }
    let headers = input::headers(lines.iter().skip(1).map(|line| line.strip_suffix(b"\r").unwrap_or(line)));
    let all = |name: &str| headers.get_all(name).iter().map(|v| v.as_bytes()).collect::<Vec<_>>();
    if check_framing(&headers).is_ok() {
        match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
            ([], []) => {}
            ([], [coding]) => assert!(coding.eq_ignore_ascii_case(b"chunked")),
            (lengths, codings) => {
                assert!(lengths.len() == 1 && codings.len() <= 1, "two framings of one kind");
                let text = std::str::from_utf8(lengths[0]).expect("digits");
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                assert!(is_number && text.parse::<u64>().is_ok(), "Content-Length: {text:?}");
            }
        }
    }
    if check_headers(&headers, true).is_ok() {
        assert!(check_framing(&headers).is_ok() && headers.len() <= 100);
        assert!(matches!(all("host")[..], [host] if !host.contains(&b'/') && !host.contains(&b'@')));
    }
    let Some(raw) = raw_target(data) else { return };
    assert!(!raw.contains(&b'\n'));
    let method = lines[0].split(|byte| *byte == b' ').next().unwrap_or_default();
    let Ok(found) = check_target(raw) else { return };
    assert!(found.path.starts_with('/') && !found.path.starts_with("//"));
    assert!(found.path.bytes().all(|b| b.is_ascii_graphic() && !b"%\\?#\"<>^`{|}".contains(&b)));
    assert!(found.path.split('/').all(|part| part != "." && part != ".."));
    let query = found.query.unwrap_or_default();
    assert!(query.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b)));
    assert!(query.split('%').skip(1).all(|rest| {
        rest.get(..2).is_some_and(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()))
    }));
    let method = String::from_utf8_lossy(method);
    meant(&method, found.path);
}

fn meant(method: &str, path: &str) {
    let fits = |template: &str| {
        let (wanted, said): (Vec<&str>, Vec<&str>) =
            (template.split('/').collect(), path.split('/').collect());
        wanted.len() == said.len() && wanted.iter().zip(said).all(|(w, s)| w.starts_with('{') || *w == s)
    };
    match route(method, path) {
        Ok(endpoint) => assert!(endpoint.method.as_str() == method && fits(endpoint.path)),
        Err(Refusal::WrongMethod { allowed }) => {
            assert!(!allowed.is_empty() && !allowed.split(", ").any(|known| known == method));
        }
        Err(Refusal::UnknownPath { nearest }) => {
            assert!(!ENDPOINTS.iter().any(|endpoint| fits(endpoint.path)), "{path} is known");
            assert!(ENDPOINTS.iter().any(|e| nearest == format!("{} {}", e.method, e.path)));
        }
        Err(other) => panic!("{other:?}"),
    }
}
