//! What a run found, as Markdown for the README.

use super::costs::Profile;
use super::rounds::{CONNECTIONS, CONNECTIONS_LARGE, Found, PACE, RATE, ROUNDS, RUSH, STARTS, Turn};
use super::stats::Spread;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The whole report.
pub(crate) fn markdown(found: &Found, machine: &[String]) -> String {
    let mut out = String::from("### perch beside a bare pingora proxy\n\n");
    table(&mut out, found);
    method(&mut out, found, machine);
    where_it_goes(&mut out, found);
    out
}

fn table(out: &mut String, found: &Found) {
    let paced = format!("1 KiB at {RATE}/s");
    row(out, ["", "no proxy", "bare pingora", "perch", "perch / bare"].map(str::to_owned));
    row(out, ["---", "---:", "---:", "---:", "---:"].map(str::to_owned));
    compare(out, found, &format!("CPU per call, {paced}, µs"), 1, false, |t| t.pace_cpu);
    compare(out, found, "CPU per call, 1 KiB in a rush, µs", 1, false, |t| t.rush_cpu[0]);
    compare(out, found, "CPU per call, 32 KiB in a rush, µs", 1, false, |t| t.rush_cpu[1]);
    compare(out, found, "CPU per call, 1 MiB in a rush, µs", 0, false, |t| t.rush_cpu[2]);
    compare(out, found, &format!("p50, {paced}, µs"), 0, true, |t| t.p50);
    compare(out, found, &format!("p99, {paced}, µs"), 0, true, |t| t.p99);
    compare(out, found, "calls per second, 1 KiB in a rush", 0, true, |t| t.rate);
    compare(out, found, "waits of the proxy's threads per call, in a rush", 2, false, |t| t.waits);
    let [bare, perch] = [&found.bare, &found.perch].map(|who| Spread::of(who.turns.iter().map(|t| t.opened)));
    let name = "connections opened to the upstream per 1000 calls, in a rush".to_owned();
    row(out, [name, "–".to_owned(), bare.show(2), perch.show(2), "–".to_owned()]);
    let starts = (Spread::of(found.bare.starts.clone()), Spread::of(found.perch.starts.clone()));
    let ratio = format!("{:.2}", starts.1.median / starts.0.median);
    row(
        out,
        ["start to first answer, ms".to_owned(), "–".to_owned(), starts.0.show(1), starts.1.show(1), ratio],
    );
    let [bare, perch] = [found.bare.idle_cpu, found.perch.idle_cpu];
    let ratio = format!("{:.2}", perch / bare);
    let name = "CPU without a call, µs in a second".to_owned();
    row(out, [name, "–".to_owned(), format!("{bare:.0}"), format!("{perch:.0}"), ratio]);
    for (at, name) in ["idle", "after the load", "at most"].into_iter().enumerate() {
        let [bare, perch] = [&found.bare, &found.perch].map(|who| who.memory[at] as f64 / f64::from(1 << 20));
        let cells = [format!("{bare:.1}"), format!("{perch:.1}"), format!("{:.2}", perch / bare)];
        let [bare, perch, ratio] = cells;
        row(out, [format!("resident memory {name}, MiB"), "–".to_owned(), bare, perch, ratio]);
    }
}

/// A row of medians over the rounds with their spread. The ratio is the median of the rounds' own ratios.
fn compare(
    out: &mut String,
    found: &Found,
    name: &str,
    digits: usize,
    has_direct: bool,
    of: impl Fn(&Turn) -> f64,
) {
    let all = |turns: &[Turn]| Spread::of(turns.iter().map(&of)).show(digits);
    let direct = if has_direct { all(&found.direct) } else { "–".to_owned() };
    let pairs = found.bare.turns.iter().zip(&found.perch.turns);
    let ratio = Spread::of(pairs.map(|(bare, perch)| of(perch) / of(bare)));
    row(out, [name.to_owned(), direct, all(&found.bare.turns), all(&found.perch.turns), ratio.show(2)]);
}

fn row(out: &mut String, cells: [String; 5]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn method(out: &mut String, found: &Found, machine: &[String]) {
    let late = Spread::of(found.direct.iter().map(|turn| turn.late));
    let _ = writeln!(
        out,
        "\nMedian of {ROUNDS} rounds (smallest..largest); ratios are taken inside each round, whose order is reversed from \
         round to round. Load, proxy and upstream are processes of their own on loopback, HTTP/1.1 with kept connections, no \
         TLS; CPU is the proxy's process alone, user and kernel. *At {RATE}/s*: {} s a round over {CONNECTIONS} connections, \
         every call has its time beforehand and its latency counts from that time (no coordinated omission); the load itself was \
         late by {} µs at its 99th percentile (without a proxy), which is inside every latency. *In a rush*: {} s (0.8 s for the larger answers), \
         each of {CONNECTIONS} connections ({CONNECTIONS_LARGE} for 1 MiB) sends again as soon as it is answered. The bare proxy \
         is pingora's own proxy path that only picks its peer, with perch's thread count and buffers. perch is `perch serve` as \
         shipped: vault, quota, headers, metrics, access lines to a file. Its limits are set so high that no call waits; the quota ledger \
         then remembers thousands of calls of the last second instead of twenty, so its cost is an upper bound. Starts: {STARTS} of each, \
         in turns.\n",
        PACE.as_secs(),
        late.show(0),
        RUSH.as_secs(),
    );
    for fact in machine {
        let _ = writeln!(out, "{fact}");
    }
    let _ = writeln!(out, "The run took {:.0} s.", found.took.as_secs_f64());
}

fn where_it_goes(out: &mut String, found: &Found) {
    let _ = writeln!(out, "\n#### Where perch's part goes (1 KiB in a rush)\n");
    let pairs = found.perch.turns.iter().zip(&found.lines_dropped);
    let ratio = Spread::of(pairs.map(|(kept, dropped)| dropped / kept.rush_cpu[0]));
    let dropped = Spread::of(found.lines_dropped.clone());
    let _ = writeln!(
        out,
        "With access lines to /dev/null instead of a file: {} µs per call, {} of the above.\n",
        dropped.show(1),
        ratio.show(2)
    );
    let (Some(bare), Some(perch)) = (&found.bare.profile, &found.perch.profile) else {
        let _ = writeln!(out, "No profile: `perf` is not installed, or may not look at other processes.");
        return;
    };
    let _ = writeln!(
        out,
        "Samples of `perf` (cpu-clock), as µs of one call:\n\n| thread | part | bare pingora | perch |"
    );
    let _ = writeln!(out, "|---|---|---:|---:|");
    for Part { name: (thread, part), bare, perch } in by_part(bare, perch) {
        let _ = writeln!(out, "| {thread} | {part} | {bare:.1} | {perch:.1} |");
    }
    let _ = writeln!(
        out,
        "\n| perch's functions outside the kernel, themselves alone | part | µs |\n|---|---|---:|"
    );
    for (function, part, cost) in &perch.functions {
        let _ = writeln!(out, "| `{}` | {part} | {cost:.2} |", function.replace('|', "\\|"));
    }
}

/// Every part of either side, the most expensive of perch's first; what is below a tenth of a microsecond is left out.
fn by_part(bare: &Profile, perch: &Profile) -> Vec<Part> {
    let names: BTreeSet<_> = bare.parts.keys().chain(perch.parts.keys()).cloned().collect();
    let of = |profile: &Profile, name: &(String, String)| profile.parts.get(name).copied().unwrap_or(0.0);
    let mut parts: Vec<Part> =
        names.into_iter().map(|name| Part { bare: of(bare, &name), perch: of(perch, &name), name }).collect();
    parts.retain(|part| part.bare.max(part.perch) >= 0.1);
    parts.sort_by(|a, b| b.perch.total_cmp(&a.perch));
    parts
}

/// A thread and the program part that ran in it, with what it cost either side for one call, in µs.
struct Part {
    name: (String, String),
    bare: f64,
    perch: f64,
}
