#!/usr/bin/env bash
# What each loss adds to query matching, at equal steps: losses.sh DATA, after run.sh DATA, whose teacher's vectors it takes.
set -euo pipefail
data=$(realpath "${1:?usage: losses.sh DATA}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1

row() {  # row NAME [LOSS WEIGHT]...: four epochs of the real queries, each scored against the teacher's top 8
    local losses="" name=$1
    shift
    while (($#)); do
        losses+="\"$1\": {\"class_path\": \"$1\", \"init_args\": {\"weight\": $2}}, "
        shift 2
    done
    distill train --config experiments/msmarco_dl/train.yaml --data.source.init_args.root "$data" --data.candidates 8 \
        --model.losses "{${losses%, }}" --trainer.max_epochs 4 --out runs/msmarco_dl_losses/$name
    distill evaluate runs/msmarco_dl_losses/$name --split dl19+dl20
}
row matching QueryMatching 1.0
row score QueryMatching 1.0 ScoreDistillation 0.1
row margin_mse QueryMatching 1.0 MarginMSE 10.0
row score_mse QueryMatching 1.0 ScoreMSE 10.0
row similarity QueryMatching 1.0 SimilarityMatching 10.0
row contrastive QueryMatching 1.0 ContrastiveMatching 0.1
row score_alone ScoreDistillation 1.0
row contrastive_alone ContrastiveMatching 1.0
row margin_mse_alone MarginMSE 10.0
