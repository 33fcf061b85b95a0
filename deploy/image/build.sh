#!/usr/bin/env bash
# Builds the hub's image from scratch: static binary (packaging/compile, with its settings) -> target/image/figspan-hub.tar, an OCI archive.
# Needs buildah; no root beyond what buildah needs for a chroot, no daemon, no registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-localhost/figspan-hub:$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"name":"figspan-hub","version":"\([^"]*\)".*/\1/p')}
out=target/image
mkdir -p "$out/context"
program=$(packaging/compile image)/figspan-hub
cp "$program" "$out/context/figspan-hub"
file "$out/context/figspan-hub" | grep -Eq 'static(ally|-pie) linked' || { echo "figspan-hub is not static; see packaging/compile" >&2; exit 1; }
store=(--storage-driver vfs --root "$PWD/$out/store" --runroot "$PWD/$out/run")
buildah "${store[@]}" bud --isolation chroot -t "$tag" -f deploy/image/Dockerfile "$out/context"
rm -f "$out/figspan-hub.tar"
buildah "${store[@]}" push "$tag" "oci-archive:$out/figspan-hub.tar:$tag"
size=$(stat -c %s "$out/figspan-hub.tar")
echo "$out/figspan-hub.tar: $tag, $((size / 1024)) KiB"
[ "$size" -lt $((30 * 1024 * 1024)) ] || { echo "the image is over its limit of 30 MB" >&2; exit 1; }
