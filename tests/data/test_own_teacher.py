"""A teacher from outside the package: a loss learns from what it computes for a batch's texts."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import own_teacher
import pytest
import torch
from commands import distill, furthest, train_arguments
from pytorch_lightning import Trainer
from test_resume import lines, stopped

from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.losses import QueryMatching, ScoreDistillation, SimilarityMatching
from distill.modules.student import StudentModule
from distill.records import BadInput, Batch, Tokens
from distill.teachers.ensemble import EnsembleSettings, EnsembleTeacher
from distill.texts.sources import MsMarcoTsv

LETTERS = {"letters": {"class_path": "own_teacher.Letters"}}
LOSSES = {
    "matching": {"class_path": "QueryMatching"},
    "graph": {"class_path": "SimilarityMatching", "init_args": {"teacher": "letters"}},
}


def data_of(source: Path, store: Path, **settings: Any) -> RetrievalData:
    data = RetrievalData(MsMarcoTsv(str(source)), str(store), batch_size=16, **settings)
    data.setup("fit")
    return data


def batch_of(data: RetrievalData, rows: list[int]) -> Batch:
    tokens = Tokens(torch.zeros(len(rows), 1).long(), torch.ones(len(rows), 1).long())
    return Batch(tokens, torch.tensor(rows), torch.from_numpy(data.candidate_rows[rows]))


def test_it_reads_the_texts_of_a_batch(source_root: Path, store_folder: Path) -> None:
    data = data_of(source_root, store_folder, candidates=3, teachers={"letters": own_teacher.CalledTeacher(own_teacher.embed_letters, 26)})
    rows = [50, 3]
    encoded = data.teachers["letters"](batch_of(data, rows))
    queries, documents = data.source.queries("train"), data.source.documents()
    for place, row in enumerate(rows):
        assert encoded.query[place].equal(own_teacher.embed_letters([queries[row]])[0])
        read = documents.read(data.candidate_rows[row])
        assert encoded.document[place].equal(own_teacher.embed_letters(read))
        torch.testing.assert_close(encoded.scores[place], own_teacher.embed_letters(read) @ encoded.query[place])
    assert data.query_texts(np.array(rows)) == queries.read(rows)


def test_a_loss_learns_from_it(source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """The store's own teacher, called instead of looked up, teaches the same."""
    trained = []
    for teachers, name in ({}, None), ({"called": own_teacher.Model(str(teacher_folder))}, "called"):
        data = data_of(source_root, store_folder, candidates=2, teachers=teachers)
        losses = {"matching": QueryMatching(teacher=name), "scores": ScoreDistillation(teacher=name)}
        student = StudentModule(StudentFromTeacher([0, 3]), losses, learning_rate=0.005)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": tmp_path}
        Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(student, data)
        trained.append(student.encoder.encode(["what is the best river", "old bread"], "query"))
    torch.testing.assert_close(*trained, atol=2e-2, rtol=0)  # the store has its vectors in float16


def test_it_may_be_one_of_an_ensemble(source_root: Path, store_folder: Path) -> None:
    teachers = {"letters": own_teacher.Letters()}
    data = data_of(source_root, store_folder, candidates=3, teachers=teachers)
    known = {"store": data.teacher, **data.teachers}
    average = EnsembleTeacher(EnsembleSettings({"store": 0.05, "letters": 0.05}), known)
    batch = batch_of(data, [7, 8, 9])
    shares = [(known[name](batch).scores / 0.05).softmax(1) for name in known]
    torch.testing.assert_close(average(batch).scores.exp(), (shares[0] + shares[1]) / 2)
    losses = {"scores": ScoreDistillation(teacher="average")}
    both = data_of(source_root, store_folder, candidates=3, teachers={**teachers, "average": average})
    StudentModule(StudentFromTeacher([0, 3]), losses).prepare(both)


@pytest.mark.slow
def test_the_command_line_names_it_and_a_resumed_run_is_the_same(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "whole", tmp_path / "stopped"]
    more = ["--data.teachers", json.dumps(LETTERS), "--data.candidates", 2]
    whole, again = (train_arguments(source_root, store_folder, run, *more, losses=json.dumps(LOSSES)) for run in runs)
    assert distill(*whole) == 0
    values = [line["train/graph"] for line in lines(runs[0]) if "train/graph" in line]
    assert np.mean(values[-4:]) < np.mean(values[:4])
    assert json.loads((runs[0] / "run.json").read_text())["inputs"]["vectors"]["letters"] == "letters-1"
    assert stopped(again, "on_train_epoch_start", 6).returncode == -signal.SIGKILL
    assert distill(*again) == 0
    assert furthest(*(run / "checkpoints" / "last.ckpt" for run in runs)) == 0
    assert distill("evaluate", runs[0]) == 0 == distill("export", runs[0])  # with the data that its configuration describes


REFUSED = {
    "another space": (QueryMatching(teacher="letters"), r"model\.losses\.x: letters has vectors 26 wide, the student 32"),
    "unknown": (SimilarityMatching(teacher="words"), r"model\.losses\.x\.teacher: no teacher 'words': there are store, letters"),
}


@pytest.mark.parametrize(("loss", "words"), REFUSED.values(), ids=REFUSED)
def test_losses_that_it_cannot_feed_are_refused(loss: Any, words: str, source_root: Path, store_folder: Path) -> None:
    data = data_of(source_root, store_folder, teachers={"letters": own_teacher.Letters()})
    with pytest.raises(BadInput, match=words):
        StudentModule(StudentFromTeacher([0, 3]), {"x": loss}).prepare(data)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"class_path": "own_teacher.Nothing"}, "data.teachers: letters: .*: not a teacher: name a folder, or the class_path"),
        ({"class_path": "own_teacher.embed_letters"}, "not a teacher: name a folder"),
        ({"class_path": "collections.Counter"}, "not a teacher: name a folder"),
        (3, "data.teachers"),
    ],
    ids=["no such class", "a function", "no teacher", "a number"],
)
def test_what_is_no_teacher_is_refused(
    given: Any, words: str, source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--data.teachers", json.dumps({"letters": given})]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line) and "data.teachers" in line and not (tmp_path / "run").exists()
