#!/usr/bin/env bash
# Speed against the peers, side by side: run.sh DATA; DATA is a folder that holds msmarco-dl and questions. About an hour on two cores.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
mkdir -p runs/speed
for bench in latency metrics search growth encode decoder ablation train; do
    python experiments/speed/$bench.py --data "$data" --json runs/speed/$bench.json
done
