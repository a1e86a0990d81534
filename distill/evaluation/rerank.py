"""A teacher puts another system's documents in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.atomic import read_json, write_json
from distill.files.device import Precision, best_device, resolve_precision
from distill.files.provenance import collect_provenance
from distill.metrics.ranking import recall
from distill.metrics.retention import bootstrap_mean
from distill.metrics.trec_runs import write_trec
from distill.records import BadInput, Ranking
from distill.teachers.first_stage import fingerprint_first_stage, retrieve_first_stage
from distill.teachers.reranking import load_scorer, rerank_run
from distill.texts.grading import grade_judged, grade_tensors
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_judged_documents
from distill.texts.own_documents import warn_of_copies
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource

FIRST_STAGE, RERANKED = "first_stage", "reranked"
METRICS = ("mrr@10", "ndcg@10")


@dataclass(frozen=True)
class RerankResults:
    """The figures of a re-ranking, as results.json has them, and where that is; `repr` is the table of a terminal."""

    values: dict[str, Any]
    path: Path

    def __repr__(self) -> str:
        return format_table(self.values)


def rerank(
    teacher: str, source: TextSource, first_stage: str, out: str, split: str = "test", top: int = 20, precision: Precision = "auto"
) -> RerankResults:
    """Re-ranks the first documents of a run or of a retriever with a cross or a dual encoder, and measures both orders.

    A document that has its query's own id is left out, unless it is judged relevant or the source keeps own documents.

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
    refuse_other_results(Path(out))
    corpus, queries = source.documents(), source.queries(split)
    queries.refuse_odd_ids()
    check_judged_documents(source, split, corpus.ids)
    rows = retrieve_first_stage(first_stage, source, split, queries, top)
    warn_of_copies(source, split, rows)
    score, model = load_scorer(teacher, best_device(), precision)
    before = Ranking(list(queries.ids), rows, np.zeros(rows.shape, np.float32), FIRST_STAGE)
    rankings = {FIRST_STAGE: before, RERANKED: rerank_run(before, score(queries, corpus, rows), RERANKED)}
    write_trec(rankings[RERANKED], corpus.ids.__getitem__, Path(out) / "runs" / split / f"{RERANKED}.trec")
    results: dict[str, Any] = {
        "dataset": f"{source.name}/{split}",
        "queries": len(queries),
        **_measure(rankings, source, split, top),
        "provenance": {
            **collect_provenance(),
            "device": str(best_device()),
            "precision": resolve_precision(precision, best_device().type),
            "teacher": {"name": teacher, "fingerprint": model.fingerprint()},
            "first_stage": {"name": first_stage, "fingerprint": fingerprint_first_stage(first_stage)},
            "documents": corpus.fingerprint,
            "texts": queries.content_fingerprint,
        },
    }
    write_json(Path(out) / "results.json", results)
    return RerankResults(results, Path(out) / "results.json")


def refuse_other_results(folder: Path) -> None:
    """Refuses a folder whose `results.json` is that of an evaluation."""
    path = folder / "results.json"
    if path.exists() and "first_stage" not in read_json(path, "results").get("provenance", {}):
        raise BadInput(f"{folder}: has the results of an evaluation, which those of re-ranking would replace: choose another --out")


def _measure(rankings: dict[str, Ranking], source: TextSource, split: str, top: int) -> dict[str, Any]:
    """Both orders' metrics over the judged queries, and their difference with its paired 95% interval; nothing without judgments."""
    qrels, corpus = source.qrels(split), source.documents().ids
    values = {name: grade_judged(qrels, r.query_ids, corpus, r.rows, source.relevant_from) for name, r in rankings.items()}
    if qrels is None or not values[RERANKED]:
        return {"judged_queries": 0, "systems": {}}
    gains = {metric: bootstrap_mean(values[RERANKED][metric] - values[FIRST_STAGE][metric]) for metric in METRICS}
    return {
        "judged_queries": len(values[RERANKED]["mrr@10"]),
        "candidates": {"top": top, "recall": _measure_ceiling(qrels, rankings[RERANKED], corpus, top, source.relevant_from)},
        "systems": {name: {metric: float(metrics[metric].mean()) for metric in METRICS} for name, metrics in values.items()},
        "difference": {metric: {"value": gain.value, "ci95": [gain.low, gain.high]} for metric, gain in gains.items()},
    }


def _measure_ceiling(qrels: Qrels, ranking: Ranking, corpus: Ids, top: int, relevant_from: int) -> float:
    """Recall of the candidates, the same in either order."""
    judged = qrels.judged_positions(ranking.query_ids)
    ids = [ranking.query_ids[int(place)] for place in judged]
    grades = grade_tensors(qrels, ids, corpus, ranking.rows[judged])
    return float(recall(*grades, top, relevant_from).mean())


def format_table(results: dict[str, Any]) -> str:
    """The table of a terminal."""
    lines = [f"{results['dataset']}, {results['queries']} queries, {results['judged_queries']} of them judged"]
    if not results["systems"]:
        return lines[0]
    lines.append(f"{'':<12}{'MRR@10':>10}{'nDCG@10':>10}")
    lines += [f"{name:<12}" + "".join(f"{system[metric]:>10.4f}" for metric in METRICS) for name, system in results["systems"].items()]
    for metric, title in zip(METRICS, ("MRR@10", "nDCG@10"), strict=True):
        low, high = results["difference"][metric]["ci95"]
        lines.append(f"{title} {results['difference'][metric]['value']:+.4f} [{low:+.4f}, {high:+.4f}]")
    candidates = results["candidates"]
    return "\n".join([*lines, f"recall of the {candidates['top']} candidates {candidates['recall']:.4f}"])
