//! Which calls are one exchange with Finch: what marks a call as sent again, who may take the outcome of
//! whom, and what of an outcome is worth remembering.
//!
//! The official SDKs give up after a minute and send everything again, writes included, while Finch may
//! take six (measured with both). Without this a slow write is carried out three times.

mod key;
mod table;
#[cfg(test)]
mod table_tests;

pub use key::{Key, Parts, Whose};
pub use table::{Entered, Exchange, Id, Kept, Table, Wish};

use super::caller::once;
use super::class::Class;
use super::refusal::Refusal;
use crate::finch::endpoints::Effect;
use crate::finch::headers::{PERCH_IDEMPOTENCY_KEY, STAINLESS_RETRY_COUNT};
use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// The longest idempotency key: as long as any id here.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// The largest answer that is remembered. Benefit writes are answered with a job or some items; what is
/// larger than this is a page of payroll data, and memory is not for that.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What the headers of a call say about being sent more than once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// An SDK sends it for the second or third time.
    pub is_resend: bool,
    /// The client's own name for what it intends.
    pub name: Option<String>,
    /// It wants an answer of its own.
    pub is_fresh: bool,
}

/// Reads them.
///
/// # Errors
/// An idempotency key that stands twice, is empty, too long, or not visible ASCII.
pub fn marks(headers: &HeaderMap) -> Result<Marks, Refusal> {
    let name = once(headers, PERCH_IDEMPOTENCY_KEY, "Perch-Idempotency-Key")?;
    let is_sound = |name: &str| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    if name.is_some_and(|name| !is_sound(name)) {
        return Err(Refusal::BadHeader {
            header: "Perch-Idempotency-Key",
            why: format!("is not 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        });
    }
    // An SDK writes it, not a person: what is no number says nothing.
    let count = headers.get(STAINLESS_RETRY_COUNT).and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
    // Whoever limits what may be kept, or how old it may be, does not take what another one found.
    let is_fresh = directives.flat_map(|v| v.split(',')).any(|word| {
        let name = word.split('=').next().unwrap_or_default().trim();
        ["no-cache", "no-store", "max-age"].iter().any(|one| name.eq_ignore_ascii_case(one))
    });
    Ok(Marks { is_resend: count.is_some_and(|n| n > 0), name: name.map(str::to_owned), is_fresh })
}

/// What a call asks of the exchanges that run or are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nothing: it is a new intention.
    Nothing,
    /// The answer of an identical read under way.
    Share,
    /// The outcome of what it sent before.
    Outcome,
    /// The outcome of the exchange that has its name.
    Named,
}

impl Asks {
    /// What these marks ask for. A write that is not marked is never joined to anything: two intended
    /// writes stay two.
    pub fn of(marks: &Marks, effect: Effect, coalesce: bool) -> Self {
        match effect {
            _ if marks.name.is_some() => Asks::Named,
            _ if marks.is_resend => Asks::Outcome,
            Effect::Reads if coalesce && !marks.is_fresh => Asks::Share,
            Effect::Reads | Effect::Writes => Asks::Nothing,
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Whether it changes anything.
    pub effect: Effect,
    /// What became of it.
    pub class: Class,
    /// Whether its answer tells clients not to send it again.
    pub forbids_resend: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// The size of the answer's body; `None` when it was too large to be held.
    pub bytes: Option<usize>,
    /// Whether its client had left before the answer.
    pub has_left: bool,
}

/// What of an outcome is kept for a resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Nothing: a resend runs anew.
    Nothing,
    /// The answer.
    Answer,
    /// That it was carried out; its answer is too large to keep.
    Fact,
}

impl End {
    /// What is worth remembering of it.
    ///
    /// A write that may have been carried out is, whatever came of it; what the client was invited to send
    /// again is not. A read is when its client had left: quota paid for it, and otherwise payroll data has
    /// no business in memory.
    pub fn worth(&self) -> Worth {
        let is_settled = !self.class.is_error() || self.forbids_resend;
        if self.attempts == 0 || !is_settled {
            return Worth::Nothing;
        }
        let is_small = self.bytes.is_some_and(|bytes| bytes <= ANSWER_BYTES_MAX);
        match self.effect {
            Effect::Writes if is_small => Worth::Answer,
            Effect::Writes => Worth::Fact,
            Effect::Reads if is_small && self.has_left => Worth::Answer,
            Effect::Reads => Worth::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<Marks, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        marks(&headers)
    }

    #[test]
    fn an_sdk_marks_a_resend_with_its_count() {
        for (count, is_resend) in
            [("0", false), ("1", true), ("2", true), ("x", false), ("-1", false), ("", false)]
        {
            let marks = read(&[("x-stainless-retry-count", count)]).expect("read");
            assert_eq!(marks.is_resend, is_resend, "{count}");
        }
        assert_eq!(read(&[]), Ok(Marks::default()));
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii_of_bounded_length() {
        let long = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
        for name in ["a", "7f-:~!", &long] {
            let marks = read(&[("perch-idempotency-key", name)]).expect("read");
            assert_eq!(marks.name.as_deref(), Some(name));
        }
        for name in ["", "a b", "ä", &format!("{long}k")] {
            assert!(
                matches!(read(&[("perch-idempotency-key", name)]), Err(Refusal::BadHeader { .. })),
                "{name}"
            );
        }
        let twice = read(&[("perch-idempotency-key", "a"), ("perch-idempotency-key", "a")]);
        assert!(matches!(twice, Err(Refusal::DoubledHeader(_))));
    }

    #[test]
    fn who_limits_what_may_be_kept_or_how_old_it_may_be_takes_nobody_elses_answer() {
        for (directives, is_fresh) in [
            ("no-cache", true),
            ("private, No-Store", true),
            ("max-age=60", true),
            ("private", false),
            ("max-stale=60, no-transform", false),
        ] {
            assert_eq!(
                read(&[("cache-control", directives)]).expect("read").is_fresh,
                is_fresh,
                "{directives}"
            );
        }
    }

    #[test]
    fn only_a_mark_joins_a_write_and_only_a_plain_read_is_shared() {
        let plain = Marks::default();
        let fresh = read(&[("cache-control", "max-age=0, No-Cache")]).expect("read");
        let again = Marks { is_resend: true, is_fresh: true, ..Marks::default() };
        let named = Marks { name: Some("k".to_owned()), is_resend: true, is_fresh: false };
        for (marks, effect, coalesce, asks) in [
            (&plain, Effect::Writes, true, Asks::Nothing),
            (&plain, Effect::Reads, true, Asks::Share),
            (&plain, Effect::Reads, false, Asks::Nothing),
            (&fresh, Effect::Reads, true, Asks::Nothing),
            (&again, Effect::Reads, false, Asks::Outcome),
            (&again, Effect::Writes, false, Asks::Outcome),
            (&named, Effect::Writes, true, Asks::Named),
            (&named, Effect::Reads, false, Asks::Named),
        ] {
            assert_eq!(Asks::of(marks, effect, coalesce), asks, "{marks:?} {effect:?} {coalesce}");
        }
    }

    #[test]
    fn what_may_have_been_carried_out_is_remembered_and_what_may_be_sent_again_is_not() {
        let write = End {
            effect: Effect::Writes,
            class: Class::Ok,
            forbids_resend: false,
            attempts: 1,
            bytes: Some(10),
            has_left: false,
        };
        let lost = End { class: Class::FinchUnreachable, forbids_resend: true, ..write };
        let read = End { effect: Effect::Reads, ..write };
        let large = Some(ANSWER_BYTES_MAX + 1);
        for (end, worth) in [
            (write, Worth::Answer),
            (End { class: Class::Partial, ..write }, Worth::Answer),
            (End { class: Class::NotReady, ..write }, Worth::Answer),
            (End { bytes: large, ..write }, Worth::Fact),
            (End { bytes: None, ..write }, Worth::Fact),
            (End { bytes: Some(ANSWER_BYTES_MAX), ..write }, Worth::Answer),
            (lost, Worth::Answer),
            (End { attempts: 0, ..lost }, Worth::Nothing),
            (End { class: Class::RateLimited, ..write }, Worth::Nothing),
            (End { class: Class::FinchUnreachable, ..write }, Worth::Nothing),
            (read, Worth::Nothing),
            (End { has_left: true, ..read }, Worth::Answer),
            (End { has_left: true, bytes: large, ..read }, Worth::Nothing),
            (End { has_left: true, bytes: None, ..read }, Worth::Nothing),
            (End { has_left: true, class: Class::ProviderError, ..read }, Worth::Nothing),
            (End { has_left: true, class: Class::Disconnected, forbids_resend: true, ..read }, Worth::Answer),
        ] {
            assert_eq!(end.worth(), worth, "{end:?}");
        }
    }
}
