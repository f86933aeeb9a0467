#!/usr/bin/env bash
# Runs podman or buildah on a store of this folder's own, target/oci/store: `scripts/podman.sh podman images`. Whatever is
# done there, no other image or container of this machine is touched, and a machine inside of a container will do:
# plain files instead of overlays, runc where crun refuses the layout of control groups, no limits that may not be raised.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=${1:?usage: scripts/podman.sh podman|buildah WORD…}
shift
place=$PWD/target/oci
mkdir -p "$place"
printf '[containers]\ndefault_ulimits = []\n\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$place/containers.conf"
export CONTAINERS_CONF=$place/containers.conf
# Short, because sockets live there and their paths may have 107 bytes.
run=${TMPDIR:-/tmp}/perch-image-$(id -u)-$(printf %s "$place" | cksum | cut -d' ' -f1)
words=(--root "$place/store" --runroot "$run" --storage-driver vfs)
if [ "$tool" = podman ]; then
    words+=(--tmpdir "$run/tmp")
    if [ "$(id -u)" -eq 0 ] && command -v runc >/dev/null; then words+=(--runtime runc); fi
fi
exec "$tool" "${words[@]}" "$@"
