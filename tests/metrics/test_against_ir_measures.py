"""Our metrics and our handling of run files against ir-measures, on generated judgments and runs that have every oddity at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.evaluation.evaluation_set import EvaluationSet, GivenVectors
from distill.records import BadInput
from distill.texts.qrels import Qrels, read_qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts

ir_measures = pytest.importorskip("ir_measures")

PAIRS = 200


class Generated(TextSource):
    """Documents and queries in memory, judgments in a file."""

    def __init__(self, documents: list[str], queries: list[str], qrels: Path, relevant_from: int, keep_own_documents: bool):
        super().__init__(None, relevant_from=relevant_from, keep_own_documents=keep_own_documents)
        self.document_ids, self.query_ids, self.qrels_file = documents, queries, qrels

    def load_documents(self) -> Texts:
        return Texts.from_lists(self.document_ids, [f"text {id_}" for id_ in self.document_ids])

    def list_splits(self) -> list[str]:
        return ["test"]

    def load_queries(self, split: str) -> Texts:
        return Texts.from_lists(self.query_ids, [f"asks {id_}" for id_ in self.query_ids])

    def load_qrels(self, split: str) -> Qrels:
        return read_qrels(self.qrels_file)


@dataclass
class Pair:
    """Judgments and a run: queries that are documents, unknown ids, ties, queries that are missing on either side, repeated lines."""

    seed: int
    folder: Path
    run: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        shared = [f"x{i}" for i in range(self.random.randint(0, 6))]  # queries that are documents
        self.documents = [*shared, *(f"d{i}" for i in range(self.random.randint(3, 30)))]
        self.queries = [*shared, *(f"q{i}" for i in range(self.random.randint(1, 6)))]
        self.random.shuffle(self.documents)
        self.random.shuffle(self.queries)
        self.relevant_from, self.keeps = self.random.choice([1, 1, 2]), self.random.random() < 0.2
        self.grades = self.judge()
        self.rank()
        self.write()

    def some(self, ids: list[str], most: int) -> list[str]:
        return self.random.sample(ids, min(len(ids), self.random.randint(1, most)))

    def judge(self) -> dict[str, dict[str, int]]:
        judged = self.some(self.queries, 10)
        known = [*self.documents, "gone1", "gone2"]
        grades = {query: {document: self.random.randint(0, 3) for document in self.some(known, 8)} for query in judged}
        grades[judged[0]][self.random.choice(self.documents)] = 1  # judgments of no document at all are refused
        return grades

    def rank(self) -> None:
        for query in [*self.some(self.queries, 10), "unasked"]:
            found = self.some([*self.documents, query, "elsewhere1", "elsewhere2"], 40)
            self.run[query] = [(document, self.random.choice([0.0, 0.5, 0.5, 1.0, -2.0, 3.25])) for document in dict.fromkeys(found)]
        self.run.setdefault(self.queries[0], [(self.documents[0], 1.0)])
        if not set(dict(self.run[self.queries[0]])) & set(self.documents):
            self.run[self.queries[0]].append((self.documents[0], 0.25))

    def write(self) -> None:
        self.qrels_file, self.run_file = self.folder / "qrels.tsv", self.folder / "run.trec"
        judgments = [f"{query}\t0\t{document}\t{grade}\n" for query, of in self.grades.items() for document, grade in of.items()]
        self.qrels_file.write_text("".join(judgments + judgments[:2]))  # a judgment may be repeated
        lines = [f"{query} Q0 {document} 7 {score} x\n" for query, found in self.run.items() for document, score in found]
        self.run_file.write_text("".join(lines))

    def is_left_out(self, query: str, document: str) -> bool:
        return document == query and not self.keeps and self.grades.get(query, {}).get(query, 0) <= 0

    def evaluation(self) -> EvaluationSet:
        source = Generated(self.documents, self.queries, self.qrels_file, self.relevant_from, self.keeps)
        numbers = np.random.default_rng(self.seed)
        vectors = [numbers.integers(-1, 2, (len(ids), 3)).astype(np.float32) for ids in (self.queries, self.documents)]  # mostly ties
        return EvaluationSet(source, "test", GivenVectors(source, "test", *vectors))


class Comparisons:
    """Our values beside the rankings that they are of; ir-measures is asked about all of them at once, which is faster."""

    def __init__(self) -> None:
        self.ours: list[tuple[str, dict[str, np.ndarray], list[str]]] = []  # place, values by metric, judged queries
        self.qrels: dict[int, list] = {1: [], 2: []}  # by the lowest relevant grade
        self.runs: dict[int, list] = {1: [], 2: []}

    def add(self, pair: Pair, kind: str, values: dict[str, np.ndarray], run: list[tuple[str, str, float]]) -> None:
        place = f"{pair.seed} {kind} "
        self.ours.append((place, values, [query for query in pair.queries if query in pair.grades]))
        judgments = ((query, document, grade) for query, of in pair.grades.items() for document, grade in of.items())
        self.qrels[pair.relevant_from] += [ir_measures.Qrel(place + query, document, grade) for query, document, grade in judgments]
        self.runs[pair.relevant_from] += [ir_measures.ScoredDoc(place + query, document, score) for query, document, score in run]

    def check(self) -> None:
        theirs: dict[tuple[str, str], float] = {}
        for grade, qrels in self.qrels.items():
            measures = {
                ir_measures.RR(rel=grade) @ 10: "mrr@10",
                ir_measures.nDCG @ 10: "ndcg@10",
                ir_measures.R(rel=grade) @ 100: "recall@100",
            }
            found = ir_measures.iter_calc(measures, qrels, self.runs[grade])
            theirs |= {(measures[value.measure], value.query_id): value.value for value in found}
        for place, values, judged in self.ours:
            for name, ours in values.items():
                # a query that the run lacks scores 0
                expected = [theirs.get((name, place + query), 0.0) for query in judged]
                np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=place + name)


def test_runs_of_files_and_of_vectors(tmp_path: Path) -> None:
    comparisons, left_out = Comparisons(), 0
    for seed in range(PAIRS):
        pair = Pair(seed, tmp_path)
        evaluation = pair.evaluation()
        kept = {query: [one for one in found if not pair.is_left_out(query, one[0])] for query, found in pair.run.items()}
        left_out += sum(len(found) - len(kept[query]) for query, found in pair.run.items())
        # scores that fall, as ir-measures orders equal ones by id
        ranked = {query: sorted(found, key=lambda one: -one[1]) for query, found in kept.items()}
        run = [(query, document, -float(rank)) for query, found in ranked.items() for rank, (document, _) in enumerate(found)]
        comparisons.add(pair, "file", evaluation.measure(evaluation.read_ranking("run", pair.run_file)), run)

        ranking = evaluation.rank_documents("vectors", torch.from_numpy(evaluation.teacher.queries))  # type: ignore[attr-defined]
        found = {query: [pair.documents[row] for row in rows if row >= 0] for query, rows in zip(pair.queries, ranking.rows, strict=True)}
        run = [(query, document, -float(rank)) for query, ids in found.items() for rank, document in enumerate(ids)]
        comparisons.add(pair, "vectors", evaluation.measure(ranking), run)
        for query, ids in found.items():
            assert sorted(ids) == sorted(document for document in pair.documents if not pair.is_left_out(query, document))
    comparisons.check()
    assert left_out > 100


def test_a_document_that_a_run_has_twice_is_refused(tmp_path: Path) -> None:
    pair = Pair(1, tmp_path)
    with open(pair.run_file, "a") as file:
        file.write(pair.run_file.read_text().splitlines()[0])
    with pytest.raises(BadInput, match="comes twice for query"):
        pair.evaluation().read_ranking("run", pair.run_file)
