#!/usr/bin/env bash
# Makes sure of the system's part of a build (`setup.sh build`), of the tests (`setup.sh test`), of the
# real-time run (`setup.sh smoke`), of the random faults (`setup.sh chaos`), of the page's pictures (`setup.sh page`), of the
# container image (`setup.sh image`), of running that (`setup.sh smoke-image`) or of the search for bad inputs (`setup.sh fuzz`).
# Installs Debian packages where it may; elsewhere says exactly what is missing, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
build) wanted=(cc cmake) ;;
test) wanted=(cc cmake python node npm redis postgres prometheus chromium kubectl curl) ;;
smoke) wanted=(cc cmake redis) ;;
chaos) wanted=(cc cmake redis postgres prlimit faketime) ;;
page) wanted=(cc cmake chromium) ;;
image) wanted=(cc cmake musl python3 roots engine) ;;
smoke-image) wanted=(cc cmake musl python3 roots engine podman runc) ;;
fuzz) wanted=(cc cmake cxx) ;;
*) echo "usage: scripts/setup.sh build|test|smoke|chaos|page|image|smoke-image|fuzz" >&2; exit 2 ;;
esac

python_min=3.11 # the oldest that the pinned packages of tests/kubernetes accept
node_min=18     # the oldest with fetch built in; the SDK's authors support 20 and newer

# Debian 12 has a kubectl that is too old, and Kubernetes' own archive is not set up everywhere: then this one, by its digest.
kubectl_version=1.33.7
kubectl_sha256() {
    case "$(uname -m)" in
    x86_64) echo 471d94e208a89be62eb776700fc8206cbef11116a8de2dc06fc0086b0015375b amd64 ;;
    aarch64) echo fa7ee98fdb6fba92ae05b5e0cde0abd5972b2d9a4a084f7052a1fd0dce6bc1de arm64 ;;
    esac
}
PATH=$PWD/.cache/bin:$PATH

# Whether version $1 is $2 or newer.
is_at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

have() {
    case "$1" in
    # A compiler without the C library's headers cannot build SQLite.
    cc) echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null ;;
    cmake) cmake --version >/dev/null 2>&1 ;;
    cxx) echo '#include <vector>' | c++ -x c++ -fsyntax-only - 2>/dev/null ;;
    python)
        python3 -c 'import ensurepip, venv' 2>/dev/null &&
            is_at_least "$(python3 -c 'import platform; print(platform.python_version())')" "$python_min"
        ;;
    node) is_at_least "$(node --version 2>/dev/null | tr -d v)" "$node_min" ;;
    npm) npm --version >/dev/null 2>&1 ;;
    redis) redis-server --version >/dev/null 2>&1 || valkey-server --version >/dev/null 2>&1 ;;
    # The driver starts the browser that is installed beside it.
    chromium) chromedriver --version >/dev/null 2>&1 && { command -v chromium || command -v google-chrome; } >/dev/null ;;
    # Only its kustomize is used: it needs no cluster. Components came with 1.21; it tells kustomize's version since 1.24.
    kubectl) is_at_least "$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"kustomizeVersion": "v\(.*\)".*/\1/p')" 4 ;;
    curl) curl --version >/dev/null 2>&1 ;;
    prometheus) prometheus --version >/dev/null 2>&1 && promtool --version >/dev/null 2>&1 ;;
    musl) musl-gcc --version >/dev/null 2>&1 ;;
    python3) python3 -c '' 2>/dev/null ;;
    roots) [ -n "${CA_BUNDLE:-}" ] || compgen -G '/usr/share/ca-certificates/mozilla/*.crt' >/dev/null ;;
    engine)
        for one in ${IMAGE_ENGINE:-buildah podman docker}; do command -v "$one" >/dev/null && return 0; done
        return 1
        ;;
    podman) podman --version >/dev/null 2>&1 ;;
    runc) runc --version >/dev/null 2>&1 || crun --version >/dev/null 2>&1 ;;
    prlimit) prlimit --version >/dev/null 2>&1 ;;
    faketime) compgen -G '/usr/lib*/*/faketime/libfaketimeMT.so.1' >/dev/null || compgen -G '/usr/lib*/faketime/libfaketimeMT.so.1' >/dev/null ;;
    # Debian keeps the server's programs out of the way, one folder for each version.
    postgres) command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    esac
}

packages_of() {
    case "$1" in
    cc) echo gcc libc6-dev ;;
    cmake) echo cmake make ;;
    musl) echo musl-tools ;;
    python3) echo python3 ;;
    roots) echo ca-certificates ;;
    engine) echo "${IMAGE_ENGINE:-buildah}" ;;
    podman) echo podman ;;
    runc) echo runc ;;
    cxx) echo g++ ;;
    python) echo python3 python3-venv ;;
    node) echo nodejs ;;
    npm) echo npm ;;
    redis) echo redis-server ;;
    postgres) echo postgresql ;;
    prlimit) echo util-linux ;;
    faketime) echo faketime ;;
    chromium) echo chromium chromium-driver ;;
    prometheus) echo prometheus ;;
    curl) echo curl ;;
    # Kubernetes' own archive calls it kubectl, where that is set up; Debian's own is good from 13 on.
    kubectl)
        for name in kubectl kubernetes-client; do
            version=$(apt-cache policy "$name" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
            if [ -n "$version" ] && is_at_least "$version" 1.24; then
                echo "$name"
                break
            fi
        done
        ;;
    esac
}

describe() {
    case "$1" in
    cc) echo "a C compiler with the C library's headers (SQLite and zlib are compiled from source)" ;;
    cmake) echo "cmake (zlib is built with it)" ;;
    musl) echo "musl-gcc (the image's program is static; its C parts are compiled for musl, https://musl.libc.org)" ;;
    python3) echo "Python 3.9 or newer (scripts/sbom.py writes the image's bill of materials)" ;;
    roots) echo "Mozilla's trust anchors for the image (package ca-certificates; or name a PEM file: CA_BUNDLE=FILE)" ;;
    engine) echo "${IMAGE_ENGINE:-buildah, podman or docker} (it builds the image; https://buildah.io)" ;;
    podman) echo "podman (it runs the image; https://podman.io)" ;;
    runc) echo "runc or crun (podman starts containers with it)" ;;
    cxx) echo "a C++ compiler (libFuzzer is compiled from source)" ;;
    python) echo "Python $python_min or newer with venv (the Python SDK is one of the clients under test)" ;;
    node) echo "Node.js $node_min or newer (the Node SDK is one of the clients under test; https://nodejs.org)" ;;
    npm) echo "npm (it installs the Node SDK; it comes with Node.js from https://nodejs.org)" ;;
    postgres) echo "PostgreSQL 13 or newer, with initdb (tests start private servers; https://www.postgresql.org)" ;;
    chromium) echo "Chromium and its chromedriver (tests open the admin page in a real browser; https://www.chromium.org)" ;;
    prlimit) echo "prlimit of util-linux (it takes file descriptors away from a running gateway)" ;;
    faketime) echo "libfaketime (it sets the clock of one process; https://github.com/wolfcw/libfaketime)" ;;
    prometheus) echo "prometheus and promtool 2.40 or newer (tests start private ones; https://prometheus.io)" ;;
    curl) echo "curl (tests carry out the commands of the documents)" ;;
    kubectl) echo "kubectl 1.24 or newer (the manifests are rendered with it, without a cluster; Debian 12's is too old: https://kubernetes.io/docs/tasks/tools; in .cache/bin it is found, too)" ;;
    redis) echo "redis-server or valkey-server 6 or newer (tests start private ones; https://redis.io, https://valkey.io)" ;;
    esac
}

# Rust: never installed from here, because which toolchain a person uses is theirs to choose.
rust_min=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null || ! rust_now=$(rustc --version 2>/dev/null | cut -d' ' -f2); then
    echo "setup: Rust is missing. Install $rust_min or newer from https://rustup.rs, then run this again." >&2
    exit 1
fi
if ! is_at_least "$rust_now" "$rust_min"; then
    echo "setup: Rust is $rust_now, perch needs $rust_min or newer. Run: rustup update stable" >&2
    exit 1
fi
# Rust's own part for the image.
case "$1" in image | smoke-image)
    musl_target=$(uname -m)-unknown-linux-musl
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$musl_target" ] &&
        ! { command -v rustup >/dev/null && rustup target add "$musl_target"; }; then
        echo "setup: Rust's library for $musl_target is missing. Run: rustup target add $musl_target" >&2
        exit 1
    fi
    ;;
esac
if [ "$1" = test ]; then
    for part in fmt:rustfmt clippy:clippy; do
        cargo "${part%%:*}" --version >/dev/null 2>&1 && continue
        if command -v rustup >/dev/null && rustup component add "${part##*:}"; then continue; fi
        echo "setup: Rust's ${part##*:} is missing. Run: rustup component add ${part##*:}" >&2
        exit 1
    done
fi

missing=()
for thing in "${wanted[@]}"; do have "$thing" || missing+=("$thing"); done
[ "${#missing[@]}" -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
    echo "setup: installing ${missing[*]}" >&2
    mkdir -p .cache
    log=.cache/apt.log
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null >>"$log" 2>&1; }
    : >"$log"
    # A list that cannot be renewed may still be good enough; the installation decides.
    apt update || echo "setup: the package lists could not be renewed; see $log" >&2
    # Only now: what the lists have decides who is asked for.
    read -ra packages <<<"$(for thing in "${missing[@]}"; do packages_of "$thing"; done | tr '\n' ' ')"
    # Packages of servers start them; the tests bring up their own, beside whatever runs already.
    if [ "${#packages[@]}" -gt 0 ] && ! apt install --yes --no-install-recommends "${packages[@]}"; then
        # One name that is not known keeps all the others out.
        for package in "${packages[@]}"; do
            apt install --yes --no-install-recommends "$package" && continue
            echo "setup: apt-get could not install $package; the end of $log:" >&2
            tail -n 3 "$log" >&2
        done
    fi
fi

hash -r
if [[ " ${missing[*]} " = *" kubectl "* ]] && ! have kubectl; then
    read -r sum kind <<<"$(kubectl_sha256)"
    url=https://dl.k8s.io/release/v$kubectl_version/bin/linux/${kind:-}/kubectl
    mkdir -p .cache/bin
    if [ -z "${sum:-}" ]; then
        echo "setup: no digest of kubectl is known for $(uname -m)" >&2
    elif ! curl --fail --silent --show-error --location --max-time 300 --output .cache/kubectl.new "$url"; then
        echo "setup: kubectl could not be fetched from $url" >&2
    elif ! echo "$sum  .cache/kubectl.new" | sha256sum --check --status; then
        echo "setup: what came from $url is not kubectl $kubectl_version; it was thrown away" >&2
    else
        chmod 755 .cache/kubectl.new && mv .cache/kubectl.new .cache/bin/kubectl
        echo "setup: kubectl $kubectl_version is in .cache/bin; put that folder into PATH where you run tests yourself" >&2
    fi
    rm -f .cache/kubectl.new
fi

hash -r
still=()
for thing in "${missing[@]}"; do have "$thing" || still+=("$thing"); done
[ "${#still[@]}" -eq 0 ] && exit 0
echo "setup: missing on this machine:" >&2
for thing in "${still[@]}"; do echo "  - $(describe "$thing")" >&2; done
read -ra packages <<<"$(for thing in "${still[@]}"; do packages_of "$thing"; done | tr '\n' ' ')"
[ "${#packages[@]}" -eq 0 ] || echo "On Debian or Ubuntu: sudo apt-get update && sudo apt-get install --yes ${packages[*]}" >&2
exit 1
