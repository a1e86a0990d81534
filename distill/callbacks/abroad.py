"""Measures a student on collections of other domains during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer

from distill.callbacks.dev_evaluation import measure_judged
from distill.data.dev_suite import DevCollection
from distill.encoders.batching import encode_token_ids
from distill.files.device import Precision
from distill.files.ranks import rank, world_size
from distill.metrics.query_means import Overlap
from distill.records import BadInput

OVERLAP, RETENTION = "overlap@10", "retention_ndcg@10"


class Abroad:
    """The collections of other domains, with what the teacher finds for this rank's share of their queries.

    Args:
        collections: the collections.
        top: documents to rank for each query.
    """

    def __init__(self, collections: Sequence[DevCollection], top: int):
        self.collections, self.top = collections, top
        for collection in collections:
            if len(collection.queries) < world_size():
                count = f"{len(collection.queries)} queries are too few for {world_size()} ranks"
                raise BadInput(f"data.dev_suite: {collection.name}: {count}: leave it out, or use fewer ranks")
        self._teacher: dict[str, tuple[np.ndarray, float]] = {}  # by collection: rows [n, top], and nDCG@10 over all ranks

    def measure(self, trainer: Trainer, student: Any, home: Mapping[str, float]) -> dict[str, float]:
        """Measures every collection; all ranks must call it, and get the same means.

        Args:
            trainer: the trainer, in whose precision the student embeds.
            student: the student's module.
            home: what was measured on the dev split at home, by name.

        Returns:
            `NAME/overlap@10` and `NAME/retention_ndcg@10` of each collection, their means as `abroad_...`, and as `mean_...` those of
            the collections and home, where home is judged; nothing where there are no collections.
        """
        if not self.collections:
            return {}
        self.rank_by_teacher(student.device)
        values: dict[str, float] = {}
        for collection in self.collections:
            measured = self._measure_collection(trainer, student, collection)
            values |= {f"{collection.name}/{name}": value for name, value in measured.items()}
        means: dict[str, float] = {}
        for name in (OVERLAP, RETENTION):
            abroad = [values[f"{part.name}/{name}"] for part in self.collections]
            means[f"abroad_{name}"] = fmean(abroad)
            means[f"mean_{name}"] = fmean([*abroad, home[name]] if name in home else abroad)
        return values | means

    def rank_by_teacher(self, device: torch.device) -> None:
        """Ranks the documents of every collection for the teacher, once; all ranks must call it.

        Raises BadInput where the teacher finds nothing that is judged relevant.
        """
        for collection in self.collections:
            if collection.name not in self._teacher:
                rows = np.arange(rank(), len(collection.queries), world_size())  # of this rank's queries
                self._teacher[collection.name] = self._rank_collection(collection, rows, device)

    def _measure_collection(self, trainer: Trainer, student: Any, collection: DevCollection) -> dict[str, float]:
        rows = np.arange(rank(), len(collection.queries), world_size())  # of this rank's queries
        teacher, teacher_ndcg = self._teacher[collection.name]
        tokens = student.encoder.token_ids(collection.queries.read(rows), "query")
        precision: Precision = "bf16" if "bf16" in str(trainer.precision) else "fp32"
        vectors = torch.from_numpy(encode_token_ids(student.encoder, tokens, precision)).to(student.device)  # [n, D]
        ranked = collection.rank_documents(rows, vectors, self.top)
        overlap = Overlap(10).to(student.device)
        overlap.update(torch.from_numpy(teacher).to(student.device), torch.from_numpy(ranked).to(student.device))
        ndcg = self._measure_ndcg(collection, rows, ranked, student.device)
        return {OVERLAP: float(overlap.compute()), RETENTION: ndcg / teacher_ndcg}

    def _rank_collection(self, collection: DevCollection, rows: np.ndarray, device: torch.device) -> tuple[np.ndarray, float]:
        vectors = torch.from_numpy(collection.teacher_queries[rows]).to(device).float()
        ranked = collection.rank_documents(rows, vectors, self.top)
        ndcg = self._measure_ndcg(collection, rows, ranked, device)
        if ndcg == 0:
            raise BadInput(f"data.dev_suite: {collection.name}: the teacher's nDCG@10 is 0, so there is nothing to retain: leave it out")
        return ranked, ndcg

    def _measure_ndcg(self, collection: DevCollection, rows: np.ndarray, ranked: np.ndarray, device: torch.device) -> float:
        ids = [collection.queries.ids[row] for row in rows.tolist()]
        judged = collection.qrels.judged_positions(ids)
        judged_ids = [ids[position] for position in judged]
        corpus = collection.documents.ids
        return measure_judged(collection.qrels, judged_ids, corpus, ranked[judged], collection.relevant_from, device)["ndcg@10"]
