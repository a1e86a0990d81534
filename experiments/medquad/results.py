"""One table out of the runs of run.sh: every system re-ranks the first stage's documents and, where it can, searches the whole corpus.

results.py RUN_FOLDER: reads what the steps left there and writes results.json into it.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.data.pairs import first_stage_candidates
from distill.data.sources import Beir
from distill.data.store import TeacherStore, VectorStore
from distill.encoders.batched import encode_texts
from distill.encoders.towers import load_towers
from distill.metrics.ranking import judged_values
from distill.metrics.retention import bootstrap_mean
from distill.metrics.runs import read_trec
from distill.search import search

TOP, METRICS = 20, ("mrr@10", "ndcg@10")
# what is compared with what, and by which of the two ways of ranking
QUESTIONS = {
    "cross encoders beat the teacher they began from": [
        ("ce_cls", "de_teacher"),
        ("ce_dual", "de_teacher"),
        ("ce_dual_regularised", "de_teacher"),
    ],
    "the regulariser costs no accuracy": [("ce_dual_regularised", "ce_cls"), ("ce_dual_regularised", "ce_dual")],
    "labels make most of the gain": [("de_labels", "de_teacher"), ("ce_cls", "de_labels")],
    "the regulariser makes vectors that can be matched": [("student_only_regularised", "student_only_plain")],
    "matching the cross encoder beside its scores": [("student_embeddings", "student_scores"), ("student_embeddings", "student_labels")],
    "matching the dual encoder beside labels": [("student_labels_matching", "student_labels")],
    "scores beside labels": [("student_scores", "student_labels")],
}
Values = dict[str, np.ndarray]  # by metric, a value a judged query


class Bench:
    """The test queries, what the first stage found for them, and how a ranking of documents is scored."""

    def __init__(self, root: Path):
        self.root = root
        self.source = Beir(str(root / "data"))
        self.queries, self.corpus = self.source.queries("test"), self.source.documents().ids
        self.qrels = self.source.qrels("test")
        self.query_ids = list(self.queries.ids)
        self.first = first_stage_candidates(str(root / "teacher"), self.source, "test", self.queries, TOP)

    def values(self, rows: np.ndarray) -> Values:
        assert self.qrels is not None
        grades = [torch.from_numpy(part) for part in self.qrels.graded(self.query_ids, self.corpus, rows)]
        found = judged_values(*grades, self.source.relevant_from)
        return {metric: found[metric].double().numpy() for metric in METRICS}

    def of_vectors(self, queries: np.ndarray, documents: VectorStore) -> dict[str, Values]:
        """Both ways, from vectors of the queries [Q, D] and of the corpus."""
        vectors = documents.take(self.first.ravel()).reshape(*self.first.shape, -1).astype(np.float32)
        scores = np.einsum("qd,qkd->qk", queries, vectors)
        reranked = np.take_along_axis(self.first, np.argsort(-scores, axis=1, kind="stable"), 1)
        found = search(torch.from_numpy(queries), documents, 100)[1].numpy()
        return {"reranking": self.values(reranked), "full_corpus": self.values(found)}

    def of_run(self, path: Path) -> dict[str, Values]:
        """A TREC run of re-ranked documents."""
        run = read_trec(path)
        rows = np.stack([np.resize(self.corpus.rows([document for document, _ in run[query]]), TOP) for query in self.query_ids])
        return {"reranking": self.values(rows)}


def systems(bench: Bench) -> dict[str, dict[int, dict[str, Values]]]:
    """Every system's values by seed; what has none stands under seed -1."""
    root, found = bench.root, defaultdict[str, dict[int, dict[str, Values]]](dict)
    store = TeacherStore(root / "teacher")
    queries = store.queries("test", bench.queries.fingerprint)
    found["de_teacher"][-1] = bench.of_vectors(queries.take(queries.ids.rows(bench.query_ids)).astype(np.float32), store.documents)
    for folder in sorted((root / "rerank").glob("ce_*")):
        found[named(folder)][seed(folder)] = bench.of_run(folder / "runs" / "test" / "reranked.trec")
    for folder in sorted((root / "vectors").glob("de_*")):
        tuned = TeacherStore(folder)
        vectors = tuned.queries("test", bench.queries.fingerprint)
        asked = vectors.take(vectors.ids.rows(bench.query_ids)).astype(np.float32)
        found[named(folder)][seed(folder)] = bench.of_vectors(asked, tuned.documents)
    for folder in sorted(root.glob("student_*")):
        if (folder / "results.json").exists():
            vectors = encode_texts(load_towers(str(folder / "student")).query, list(bench.queries), "query")
            found[named(folder)][seed(folder)] = bench.of_vectors(vectors, VectorStore(next((folder / "documents").iterdir())))
    return dict(found)


def named(folder: Path) -> str:
    """A system's name: without its seed, and without the weight of the regulariser where it is the default."""
    return re.sub(r"-\d+$", "", folder.name).replace("_0.5", "_regularised")


def seed(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])


def difference(ours: dict[int, dict[str, Values]], theirs: dict[int, dict[str, Values]], way: str, metric: str) -> dict[str, Any]:
    """Mean over the seeds that both have, query by query, with the paired interval over queries, and each seed's own."""
    pairs = [(mine, theirs.get(number, theirs.get(-1))) for number, mine in ours.items() if number in theirs or -1 in theirs]
    gains = np.stack([mine[way][metric] - other[way][metric] for mine, other in pairs])  # [seeds, Q]
    found = bootstrap_mean(torch.from_numpy(gains.mean(0)))
    return {"value": found.value, "ci95": [found.low, found.high], "seeds": [float(gain.mean()) for gain in gains]}


def main(root: Path) -> None:
    found = systems(Bench(root))
    ways = ("reranking", "full_corpus")
    table = {
        name: {
            way: {metric: float(np.mean([values[way][metric].mean() for values in seeds.values()])) for metric in METRICS}
            for way in ways
            if way in next(iter(seeds.values()))
        }
        | {"seeds": len(seeds)}
        for name, seeds in found.items()
    }
    compared = {
        question: {
            f"{ours} - {theirs}": {
                way: {metric: difference(found[ours], found[theirs], way, metric) for metric in METRICS}
                for way in ways
                if all(way in values for name in (ours, theirs) for values in found[name].values())
            }
            for ours, theirs in pairs
            if ours in found and theirs in found and (found[ours].keys() & found[theirs].keys() or -1 in found[theirs])
        }
        for question, pairs in QUESTIONS.items()
    }
    (root / "results.json").write_text(json.dumps({"systems": table, "differences": compared}, indent=1) + "\n")
    for name, row in table.items():
        cells = "  ".join(f"{row[way]['mrr@10']:.3f} {row[way]['ndcg@10']:.3f}" if way in row else "    -     -" for way in ways)
        print(f"{name:<28}{row['seeds']:>2}  {cells}")
    for question, pairs in compared.items():
        print(f"\n{question}")
        for pair, by_way in pairs.items():
            for way, metrics in by_way.items():
                gain = metrics["mrr@10"]
                print(f"  {pair:<48}{way:<12}{gain['value']:+.3f} [{gain['ci95'][0]:+.3f}, {gain['ci95'][1]:+.3f}] MRR@10")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
