"""The names that may be watched are the names that are logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ONE_HOT, distill, teach_arguments, train_arguments

from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import Run
from distill.run import train as run_train
from distill.texts.sources import MsMarcoTsv
from distill.training import checks
from distill.training.monitors import list_logged_names

SHORT = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the training under way lists."""
    listed: list[str] = []
    monkeypatch.setattr(checks, "check_monitors", lambda *parts: listed.extend(list_logged_names(*parts)))
    return listed


def logged(run: Path) -> set[str]:
    return {name for line in (run / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)} - {"step", "epoch"}


@pytest.mark.parametrize("dev", [True, False], ids=["dev", "no dev"])
def test_of_a_student(names: list[str], source_root: Path, store_folder: Path, tmp_path: Path, dev: bool) -> None:
    more = [] if dev else ["--trainer.limit_val_batches", 0]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *SHORT, *more)) == 0
    assert set(names) == logged(tmp_path / "run") and ("dev/ndcg@10" in names) == dev


def test_of_a_student_without_judgments_and_with_a_document_tower(
    names: list[str], source_root: Path, store_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for path in source_root.iterdir():
        if path.name != "qrels.dev.tsv":
            (source / path.name).symlink_to(path)
    own = ["--model.documents", "shared", "--data.candidates", 2]
    assert distill(*train_arguments(source, store_folder, tmp_path / "run", *SHORT, *own, losses=ONE_HOT)) == 0
    assert set(names) == logged(tmp_path / "run") and "dev/ndcg@10" not in names and "theory/r_emb_d_train" in names


@pytest.mark.parametrize("model", ["DualTeacher", "CrossTeacher"])
def test_of_a_teacher(names: list[str], model: str, source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> None:
    more = ["--data.first_stage", store_folder] if model == "CrossTeacher" else []
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", *SHORT, *more, model=model)) == 0
    assert set(names) == logged(tmp_path / "run")


class Plateau(StudentModule):
    """A student whose rate falls where a metric stands still."""

    watched = "dev/overlap@10"

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self.watched}}


class Mistaken(Plateau):
    watched = "val_loss"


def test_what_a_schedule_watches(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    def train(module: StudentModule) -> Run:
        data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), batch_size=48)
        options = {"accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1, "max_epochs": 2}
        return run_train(module, data, tmp_path / "run", **options)

    with pytest.raises(BadInput, match=r"ReduceLROnPlateau: monitor: 'val_loss' is not logged: there are dev/mrr@10"):
        train(Mistaken(StudentFromTeacher([3])))
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"]
    rates = train(Plateau(StudentFromTeacher([3]))).history["optim/learning_rate"].values
    assert rates == pytest.approx([1e-3] * 4)  # the rate that it was made with, not that of a warm-up
