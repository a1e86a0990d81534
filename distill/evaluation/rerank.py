"""`distill rerank`: a teacher puts another system's documents in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.files.atomic import write_json
from distill.files.device import Precision, best_device, resolve_precision
from distill.files.provenance import provenance
from distill.metrics.ranking import ranking_metrics, recall
from distill.metrics.retention import bootstrap_mean
from distill.metrics.trec_runs import write_trec
from distill.records import BadInput, Ranking
from distill.teachers.first_stage import first_stage_fingerprint, read_first_stage
from distill.teachers.reranking import load_scorer, rerank_run
from distill.texts.sources import TextSource

FIRST_STAGE, RERANKED = "first_stage", "reranked"
METRICS = ("mrr@10", "ndcg@10")


def rerank(
    teacher: str, source: TextSource, first_stage: str, out: str, split: str = "test", top: int = 20, precision: Precision = "auto"
) -> None:
    """Re-ranks the first documents of a run or of a retriever with a cross or a dual encoder, and measures both orders.

    Leaves `results.json` and `runs/SPLIT/reranked.trec`.

    Args:
        teacher: folder or hub name of a cross encoder or a dual encoder.
        source: where documents, queries and judgments come from.
        first_stage: whose documents are re-ranked: a TREC run file, or a store as `distill encode` leaves it.
        out: folder to write.
        split: queries to rank for.
        top: documents of each query that are re-ranked; the others are left out.
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
    """
    if top < 1:
        raise BadInput(f"top is {top}: re-rank at least 1 document")
    corpus, queries = source.documents(), source.queries(split)
    rows = read_first_stage(first_stage, source, split, queries, top)
    score, model = load_scorer(teacher, best_device(), precision)
    before = Ranking(list(queries.ids), rows, np.zeros(rows.shape, np.float32), FIRST_STAGE)
    runs = {FIRST_STAGE: before, RERANKED: rerank_run(before, score(queries, corpus, rows), RERANKED)}
    write_trec(runs[RERANKED], corpus.ids.__getitem__, Path(out) / "runs" / split / f"{RERANKED}.trec")
    results: dict[str, Any] = {
        "dataset": f"{source.name}/{split}",
        "queries": len(queries),
        **_measured(runs, source, split, top),
        "provenance": {
            **provenance(),
            "device": str(best_device()),
            "precision": resolve_precision(precision, best_device().type),
            "teacher": {"name": teacher, "fingerprint": model.fingerprint()},
            "first_stage": {"name": first_stage, "fingerprint": first_stage_fingerprint(first_stage)},
            "documents": corpus.fingerprint,
            "texts": queries.fingerprint,
        },
    }
    write_json(Path(out) / "results.json", results)
    print(format_table(results) + f"\n{Path(out) / 'results.json'}")


def _measured(runs: dict[str, Ranking], source: TextSource, split: str, top: int) -> dict[str, Any]:
    """Both systems' metrics over the judged queries, and their difference with its paired 95% interval; nothing without judgments."""
    qrels = source.qrels(split)
    judged = np.empty(0, np.int64) if qrels is None else qrels.judged(runs[FIRST_STAGE].query_ids)
    if qrels is None or not len(judged):
        return {"judged_queries": 0, "systems": {}}
    values, ids = {}, [runs[FIRST_STAGE].query_ids[query] for query in judged]
    for name, run in runs.items():
        ranked, grades = (torch.from_numpy(part) for part in qrels.grade(ids, source.documents().ids, run.rows[judged]))
        values[name] = {
            metric: found for metric, found in ranking_metrics(ranked, grades, source.relevant_from).items() if metric in METRICS
        }
        ceiling = float(recall(ranked, grades, top, source.relevant_from).mean())  # the same for both
    gain = {metric: bootstrap_mean(values[RERANKED][metric] - values[FIRST_STAGE][metric]) for metric in METRICS}
    return {
        "judged_queries": len(judged),
        "candidates": {"top": top, "recall": ceiling},
        "systems": {name: {metric: float(found.mean()) for metric, found in metrics.items()} for name, metrics in values.items()},
        "difference": {metric: {"value": found.value, "ci95": [found.low, found.high]} for metric, found in gain.items()},
    }


def format_table(results: dict[str, Any]) -> str:
    """What the terminal shows."""
    lines = [f"\n{results['dataset']}, {results['queries']} queries, {results['judged_queries']} of them judged"]
    if not results["systems"]:
        return lines[0]
    lines.append(f"{'':<12}{'MRR@10':>10}{'nDCG@10':>10}")
    lines += [f"{name:<12}" + "".join(f"{system[metric]:>10.4f}" for metric in METRICS) for name, system in results["systems"].items()]
    for metric, title in zip(METRICS, ("MRR@10", "nDCG@10"), strict=True):
        low, high = results["difference"][metric]["ci95"]
        lines.append(f"{title} {results['difference'][metric]['value']:+.4f} [{low:+.4f}, {high:+.4f}]")
    candidates = results["candidates"]
    return "\n".join([*lines, f"recall of the {candidates['top']} candidates {candidates['recall']:.4f}"])
