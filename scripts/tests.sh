#!/usr/bin/env bash
# Runs every test: with nextest where it can be had in a moment, else with cargo's own runner.
set -euo pipefail
cd "$(dirname "$0")/.."
# What scripts/setup.sh has fetched.
export PATH=$PWD/.cache/bin:$PATH

if ! cargo nextest --version >/dev/null 2>&1 && cargo binstall -V >/dev/null 2>&1; then
    cargo binstall --no-confirm --disable-telemetry cargo-nextest </dev/null >&2 || true
fi
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked
    # What a store has to do with runs on the other kind of store too.
    PERCH_TEST_STORE=postgres cargo nextest run --locked \
        -E 'binary(it) and test(/^(vault|exchange|import|identity|life|killed|parting|strangers|webhooks|webhooks_busy|webhooks_sdk|apps|keys|requests|pauses|page|usage|bundles)::/) and not test(three_gateways)'
    # nextest leaves the examples in the documentation to cargo.
    cargo test --locked --quiet --doc
else
    # Compiling nextest takes longer than compiling perch, so it is not done unasked.
    echo "tests: cargo-nextest is not installed, so cargo test runs the same tests." >&2
    echo "       To have it: cargo install cargo-nextest --locked" >&2
    cargo test --locked --no-fail-fast
    PERCH_TEST_STORE=postgres cargo test --locked --test it -- \
        vault:: exchange:: import:: identity:: life:: killed:: parting:: strangers:: webhooks:: apps:: keys:: requests:: pauses:: page:: usage:: bundles:: --skip three_gateways --skip cli::
fi
