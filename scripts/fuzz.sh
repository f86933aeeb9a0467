#!/usr/bin/env bash
# Looks for inputs that break a promise, guided by coverage: each target of fuzz/ for FUZZ_SECONDS (60), one after the
# other, and a table. `fuzz.sh TARGET…` runs these alone; `fuzz.sh --keep` takes over into fuzz/corpus what earlier runs
# found that reaches further; `fuzz.sh --minimise` drops from fuzz/corpus what reaches nothing of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
rustup toolchain list 2>/dev/null | grep -q '^nightly' || missing+=("a nightly toolchain, for its counters: rustup toolchain install nightly --profile minimal")
cargo fuzz --version >/dev/null 2>&1 || missing+=("cargo-fuzz: cargo install cargo-fuzz --locked")
if [ "${#missing[@]}" -gt 0 ]; then
    echo "fuzz: missing on this machine:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
fi
scripts/setup.sh fuzz

keeps=no
case "${1:-}" in
--keep | --minimise) keeps=${1#--}; shift ;;
esac
seconds=${FUZZ_SECONDS:-60}
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || read -ra targets <<<"$(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml | tr '\n' ' ')"

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
# perch has no unsafe code, so no sanitizer is needed, and without one it is built in half the time.
cargo +nightly fuzz build --sanitizer none --fuzz-dir fuzz --target-dir fuzz/target
bin=fuzz/target/$host/release

if [ "$keeps" != no ]; then
    for target in "${targets[@]}"; do
        corpus=fuzz/corpus/$target found=fuzz/target/corpus/$target
        mkdir -p "$found"
        if [ "$keeps" = minimise ]; then
            kept=$(mktemp -d)
            "$bin/$target" -merge=1 "$kept" "$corpus" >/dev/null 2>&1
            rm -f "$corpus"/* && cp "$kept"/* "$corpus" && rm -r "$kept"
        else
            "$bin/$target" -merge=1 "$corpus" "$found" >/dev/null 2>&1
        fi
        echo "$target: $(find "$corpus" -type f | wc -l) files, $(du -sb "$corpus" | cut -f1) bytes"
    done
    exit 0
fi

failed=0
printf '%-10s %12s %10s %8s %8s\n' target runs coverage corpus crashes
for target in "${targets[@]}"; do
    found=fuzz/target/corpus/$target artifacts=fuzz/artifacts/$target log=fuzz/target/$target.log
    mkdir -p "$found" "$artifacts"
    before=$(find "$artifacts" -type f | wc -l)
    ended=0
    "$bin/$target" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 \
        -max_len=4096 -print_final_stats=1 -artifact_prefix="$artifacts/" >"$log" 2>&1 || ended=$?
    crashes=$(($(find "$artifacts" -type f | wc -l) - before))
    [ "$ended" -eq 0 ] || [ "$crashes" -gt 0 ] || crashes=1
    last() { grep -o "$1" "$log" | tail -n 1 | grep -o '[0-9]*' | head -n 1 || true; }
    runs=$(last 'number_of_executed_units: [0-9]*')
    printf '%-10s %12s %10s %8s %8s\n' "$target" "${runs:-$(last '^#[0-9]*')}" "$(last 'cov: [0-9]*')" "$(last 'corp: [0-9]*')" "$crashes"
    if [ "$crashes" -gt 0 ]; then
        failed=1
        grep -a -m 1 -A 2 'panicked at' "$log" | sed 's/^/    /' || tail -n 3 "$log"
        echo "    again: $bin/$target $(find "$artifacts" -type f -newer "fuzz/corpus/$target" -o -type f -print | tail -n 1)"
    fi
done
exit "$failed"
