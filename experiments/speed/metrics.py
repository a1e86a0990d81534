"""Metrics alone against torchmetrics, and a whole evaluation against sentence-transformers' InformationRetrievalEvaluator."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from corpora import passages, queries, teacher_vectors
from harness import arguments, figure, measure, report, threaded
from torchmetrics.retrieval import RetrievalMRR, RetrievalNormalizedDCG, RetrievalRecall

from distill.metrics.ranking import ranking_metrics
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.vectors.search import search

QUERIES, TOP = 6980, 100


OURS = {"mrr_at_k": [10], "ndcg_at_k": [10], "accuracy_at_k": [10], "precision_recall_at_k": [TOP], "map_at_k": [TOP]}


def evaluator(
    asked: np.ndarray, stored: np.ndarray, relevant: dict[str, set[str]], **metrics: list[int]
) -> Callable[[], dict[str, dict[int, float]]]:
    """The peer's evaluation of vectors that exist."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    queries, documents = (torch.from_numpy(vectors.astype(np.float32)) for vectors in (asked, stored))

    class OverVectors(InformationRetrievalEvaluator):
        def embed_inputs(self, *_: object, **options: object) -> torch.Tensor:
            return queries

    theirs = OverVectors(
        dict.fromkeys(relevant, ""),
        {f"d{row}": "" for row in range(len(stored))},
        relevant,
        **metrics,
        score_functions={"dot": lambda queries, documents: queries @ documents.T},
    )
    return lambda: theirs.compute_all_metrics(None, corpus_embeddings=documents)["dot"]


def main() -> None:
    given = arguments(__doc__)
    stored = np.asarray(teacher_vectors(passages(given.data), "document"))
    asked = np.asarray(teacher_vectors(queries(given.data).subset(np.arange(QUERIES)), "query"))
    questions = torch.from_numpy(asked.astype(np.float32))
    # each query's relevant documents: some of its nearest, so that the metrics have something to find
    nearest = search(questions, stored, TOP)[1].numpy()
    random = np.random.default_rng(0)
    grades = {f"q{row}": {f"d{document}": 1 for document in random.choice(found, 3, replace=False)} for row, found in enumerate(nearest)}
    qrels, corpus = Qrels(grades, "nearest"), Ids.of(f"d{row}" for row in range(len(stored)))
    ids = list(grades)

    def ours() -> dict[str, float]:
        ranked, judged = qrels.grade(ids, corpus, search(questions, stored, TOP)[1].numpy())
        return {name: float(v.mean()) for name, v in ranking_metrics(torch.from_numpy(ranked), torch.from_numpy(judged), 1).items()}

    relevant = {query: set(found) for query, found in grades.items()}
    theirs, few = evaluator(asked, stored, relevant), evaluator(asked, stored, relevant, **OURS)
    check(ours(), few())
    rows = []
    for _, setting in threaded(given):
        contenders = {
            "evaluation, distill": lambda: len(ours()) and QUERIES,
            "evaluation, sentence-transformers": lambda: len(theirs()) and QUERIES,
            "evaluation, sentence-transformers asked for no more metrics than distill": lambda: len(few()) and QUERIES,
        }
        rows += measure(contenders, given, "queries", setting, peer="evaluation, sentence-transformers")
        rows.append(alone_against_torchmetrics(qrels.grade(ids, corpus, nearest), given.rounds, setting))
    report("metrics", given, {"queries": QUERIES, "documents": len(stored), "k": TOP}, rows)


def check(ours: dict[str, float], theirs: dict[str, dict[int, float]]) -> None:
    for name, value in ours.items():
        metric, k = name.split("@")
        if abs(theirs[f"{metric}@k"][int(k)] - value) > 1e-4:
            raise SystemExit(f"{name}: {value} here, {theirs[f'{metric}@k'][int(k)]} by the evaluator of sentence-transformers")


def alone_against_torchmetrics(graded: tuple[np.ndarray, np.ndarray], rounds: int, setting: str) -> dict:
    """Milliseconds of MRR@10, nDCG@10 and Recall@100 of ready rankings."""
    ranked, judged = (torch.from_numpy(grades) for grades in graded)
    scores, query = torch.arange(TOP, 0, -1.0).repeat(len(ranked)), torch.arange(len(ranked)).repeat_interleave(TOP)

    def peer() -> None:
        for metric in (RetrievalMRR(top_k=10), RetrievalNormalizedDCG(top_k=10), RetrievalRecall(top_k=TOP)):
            metric(scores, ranked.flatten(), indexes=query)

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds + 1):
        for name, work in (("ours", lambda: ranking_metrics(ranked, judged, 1)), ("peer", peer)):
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(taken[1:]) * 1000 for taken in seconds.values())
    return figure(f"metrics of {len(ranked):,} x {TOP}, peer torchmetrics, {setting}", ours, "ms", peer=theirs)


if __name__ == "__main__":
    main()
