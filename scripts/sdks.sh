#!/usr/bin/env bash
# Installs Finch's official SDKs at their pinned versions into .cache/sdk, for the tests that drive
# perch with them, Grafana's published types, for the test that judges the dashboards, and CycloneDX's validator, for the one
# that judges the image's bill of materials. Does nothing when what is there is what is pinned.
set -euo pipefail
cd "$(dirname "$0")/.."
sdk=$PWD/.cache/sdk
mkdir -p "$sdk"

# Whether folder $1 was installed from exactly the text $2.
is_fresh() { [ -f "$1/.installed-from" ] && [ "$(cat "$1/.installed-from")" = "$2" ]; }

pins=$(python3 --version && cat tests/sdk/python/requirements.txt)
if ! is_fresh "$sdk/python" "$pins"; then
    echo "sdks: installing the Python SDK" >&2
    rm -rf "$sdk/python"
    python3 -m venv "$sdk/python"
    "$sdk/python/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement tests/sdk/python/requirements.txt </dev/null || {
        echo "sdks: pip could not install tests/sdk/python/requirements.txt. It needs PyPI or a mirror of it (PIP_INDEX_URL)." >&2
        exit 1
    }
    printf '%s\n' "$pins" >"$sdk/python/.installed-from"
fi

pins=$(python3 --version && cat tests/sbom/requirements.txt)
if ! is_fresh "$sdk/sbom" "$pins"; then
    echo "sdks: installing CycloneDX's validator" >&2
    rm -rf "$sdk/sbom"
    python3 -m venv "$sdk/sbom"
    "$sdk/sbom/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement tests/sbom/requirements.txt </dev/null || {
        echo "sdks: pip could not install tests/sbom/requirements.txt. It needs PyPI or a mirror of it (PIP_INDEX_URL)." >&2
        exit 1
    }
    printf '%s\n' "$pins" >"$sdk/sbom/.installed-from"
fi

pins=$(node --version && cat tests/sdk/node/package-lock.json)
if ! is_fresh "$sdk/node" "$pins"; then
    echo "sdks: installing the Node SDK" >&2
    rm -rf "$sdk/node"
    mkdir -p "$sdk/node"
    cp tests/sdk/node/package.json tests/sdk/node/package-lock.json "$sdk/node/"
    (cd "$sdk/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2) || {
        echo "sdks: npm could not install tests/sdk/node/package-lock.json. It needs the npm registry or a mirror (npm config set registry)." >&2
        exit 1
    }
    printf '%s\n' "$pins" >"$sdk/node/.installed-from"
fi

pins=$(node --version && cat tests/grafana/package-lock.json)
if ! is_fresh "$sdk/grafana" "$pins"; then
    echo "sdks: installing Grafana's types" >&2
    rm -rf "$sdk/grafana"
    mkdir -p "$sdk/grafana"
    cp tests/grafana/package.json tests/grafana/package-lock.json "$sdk/grafana/"
    (cd "$sdk/grafana" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2) || {
        echo "sdks: npm could not install tests/grafana/package-lock.json. It needs the npm registry or a mirror (npm config set registry)." >&2
        exit 1
    }
    printf '%s\n' "$pins" >"$sdk/grafana/.installed-from"
fi
