"""Reads the files of a run for its report: results, curves, warnings, and if texts and vectors are available, each query."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.callbacks.fault_log import WARNINGS
from distill.callbacks.run_log import read_lines
from distill.encoders.batching import encode_texts
from distill.encoders.towers import load_towers
from distill.evaluation.costs import read_exact, read_served
from distill.evaluation.fields import STUDENT
from distill.evaluation.results import Results
from distill.files.atomic import path_within
from distill.metrics.ranking import cosine
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput, NeedsTrust
from distill.report.query_results import QueryResults, Values, grade_rankings
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.own_documents import drop_own_documents
from distill.texts.text_source import TextSource
from distill.training.run_folder import EARLIER_IS_KEPT, RunFolder
from distill.vectors.store import TeacherStore


class RunEvidence:
    """One evaluated run. `queries` and `cosines` need its texts and vectors; if these are gone, `missing` has the reasons.

    Args:
        path: the run folder.
        trust: as `RunFolder` has it.

    Raises:
        BadInput: `path` is no run folder, or the run is not evaluated.
    """

    def __init__(self, path: str, trust: bool = False):
        self.folder = RunFolder(Path(path), trust=trust)
        self.config = self.folder.settings()
        self.record = self.folder.record()
        self._results_path = self.folder.path / "results.json"
        if not self._results_path.exists():
            raise BadInput(f"{path}: no results.json: run distill evaluate {path}")
        self.results = Results.load(self._results_path)
        self.split = self.dataset.rpartition("/")[2]  # a data set of the hub has a slash in its name
        self.missing: list[str] = []

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @property
    def dataset(self) -> str:
        """The names of the texts and the split, e.g. `texts/test`."""
        return self.results.values["dataset"]

    @property
    def provenance(self) -> dict[str, Any]:
        """The machine, versions and inputs of the evaluation."""
        return self.results.values["provenance"]

    @cached_property
    def curves(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl."""
        return read_lines(self.folder.metrics) if self.folder.metrics.exists() else []

    @cached_property
    def warnings(self) -> list[str]:
        """The warnings of the training, one sentence each."""
        path = self.folder.path / WARNINGS
        lines = read_lines(path) if path.exists() else []
        kept = [EARLIER_IS_KEPT] if self.folder.unlearnt_jobs else []
        return [*kept, *(f"Training warned at step {line['step']}: {line['message']}" for line in lines)]

    @cached_property
    def other_results(self) -> list[Results]:
        """Results of other texts or splits, from `evaluate --out RUN/results-NAME.json`; those of a suite alone have no texts at home."""
        others = [Results.load(path) for path in sorted(self.folder.path.glob("results-*.json"))]
        return [other for other in others if "retention" in other.values]

    @cached_property
    def latencies(self) -> dict[str, float]:
        """Median latency of a query in milliseconds: of each system, and of each ONNX model of the student."""
        key = "query_latency_ms_p50"
        latencies = {name: system[key] for name, system in self.results.systems.items() if key in system}
        return latencies | {f"{STUDENT}, {name}": model[key] for name, model in read_served(self.folder.path, self.results.values).items()}

    @property
    def exported_latency(self) -> float | None:
        """Median latency of the export that gives the student's own vectors, in milliseconds: NumPy, or ONNX in fp32."""
        return read_exact(self.folder.path, self.results.values).get("query_latency_ms_p50")

    @property
    def is_on_one_core(self) -> bool:
        """Whether latencies are those of one core; releases before 0.2 measured on all cores, and so wrote no field `latency`."""
        return "latency" in self.results.values

    @cached_property
    def source(self) -> TextSource | None:
        """The texts; None if they are gone or are not those of the results any more."""
        try:
            source = self.folder.data().source
            if self.provenance.get("texts") not in source.queries(self.split).fingerprints("query"):
                raise BadInput(f"{self._results_path}: of other queries than {source} has now")
            return source
        except NeedsTrust:
            raise
        except (BadInput, ImportError, AttributeError, TypeError) as error:  # moved texts, or a class of another version
            self.missing.append(str(error))
            return None

    @cached_property
    def queries_fingerprint(self) -> str | None:
        """Fingerprint of the queries of the results: of the texts where they are here, as releases up to 0.2 recorded another one."""
        return self.provenance.get("texts") if self.source is None else self.source.queries(self.split).content_fingerprint

    @cached_property
    def queries(self) -> QueryResults | None:
        """The results of each query; None without the texts and the rankings."""
        if self.source is None:
            return None
        rankings = {}
        for name in self.results.systems:
            path = path_within(self.folder.path / "runs", f"{self.split}/{name}.trec")
            if not path.exists():
                self.missing.append(f"{path}: no such file")
                return None
            rankings[name] = read_trec(path)
            if self.provenance.get("own_documents_left_out"):  # a baseline that was given from this folder may have them
                rankings[name] = drop_own_documents(self.source, self.split, rankings[name], path)
        queries = grade_rankings(self.source, self.split, rankings)
        self._check_values(queries.values)
        return queries

    @cached_property
    def cosines(self) -> np.ndarray | None:
        """Cosines [N] between student and teacher vectors of all N queries of the split; None without the texts and the store."""
        if self.queries is None or self.source is None:
            return None
        try:
            store = TeacherStore(self.config["data"]["store"])
            _, teacher = open_evaluation_queries(self.source, store, self.split)
            encoder = load_towers(str(self.folder.require_student())).query
            student = encode_texts(encoder, list(self.queries.all_texts), "query")
        except BadInput as error:
            self.missing.append(str(error))
            return None
        vectors = teacher.take(np.arange(len(teacher)))
        return cosine(torch.from_numpy(vectors).float(), torch.from_numpy(student)).numpy()

    def _check_values(self, values: Values) -> None:
        """Refuses rankings whose metrics differ from the results."""
        for name, metrics in values.items():
            for metric, value in metrics.items():
                reported = self.results.systems[name].get(metric)
                if reported is not None and abs(reported - value.mean()) > 1e-6:
                    raise BadInput(
                        f"{self._results_path}: {metric} of {name} is {reported:.6f}, its TREC run and the judgments say "
                        f"{value.mean():.6f}: run distill evaluate again"
                    )
