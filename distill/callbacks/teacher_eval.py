"""Measures retrieval metrics of a teacher during its training, on the judged dev queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer

from distill.callbacks.dev_evaluation import DevOutputs, measure_judged
from distill.callbacks.finite_loss import stop_all_ranks
from distill.data.judged_pairs import PairsData
from distill.files.ranks import max_over_ranks


class TeacherEval(Callback):
    """Logs retrieval metrics as `dev/...` after every validation.

    These are `mrr@10`, `ndcg@10` and `recall@100`; for a cross encoder also the same metrics of the first stage, as `first_stage_...`;
    and `seconds`, the duration of the evaluation. Every rank measures its own share of the queries, and all ranks log the same means.
    """

    def __init__(self) -> None:
        self._outputs = DevOutputs()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data: PairsData = trainer.datamodule  # type: ignore[attr-defined]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outputs.clear()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        self._outputs.add(batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        teacher: Any = pl_module
        query_rows, outputs = self._outputs.query_rows, self._outputs.stack()
        if max_over_ranks(int(outputs.isnan().any()), teacher.device):  # sorting would leave the first stage's order
            stop_all_ranks(trainer, "what the teacher gives for a dev query is no number")
        ranked = teacher.rank_documents(self.data, query_rows, outputs)  # [Q, k]
        values = self._measure(query_rows, ranked.numpy(), teacher)
        if teacher.dev_measure == "rerank":
            before = self._measure(query_rows, self.data.dev_candidates[query_rows], teacher)
            values |= {f"first_stage_{name}": value for name, value in before.items()}
        values["seconds"] = self._outputs.seconds
        teacher.log_dict({f"dev/{name}": value for name, value in values.items()}, batch_size=1)  # a larger weight would round the values

    def _measure(self, query_rows: np.ndarray, rows: np.ndarray, teacher: LightningModule) -> dict[str, float]:
        """Computes each metric over the queries of all ranks; `rows` [Q, k] are the documents of this rank's queries."""
        data = self.data
        ids = [data.dev_queries.ids[row] for row in query_rows]
        return measure_judged(data.dev_qrels, ids, data.corpus, rows, data.source.relevant_from, teacher.device)
