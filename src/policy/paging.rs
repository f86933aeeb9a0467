//! Whether a directory was cut at a page nobody asked for.
//!
//! Without `limit` Finch answered the whole directory once, and a page of 100 since July 2026: an app that
//! was written before reads the first hundred people as all of them (Finch SDK changelog).

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A list that holds less than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// How many there are in all.
    pub count: u64,
    /// How many of them the answer holds.
    pub returned: u64,
}

/// Whether a query says which page it wants.
pub fn names_page(query: Option<&str>) -> bool {
    let mut names = query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    names.any(|name| matches!(name, "limit" | "offset"))
}

/// What a directory holds, when that is less than there is. `None` for a whole one, and for a body that is none.
pub fn cut(body: &[u8]) -> Option<Cut> {
    #[derive(Deserialize)]
    struct Directory {
        paging: Paging,
        individuals: Vec<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Paging {
        count: Option<f64>,
        offset: Option<f64>,
    }
    let Directory { paging, individuals } = serde_json::from_slice(body).ok()?;
    let returned = individuals.len() as u64;
    // Converted from a float a number is cut at its bounds.
    let (count, offset) = (paging.count? as u64, paging.offset.unwrap_or(0.0) as u64);
    (count > offset.saturating_add(returned)).then_some(Cut { count, returned })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_ends_before_the_last_person_is_cut() {
        for (body, expected) in [
            (r#"{"paging":{"count":3,"offset":0},"individuals":[{},{}]}"#, Some((3, 2))),
            (r#"{"paging":{"count":3.0},"individuals":[{"id":[1]}]}"#, Some((3, 1))),
            (r#"{"paging":{"count":2,"offset":0},"individuals":[{},{}]}"#, None),
            (r#"{"paging":{"count":3,"offset":1},"individuals":[{},{}]}"#, None),
            (r#"{"paging":{"count":null,"offset":0},"individuals":[{}]}"#, None),
            (r#"{"paging":{"count":-1,"offset":0},"individuals":[]}"#, None),
            (r#"{"paging":null,"individuals":[]}"#, None),
            (r#"{"paging":{"count":9},"individuals":{}}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(cut(body.as_bytes()).map(|c| (c.count, c.returned)), expected, "{body}");
        }
    }

    #[test]
    fn a_query_names_its_page_or_leaves_it_to_finch() {
        for query in ["limit=100", "entity_ids[]=a&offset=0", "limit"] {
            assert!(names_page(Some(query)), "{query}");
        }
        for query in [None, Some(""), Some("limits=1"), Some("x=limit&y=offset=1")] {
            assert!(!names_page(query), "{query:?}");
        }
    }
}
