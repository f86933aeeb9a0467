//! What arrived at Finch, as the recorder wrote it down, and what can be judged from that alone.

use super::Outcome;
use super::notes::Told;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// One request, or (`was_refused`) one answer 429.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When its head had come, on the machine's monotonic clock, which all processes share.
    pub(crate) at_micros: u64,
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// `User-Agent`, in which apps name their customer here.
    pub(crate) mark: String,
    /// A digest of `Authorization`.
    pub(crate) authorization: String,
    /// How many headers of that name there were.
    pub(crate) authorizations: usize,
    /// A digest of the body.
    pub(crate) body: String,
    /// Whether a token stood in another place.
    pub(crate) token_is_elsewhere: bool,
    /// A 429 of Finch's, and no request.
    pub(crate) was_refused: bool,
    /// The head as it came, without `Authorization`.
    pub(crate) head: String,
}

impl Record {
    /// The machine's monotonic clock.
    pub(crate) fn now_micros() -> u64 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    /// The note of a 429.
    pub(crate) fn refusal(line: &str) -> Self {
        Self {
            at_micros: Self::now_micros(),
            method: String::new(),
            path: line.split(' ').nth(1).unwrap_or_default().to_owned(),
            mark: String::new(),
            authorization: String::new(),
            authorizations: 0,
            body: String::new(),
            token_is_elsewhere: false,
            was_refused: true,
            head: String::new(),
        }
    }

    /// What Finch counts it against, by Finch's own list of paths.
    pub(crate) fn product(&self) -> Option<&'static str> {
        let path = self.path.split('?').next().unwrap_or_default();
        [
            ("/employer/company", "company"),
            ("/employer/directory", "directory"),
            ("/employer/individual", "individual"),
            ("/employer/benefits", "benefits"),
        ]
        .into_iter()
        .find_map(|(start, product)| path.starts_with(start).then_some(product))
    }
}

/// Half of a SHA-256, in hexadecimal: enough to tell values apart, and no way back.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what a recorder wrote. A last line that was cut off by a kill was not passed on.
pub(crate) fn read(file: &Path) -> Outcome<Vec<Record>> {
    let text = std::fs::read_to_string(file)?;
    let mut records: Vec<Record> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    records.sort_by_key(|record| record.at_micros);
    Ok(records)
}

/// A limit: so many within a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) count: usize,
    pub(crate) window: Duration,
}

/// The fullest window of these moments, in ascending order.
pub(crate) fn fullest(moments: &[u64], window: Duration) -> usize {
    let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    let mut first = 0;
    moments.iter().enumerate().fold(0, |most, (at, moment)| {
        while moment - moments[first] >= window {
            first += 1;
        }
        most.max(at - first + 1)
    })
}

/// Moments by product, and all of them under `ip`.
pub(crate) fn by_product(records: &[Record]) -> BTreeMap<&'static str, Vec<u64>> {
    let mut moments: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for record in records.iter().filter(|record| !record.was_refused) {
        moments.entry("ip").or_default().push(record.at_micros);
        if let Some(product) = record.product() {
            moments.entry(product).or_default().push(record.at_micros);
        }
    }
    moments
}

/// Writes that arrived more than once. Bodies of writes are all different here.
pub(crate) fn sent_twice(records: &[Record]) -> Vec<&Record> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let writes =
        records.iter().filter(|r| !r.was_refused && r.method == "POST" && r.product() == Some("benefits"));
    writes
        .filter(|record| {
            let times = seen.entry((&record.path, &record.body)).or_default();
            *times += 1;
            *times == 2
        })
        .collect()
}

/// Writes of which apps were told what the recorder has not seen: done, and never came; or not done and to be sent again,
/// and it came.
pub(crate) fn untrue(records: &[Record], told: &[Told]) -> (Vec<String>, Vec<String>) {
    let is_write = |r: &&Record| !r.was_refused && r.method == "POST" && r.product() == Some("benefits");
    let came: HashSet<&str> = records.iter().filter(is_write).map(|record| record.body.as_str()).collect();
    let (mut lost, mut invited) = (Vec::new(), Vec::new());
    for told in told {
        let has_come = came.contains(told.body.as_str());
        if told.is_good && !has_come {
            lost.push(format!("a write was told to be done ({}) and never came to Finch", told.class));
        }
        if !told.is_good && told.is_retryable && has_come {
            invited.push(format!("a write that came to Finch was told ({}) to be sent again", told.class));
        }
    }
    (lost, invited)
}

/// Requests that were made for one customer and carried the token of another. `tokens`: digest of `Authorization` by
/// customer.
pub(crate) fn crossed<'a>(records: &'a [Record], tokens: &HashMap<String, String>) -> Vec<&'a Record> {
    let is_crossed = |record: &&Record| {
        let own = record.mark.strip_prefix(MARK).and_then(|customer| tokens.get(customer));
        own.is_some_and(|own| *own != record.authorization) && record.product().is_some()
    };
    records.iter().filter(is_crossed).collect()
}

/// What `User-Agent` begins with before the customer's name.
pub(crate) const MARK: &str = "chaos/";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, mark: &str, authorization: &str, body: &str) -> Record {
        let (method, path, mark) = (method.to_owned(), path.to_owned(), mark.to_owned());
        let (authorization, body) = (authorization.to_owned(), body.to_owned());
        Record {
            method,
            mark,
            authorization,
            body,
            was_refused: false,
            ..Record::refusal(&format!("x {path}"))
        }
    }

    #[test]
    fn the_fullest_window_is_found_wherever_it_begins() {
        let second = Duration::from_secs(1);
        assert_eq!(fullest(&[], second), 0);
        assert_eq!(fullest(&[0, 1_000_000], second), 1, "a window holds its beginning and not its end");
        assert_eq!(fullest(&[0, 999_999], second), 2);
        assert_eq!(fullest(&[0, 900_000, 1_100_000, 1_800_000, 3_000_000], second), 3);
    }

    #[test]
    fn a_write_that_arrives_twice_is_found_and_a_read_is_not() {
        let all = [
            request("POST", "/employer/benefits", "", "t", "a"),
            request("POST", "/employer/benefits", "", "t", "b"),
            request("POST", "/employer/individual", "", "t", "c"),
            request("POST", "/employer/individual", "", "t", "c"),
            request("POST", "/employer/benefits", "", "t", "a"),
        ];
        let twice: Vec<&str> = sent_twice(&all).iter().map(|record| record.body.as_str()).collect();
        assert_eq!(twice, ["a"]);
    }

    #[test]
    fn what_an_app_was_told_of_a_write_is_held_against_what_came() {
        let came = [
            request("POST", "/employer/benefits", "", "t", "a"),
            request("POST", "/employer/individual", "", "t", "c"),
        ];
        let told = |body: &str, is_good, is_retryable| Told {
            body: body.to_owned(),
            class: "x".to_owned(),
            is_good,
            is_retryable,
        };
        let judge = |told: Told| {
            let (lost, invited) = untrue(&came, &[told]);
            (lost.len(), invited.len())
        };
        assert_eq!(judge(told("a", true, false)), (0, 0));
        assert_eq!(judge(told("b", true, false)), (1, 0), "done, and it never came");
        assert_eq!(judge(told("c", true, false)), (1, 0), "another request with that body is not it");
        assert_eq!(judge(told("a", false, true)), (0, 1), "it came, and would be sent again");
        assert_eq!(judge(told("a", false, false)), (0, 0));
        assert_eq!(judge(told("b", false, true)), (0, 0));
    }

    #[test]
    fn a_request_with_the_token_of_another_customer_is_found() {
        let tokens = HashMap::from([("a".to_owned(), "ta".to_owned()), ("b".to_owned(), "tb".to_owned())]);
        let all = [
            request("GET", "/employer/company", "chaos/a", "ta", ""),
            request("GET", "/employer/company", "chaos/a", "tb", ""),
            request("GET", "/employer/company", "perch/1", "tb", ""),
            request("GET", "/employer/company", "chaos/unknown", "tb", ""),
        ];
        assert_eq!(crossed(&all, &tokens).len(), 1);
    }

    #[test]
    fn what_is_counted_is_told_by_the_path() {
        let of = |path: &str| request("GET", path, "", "", "").product();
        assert_eq!(of("/employer/company?x=1"), Some("company"));
        assert_eq!(of("/employer/benefits/meta"), Some("benefits"));
        assert_eq!(of("/introspect"), None);
    }
}
