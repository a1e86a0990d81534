"""The terms of the bound, by hand and along a real training of the small world."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import distill, train_arguments

from distill.callbacks.theory import Theory, find_judged_pairs
from distill.modules.student import TrainingStep
from distill.records import Encoded
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels


class Rows:
    """A store of two documents at right angles."""

    width = 2
    ids = Ids.of(["a", "b"])
    vectors = np.eye(2, dtype=np.float16)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.vectors[rows]

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors[rows]

    @property
    def shape(self) -> tuple[int, int]:
        return 2, 2


def test_terms_by_hand() -> None:
    data = SimpleNamespace(
        store=SimpleNamespace(documents=Rows()),
        dev_texts=SimpleNamespace(ids=["q"]),
        dev_own_documents=None,
        dev_qrels=Qrels({"q": {"a": 1}}),
        source=SimpleNamespace(relevant_from=1),
        dev_vectors=None,
    )
    teacher, student = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    pairs = find_judged_pairs(data, data.dev_qrels, np.array([0]), teacher)  # type: ignore[arg-type]
    assert pairs.queries.tolist() == [0] and pairs.labels.tolist() == [[1, 0]] and pairs.documents.tolist() == [[[1, 0], [0, 1]]]
    own = SimpleNamespace(**{**vars(data), "dev_own_documents": np.array([1])})
    assert find_judged_pairs(own, Qrels({"q": {"a": 1}}), np.array([0]), teacher).labels.tolist() == [[1]]  # type: ignore[arg-type]
    own.dev_own_documents = np.array([0])
    assert find_judged_pairs(own, Qrels({"q": {"a": 0}}), np.array([0]), teacher).documents.tolist() == [[[0, 1]]]  # type: ignore[arg-type]
    found: dict[str, float] = {}
    module = SimpleNamespace(log_dict=lambda values, **_: found.update(values), device=torch.device("cpu"))
    theory = Theory()
    theory.data = data  # type: ignore[assignment]
    theory.on_dev(SimpleNamespace(), module, np.array([0]), student, teacher)  # type: ignore[arg-type]
    sigmoid = 1 / (1 + np.exp(-1))  # of the teacher's score of `a`; of `b` it is 1/2
    right, wrong = -np.log(sigmoid) - np.log(0.5), -np.log(0.5) - np.log(1 - sigmoid)
    expected = {"r_emb_q": 2**0.5, "teacher_deviation": (1 - sigmoid + 0.5) / 2, "gap": (wrong - right) / 2}
    assert found == pytest.approx({f"theory/{name}": value for name, value in expected.items()}, rel=1e-5)


def test_documents_count_where_the_student_embeds_them() -> None:
    theory = Theory()
    student = torch.zeros(1, 2, requires_grad=True)
    document = torch.zeros(1, 1, 2, requires_grad=True)
    rows = torch.zeros(1, 1, dtype=torch.int64)
    teacher = Encoded(torch.tensor([[3.0, 4.0]]), torch.tensor([[[0.0, 2.0]]]), torch.zeros(1, 1), rows)
    for inherited, expected in ((True, {"r_emb_q_train", "batches"}), (False, {"r_emb_q_train", "r_emb_d_train", "batches"})):
        ours = Encoded(student, teacher.document if inherited else document, torch.zeros(1, 1), rows)
        theory.on_before_backward(None, SimpleNamespace(last_step=TrainingStep(ours, {"store": teacher}, {})), student.sum())
        assert set(theory.state_dict()) == expected
    assert theory.state_dict() == pytest.approx({"r_emb_q_train": 10, "r_emb_d_train": 2, "batches": 2})


def test_terms_of_a_training(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert distill(*train_arguments(source_root, store_folder, run, "--trainer.max_epochs", 6)) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    dev = [line for line in lines if "theory/r_emb_q" in line]
    assert len(dev) == 6 and "theory/r_emb_d_train" not in dev[0]  # documents are inherited
    assert len({line["theory/teacher_deviation"] for line in dev}) == 1  # the teacher does not learn
    for epoch, line in enumerate(dev):
        losses = [entry["train/query_matching"] for entry in lines if "train/query_matching" in entry and entry["epoch"] == epoch]
        assert line["theory/r_emb_q_train"] == pytest.approx(np.mean(losses), rel=1e-4)  # the objective is the term
    assert dev[-1]["theory/r_emb_q"] < dev[0]["theory/r_emb_q"]
