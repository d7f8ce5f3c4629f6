#!/bin/sh
# Builds the image of one service from bases pinned by digest.
#
#   deploy/docker/build.sh SERVICE [TARGET] [TAG]      TARGET: slim (default) | distroless
#
# CONTAINER_ENGINE  the program that builds (default docker; podman works too)
# PYTHON_IMAGE, DISTROLESS_IMAGE  override images.env
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

refuse() {
  echo "build.sh: $*" >&2
  exit 2
}

[ $# -ge 1 ] || refuse "name a service: build.sh SERVICE [slim|distroless] [TAG]"
service=$1
target=${2:-slim}
[ -f "$root/services/$service/app.py" ] || refuse "there is no service '$service' in services/"

case $target in
  slim | distroless) ;;
  *) refuse "target '$target' is neither slim nor distroless" ;;
esac

# Read as plain lines, never as shell: a pin file must not be able to run anything.
pinned() {
  sed -n "s/^$1=//p" "$here/images.env" | tail -n 1
}
PYTHON_IMAGE=${PYTHON_IMAGE:-$(pinned PYTHON_IMAGE)}
DISTROLESS_IMAGE=${DISTROLESS_IMAGE:-$(pinned DISTROLESS_IMAGE)}

require_digest() {
  if ! printf '%s\n' "$2" | grep -Eq '^[^[:space:]@]+@sha256:[0-9a-f]{64}$'; then
    refuse "$1 is '$2': pin it by digest (NAME@sha256:…) in deploy/docker/images.env"
  fi
}
require_digest PYTHON_IMAGE "$PYTHON_IMAGE"
if [ "$target" = distroless ]; then
  require_digest DISTROLESS_IMAGE "$DISTROLESS_IMAGE"
else
  # The stage is parsed though never built, so its base needs some pinned name.
  DISTROLESS_IMAGE=$PYTHON_IMAGE
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml" | head -n 1)
tag=${3:-tollgate/$service:$version}
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
epoch=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)

exec "${CONTAINER_ENGINE:-docker}" build \
  --file "$here/Dockerfile" \
  --target "$target" \
  --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" \
  --build-arg "DISTROLESS_IMAGE=$DISTROLESS_IMAGE" \
  --build-arg "SERVICE=$service" \
  --build-arg "VERSION=$version" \
  --build-arg "REVISION=$revision" \
  --build-arg "SOURCE_DATE_EPOCH=$epoch" \
  --tag "$tag" \
  "$root"
