#!/usr/bin/env bash
# Students of one to four layers of the quickstart's teacher, measured and drawn. After `make demo`, whose vectors they learn from.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1

for layers in 1 2 3 4; do
    distill shrink --teacher runs/quickstart/store --source PythonDocs --source.root runs/python_docs/corpus --source.limit 10000 \
        --source.documents 3000 --size $layers --minutes 2 --out runs/picture/layers-$layers
done
python experiments/picture/picture.py collect runs/picture/layers-{1,2,3,4}
python experiments/picture/picture.py draw
