"""What evaluations during training share, on values that a hand can check."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distill.callbacks.dev_evaluation import DevOutputs, measure_judged, require_retrieval_data
from distill.callbacks.retrieval_eval import RetrievalEval
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels


def test_judged_metrics_by_hand() -> None:
    qrels, corpus = Qrels({"q0": {"b": 2, "c": 1}, "q1": {"a": 1}}), Ids.of(["a", "b", "c"])
    rows = np.array([[0, 1], [1, -1]])  # q0's best is second, q1's is not retrieved
    values = measure_judged(qrels, ["q0", "q1"], corpus, rows, relevant_from=2, device=torch.device("cpu"))
    gained, ideal = 2 / math.log2(3), 2 + 1 / math.log2(3)
    assert values == pytest.approx({"mrr@10": (1 / 2 + 0) / 2, "ndcg@10": gained / ideal / 2, "recall@100": (1 + 0) / 2})


def test_outputs_of_several_batches() -> None:
    outputs = DevOutputs()
    assert outputs.query_rows.tolist() == [] and outputs.stack(width=3).shape == (0, 3)
    for rows in ([4, 2], [7]):
        outputs.add(SimpleNamespace(query_rows=torch.tensor(rows)), torch.tensor(rows)[:, None].float())
    assert outputs.query_rows.tolist() == [4, 2, 7] and outputs.stack().tolist() == [[4], [2], [7]]
    assert 0 <= outputs.seconds < 60
    outputs.clear()
    assert len(outputs.query_rows) == 0


def test_a_trainer_without_retrieval_data_is_refused() -> None:
    with pytest.raises(BadInput, match=r"RetrievalEval reads a RetrievalData: call trainer.fit\(module, RetrievalData"):
        require_retrieval_data(SimpleNamespace(datamodule=None), RetrievalEval())  # type: ignore[arg-type]
