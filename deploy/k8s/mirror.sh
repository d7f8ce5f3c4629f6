#!/bin/sh
# Copies every image of the chart from one registry into another, tags kept.
#
#   mirror.sh FROM TO [IMAGES]     IMAGES: a file, one image a line (default images.txt beside this)
#   COPY="skopeo copy --all" mirror.sh …   skopeo (the default), or `crane copy`
#
# Afterwards install with --set global.imageRegistry=TO.
set -eu

[ $# -ge 2 ] || {
  echo "usage: mirror.sh FROM TO [IMAGES]" >&2
  exit 2
}
from=$1
to=$2
images=${3:-$(dirname "$0")/images.txt}
copy=${COPY:-skopeo copy --all}

case $copy in
  skopeo*) scheme=docker:// ;;
  *) scheme= ;;
esac

while read -r image; do
  case $image in
    '' | '#'*) continue ;;
  esac
  echo "$from/$image -> $to/$image"
  # shellcheck disable=SC2086 -- the copier is a command with its options
  $copy "$scheme$from/$image" "$scheme$to/$image" </dev/null
done <"$images"
