//! What was found, as a table; and which bounds were broken.

use super::course::{Found, Run};
use super::site::NOBODY;
use super::stats::Spread;
use std::time::Duration;

/// The largest image.
const IMAGE_BYTES_MAX: u64 = 25_000_000;
/// How long it may take from SIGTERM, under load, to the end.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long it may take from the making of its process until it is ready.
const START_MAX: Duration = Duration::from_secs(5);
/// The memory that `podman create` grants.
const MEMORY: u64 = 64 << 20;
/// How much of it may be perch's own, the rest being the kernel's and files'.
const RESIDENT_MAX: u64 = MEMORY / 10 * 9;
/// "Read-only file system", as the kernel says it.
const EROFS: i32 = 30;
/// What a wrong key ends perch with.
const EXIT_KEY: i32 = 78;

/// A row for each thing that was measured, median and spread.
pub(crate) fn markdown(found: &Found, facts: &[String]) -> String {
    let of = |value: &dyn Fn(&Run) -> f64| Spread::of(found.runs.iter().map(value));
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rows = [
        ("image, unpacked, MB", format!("{:.1}", found.image_bytes as f64 / 1e6), "at most 25"),
        (
            "process made to /readyz, ms",
            of(&|run| ms(run.process_ready)).show(0),
            "runc's own part included; at most 5000",
        ),
        ("podman start to /readyz, ms", of(&|run| ms(run.podman_ready)).show(0), ""),
        ("resident memory idle, MiB", of(&|run| mib(run.resident[0])).show(1), ""),
        ("resident memory after the load, MiB", of(&|run| mib(run.resident[1])).show(1), ""),
        ("resident memory at most, MiB", of(&|run| mib(run.resident[2])).show(1), "at most 57.6"),
        (
            "control group at most, MiB",
            of(&|run| run.group_peak.map_or(0.0, mib)).show(1),
            "files' pages included, which the kernel takes back; limit 64",
        ),
        (
            "calls per second, 16 connections",
            of(&rate).show(0),
            "two of them ask for a large answer twice a second",
        ),
        ("CPU per call, µs", of(&|run| run.cpu_per_call).show(0), ""),
        ("p50 of small calls, µs", of(&|run| run.latency[0]).show(0), ""),
        ("p99 of small calls, µs", of(&|run| run.latency[1]).show(0), ""),
        ("SIGTERM under load to the end, ms", of(&|run| ms(run.stopped_in)).show(0), "at most 20000"),
    ];
    let calls: u64 = found.runs.iter().map(|run| run.load.good).sum();
    let largest = found.runs.iter().map(|run| run.load.largest).max().unwrap_or(0);
    let mut text = format!(
        "## The image, run {} times\n\nMedian (smallest..largest). {calls} calls were answered, the largest answer \
         had {} KiB.\n\n| | | |\n|---|---:|---|\n",
        found.runs.len(),
        largest / 1024,
    );
    for (what, value, note) in rows {
        text.push_str(&format!("| {what} | {value} | {note} |\n"));
    }
    let held = |is_held: bool| if is_held { "yes" } else { "NO" };
    let all = |holds: &dyn Fn(&Run) -> bool| held(found.runs.iter().all(holds));
    text.push_str(&format!("| user and group {NOBODY} | {} | |\n", all(&is_nobody)));
    text.push_str(&format!(
        "| no capability in any set | {} | |\n",
        all(&|run| run.rights.capabilities == 0)
    ));
    text.push_str(&format!(
        "| no new privileges, system calls filtered | {} | |\n",
        all(&|run| run.rights.no_new && run.rights.filtered)
    ));
    text.push_str(&format!(
        "| root cannot be written, by root either | {} | |\n",
        all(&|run| run.root_refused == Some(EROFS))
    ));
    text.push_str(&format!("| first call of the app succeeds | {} | |\n", all(&|run| run.first_call == 200)));
    text.push_str(&format!("| nothing killed for want of memory | {} | |\n", all(&|run| run.starved == 0)));
    text.push_str(&format!("| SIGTERM ends it with 0 | {} | |\n", all(&|run| run.exit == 0)));
    text.push_str(&format!(
        "| a key that everyone may read: exit {EXIT_KEY} | {} | |\n\n",
        held(found.open_key_exit == EXIT_KEY)
    ));
    for fact in facts {
        text.push_str(fact);
        text.push('\n');
    }
    text
}

/// One sentence for each bound that is broken.
pub(crate) fn defects(found: &Found) -> Vec<String> {
    let mut defects = Vec::new();
    let mut expect = |holds: bool, why: String| {
        if !holds {
            defects.push(why);
        }
    };
    let bytes = found.image_bytes;
    expect(bytes <= IMAGE_BYTES_MAX, format!("the image has {bytes} bytes and may have {IMAGE_BYTES_MAX}"));
    let exit = found.open_key_exit;
    expect(
        exit == EXIT_KEY,
        format!("with a key that everyone may read it ended with {exit}, not {EXIT_KEY}"),
    );
    for (number, run) in found.runs.iter().enumerate() {
        let mut expect = |holds: bool, why: String| expect(holds, format!("run {}: {why}", number + 1));
        let rights = &run.rights;
        expect(is_nobody(run), format!("it runs as {:?}:{:?}", rights.users, rights.groups));
        expect(rights.capabilities == 0, format!("it has capabilities: {:x}", rights.capabilities));
        expect(rights.no_new, "what it starts may gain privileges".to_owned());
        expect(rights.filtered, "no filter of system calls is in force".to_owned());
        expect(run.root_refused == Some(EROFS), format!("a write into its root met {:?}", run.root_refused));
        expect(run.first_call == 200, format!("the app's first call was answered with {}", run.first_call));
        expect(run.process_ready <= START_MAX, format!("it was ready after {:?}", run.process_ready));
        expect(run.load.good > 0, "not one call of the load was answered".to_owned());
        let bad = &run.load.bad;
        expect(bad.is_empty(), format!("calls failed: {}", bad.first().map_or("", String::as_str)));
        expect(run.starved == 0, format!("killed for want of memory, {} times", run.starved));
        let most = run.resident[2];
        expect(most <= RESIDENT_MAX, format!("it held {most} bytes and may hold {RESIDENT_MAX}"));
        expect(run.exit == 0, format!("SIGTERM ended it with {}", run.exit));
        expect(run.stopped_in <= STOP_MAX, format!("it took {:?} to end", run.stopped_in));
    }
    defects
}

fn is_nobody(run: &Run) -> bool {
    let ids = run.rights.users.iter().chain(&run.rights.groups);
    ids.clone().count() == 8 && ids.into_iter().all(|id| *id == NOBODY)
}

fn rate(run: &Run) -> f64 {
    run.load.good as f64 / run.took.as_secs_f64()
}
