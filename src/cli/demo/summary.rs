//! What the demo prints: perch's access lines, and beside them what the simulator counted for itself.

use super::place::{Lines, Place};
use super::story::Story;
use crate::app::Gateway;
use crate::cli::exit::Failure;
use crate::cli::table;
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;

/// Prints it.
///
/// # Errors
/// The story was surprised, or the simulator saw what it must not see.
pub(super) fn print(
    out: &mut dyn Write,
    story: &Story,
    lines: &Lines,
    report: &Value,
) -> Result<(), Failure> {
    if let Some(surprise) = &story.surprise {
        return Err(Failure::failed(surprise));
    }
    writeln!(out, "perch demo: two customers connected, synced, and one repaired\n")?;
    for (customer, reference) in &story.references {
        writeln!(out, "{customer:<8} connected; in place of a token its app holds  {reference}")?;
    }
    calls(out, &lines.all())?;
    quota(out, report)?;
    verdict(out, story, report)
}

fn calls(out: &mut dyn Write, lines: &[Value]) -> std::io::Result<()> {
    writeln!(out, "\nEvery call, from perch's access lines:\n")?;
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
    // A line is written when its answer has left, so two may change places; the ids follow the clock.
    let mut lines: Vec<&Value> = lines.iter().collect();
    lines.sort_by_key(|line| line["request_id"].as_str());
    let rows = lines.into_iter().map(|line| {
        let batch = line["batch"]["failed"].as_u64().filter(|failed| *failed > 0);
        let class = word(line, "class");
        [
            word(line, "customer"),
            format!("{} {}", word(line, "method"), word(line, "path")),
            line["status"].to_string(),
            batch.map_or(class.clone(), |failed| {
                format!("{class} ({failed} of {} items)", line["batch"]["total"])
            }),
            word(line, "company_id"),
            line["finch_request_id"]
                .as_array()
                .and_then(|ids| ids.last()?.as_str())
                .unwrap_or("-")
                .to_owned(),
        ]
    });
    table::print(["CUSTOMER", "CALL", "STATUS", "CLASS", "COMPANY ID", "FINCH-REQUEST-ID"], rows, out)
}

fn quota(out: &mut dyn Write, report: &Value) -> std::io::Result<()> {
    writeln!(out, "\nQuota used, as the simulator counted it:\n")?;
    for (product, seen) in report["products"].as_object().into_iter().flatten() {
        if let (Some(arrivals), Some(limit)) = (seen["arrivals"].as_u64(), seen["limit"].as_u64()) {
            writeln!(out, "{product:<20} {arrivals:>3} requests, {limit} allowed in any minute")?;
        }
    }
    Ok(())
}

fn verdict(out: &mut dyn Write, story: &Story, report: &Value) -> Result<(), Failure> {
    let refused: u64 =
        report["rate_limited"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    let suspicious = report["suspicious"]["count"].as_u64().unwrap_or(u64::MAX);
    let (tokens, heard) = story.tokens;
    writeln!(
        out,
        "\n{} people read for two customers; one partial batch noticed, one reauthentication done without a change in\n\
         the app; {refused} calls refused by Finch for a limit; {tokens} tokens given out by Finch, {heard} seen by the app.",
        story.people
    )?;
    let wrong = match (refused, suspicious, tokens, heard) {
        (0, 0, 1.., 0) => return Ok(()),
        (1.., ..) => format!("Finch refused {refused} calls for a limit"),
        (_, 1.., ..) => {
            format!("the simulator saw requests it should not see: {}", report["suspicious"]["by_kind"])
        }
        _ => format!("the app saw {heard} of {tokens} tokens"),
    };
    Err(Failure::failed(wrong))
}

/// Says what can be tried while everything runs.
pub(super) fn invite(
    out: &mut dyn Write,
    gateway: &Gateway,
    finch: SocketAddr,
    place: &Place,
) -> Result<(), Failure> {
    writeln!(
        out,
        "\nEverything keeps running until Ctrl-C:\n\n\
         \x20 perch       http://{proxy}    try: curl -i -H 'Perch-Customer: acme' http://{proxy}/employer/company\n\
         \x20 operators   http://{admin}    try: curl http://{admin}/metrics\n\
         \x20 simulator   http://{finch}    try: curl http://{finch}/_sim/report\n\
         \x20 files       {files}",
        proxy = gateway.proxy(),
        admin = gateway.admin(),
        files = place.path().display(),
    )?;
    out.flush()?;
    Ok(())
}
