#!/usr/bin/env bash
# Students of one to four layers on the corpus of the quickstart (run that first), measured and drawn.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
out=runs/picture

for layers in 1 2 3 4; do
    distill train --config experiments/quickstart/train.yaml --model.student.layers $layers --out $out/layers-$layers
    distill evaluate $out/layers-$layers --split test
done
python experiments/picture/picture.py collect $out/layers-{1,2,3,4}
python experiments/picture/picture.py draw
