"""What a run left, read back for its report: results, rankings query by query, curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.callbacks.fault_log import WARNINGS
from distill.callbacks.run_log import read_lines
from distill.encoders.batching import encode_texts
from distill.encoders.towers import load_towers
from distill.evaluation.evaluation_set import rows_and_scores
from distill.evaluation.results import STUDENT, TEACHER
from distill.files.atomic import path_within, read_json
from distill.metrics.ranking import cosine, overlap, ranking_metrics
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.ids import Ids
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.training.run_folder import RunFolder
from distill.vectors.store import TeacherStore

Ranking = dict[str, list[tuple[str, float]]]  # query id to (document id, score), best first


@dataclass(frozen=True)
class JudgedRun:
    """One evaluated split, query by query; Q counts the judged queries, or all of them where none is judged."""

    ids: list[str]
    texts: list[str]
    splits: list[str]  # [Q] of `dl19+dl20`, the one a query is of
    values: dict[str, dict[str, np.ndarray]]  # metric by system: [Q]; `overlap@10` with the teacher alone where nothing is judged
    rankings: dict[str, Ranking]
    grades: dict[str, dict[str, int]]  # judgments by query and document
    all_texts: Texts  # of every query of the split, judged or not

    @property
    def metric(self) -> str:
        """What winners and losers are told by."""
        return "ndcg@10" if "ndcg@10" in self.values[STUDENT] else "overlap@10"

    @cached_property
    def margins(self) -> np.ndarray:
        """[Q] how far the teacher's first document is ahead of its second."""
        pairs = [[score for _, score in self.rankings[TEACHER].get(query, [])[:2]] for query in self.ids]
        return np.array([pair[0] - pair[1] if len(pair) == 2 else 0.0 for pair in pairs])

    @cached_property
    def words(self) -> np.ndarray:
        return np.array([len(text.split()) for text in self.texts])


class RunEvidence:
    """One run folder. `queries` and `cosines` need the texts, and the vectors: where they are gone, `missing` says why."""

    def __init__(self, path: str):
        self.folder = RunFolder(Path(path))
        self.config = self.folder.settings()
        self.record = self.folder.record()
        if not (self.folder.path / "results.json").exists():
            raise BadInput(f"{path}: no results.json: run distill evaluate {path}")
        self.results = read_json(self.folder.path / "results.json", "evaluation results")
        self.split = self.results["dataset"].partition("/")[2]
        self.missing: list[str] = []

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @cached_property
    def curves(self) -> list[dict[str, float]]:
        return read_lines(self.folder.metrics) if self.folder.metrics.exists() else []

    @cached_property
    def warnings(self) -> list[str]:
        """What training warned of."""
        path = self.folder.path / WARNINGS
        lines = read_lines(path) if path.exists() else []
        return [f"Training warned at step {line['step']}: {line['message']}" for line in lines]

    @cached_property
    def elsewhere(self) -> list[dict[str, Any]]:
        """Results of other texts or splits, which `evaluate --out RUN/results-NAME.json` left here."""
        return [read_json(path, "evaluation results") for path in sorted(self.folder.path.glob("results-*.json"))]

    @cached_property
    def serving(self) -> dict[str, Any]:
        """How long each exported form of the student takes; empty before an export."""
        path = self.folder.path / "export" / "latency.json"
        return read_json(path, "latency of the export") if path.exists() else {"paths": {}}

    @cached_property
    def source(self) -> TextSource | None:
        try:
            data = self.folder.data()
            found = data.source.queries(self.split).fingerprint
            if found != self.results["provenance"].get("texts"):
                raise BadInput(f"{self.folder.path / 'results.json'}: of other queries than {data.source} has now")
            return data.source
        except (BadInput, ImportError, AttributeError, TypeError) as error:  # moved texts, or a class of another version
            self.missing.append(str(error))
            return None

    @cached_property
    def queries(self) -> JudgedRun | None:
        if self.source is None:
            return None
        rankings = {}
        for name in self.results["systems"]:
            path = path_within(self.folder.path / "runs", f"{self.split}/{name}.trec")
            if not path.exists():
                self.missing.append(f"{path}: no such file")
                return None
            rankings[name] = read_trec(path)
        return self._by_query(self.source, rankings)

    def _by_query(self, source: TextSource, rankings: dict[str, Ranking]) -> JudgedRun:
        texts, qrels = source.queries(self.split), source.qrels(self.split)
        ids = list(texts.ids)
        if qrels is not None and not len(qrels.judged_positions(ids)):
            qrels = None  # of other splits alone
        judged = np.arange(len(ids)) if qrels is None else qrels.judged_positions(ids)
        names = np.repeat(self.split.split("+"), [len(source.queries(part)) for part in self.split.split("+")])
        chosen = [ids[row] for row in judged]
        corpus = Ids.of(dict.fromkeys(document for ranking in rankings.values() for found in ranking.values() for document, _ in found))
        if source.has_documents():  # a baseline may name others, which count for nothing
            corpus = Ids.of(itertools.compress(corpus, source.documents().ids.rows(list(corpus)) >= 0))
        rows = {name: rows_and_scores([found.get(query, []) for query in chosen], corpus)[0] for name, found in rankings.items()}
        if qrels is None:
            values = {STUDENT: {"overlap@10": overlap(torch.from_numpy(rows[TEACHER]), torch.from_numpy(rows[STUDENT]), 10).numpy()}}
        else:
            values = {}
            for name, found in rows.items():
                ranked, every = (torch.from_numpy(grades) for grades in qrels.grade(chosen, corpus, found))
                values[name] = {metric: value.numpy() for metric, value in ranking_metrics(ranked, every, source.relevant_from).items()}
        self._check(values)
        grades = {} if qrels is None else qrels.judgments
        return JudgedRun(chosen, texts.read(judged), names[judged].tolist(), values, rankings, grades, texts)

    def _check(self, values: dict[str, dict[str, np.ndarray]]) -> None:
        """The rankings must be those that the results are of."""
        for name, metrics in values.items():
            for metric, value in metrics.items():
                said = self.results["systems"][name].get(metric)
                if said is not None and abs(said - value.mean()) > 1e-6:
                    raise BadInput(
                        f"{self.folder.path / 'results.json'}: {metric} of {name} is {said:.6f}, its TREC run and the judgments say "
                        f"{value.mean():.6f}: run distill evaluate again"
                    )

    @cached_property
    def cosines(self) -> np.ndarray | None:
        """[all queries of the split] cosine of the student's vector to the teacher's."""
        if self.queries is None or self.source is None:
            return None
        try:
            store = TeacherStore(self.config["data"]["store"])
            _, teacher = open_evaluation_queries(self.source, store, self.split)
            student = encode_texts(load_towers(str(self.folder.require_student())).query, list(self.queries.all_texts), "query")
        except BadInput as error:
            self.missing.append(str(error))
            return None
        vectors = teacher.take(np.arange(len(teacher)))
        return cosine(torch.from_numpy(vectors).float(), torch.from_numpy(student)).numpy()


def split_into_bins(values: np.ndarray, count: int = 4, whole: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """(label, members [Q] bool) of up to `count` groups of near-equal size, in ascending order."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1), method="higher" if whole else "linear"))
    if len(edges) < 2:
        return
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        last = index == len(edges) - 2
        members = (values >= low) & ((values <= high) if last else (values < high))
        shown = (int(low), int(high) if last else int(high) - 1)
        label = (f"{shown[0]}" if shown[0] == shown[1] else f"{shown[0]}-{shown[1]}") if whole else f"{low:.3f}-{high:.3f}"
        yield label, members
