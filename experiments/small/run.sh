#!/usr/bin/env bash
# Small students: tables of tokens without layers, and layers with half of the tokens: run.sh DATA, a folder in MS MARCO layout as that of
# experiments/msmarco_dl, whose run.sh made the vectors and spans that these students learn from.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
spans=runs/msmarco_dl_spans/msmarco_dl_spans.jsonl

train() {  # NAME [OPTION...]: a student, what it keeps on DL19 and DL20, and its agreement on queries that were held out
  run=runs/small_$1
  distill train --config experiments/msmarco_dl/train.yaml --data.source.init_args.root "$data" --data.queries "{$spans: 3.8}" "${@:2}" --out "$run"
  distill evaluate "$run" --split dl19+dl20
}
train static --model.student StaticStudent --model.learning_rate 3e-4
train static_documents --model.student StaticStudent --model.learning_rate 5e-4 \
  --data.match_documents 1.0 --trainer.max_epochs 6
train whole --trainer.max_epochs 2
train half --trainer.max_epochs 2 --model.student.init_args.vocabulary 15261

# students of no layers to four in one job, each beside the teacher on 1,000 real queries that were held out
source=(--source.class_path MsMarcoTsv --source.init_args.root "$data" --source.init_args.keep_own_documents true
  --source.init_args.holdout 1000 --source.init_args.relevant_from 2)
distill frontier --teacher runs/msmarco_dl_teacher "${source[@]}" --queries $spans --minutes 118 --out runs/small_ladder
for run in runs/small_ladder/students/*/; do
  if [ "$(basename "$run")" != first ]; then
    distill evaluate "$run" --split holdout "${source[@]}" --store runs/msmarco_dl_teacher --out "$run/holdout.json"
  fi
done
