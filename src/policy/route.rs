//! Which endpoint of Finch a request means, or which it may have meant.

use super::refusal::Refusal;
use crate::finch::endpoints::{ENDPOINTS, Endpoint, Method, at_path, find};

/// Paths beyond this are not compared: the longest of Finch's is 50 bytes.
const COMPARED_BYTES_MAX: usize = 128;

/// Finds the endpoint.
///
/// # Errors
/// A path Finch does not have, with the nearest one it has; or a method the path does not have.
pub fn route(method: &str, path: &str) -> Result<&'static Endpoint, Refusal> {
    if let Some(endpoint) = Method::parse(method).and_then(|m| find(m, path)) {
        return Ok(endpoint);
    }
    let allowed: Vec<&str> = at_path(path).map(|e| e.method.as_str()).collect();
    match allowed.is_empty() {
        false => Err(Refusal::WrongMethod { allowed: allowed.join(", ") }),
        true => Err(Refusal::UnknownPath { nearest: nearest(method, path) }),
    }
}

/// The endpoint nearest to what was asked for: `GET /employer/directory`.
fn nearest(method: &str, path: &str) -> String {
    let path: String = path.chars().take(COMPARED_BYTES_MAX).collect();
    // Prefixes that other APIs have and Finch does not (public clients of Finch).
    let path = ["/api/v1", "/api", "/v1"].iter().find_map(|p| path.strip_prefix(p)).unwrap_or(&path);
    let distance = |e: &Endpoint| {
        let other_method = usize::from(e.method.as_str() != method);
        strsim::damerau_levenshtein(path.trim_end_matches('/'), e.path) * 2 + other_method
    };
    ENDPOINTS
        .iter()
        .min_by_key(|e| distance(e))
        .map_or_else(String::new, |e| format!("{} {}", e.method, e.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        for (method, path, nearest) in [
            ("GET", "/employer/directry", "GET /employer/directory"),
            ("GET", "/api/employer/company", "GET /employer/company"),
            ("GET", "/employer/company/", "GET /employer/company"),
            ("POST", "/employer/pay-statements", "POST /employer/pay-statement"),
            ("GET", "/introspection", "GET /introspect"),
            ("GET", "/Employer/Company", "GET /employer/company"),
        ] {
            assert_eq!(
                route(method, path),
                Err(Refusal::UnknownPath { nearest: nearest.to_owned() }),
                "{path}"
            );
        }
        assert!(matches!(route("GET", &"/x".repeat(9_000)), Err(Refusal::UnknownPath { .. })));
    }

    #[test]
    fn a_known_path_with_another_method_says_which_it_knows() {
        let refused = |m, p| route(m, p).expect_err("refused");
        assert_eq!(
            refused("PATCH", "/employer/benefits/b"),
            Refusal::WrongMethod { allowed: "GET, POST".to_owned() }
        );
        assert_eq!(refused("get", "/providers"), Refusal::WrongMethod { allowed: "GET".to_owned() });
        assert_eq!(refused("HEAD", "/providers"), Refusal::WrongMethod { allowed: "GET".to_owned() });
    }
}
