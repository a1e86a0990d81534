#!/usr/bin/env bash
# The rows of the paper's MS MARCO table, for both students:
#   run.sh [SOURCE.yaml [QUERY_FILE...]]    QUERY_FILEs are generated queries (TSV or JSON lines); without one their row is left out
# One node: as it is. Several: start it on each with LAUNCH="torchrun --nnodes 2 --node-rank R --nproc-per-node 8 --master-addr HOST -m distill"
# and NODE=R. SLURM: job.sbatch. Killed or preempted, the same command goes on.
set -euo pipefail
source=$(realpath "${1:-$(dirname "$0")/source.yaml}")
queries=()
for file in "${@:2}"; do queries+=("$(realpath "$file")"); done
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
here=experiments/msmarco
name=${NAME:-msmarco} split=${SPLIT:-dev} dev=${DEV:-dev} students=${STUDENTS:-67m 11m} holdout=${HOLDOUT:-0}
teacher=${TEACHER:-sentence-transformers/msmarco-bert-base-dot-v5}
lengths=() # of its vectors count: it was trained for inner products, and its folder does not say so
if [ -z "${TEACHER:-}" ]; then lengths=(--normalize false); fi
trainer=${TRAINER:-conf/trainer/8gpu.yaml}
launch=${LAUNCH:-torchrun --standalone --nproc-per-node gpu -m distill}

list=$(IFS=,; echo "[${queries[*]}]") mixed="{"
for file in "${queries[@]}"; do mixed+="\"$file\": 1.0, "; done

$launch encode --config "$source" --source.init_args.holdout "$holdout" --teacher "$teacher" "${lengths[@]}" --queries "$list" --out "runs/$name/teacher"
for student in $students; do
    for row in ${ROWS:-direct symmetric scores matching ${queries:+generation}}; do
        run=runs/$name/$student-$row
        more=()
        if [ "$row" = generation ]; then more=(--data.queries "$mixed}"); fi
        $launch train --trainer "$trainer" --data "$source" --config $here/student-"$student".yaml --config $here/$row.yaml \
            --data.source.init_args.holdout "$holdout" --data.store "runs/$name/teacher" --data.dev "$dev" "${more[@]}" --out "$run"
        if [ "${NODE:-0}" = 0 ]; then python -m distill evaluate "$run" --split "$split"; fi
    done
done
