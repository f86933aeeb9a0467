#!/usr/bin/env bash
# Installs Finch's official SDKs at their pinned versions into .cache/sdk, for the tests that drive
# perch with them, Grafana's published types, for the test that judges the dashboards, checkov and kubernetes-validate, for the
# one that judges the Kubernetes manifests, and CycloneDX's validator, for the one that judges the image's bill of materials.
# Does nothing when what is there is what is pinned.
set -euo pipefail
cd "$(dirname "$0")/.."
sdk=$PWD/.cache/sdk
mkdir -p "$sdk"

# Whether folder $1 was installed from exactly the text $2.
is_fresh() { [ -f "$1/.installed-from" ] && [ "$(cat "$1/.installed-from")" = "$2" ]; }

# A venv in folder $1 with what the requirements file $2 pins; $3 says what that is.
venv() {
    local pins
    pins=$(python3 --version && cat "$2")
    is_fresh "$sdk/$1" "$pins" && return
    echo "sdks: installing $3" >&2
    rm -rf "${sdk:?}/$1"
    python3 -m venv "$sdk/$1"
    "$sdk/$1/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --requirement "$2" </dev/null || {
        echo "sdks: pip could not install $2. It needs PyPI or a mirror of it (PIP_INDEX_URL)." >&2
        exit 1
    }
    printf '%s\n' "$pins" >"$sdk/$1/.installed-from"
}

venv python tests/sdk/python/requirements.txt "the Python SDK"
venv kubernetes tests/kubernetes/requirements.txt "what judges Kubernetes manifests (some minutes)"
venv sbom tests/sbom/requirements.txt "CycloneDX's validator"

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
