//! What comes from the shared store: answers of its scripts, notices of other replicas, answers they pass on, and what the
//! server says of itself. Anything may stand there; what is read is what a replica may have written.

use super::input::{Input, parts};
use perch::limit::{Admission, Ailment, Notice, PerProduct, Rules, Subject, Ticket};
use perch::policy::cache::Record;
use perch::store::redis::Reply;
use perch::store::redis::answers;
use perch::store::redis::codec::{self, Heard, notices};
use perch::store::redis::info::Info;
use perch::types::{ConnectionId, EntityId, Product};
use std::num::NonZeroU32;
use std::time::Duration;

/// How deep a made-up answer is nested at most; the server's own are three deep.
const DEPTH_MAX: usize = 4;

/// Decisions that make an answer of the server; then a text that may be a notice; then bytes that may be an answer.
pub fn target(data: &[u8]) {
    let [decisions, notice, record] = parts(data);
    let mut input = Input::new(decisions);
    let rules = Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(12)));
    let reply = made_up(&mut input, 0);
    read(&reply, &rules);
    let _ = answers::read_asked(reply.clone());
    let _ = answers::read_flag(&reply);
    let notice = String::from_utf8_lossy(notice);
    if let Some(notice) = Notice::parse(&notice) {
        let text = notice.to_text();
        assert!(!text.contains('\n'));
        // Escaped it may be longer than what it was read from, and then it is nobody's to read.
        assert!(Notice::parse(&text).is_none_or(|again| again == notice), "{text}");
        told(&notice, &rules);
    }
    told(&said(&mut input), &rules);
    let _ = Ticket::parse(&notice).map(|ticket| assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket)));
    let info = Info::parse(&notice);
    let _ = (
        info.run_id(),
        info.mode(),
        info.is_replica(),
        info.is_loading(),
        info.version(),
        info.number("port"),
    );
    if let Some(found) = Record::read(record) {
        // A header that is no plain text can be read, and is not passed on.
        if let Some(again) = found.to_bytes() {
            assert_eq!(Record::read(&again), Some(found));
        }
    }
}

/// A notice as perch makes it reaches another replica as it was.
fn told(notice: &Notice, rules: &Rules) {
    let text = notice.to_text();
    if text.len() > perch::limit::notice::TEXT_BYTES_MAX {
        return;
    }
    assert_eq!(Notice::parse(&text).as_ref(), Some(notice));
    let list = Reply::List(vec![Reply::Int(9), Reply::Text(text.into_bytes())]);
    let reply = Reply::List(vec![Reply::Int(1), Reply::Int(2), Reply::Int(0), list]);
    let Ok(Heard::Told(news)) = notices::read_news(&reply) else { panic!("no news") };
    assert_eq!(news.what.told, [(notice.clone(), Duration::from_micros(9))]);
    read(&reply, rules);
}

fn read(reply: &Reply, rules: &Rules) {
    for product in [Product::Directory, Product::Introspect] {
        if let Ok(Heard::Told(told)) = codec::read_ask(reply, product, rules) {
            let (admission, standing, _) = told.what;
            assert!(standing.is_none_or(|standing| standing.remaining <= standing.limit));
            assert!(
                !matches!(admission, Admission::Refused { after, .. } if after > Duration::from_micros(u64::MAX))
            );
        }
        let _ = codec::read_arrived(reply, product, rules);
    }
    let _ = (codec::read_flag(reply), codec::read_done(reply));
    if let Ok(Heard::Told(told)) = codec::read_beat(reply, rules) {
        let (pulse, standings) = told.what;
        assert!(pulse.is_known || (pulse.lease.is_none() && pulse.wakes.is_empty()));
        assert!(standings.holds.iter().all(|(_, span)| !span.is_zero()));
    }
    if let Ok(Heard::Told(told)) = notices::read_news(reply) {
        assert!(
            told.what.told.len()
                <= reply.as_list().map_or(0, |list| list
                    .iter()
                    .filter_map(Reply::as_list)
                    .map(<[Reply]>::len)
                    .sum())
        );
    }
}

fn made_up(input: &mut Input<'_>, depth: usize) -> Reply {
    match input.byte() % 6 {
        0 if depth < DEPTH_MAX => {
            Reply::List((0..input.below(24)).map(|_| made_up(input, depth + 1)).collect())
        }
        1 if depth < DEPTH_MAX => {
            Reply::List((0..input.below(6)).map(|_| made_up(input, depth + 1)).collect())
        }
        2 => Reply::Int((input.number() >> input.below(64)).cast_signed()),
        3 => Reply::Text(input.bytes(255).to_vec()),
        4 => Reply::Text(
            input
                .pick(&["G", "W", "R", "S", "ok", "kept", "told", "wait", "lead", "alone", "same", ""])
                .into(),
        ),
        5 => {
            // A row of numbers, as standings and leases are.
            let numbers: Vec<String> = (0..input.below(100)).map(|_| input.byte().to_string()).collect();
            Reply::Text(numbers.join(" ").into_bytes())
        }
        _ => Reply::Nil,
    }
}

fn said(input: &mut Input<'_>) -> Notice {
    let id = |input: &mut Input<'_>| ConnectionId::new(input.text(255)).ok();
    let connection = id(input).unwrap_or_else(|| ConnectionId::new("c").expect("an id"));
    let entity = EntityId::new(input.text(255)).ok();
    let span = Duration::from_micros(input.number());
    match input.byte() % 4 {
        0 => Notice::Hold { subject: Subject::Application, span },
        1 => Notice::Hold { subject: Subject::RefreshQuota(connection), span },
        2 => Notice::Ill { connection, entity, ailment: input.pick(&Ailment::ALL), version: input.number() },
        _ => Notice::Well { connection, entity },
    }
}
