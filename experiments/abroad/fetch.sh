#!/usr/bin/env bash
# Downloads the packages in packages.tsv, whose texts a general student learns from: fetch.sh FOLDER
# Packages that this machine cannot get, as it has no apt-get of Debian 12 or no npm, are left out.
set -euo pipefail
mkdir -p "${1:?usage: fetch.sh FOLDER}"
folder=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
fetched() { compgen -G "$folder/${1//-/[-_]}[-_]*" > /dev/null; }
tail -n +2 "$here/packages.tsv" | while IFS=$'\t' read -r registry package version _; do
  fetched "$package" && continue
  echo "$registry: $package"
  case $registry in
    pypi) python -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" "$package==$version" ;;
    npm) (cd "$folder" && npm pack --silent "$package@$version" > /dev/null) || echo "left out: $package" ;;
    debian) (cd "$folder" && apt-get download -qq "$package") || echo "left out: $package" ;;
  esac
done
