#!/usr/bin/env bash
# Natural Questions, the rows and launch options of ../msmarco/run.sh with its small student, then R@5, R@20 and R@100 of every system:
#   run.sh [SOURCE.yaml [QUERY_FILE...]]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(realpath "${1:-$here/source.yaml}")
export NAME=nq SPLIT=test DEV=holdout HOLDOUT=${HOLDOUT:-2000} STUDENTS=11m
export TEACHER=${TEACHER:-sentence-transformers/nq-distilbert-base-v1}
"$here/../msmarco/run.sh" "$source" "${@:2}"
cd "$here/../.."
PATH="$PWD/.venv/bin:$PATH"
if [ "${NODE:-0}" = 0 ]; then python experiments/nq/recall.py "$source" runs/nq/11m-*/runs/test/*.trec; fi
