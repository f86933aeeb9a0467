//! How calls of the ledger are printed: for people as a table, or one by one with their steps; for programs as JSON.

use crate::cli::table::{self, Column};
use crate::store::requests::{Recorded, RecordedStep};
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, Write};

/// For programs: one object a line.
pub(super) fn json(calls: &[Recorded], with_steps: bool, out: &mut dyn Write) -> io::Result<()> {
    for call in calls {
        let mut object = serde_json::to_value(call)?;
        if let (false, Some(members)) = (with_steps, object.as_object_mut()) {
            members.remove("steps");
        }
        writeln!(out, "{}", Value::to_string(&object))?;
    }
    Ok(())
}

/// For people.
pub(super) fn text(calls: &[Recorded], with_steps: bool, out: &mut dyn Write) -> io::Result<()> {
    if calls.is_empty() {
        return Ok(());
    }
    if with_steps {
        return calls.iter().try_for_each(|call| whole(call, out));
    }
    use Column::{Left, Right};
    let headings = [
        Left("CAME IN"),
        Left("STATUS"),
        Left("CLASS"),
        Left("CUSTOMER"),
        Left("CALL"),
        Right("ATTEMPTS"),
        Right("MS"),
        Left("REQUEST"),
        Left("FINCH-REQUEST-ID"),
    ];
    let row = |call: &Recorded| {
        [
            call.ts.to_string(),
            call.status.to_string(),
            call.class.clone(),
            or_dash(call.customer.as_ref()),
            format!("{} {}", call.method, call.path),
            call.attempts.to_string(),
            call.total_ms.to_string(),
            call.request_id.to_string(),
            finch_ids(call).unwrap_or_else(|| "-".to_owned()),
        ]
    };
    table::print_columns(headings, calls.iter().map(row), out)
}

/// The last id is the one of the answer; how many others there were is enough here.
fn finch_ids(call: &Recorded) -> Option<String> {
    let last = call.finch_request_id.last()?;
    Some(match call.finch_request_id.len() {
        1 => last.to_string(),
        n => format!("{last} (+{})", n - 1),
    })
}

/// One call and its life.
fn whole(call: &Recorded, out: &mut dyn Write) -> io::Result<()> {
    let (method, path, class) = (&call.method, &call.path, &call.class);
    writeln!(out, "{}  {method} {path}: {} {class}, {} ms", call.ts, call.status, call.total_ms)?;
    let finch: Vec<&str> = call.finch_request_id.iter().map(|id| id.as_str()).collect();
    let code = [call.refusal.as_deref(), call.finch_code.as_deref()].into_iter().flatten().next();
    let batch = call.batch.as_ref();
    let lines = [
        ("request", call.request_id.to_string()),
        ("finch request", finch.join(", ")),
        ("app", call.app.as_ref().map_or_else(|| call.by.clone().unwrap_or_default(), ToString::to_string)),
        ("customer", text_of(call.customer.as_ref())),
        ("connection", text_of(call.connection_id.as_ref())),
        ("company", text_of(call.company_id.as_ref())),
        ("provider", text_of(call.provider.as_ref())),
        ("code", code.unwrap_or_default().to_owned()),
        (
            "batch",
            batch.map_or_else(String::new, |b| {
                format!("{} items, {} failed, {} pending", b.total, b.failed, b.pending)
            }),
        ),
        ("answered by", call.cache.clone().unwrap_or_default()),
        ("resend of", text_of(call.resend_of.as_ref())),
        ("carried by", text_of(call.carried_by.as_ref())),
        ("client", if call.client_gone { "had left".to_owned() } else { String::new() }),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "  {name:14}{value}")?;
    }
    for step in &call.steps {
        writeln!(out, "  {:14}{}", format!("+{} ms", step.at_ms), did(step))?;
    }
    writeln!(out)
}

/// A step in words.
fn did(step: &RecordedStep) -> String {
    let took = format!("{} ms", step.lasted_ms);
    match step.did.as_str() {
        "look_up" if step.is_answered == Some(false) => {
            format!("asked the vault, which did not answer, {took}")
        }
        "look_up" => format!("asked the vault whose connection it is, {took}"),
        "wait" => {
            let what = match step.awaited.as_deref() {
                Some("twin") => "an identical call",
                Some("hold") => "the end of a hold",
                other => other.unwrap_or("something"),
            };
            let end = if step.is_over == Some(false) { ", in vain" } else { "" };
            let limit = match (&step.limiter, step.used, step.limit) {
                (Some(limiter), Some(used), Some(limit)) => format!("; {used} of {limit} busy ({limiter})"),
                _ => String::new(),
            };
            format!("waited for {what}, {took}{end}{limit}")
        }
        "share" => format!("shared another call's request, {took}"),
        "attempt" => {
            let outcome = match (step.status, &step.failed) {
                (Some(status), _) => status.to_string(),
                (None, Some(why)) => format!("no answer, {why}"),
                (None, None) => "no answer".to_owned(),
            };
            let id = step
                .finch_request_id
                .as_ref()
                .map_or_else(String::new, |id| format!(", Finch-Request-ID {id}"));
            format!("sent to Finch ({}): {outcome}, {took}{id}", step.product.as_deref().unwrap_or("unknown"))
        }
        other => format!("{other}, {took}"),
    }
}

fn text_of(value: Option<&impl Display>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn or_dash(value: Option<&impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}
