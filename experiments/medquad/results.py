"""One table out of the runs of run.sh: every system re-ranks the first stage's documents and, where it can, searches the whole corpus.

results.py RUN_FOLDER: reads what the steps left there and writes results.json into it; what stands under `dev` is for choosing.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.encoders.batching import encode_texts
from distill.encoders.towers import load_towers
from distill.files.atomic import write_json
from distill.metrics.ranking import ranking_metrics
from distill.metrics.retention import bootstrap_mean
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.teachers.first_stage import retrieve_first_stage, run_to_rows
from distill.texts.sources import Beir
from distill.vectors.search import search
from distill.vectors.store import TeacherStore, VectorStore

TOP, METRICS, WAYS = 20, ("mrr@10", "ndcg@10"), ("reranking", "full_corpus")
# what is compared with what, and by which of the two ways of ranking
QUESTIONS = {
    "cross encoders beat the teacher they began from": [
        ("ce_cls", "de_teacher"),
        ("ce_dual", "de_teacher"),
        ("ce_dual_regularised", "de_teacher"),
    ],
    "the regulariser costs no accuracy": [("ce_dual_regularised", "ce_cls"), ("ce_dual_regularised", "ce_dual")],
    "labels make most of the gain": [("de_labels", "de_teacher"), ("ce_cls", "de_labels")],
    "mined hard negatives beside random ones": [("de_labels", "de_labels_random"), ("de_labels_random", "de_teacher")],
    "the regulariser makes vectors that can be matched": [("student_only_regularised", "student_only_plain")],
    "matching the cross encoder beside its scores": [("student_embeddings", "student_scores"), ("student_embeddings", "student_labels")],
    "matching the dual encoder beside the cross encoder's scores": [
        ("student_anchored", "student_scores"),
        ("student_anchored", "student_labels"),
    ],
    "other ways to learn from cross encoders": [
        *((f"student_embeddings_{weight}", "student_scores") for weight in ("0.1", "1.0", "3.0", "plain")),
        ("student_anchored_embeddings", "student_anchored"),
        ("student_scores_cls", "student_scores"),
        *((f"student_ensemble_{weights}", "student_scores") for weights in ("equal", "margin", "learned")),
    ],
    "matching the dual encoder beside labels": [("student_labels_matching", "student_labels")],
    "scores beside labels": [("student_scores", "student_labels")],
}
Values = dict[str, np.ndarray]  # by metric, a value a judged query


class Bench:
    """The queries of a split, what the first stage found for them, and how a ranking of documents is scored."""

    def __init__(self, root: Path, split: str):
        self.root, self.split = root, split
        self.source = Beir(str(root / "data"))
        self.queries, self.corpus = self.source.queries(split), self.source.documents().ids
        self.qrels = self.source.qrels(split)
        self.query_ids = list(self.queries.ids)
        self.first = retrieve_first_stage(str(root / "teacher"), self.source, split, self.queries, TOP)

    def values(self, rows: np.ndarray) -> Values:
        assert self.qrels is not None
        grades = [torch.from_numpy(part) for part in self.qrels.grade(self.query_ids, self.corpus, rows)]
        found = ranking_metrics(*grades, self.source.relevant_from)
        return {metric: found[metric].double().numpy() for metric in METRICS}

    def of_vectors(self, queries: np.ndarray, documents: VectorStore) -> dict[str, Values]:
        """Both ways, from vectors of the queries [Q, D] and of the corpus."""
        vectors = documents.take(self.first.ravel()).reshape(*self.first.shape, -1).astype(np.float32)
        scores = np.einsum("qd,qkd->qk", queries, vectors)
        reranked = np.take_along_axis(self.first, np.argsort(-scores, axis=1, kind="stable"), 1)
        found = search(torch.from_numpy(queries), documents, 100)[1].numpy()
        return {"reranking": self.values(reranked), "full_corpus": self.values(found)}

    def of_store(self, folder: Path) -> dict[str, Values]:
        """Both ways, of a dual encoder that embedded queries and corpus."""
        store = TeacherStore(folder)
        queries = store.queries(self.split, self.queries.fingerprints("query"))
        return self.of_vectors(queries.take(queries.ids.rows(self.query_ids)).astype(np.float32), store.documents)

    def of_run(self, path: Path) -> dict[str, Values]:
        """A TREC run of the first stage's documents, re-ranked; refuses any others."""
        rows = run_to_rows(read_trec(path), self.queries, self.corpus, TOP, str(path))
        if not np.array_equal(np.sort(rows), np.sort(self.first)):
            raise BadInput(f"{path}: not the first {TOP} documents of {self.root / 'teacher'} in another order: delete it and rerank again")
        return {"reranking": self.values(rows)}


def systems(bench: Bench) -> dict[str, dict[int, dict[str, Values]]]:
    """Every system's values by seed; what has none stands under seed -1."""
    root, found = bench.root, defaultdict[str, dict[int, dict[str, Values]]](dict)
    found["de_teacher"][-1] = bench.of_store(root / "teacher")
    for folder in sorted((root / "rerank").glob("ce_*")):
        if (run := folder / "runs" / bench.split / "reranked.trec").exists():
            found[named(folder)][seed(folder)] = bench.of_run(run)
    for folder in sorted((root / "vectors").glob("de_*")):
        found[named(folder)][seed(folder)] = bench.of_store(folder)
    for folder in sorted(root.glob("student_*")):
        if (folder / "results.json").exists():
            vectors = encode_texts(load_towers(str(folder / "student")).query, list(bench.queries), "query")
            found[named(folder)][seed(folder)] = bench.of_vectors(vectors, VectorStore(next((folder / "documents").iterdir())))
    return dict(found)


def named(folder: Path) -> str:
    """A system's name: without its seed, and without the weight of the regulariser where it is the default."""
    return re.sub(r"(ce_dual|student_only)_1\.0$", r"\1_regularised", re.sub(r"-\d+$", "", folder.name))


def seed(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])


def difference(ours: dict[int, dict[str, Values]], theirs: dict[int, dict[str, Values]], way: str, metric: str) -> dict[str, Any]:
    """Mean over the seeds that both have, query by query, with the paired interval over queries, and each seed's own."""
    pairs = [(mine, theirs.get(number, theirs.get(-1))) for number, mine in ours.items() if number in theirs or -1 in theirs]
    gains = np.stack([mine[way][metric] - other[way][metric] for mine, other in pairs])  # [seeds, Q]
    found = bootstrap_mean(torch.from_numpy(gains.mean(0)))
    return {"value": found.value, "ci95": [found.low, found.high], "seeds": [float(gain.mean()) for gain in gains]}


def measured(found: dict[str, dict[int, dict[str, Values]]]) -> dict[str, Any]:
    """Each system's means over queries and seeds, and the answers to QUESTIONS."""
    table = {
        name: {
            way: {metric: float(np.mean([values[way][metric].mean() for values in seeds.values()])) for metric in METRICS}
            for way in WAYS
            if way in next(iter(seeds.values()))
        }
        | {"seeds": len(seeds)}
        for name, seeds in found.items()
    }
    compared = {
        question: {
            f"{ours} - {theirs}": {
                way: {metric: difference(found[ours], found[theirs], way, metric) for metric in METRICS}
                for way in WAYS
                if all(way in values for name in (ours, theirs) for values in found[name].values())
            }
            for ours, theirs in pairs
            if ours in found and theirs in found and (found[ours].keys() & found[theirs].keys() or -1 in found[theirs])
        }
        for question, pairs in QUESTIONS.items()
    }
    return {"systems": table, "differences": compared}


def shown(split: str, results: dict[str, Any]) -> str:
    """What the terminal shows of a split."""
    lines = [f"\n{split:<30}re-ranking   full corpus   (MRR@10 nDCG@10)"]
    for name, row in results["systems"].items():
        cells = "  ".join(f"{row[way]['mrr@10']:.3f} {row[way]['ndcg@10']:.3f}" if way in row else "    -     -" for way in WAYS)
        lines.append(f"{name:<28}{row['seeds']:>2}  {cells}")
    for question, pairs in results["differences"].items():
        lines += [f"\n{question}"] if pairs else []
        for pair, by_way in pairs.items():
            for way, metrics in by_way.items():
                gain = metrics["mrr@10"]
                lines.append(f"  {pair:<48}{way:<12}{gain['value']:+.3f} [{gain['ci95'][0]:+.3f}, {gain['ci95'][1]:+.3f}] MRR@10")
    return "\n".join(lines)


def main(root: Path) -> None:
    results = {split: measured(systems(Bench(root, split))) for split in ("dev", "test")}
    write_json(root / "results.json", {**results["test"], "dev": results["dev"]})
    print("\n".join(shown(split, found) for split, found in results.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
