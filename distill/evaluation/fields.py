"""Names of systems and figures in results.json."""

from __future__ import annotations

TEACHER, STUDENT = "teacher", "student"
MAIN_METRIC = "ndcg@10"  # the one that a verdict is about; unjudged queries have only the overlap
OVERLAP, OVERLAP_INTERVAL = "overlap@10", "overlap@10_ci95"
