//! The table and the verdict, in Markdown.

use super::course::{Found, Round};
use super::notes::{Bound, LOST};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Everything.
pub(crate) fn markdown(all: &[Found], facts: &[String]) -> String {
    let mut out = String::new();
    for found in all {
        world(&mut out, found);
    }
    for fact in facts {
        let _ = writeln!(out, "{fact}");
    }
    out
}

fn world(out: &mut String, found: &Found) {
    let minutes = found.lasted.as_secs_f64() / 60.0;
    let _ = writeln!(
        out,
        "### {}: seed {}, {minutes:.1} minutes, {} rounds\n",
        found.arm.name(),
        found.seed,
        found.rounds.len()
    );
    let _ = writeln!(out, "| fault | times | calls meanwhile | recovery p50 / max s |\n|---|---:|---|---:|");
    let mut rows: BTreeMap<&str, Vec<&Round>> = BTreeMap::new();
    for round in &found.rounds {
        round.faults.iter().for_each(|fault| rows.entry(fault).or_default().push(round));
    }
    for (fault, rounds) in rows {
        let mut classes: BTreeMap<String, usize> = BTreeMap::new();
        for round in &rounds {
            round
                .classes
                .iter()
                .for_each(|(class, count)| *classes.entry(class.clone()).or_default() += count);
        }
        let mut times: Vec<Duration> = rounds.iter().flat_map(|round| round.recovered.clone()).collect();
        times.sort();
        let at = |place: usize| times.get(place).map_or(0.0, Duration::as_secs_f64);
        let (p50, most) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
        let _ = writeln!(out, "| {fault} | {} | {} | {p50:.1} / {most:.1} |", rounds.len(), list(&classes));
    }
    let troubled: Duration = found.rounds.iter().map(|round| round.lasted).sum();
    let _ = writeln!(
        out,
        "\nFaults drawn: {} of {}. They lasted {} s in all. Calls in all: {}.",
        found.drawn(),
        found.drawable,
        troubled.as_secs(),
        list(&found.classes)
    );
    let counts: Vec<String> = found.counts.iter().map(|(what, count)| format!("{what}: {count}")).collect();
    let _ = writeln!(out, "\nCounted: {}.", counts.join(", "));
    if !found.missing.is_empty() {
        let _ = writeln!(out, "\n**Not done here**: {}.", found.missing.join(", "));
    }
    let _ = writeln!(out, "\n| at the recorder | requests | fullest window | limit |\n|---|---:|---:|---:|");
    for (name, (count, fullest, limit)) in &found.arrivals {
        let _ = writeln!(out, "| {name} | {count} | {fullest} | {limit} |");
    }
    let _ = writeln!(out, "\n| process | MiB first / most / last | files most / last |\n|---|---:|---:|");
    for (part, taken) in &found.taken {
        let mib = |kib: u64| kib / 1024;
        let (first, most, last) = (mib(taken.first_kib), mib(taken.most_kib), mib(taken.last_kib));
        let _ = writeln!(
            out,
            "| {part:?} | {first} / {most} / {last} | {} / {} |",
            taken.most_files, taken.last_files
        );
    }
    let _ = writeln!(out, "\n| bound | verdict |\n|---|---|");
    for bound in Bound::ALL {
        let verdict = match found.broken.get(&bound) {
            None => "holds".to_owned(),
            Some((count, told)) => format!("**BROKEN** {count} times: {}", told.join("; ")),
        };
        let _ = writeln!(out, "| {} | {verdict} |", bound.says());
    }
    let _ = writeln!(out);
}

/// The most frequent first, what was lost last.
fn list(classes: &BTreeMap<String, usize>) -> String {
    let mut all: Vec<(&String, &usize)> = classes.iter().collect();
    all.sort_by_key(|(class, count)| (class.as_str() == LOST, std::cmp::Reverse(**count)));
    let each = all.into_iter().map(|(class, count)| format!("{class} {count}"));
    let text = each.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}
