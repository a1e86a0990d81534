"""Rank correlation, over a run's evaluations, of the bound's terms (Theorem 3.1) with what the student keeps.

bound.py RUN/metrics.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torchmetrics.functional import spearman_corrcoef

from distill.callbacks.run_log import read_lines

TERMS = ("theory/r_emb_q", "theory/r_emb_q_train", "theory/gap", "theory/teacher_deviation")
KEPT = ("dev/retention_ndcg@10", "dev/overlap@10", "dev/cosine")


def spearman(one: list[float], other: list[float]) -> float:
    """NaN where one never changes."""
    return float(spearman_corrcoef(torch.tensor(one), torch.tensor(other))) if min(len(set(one)), len(set(other))) > 1 else float("nan")


def main() -> None:
    evaluations = [line for line in read_lines(Path(sys.argv[1])) if KEPT[1] in line]
    print(f"{len(evaluations)} evaluations{'':<30}" + "".join(f"{name:>24}" for name in KEPT))
    for term in TERMS:
        values = [line[term] for line in evaluations]
        found = [f"{spearman(values, [line[name] for line in evaluations]):.2f}" for name in KEPT]
        print(f"{term:<25}{values[0]:8.4f} to {values[-1]:7.4f}" + "".join(f"{cell:>24}" for cell in found))


if __name__ == "__main__":
    main()
