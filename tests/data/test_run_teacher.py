"""A TREC run file as a teacher of scores."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.data.datamodule import RetrievalData
from distill.data.training_queries import read_scored_parts
from distill.encoders.students import StudentFromTeacher
from distill.losses import QueryMatching, ScoreDistillation
from distill.modules.student import StudentModule
from distill.records import BadInput, Batch, Encoded, Tokens
from distill.run import train
from distill.texts.sources import MsMarcoTsv


def data_of(source: Path, store: Path, **settings: Any) -> RetrievalData:
    data = RetrievalData(MsMarcoTsv(str(source)), str(store), batch_size=16, **settings)
    data.setup("fit")
    return data


def look_up(data: RetrievalData, teacher: str, rows: list[int]) -> Encoded:
    tokens = Tokens(torch.zeros(len(rows), 1).long(), torch.ones(len(rows), 1).long())
    return data.teachers[teacher](Batch(tokens, torch.tensor(rows), torch.from_numpy(data.candidate_rows[rows])))


def write_run(path: Path, source: Path, documents: int = 5, first: int = 0, queries: int = 80) -> dict[str, list[str]]:
    """Ranks `documents` of the corpus for each of the first training queries; scores fall by 1.5 from 9 on. Returns the documents."""
    texts = MsMarcoTsv(str(source))
    corpus, ids = list(texts.documents().ids), list(texts.queries("train").ids)[:queries]
    ranked = {query: [corpus[(first + 7 * number + place) % len(corpus)] for place in range(documents)] for number, query in enumerate(ids)}
    lines = [f"{query} Q0 {id_} 1 {9 - 1.5 * place} them" for query, found in ranked.items() for place, id_ in enumerate(found)]
    path.write_text("\n".join(lines))
    return ranked


def test_queries_candidates_and_scores_are_those_of_the_run(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    ranked = write_run(tmp_path / "engine.trec", source_root, queries=70)
    data = data_of(source_root, store_folder, candidates=3, teachers={"engine": str(tmp_path / "engine.trec")})
    texts, _ = data.train_sets[0]
    assert list(texts.ids) == list(ranked)
    for row in (0, 69):
        assert [data.store.documents.ids[place] for place in data.candidate_rows[row]] == ranked[texts.ids[row]][:3]
    encoded = look_up(data, "engine", [69, 0])
    assert encoded.scores.tolist() == [[9.0, 7.5, 6.0]] * 2 and encoded.query.shape == (2, 3, 0)
    assert encoded.document_rows.equal(torch.from_numpy(data.candidate_rows[[69, 0]]))


def test_a_second_run_gives_its_lowest_score_to_what_it_lacks(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Its documents begin one place later: it lacks the first candidate, has the second first, and the third second."""
    write_run(tmp_path / "engine.trec", source_root)
    write_run(tmp_path / "other.trec", source_root, first=1)
    teachers = {name: str(tmp_path / f"{name}.trec") for name in ("engine", "other")}
    data = data_of(source_root, store_folder, candidates=3, teachers=teachers)
    assert look_up(data, "other", [4]).scores.tolist() == [[3.0, 9.0, 7.5]]
    assert data.vector_fingerprints()["engine"] != data.vector_fingerprints()["other"]


def test_a_student_learns_from_it(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "engine.trec"
    write_run(run, source_root)
    losses = {"matching": QueryMatching(), "scores": ScoreDistillation(teacher="engine")}
    data = data_of(source_root, store_folder, candidates=4, teachers={"engine": str(run)})
    trained = train(StudentModule(StudentFromTeacher(2), losses), data, tmp_path / "run", max_epochs=8, log_every_n_steps=1)
    values = trained.history["train/scores"].values
    assert np.mean(values[-5:]) < 0.9 * np.mean(values[:5])
    run.write_text(run.read_text().replace("9.0", "8.0"))
    data = data_of(source_root, store_folder, candidates=4, teachers={"engine": str(run)})
    with pytest.raises(BadInput, match=r"vectors\.engine was"):
        train(StudentModule(StudentFromTeacher(2), losses), data, tmp_path / "run", max_epochs=8)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda text: text.replace("\n", "\nx").replace("t", "x"), {}, "ranks none of these queries"),
        (lambda text: text.replace("Q0 ", "Q0 x"), {}, "none of its documents is in the corpus"),
        (lambda text: text, {"candidates": 6}, "none is left"),
        (lambda text: text, {"candidates": 0}, "set data.candidates"),
        (lambda text: text.replace(" 9.0 ", " nine "), {}, "nine"),
    ],
)
def test_runs_that_do_not_fit_are_refused(source_root, store_folder, tmp_path, change: Any, settings: dict[str, int], message: str) -> None:
    run = tmp_path / "engine.trec"
    write_run(run, source_root)
    run.write_text(change(run.read_text()))
    with pytest.raises(BadInput, match=message):
        data_of(source_root, store_folder, **{"candidates": 3, "teachers": {"engine": str(run)}, **settings})


@pytest.mark.parametrize(
    ("teacher", "message"),
    [("engine.tred", "no such file or folder"), ("{class_path: mine.Teacher,", "not a teacher: name a folder, or the class_path")],
)
def test_what_is_no_teacher_is_refused(source_root: Path, store_folder: Path, teacher: str, message: str) -> None:
    with pytest.raises(BadInput, match=rf"data\.teachers: engine: {re.escape(teacher)}: {message}"):
        data_of(source_root, store_folder, candidates=3, teachers={"engine": teacher})


def test_a_second_run_of_other_queries_is_refused(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "engine.trec", source_root)
    write_run(tmp_path / "other.trec", source_root, queries=60)
    teachers = {name: str(tmp_path / f"{name}.trec") for name in ("engine", "other")}
    with pytest.raises(BadInput, match=r"other.trec: 20 of 80 training queries have no documents in it"):
        data_of(source_root, store_folder, candidates=3, teachers=teachers)


def test_scores_that_float32_does_not_hold_are_refused(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "engine.trec"
    write_run(run, source_root)
    run.write_text(run.read_text().replace(" 9.0 ", " 1e39 "))
    with pytest.raises(BadInput, match="a score is no finite number"):
        data_of(source_root, store_folder, candidates=3, teachers={"engine": str(run)})


def test_a_run_that_two_parts_share_an_id_of_is_refused(source_root: Path, tmp_path: Path) -> None:
    run, root = tmp_path / "engine.trec", Path(shutil.copytree(source_root, tmp_path / "source"))
    write_run(run, root)
    (root / "queries.extra.tsv").write_text((root / "queries.train.tsv").read_text().replace("\t", "\tmore "))
    with pytest.raises(BadInput, match=r"is a query of two parts of train\+extra"):
        read_scored_parts(str(run), MsMarcoTsv(str(root)), "train+extra", 3)
