//! The faults in force: which of them a request meets.

use super::fault::{Fault, How, When, Which};
use super::seed::Seed;
use crate::finch::Endpoint;

/// The most faults at once.
pub(super) const FAULTS_MAX: usize = 1000;

/// What a fault can tell requests apart by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) customer: Option<&'a str>,
    pub(super) connection: Option<&'a str>,
    pub(super) provider: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Which {
    fn fits(&self, subject: Subject<'_>) -> bool {
        fn is(wanted: &Option<String>, seen: Option<&str>) -> bool {
            wanted.as_deref().is_none_or(|w| Some(w) == seen)
        }
        let path = self.path.as_deref().is_none_or(|wanted| {
            wanted == subject.path
                || subject.endpoint.is_some_and(|e| e.path == wanted)
                || wanted.strip_suffix('*').is_some_and(|start| subject.path.starts_with(start))
        });
        path && self.operation.is_none_or(|o| subject.endpoint.is_some_and(|e| e.operation == o))
            && self.product.is_none_or(|p| subject.endpoint.is_some_and(|e| e.product == p))
            && is(&self.method, Some(subject.method))
            && is(&self.customer, subject.customer)
            && is(&self.connection, subject.connection)
            && is(&self.provider, subject.provider)
            && self.holding.as_deref().is_none_or(|text| holds(subject.body, text))
    }
}

/// Whether a text stands somewhere in a body.
fn holds(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part == text.as_bytes())
}

impl When {
    /// Whether it is time, at the `seen`-th request that fits (from 1) after `fired` times.
    fn has_come(&self, seen: u64, fired: u64, chance: &mut Seed) -> bool {
        self.times.is_none_or(|times| fired < times)
            && self.nth.is_none_or(|nth| seen == nth)
            && seen > self.after
            && self.every.is_none_or(|every| (seen - self.after).is_multiple_of(every))
            && self.probability.is_none_or(|p| chance.happens(p))
    }
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
    fired: u64,
}

/// The faults in force, and how often each was met.
#[derive(Debug)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    chance: Seed,
}

impl Faults {
    /// The faults of a scenario.
    pub(super) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let mut all = Self { armed: Vec::new(), chance: Seed::of(seed, &["faults"]) };
        all.add(faults);
        all
    }

    /// Adds faults behind those in force. Says how many there are now.
    pub(super) fn add(&mut self, faults: Vec<Fault>) -> usize {
        let room = FAULTS_MAX.saturating_sub(self.armed.len());
        self.armed.extend(faults.into_iter().take(room).map(|fault| Armed { fault, seen: 0, fired: 0 }));
        self.armed.len()
    }

    /// Takes all away.
    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    /// What happens to this request. Delays and headers of several faults add up; of what replaces the
    /// answer, the first in order happens and the rest wait for their turn.
    pub(super) fn meet(&mut self, subject: Subject<'_>) -> How {
        let mut sum = How::nothing();
        for armed in &mut self.armed {
            if !armed.fault.which.fits(subject) {
                continue;
            }
            armed.seen += 1;
            let taken = sum.what.is_some() && armed.fault.how.what.is_some();
            if taken || !armed.fault.when.has_come(armed.seen, armed.fired, &mut self.chance) {
                continue;
            }
            armed.fired += 1;
            let how = &armed.fault.how;
            sum.delay = sum.delay.saturating_add(how.delay);
            sum.headers.extend(how.headers.iter().cloned());
            if how.what.is_some() {
                sum.what.clone_from(&how.what);
                sum.carried_out = how.carried_out;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::What;
    use super::super::refusal::Reason;
    use super::*;
    use crate::finch::Method;
    use crate::finch::endpoints::find;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn faults(rules: Value) -> Faults {
        Faults::new(7, serde_json::from_value(rules).expect("sound faults"))
    }

    fn company(customer: &str) -> Subject<'_> {
        Subject {
            endpoint: find(Method::Get, "/employer/company"),
            method: "GET",
            path: "/employer/company",
            customer: Some(customer),
            connection: None,
            provider: None,
            body: br#"{"id":"i-7"}"#,
        }
    }

    fn pattern(faults: &mut Faults, count: usize) -> String {
        (0..count).map(|_| if faults.meet(company("acme")).what.is_some() { 'x' } else { '.' }).collect()
    }

    #[test]
    fn when_is_counted_among_the_requests_that_fit() {
        let run = |rule: Value| pattern(&mut faults(json!([rule])), 8);
        assert_eq!(run(json!({"status": 500})), "xxxxxxxx");
        assert_eq!(run(json!({"status": 500, "nth": 3})), "..x.....");
        assert_eq!(run(json!({"status": 500, "after": 5})), ".....xxx");
        assert_eq!(run(json!({"status": 500, "every": 3})), "..x..x..");
        assert_eq!(run(json!({"status": 500, "times": 2})), "xx......");
        assert_eq!(run(json!({"status": 500, "after": 2, "every": 2, "times": 2})), "...x.x..");
        assert_eq!(run(json!({"status": 500, "customer": "other"})), "........");
        assert_eq!(run(json!({"status": 500, "operation": "get_company"})), "xxxxxxxx");
        assert_eq!(run(json!({"status": 500, "operation": "list_directory"})), "........");
        assert_eq!(run(json!({"status": 500, "path": "/employer/*", "method": "get"})), "xxxxxxxx");
        assert_eq!(run(json!({"status": 500, "product": "payment"})), "........");
        assert_eq!(run(json!({"status": 500, "holding": "i-7"})), "xxxxxxxx");
        assert_eq!(run(json!({"status": 500, "holding": "i-8"})), "........");
    }

    #[test]
    fn chance_is_seeded() {
        let rule = json!([{"status": 500, "probability": 0.5}]);
        let first = pattern(&mut faults(rule.clone()), 64);
        assert_eq!(first, pattern(&mut faults(rule), 64));
        assert!(first.contains('x') && first.contains('.'), "{first}");
    }

    #[test]
    fn delays_add_up_and_the_first_replacement_wins() {
        let mut all = faults(json!([
            {"delay": "2s"},
            {"preset": "reauth", "delay": "500ms", "times": 1},
            {"preset": "bad_gateway", "times": 1},
        ]));
        let how = all.meet(company("acme"));
        assert_eq!(how.delay, Duration::from_millis(2500));
        assert!(matches!(how.what, Some(What::Refuse(Reason::Reauth))));
        let how = all.meet(company("acme"));
        assert!(matches!(how.what, Some(What::Refuse(Reason::BadGateway))), "its turn was not lost");
        assert!(all.meet(company("acme")).what.is_none());
    }
}
