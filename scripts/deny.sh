#!/usr/bin/env bash
# Holds licences, bans and sources of all dependencies against deny.toml, without a network.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    echo "deny: SKIPPED, cargo-deny is not installed: licences, bans and sources were not checked." >&2
    echo "      To have it: cargo install cargo-deny --locked   (about five minutes)" >&2
    exit 0
fi
# Offline, cargo-deny reads what is on this machine: with a network, make that everything.
cargo fetch --locked --quiet || echo "deny: going on with the crates that are on this machine" >&2
cargo deny --offline --locked check --hide-inclusion-graph licenses bans sources
echo "deny: the advisory database was NOT consulted; where there is a network: make advisories" >&2
