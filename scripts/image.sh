#!/usr/bin/env bash
# Builds the container image of perch from nothing but perch, for this machine's own kind of processor, and its bill of
# materials: `make image`. In target/oci: perch-VERSION.tar (for `podman load`, `docker load`, `skopeo copy`, `kind load`),
# perch-VERSION.cdx.json, and with buildah or podman a store of its own (scripts/podman.sh), so that no other is touched.
#   IMAGE_ENGINE=buildah|podman|docker   which one builds; else the first that is there
#   IMAGE_NAME=NAME                      instead of perch:VERSION
#   CA_BUNDLE=FILE                       trust anchors for the image; else Mozilla's, as the system's package ships them
#   SOURCE_DATE_EPOCH=SECONDS            the time in the image; else that of the last commit
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target=$(uname -m)-unknown-linux-musl
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=${IMAGE_NAME:-perch:$version}
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0); fi
export SOURCE_DATE_EPOCH
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null | head -n 1)" ] || revision=$revision-changed

engine=${IMAGE_ENGINE:-}
for one in buildah podman docker; do
    if [ -z "$engine" ] && command -v "$one" >/dev/null; then engine=$one; fi
done

# The program, static. No path of this machine goes into it: not of this folder, not of crates, not of Rust.
case "$PWD${CARGO_HOME:-$HOME}" in *[[:space:]]*)
    echo "image: compilers are told paths in a list with blanks between; move this folder to a path without blanks" >&2
    exit 1
    ;;
esac
folder=$(cargo metadata --locked --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# Where crates lie is known once they are there.
cargo fetch --locked --quiet --target "$target" || echo "image: going on with the crates that are on this machine" >&2
own=("$PWD=/perch")
case "$folder" in "$PWD"/*) ;; *) own+=("$folder=/perch/target") ;; esac
for source in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do own+=("$source=/crates"); done
std="$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc"
triple=${target//-/_}
export "CC_$triple=musl-gcc"
prefixed() { local word=$1 each all=""; shift; for each in "$@"; do all+="${all:+ }$word=$each"; done; echo "$all"; }
export "CFLAGS_$triple=$(prefixed -ffile-prefix-map "${own[@]}")"
export "CARGO_TARGET_${triple^^}_RUSTFLAGS=$(prefixed --remap-path-prefix "${own[@]}" "$std")"
# The flags of whoever runs this would win over these.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
# Its own addresses are written into it at every start, 24 bytes for each in the old way, a bit or two in the newer one.
cargo rustc --locked --profile image --target "$target" --bin perch -- -C link-arg=-Wl,-z,pack-relative-relocs
# The linker leaves the symbols in, a quarter of the whole, although the profile says otherwise.
program=$folder/$target/image/perch.stripped
strip --strip-all -o "$program" "$folder/$target/image/perch"
for path in "$PWD" "$HOME/" "${CARGO_HOME:-$HOME/.cargo}/"; do
    # Root's home is a short word; everyone else's is long enough to be found by accident never.
    if grep --binary-files=text --quiet --fixed-strings -- "$path" "$program"; then
        echo "image: the program names $path, a path of this machine; look at what compiled it in" >&2
        exit 1
    fi
done
if readelf --program-headers "$program" 2>/dev/null | grep --quiet INTERP; then
    echo "image: the program is not static, and nothing in the image could load it" >&2
    exit 1
fi

# Whom to trust: Mozilla's list as the system's package ships it, and none of the anchors that were added to this machine.
place=target/oci
context=$place/context
rm -rf "$context"
mkdir -p "$context/root/etc/ssl/certs" "$context/root/etc/perch" "$context/root/usr/share/doc/perch" "$context/state/var/lib/perch"
roots=$context/root/etc/ssl/certs/ca-certificates.crt
share=/usr/share/ca-certificates
# Those whom this machine's owner has refused ("!" in the package's list) are refused here as well.
mozilla=()
for file in "$share"/mozilla/*.crt; do
    grep --quiet --fixed-strings --line-regexp -- "!${file#"$share"/}" /etc/ca-certificates.conf 2>/dev/null || mozilla+=("$file")
done
roots_version=()
if [ -n "${CA_BUNDLE:-}" ]; then
    cat "$CA_BUNDLE" >"$roots"
elif [ -f "${mozilla[0]:-}" ]; then
    of_package=$(dpkg-query --show --showformat='${Version}' ca-certificates 2>/dev/null) ||
        of_package=$(rpm --query --queryformat '%{VERSION}' ca-certificates 2>/dev/null) || of_package=""
    [ -z "$of_package" ] || roots_version=(--roots-version "$of_package")
    # Some end without a line's end.
    for file in "${mozilla[@]}"; do cat "$file" && echo; done | sed '/^$/d' >"$roots"
else
    echo "image: no trust anchors: install ca-certificates, or name a PEM file: CA_BUNDLE=FILE make image" >&2
    exit 1
fi
anchors=$(grep -c -- '-----BEGIN CERTIFICATE-----' "$roots") || { echo "image: $CA_BUNDLE holds no certificate" >&2; exit 1; }

cp "$program" "$context/root/perch"
cp config/image/perch.toml "$context/root/etc/perch/perch.toml"
cp LICENSE "$context/root/usr/share/doc/perch/LICENSE"
bill=$place/perch-$version.cdx.json
scripts/sbom.py --target "$target" --binary "$program" --roots "$roots" "${roots_version[@]}" --notices "$context/root/usr/share/doc/perch/NOTICES" >"$bill"
# Without the name and the time of a file, which gzip would write into it.
gzip -9 --no-name "$context/root/usr/share/doc/perch/NOTICES"
find "$context/root" -type d -exec chmod 755 {} +
find "$context/root" -type f -exec chmod 644 {} +
chmod 755 "$context/root/perch"
chmod 700 "$context/state/var/lib/perch"
pack=(tar --format=ustar --sort=name --numeric-owner "--mtime=@$SOURCE_DATE_EPOCH" "--file=$context/rootfs.tar")
"${pack[@]}" --create --owner=0 --group=0 --directory="$context/root" etc perch usr
"${pack[@]}" --append --owner=65532 --group=65532 --directory="$context/state" var/lib/perch
rm -rf "$context/root" "$context/state"
cp config/image/Containerfile "$context/Containerfile"

archive=$place/perch-$version.tar
rm -f "$archive"
arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$name" --file "$context/Containerfile")
case "$engine" in
buildah)
    scripts/podman.sh buildah build --quiet --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" "${arguments[@]}" "$context" >"$place/id"
    scripts/podman.sh buildah push --quiet "$name" "docker-archive:$archive:$name"
    ;;
podman)
    scripts/podman.sh podman build --quiet --timestamp "$SOURCE_DATE_EPOCH" "${arguments[@]}" "$context" >"$place/id"
    scripts/podman.sh podman save --quiet --output "$archive" "$name"
    ;;
docker)
    docker build --quiet "${arguments[@]}" "$context" >"$place/id"
    docker save --output "$archive" "$name"
    ;;
esac
rm -rf "$context"

echo "image    $name for $(uname -m), $(cat "$place/id")"
echo "archive  $archive, $(stat --format=%s "$archive") bytes (load it: podman load --input $archive)"
echo "program  $(stat --format=%s "$program") bytes, static, $anchors trust anchors beside it"
echo "bill     $bill, $(grep -c '"bom-ref"' "$bill") parts"
