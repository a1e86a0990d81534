"""The names that may be watched are the names that are logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import ONE_HOT, distill, teach_arguments, train_arguments

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
