//! Which trace a call belongs to: W3C Trace Context (`traceparent` and `tracestate`, version 00), read strictly. What
//! cannot be read begins a new trace, as the recommendation asks; it never fails a call.

mod state;

pub use state::TraceState;

use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};

/// The header that names the trace and the span that asks.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what other tracing systems want to keep.
pub const TRACESTATE: &str = "tracestate";

/// The bytes of `traceparent` in version 00.
const TRACEPARENT_BYTES: usize = 55;

/// A trace: everything that happened because of one cause. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// One span of a trace. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

macro_rules! ids {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// These bytes; none when they are all zeros, which stands for no id.
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// The bytes.
            pub fn bytes(self) -> [u8; $bytes] {
                self.0
            }

            fn parse(hex: &[u8]) -> Option<Self> {
                let mut bytes = [0; $bytes];
                if hex.len() != 2 * $bytes {
                    return None;
                }
                for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
                    *byte = hex_byte(pair)?;
                }
                Self::new(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

ids!(TraceId, 16);
ids!(SpanId, 8);

impl SpanId {
    /// The span of a step: the same for the same step of the same call, so that it is known before the step begins, when
    /// it has to stand in a header, and after the call has ended, when the spans are made.
    #[must_use]
    pub fn of_step(self, at: usize) -> SpanId {
        let mut hash = Sha256::new();
        hash.update(b"perch step");
        hash.update(self.0);
        hash.update((at as u64).to_be_bytes());
        let digest = hash.finalize();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        // Once in 2^64 steps.
        SpanId::new(bytes).unwrap_or(SpanId([1; 8]))
    }
}

/// Which span of another program a call is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether that program keeps the trace.
    pub is_sampled: bool,
    /// What other systems keep with it.
    pub state: TraceState,
}

impl Parent {
    /// Reads what an app sent. `None`: it sent none, or something that cannot be trusted to mean one trace.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (Some(one), None) = (all.next(), all.next()) else { return None };
        let text = one.as_bytes();
        let fields: [&[u8]; 4] = [text.get(..2)?, text.get(3..35)?, text.get(36..52)?, text.get(53..55)?];
        if [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let version = hex_byte(fields[0])?;
        // A later version may say more, behind another dash.
        let is_whole = match version {
            0 => text.len() == TRACEPARENT_BYTES,
            0xff => false,
            _ => text.len() == TRACEPARENT_BYTES || text[TRACEPARENT_BYTES] == b'-',
        };
        let (trace_id, span_id) = (TraceId::parse(fields[1])?, SpanId::parse(fields[2])?);
        let is_sampled = hex_byte(fields[3])? & 1 == 1;
        let state = TraceState::read(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes));
        is_whole.then_some(Self { trace_id, span_id, is_sampled, state })
    }
}

/// The part of a trace that is one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: TraceId,
    /// The call's own span.
    pub span_id: SpanId,
    /// The span that it is a part of; none when the trace begins here.
    pub parent: Option<SpanId>,
    /// Whether its spans are kept.
    pub is_sampled: bool,
    /// What other systems keep with the trace.
    pub state: TraceState,
}

impl Context {
    /// The context of a call. An app that has decided whether its trace is kept is heeded; a trace that begins here is
    /// kept when its id falls into the share of `sample_percent`. `fresh` are ids that nobody has used.
    pub fn of_call(parent: Option<Parent>, fresh: (TraceId, SpanId), sample_percent: u32) -> Self {
        let (trace_id, span_id) = fresh;
        match parent {
            Some(Parent { trace_id, span_id: parent, is_sampled, state }) => {
                Self { trace_id, span_id, parent: Some(parent), is_sampled, state }
            }
            None => Self {
                trace_id,
                span_id,
                parent: None,
                is_sampled: is_in_share(trace_id, sample_percent),
                state: TraceState::default(),
            },
        }
    }

    /// `traceparent` for what a step asks of another program.
    pub fn traceparent(&self, step: usize) -> String {
        let mut text = format!("00-{}-{}-", self.trace_id, self.span_id.of_step(step));
        let _ = write!(text, "{:02x}", u8::from(self.is_sampled));
        text
    }
}

/// The id alone: how a log line finds its trace.
impl serde::Serialize for Context {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.trace_id)
    }
}

/// Whether a trace is one of this many in a hundred. Every program that asks this of the same id gets the same answer.
fn is_in_share(trace_id: TraceId, percent: u32) -> bool {
    let mut low = [0; 8];
    low.copy_from_slice(&trace_id.0[8..]);
    u128::from(u64::from_be_bytes(low)) * 100 < u128::from(percent) << 64
}

/// Two hexadecimal digits in lower case: the recommendation knows no others.
fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(traceparents: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for text in traceparents {
            headers.append(TRACEPARENT, HeaderValue::from_str(text).expect("a value"));
        }
        Parent::read(&headers)
    }

    fn fresh() -> (TraceId, SpanId) {
        (TraceId::new([7; 16]).expect("an id"), SpanId::new([9; 8]).expect("an id"))
    }

    #[test]
    fn a_parent_is_read_as_the_recommendation_writes_it() {
        let parent = read(&[GOOD]).expect("a parent");
        assert_eq!(parent.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span_id.to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled);
        for (flags, is_sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = GOOD.replace("-01", &format!("-{flags}"));
            assert_eq!(read(&[&text]).map(|parent| parent.is_sampled), Some(is_sampled), "{flags}");
        }
        // What a later version adds is behind the fields of this one.
        for later in [
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(read(&[later]).is_some(), "{later}");
        }
    }

    #[test]
    fn what_is_not_one_parent_is_none() {
        let bad = [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ];
        for text in bad {
            assert_eq!(read(&[text]), None, "{text}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[GOOD, GOOD]), None, "two of them");
    }

    #[test]
    fn an_app_decides_for_its_trace_and_the_share_for_new_ones() {
        let sampled = read(&[GOOD]);
        let unsampled = read(&[&GOOD.replace("-01", "-00")]);
        let of = |parent: &Option<Parent>, percent| Context::of_call(parent.clone(), fresh(), percent);
        assert!(of(&sampled, 0).is_sampled && !of(&unsampled, 100).is_sampled);
        assert!(of(&None, 100).is_sampled && !of(&None, 0).is_sampled);
        let context = of(&sampled, 100);
        assert_eq!(context.parent, sampled.as_ref().map(|parent| parent.span_id));
        assert_eq!((context.trace_id, context.span_id), (sampled.expect("one").trace_id, fresh().1));
        assert_eq!((of(&None, 100).parent, of(&None, 100).trace_id), (None, fresh().0));
    }

    #[test]
    fn a_share_of_ids_is_that_share() {
        for percent in [1, 10, 50, 99] {
            let kept = (0..10_000u64)
                .filter(|n| {
                    let digest = Sha256::digest(n.to_be_bytes());
                    let mut id = [0; 16];
                    id.copy_from_slice(&digest[..16]);
                    is_in_share(TraceId(id), percent)
                })
                .count();
            let wanted = percent as usize * 100;
            assert!(kept.abs_diff(wanted) < 150, "{percent}: {kept}");
        }
        let all = TraceId([0xff; 16]);
        assert!(is_in_share(all, 100) && !is_in_share(TraceId([1; 16]), 0));
    }

    #[test]
    fn a_step_has_one_id_and_no_two_have_the_same() {
        let (_, span) = fresh();
        let ids: std::collections::HashSet<SpanId> = (0..1_000).map(|at| span.of_step(at)).collect();
        assert_eq!(ids.len(), 1_000);
        assert_eq!(span.of_step(3), span.of_step(3));
        assert_ne!(span.of_step(3), SpanId([8; 8]).of_step(3));
    }

    #[test]
    fn what_goes_out_can_be_read_again() {
        let context = Context::of_call(read(&[GOOD]), fresh(), 100);
        let out = read(&[&context.traceparent(4)]).expect("a parent");
        assert_eq!((out.trace_id, out.span_id), (context.trace_id, context.span_id.of_step(4)));
        assert!(out.is_sampled);
        assert_eq!(serde_json::to_value(&context).expect("JSON"), "0af7651916cd43dd8448eb211c80319c");
    }
}
