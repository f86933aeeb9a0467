#!/usr/bin/env bash
# Makes every attack of docs/attacks.md, with its long arms, and prints what became of each.
# SCALE=500 is a million calls and 200 kills; SCALE=1 is what `make test` does.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/attacks
rm -rf "$out" && mkdir -p "$out"
export PERCH_ATTACK_REPORT=$out/report.tsv PERCH_ATTACK_SCALE=${SCALE:-500}
: >"$PERCH_ATTACK_REPORT"

# The last column of each row names its tests.
named() {
    awk -F ' [|] ' '/^[|] [A-Z][0-9][0-9] [|]/ { print $NF }' docs/attacks.md |
        grep -o '`[^`]*::[^`]*`' | tr -d '`' | sort -u
}
mapfile -t whole < <(named | grep -v '^lib ')
mapfile -t units < <(named | sed -n 's/^lib //p')

whole+=("attacks::")

cargo build --locked --quiet
status=0
cargo test --locked --quiet --lib --no-run && cargo test --locked --quiet --test it --no-run
# One test at a time: what is measured is not disturbed by its neighbours.
cargo test --locked --lib -- "${units[@]}" >"$out/log" 2>&1 || status=$?
cargo test --locked --test it -- --test-threads 1 "${whole[@]}" >>"$out/log" 2>&1 || status=$?

awk -F '\t' -v docs=docs/attacks.md -v log_file="$out/log" '
    BEGIN {
        while ((getline line < log_file) > 0) {
            if (line ~ /^test .* \.\.\. (ok|FAILED)$/) {
                split(line, word, " "); ended[word[2]] = (line ~ /ok$/) ? "ok" : "FAILED"
            }
            if (line ~ /panicked at src\// || line ~ /perch has a defect/) panics++
        }
    }
    {
        split($1, part, " "); id = part[1]; rows++
        if ($5 == "not judged") unjudged[id] = 1
        if ($5 == "BROKEN" || !(id in seen) || ($2 == "apps" && !(id in broken))) seen[id] = $4
        if ($5 == "BROKEN") broken[id] = 1
        count[id]++
        if (index(places[id], $2) == 0) places[id] = places[id] (places[id] == "" ? "" : ", ") $2
    }
    END {
        while ((getline line < docs) > 0) {
            if (line !~ /^\| [A-Z][0-9][0-9] \|/) continue
            gsub(/^\| | \|$/, "", line); n = split(line, cell, " [|] "); id = cell[1]
            if (n != 6) continue
            all++
            is_ok = 1; tests = 0; names = cell[n]
            while (match(names, /`[^`]*::[^`]*`/)) {
                name = substr(names, RSTART + 1, RLENGTH - 2); names = substr(names, RSTART + RLENGTH)
                sub(/^lib /, "", name); found = 0
                for (test in ended) if (index(test, name)) { found = 1; if (ended[test] != "ok") is_ok = 0 }
                tests++; if (!found) is_ok = 0
            }
            if (id in broken) is_ok = 0
            what = (id in seen) ? seen[id] (count[id] > 1 ? " (" count[id] " times: " places[id] ")" : "") : (tests ? tests " test(s)" : "not tested: " cell[5])
            verdict = tests ? (is_ok ? (id in unjudged ? "not judged" : "ok") : "BROKEN") : "-"
            if (verdict == "BROKEN") bad++
            if (verdict == "not judged") left++
            printf "%-4s %-10s %-52.52s %s\n", id, verdict, cell[4], what
        }
        # A panic in perch fails the test in which it happened, whoever captured what it said.
        printf "\n%d attacks, %d rows of tables, %d broken, %d not judged%s\n", all, rows, bad, left, panics ? ", PANICS: see the log" : ""
        exit (bad || panics) ? 1 : 0
    }' "$PERCH_ATTACK_REPORT" || status=1
[ "$status" -eq 0 ] || { echo "attack: something broke; see $out/log" >&2; exit 1; }
