//! Who may import whom. Imports point down only; floors 0 and 1 are pure.

use crate::source::{Path, paths, tokens};

/// Where a room lies. The order is the order of the floors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    /// Words and facts.
    Zero,
    /// Decisions.
    One,
    /// Capabilities.
    Two,
    /// The life of a call.
    Three,
    /// Where calls come in.
    Four,
    /// The composition root and the program.
    Above,
    /// Beside the house: imports floor 0; floor 2 and above may import it.
    Settings,
    /// Beside the house: imports floor 0; the command line alone may import it.
    Simulator,
    /// Beside the house: imports words and limits; the command line alone may import it. Pure.
    Load,
}

const ROOMS: [(&str, Floor); 16] = [
    ("types", Floor::Zero),
    ("finch", Floor::Zero),
    ("policy", Floor::One),
    ("limit", Floor::One),
    ("store", Floor::Two),
    ("vault", Floor::Two),
    ("upstream", Floor::Two),
    ("telemetry", Floor::Two),
    ("engine", Floor::Three),
    ("doors", Floor::Four),
    ("app", Floor::Above),
    ("cli", Floor::Above),
    ("main", Floor::Above),
    ("config", Floor::Settings),
    ("sim", Floor::Simulator),
    ("load", Floor::Load),
];

fn floor_of(room: &str) -> Option<Floor> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// The room a file of `src/` belongs to; the map of the house itself belongs to none.
fn room_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("src/")?;
    let room = inside.split('/').next()?;
    let room = room.strip_suffix(".rs").unwrap_or(room);
    (room != "lib").then_some(room)
}

fn may_import(from: (&str, Floor), to: (&str, Floor)) -> bool {
    if from.0 == to.0 {
        return true;
    }
    if (from.0, to.0) == ("types", "finch") {
        return false;
    }
    match (from.1, to.1) {
        (_, Floor::Simulator | Floor::Load) => from.0 == "cli",
        (Floor::Load, _) => matches!(to.0, "types" | "limit"),
        (Floor::Simulator | Floor::Settings, to) => to == Floor::Zero,
        (from, Floor::Settings) => from >= Floor::Two,
        (from, to) => from >= to,
    }
}

/// Imports that point up or sideways past a wall. Takes any file; only those of `src/` can err.
pub(crate) fn imports(file: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(file) else { return Vec::new() };
    let Some(floor) = floor_of(room) else {
        return vec![format!(
            "{file}: room `{room}` has no floor; give it one in ROOMS of tests/tidy/floors.rs"
        )];
    };
    let root = if room == "main" { "perch" } else { "crate" };
    let mut found = Vec::new();
    for path in paths(file, &tokens(text)) {
        let [first, target, ..] = path.segments.as_slice() else { continue };
        if first != root && first != "crate" {
            continue;
        }
        let complaint = match floor_of(target) {
            None => format!(
                "`{first}::{target}` names no room; import from a room of ROOMS in tests/tidy/floors.rs"
            ),
            Some(Floor::Simulator | Floor::Load) if path.in_test => continue,
            Some(other) if may_import((room, floor), (target.as_str(), other)) => continue,
            Some(other) => format!(
                "`{room}` ({floor:?}) must not import `{target}` ({other:?}): pass the value in, or move what both need down"
            ),
        };
        found.push(format!("{file}:{}: {complaint}", path.line));
    }
    found
}

/// Crates that wait, open or record something.
const IMPURE_CRATES: [&str; 9] =
    ["tokio", "pingora", "tracing", "hyper", "rusqlite", "moka", "async_trait", "getrandom", "prometheus"];

/// Parts of the standard library that touch the world.
const IMPURE_STD: [&str; 5] = ["net", "fs", "env", "process", "thread"];

/// What makes a path impure, if anything does.
fn impurity(path: &Path) -> Option<String> {
    let first = path.segments[0].as_str();
    if IMPURE_CRATES.iter().any(|c| first == *c || first.strip_prefix(c).is_some_and(|r| r.starts_with('_')))
    {
        return Some(format!("uses the crate `{first}`"));
    }
    if let Some(part) = IMPURE_STD.iter().find(|part| path.has(&["std", part])) {
        return Some(format!("uses `std::{part}`"));
    }
    if path.has(&["async"]) || path.has(&["await"]) {
        return Some("is asynchronous".to_owned());
    }
    let reads_clock = path.segments.len() > 1
        && path.segments.last().is_some_and(|last| last == "now" || last.starts_with("now_"));
    if path.has(&["SystemTime"]) || path.has(&["time", "Instant"]) || reads_clock {
        return Some(format!("knows a clock (`{}`)", path.segments.join("::")));
    }
    None
}

/// What floors 0 and 1 and simulated load must not contain, their tests included.
pub(crate) fn purity(file: &str, text: &str) -> Vec<String> {
    let is_pure = |floor| floor <= Floor::One || floor == Floor::Load;
    if !room_of(file).and_then(floor_of).is_some_and(is_pure) {
        return Vec::new();
    }
    paths(file, &tokens(text))
        .iter()
        .filter_map(|path| {
            let why = impurity(path)?;
            Some(format!(
                "{file}:{}: {why}; floors 0 and 1 and `load` take time, chance and data as arguments",
                path.line
            ))
        })
        .collect()
}
