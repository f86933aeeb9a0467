//! The targets of `fuzz/` without guidance, on any toolchain: every input that was ever worth keeping, and the same again
//! with small damages that are the same in every run.

#[path = "../fuzz/targets/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "guidance uses all of it, from another crate")]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use targets::TARGETS;

/// All corpora together stay below this.
const CORPORA_BYTES_MAX: u64 = 1 << 20;

/// Panics of any thread: those of a gateway's own tasks do not end a test.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(target))
        .unwrap_or_else(|why| panic!("{target} has no corpus: {why}"))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).expect("it can be read")).collect()
}

/// Pseudo-random numbers, the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }
}

/// Up to four small damages.
fn damaged(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = (at + 1 + dice.below(12)).min(bytes.len());
        let other = &corpus[dice.below(corpus.len())];
        let from = dice.below(other.len());
        match dice.below(6) {
            _ if bytes.is_empty() => bytes.push(dice.below(256) as u8),
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = [0, b'\n', b'"', b'9', b'-', 0x7f, 0xff][dice.below(7)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => drop(bytes.splice(at..end, other[from..(from + 16).min(other.len())].iter().copied())),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// How many times as many damaged inputs somebody wants who has time, but no other toolchain.
fn times() -> usize {
    std::env::var("FUZZ_TIMES").ok().map_or(1, |times| times.parse().expect("FUZZ_TIMES is a whole number"))
}

/// Replays a target's corpus, then this many damaged inputs.
fn replay(name: &str, more: usize) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(panic);
        }));
    });
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("it is a target");
    let corpus = corpus(name);
    assert!(corpus.len() >= 3, "{name} has nothing to replay");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let damaged = (0..more.saturating_mul(times())).map(|_| damaged(&mut dice, &corpus));
    for input in corpus.iter().cloned().chain(damaged) {
        let before = PANICS.load(Ordering::SeqCst);
        let held = std::panic::catch_unwind(|| target(&input)).is_ok();
        assert!(
            held && PANICS.load(Ordering::SeqCst) == before,
            "{name} fails; the input, {} bytes: {}",
            input.len(),
            input.escape_ascii()
        );
    }
}

macro_rules! replays {
    ($($target:ident: $more:literal),+ $(,)?) => {
        mod every_promise_holds_for_what_was_found_by {
            $(
                #[test]
                fn $target() {
                    super::replay(stringify!($target), $more);
                }
            )+
        }

        #[test]
        fn every_target_is_replayed() {
            let replayed = BTreeSet::from([$(stringify!($target)),+]);
            assert_eq!(replayed, TARGETS.into_iter().map(|(name, _)| name).collect());
        }
    };
}

// As many damages as a second or two allow.
replays! {
    access: 1_000,
    answer: 20,
    batch: 1_500,
    caller: 2_000,
    class: 1_000,
    codec: 1_000,
    config: 60,
    journal: 30,
    ledger: 100,
    limits: 2_000,
    merge: 500,
    paging: 2_000,
    problem: 1_000,
    proxy: 100,
    redact: 2_000,
    seal: 100,
    trace: 2_000,
    webhook: 300,
    wire: 2_000,
}

#[test]
fn every_target_is_built_for_guidance_and_told_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name: &str| fs::read_to_string(root.join(name)).expect("it is there");
    let (manifest, page) = (text("fuzz/Cargo.toml"), text("docs/fuzzing.md"));
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(text(&format!("fuzz/fuzz_targets/{name}.rs")).contains(&format!("targets::{name}::target")));
        assert!(page.contains(&format!("| `{name}` |")), "docs/fuzzing.md does not tell of {name}");
    }
}

#[test]
fn the_corpora_stay_small() {
    let size =
        |(name, _): (&str, fn(&[u8]))| corpus(name).iter().map(|input| input.len() as u64).sum::<u64>();
    let bytes: u64 = TARGETS.into_iter().map(size).sum();
    assert!(bytes < CORPORA_BYTES_MAX, "{bytes} bytes; minimise them with scripts/fuzz.sh --minimise");
}
