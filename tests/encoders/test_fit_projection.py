"""The projection of a student begins as the best linear map to the teacher's vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import make_folder

import distill
from distill.data.datamodule import RetrievalData
from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.fit_projection import fit_projection, solve_projection
from distill.encoders.folder import load_encoder
from distill.encoders.modules import Dense, Normalize
from distill.encoders.students import StudentFromBackbone
from distill.modules.student import StudentModule
from distill.texts.sources import MsMarcoTsv

WORDS = ["river", "garden", "planet", "music", "letter", "market", "ocean", "mountain"]
TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]


def make_student(folder, normalizes: bool) -> Encoder:
    encoder = load_encoder(str(folder))
    head = [Dense(encoder.width, 24, bias=False), *([Normalize()] if normalizes else [])]
    return Encoder([encoder.transformer, encoder.pooling, *head], encoder.tokenizer, encoder.settings)


@pytest.mark.parametrize("normalizes", [False, True])
def test_a_linear_map_of_the_states_is_found_again(tmp_path, normalizes):
    """Targets that are a map of the student's own states: the student then gives them, before any training."""
    folder = make_folder(tmp_path / "backbone", "bert")
    student = make_student(folder, normalizes)
    wanted = make_student(folder, normalizes)  # with another random projection
    token_ids = [np.array(ids) for ids in student.token_ids(TEXTS, "query")]
    targets = encode_token_ids(wanted, token_ids)
    assert np.abs(encode_token_ids(student, token_ids) - targets).max() > 0.1
    fit_projection(student, token_ids, targets)
    assert np.abs(encode_token_ids(student, token_ids) - targets).mean() < 0.02


def test_the_solution_is_that_of_the_normal_equations():
    random = np.random.default_rng(0)
    states, targets = random.normal(size=(30, 4)), random.normal(size=(30, 3))
    ridge = 0.5 * (states**2).sum() / 4
    stacked = np.vstack([states, np.sqrt(ridge) * np.eye(4)])  # a ridge is as many more rows whose targets are 0
    expected = np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((4, 3))]), rcond=None)[0].T
    np.testing.assert_allclose(solve_projection(states, targets, strength=0.5), expected, atol=1e-10)


def test_of_many_texts_an_even_sample_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.encoders.fit_projection.MOST_TEXTS", 8)
    folder = make_folder(tmp_path / "backbone", "bert")
    student, other = (make_student(folder, normalizes=False) for _ in range(2))
    token_ids = [np.array(ids) for ids in student.token_ids(TEXTS, "query")]
    rows = [0, 9, 18, 27, 36, 45, 54, 63]
    targets = np.random.default_rng(0).normal(size=(len(TEXTS), 24))
    fit_projection(student, token_ids, targets)
    fit_projection(other, [token_ids[row] for row in rows], targets[rows])
    assert torch.equal(student.head[0].weight, other.head[0].weight)


def test_a_training_begins_with_it_and_weights_to_begin_from_win_over_it(tmp_path, source_root, store_folder):
    folder = make_folder(tmp_path / "backbone", "bert")
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    modules = [StudentModule(StudentFromBackbone(str(folder), "linear")) for _ in range(2)]
    modules[0].prepare(data)
    modules[1].prepare(data, load_start=False)  # as a run that goes on from its checkpoint
    fitted, unfitted = (measure_cosine(module.encoder, data) for module in modules)
    assert fitted > unfitted + 0.2
    run = distill.train(StudentModule(StudentFromBackbone(str(folder), "linear")), data, tmp_path / "run", max_epochs=1, devices=1)
    started = StudentModule(StudentFromBackbone(str(folder), "linear"), start_from=str(run.path))
    started.prepare(data)
    assert torch.equal(started.encoder.head[0].weight, run.student.head[0].weight)


def measure_cosine(encoder: Encoder, data: RetrievalData) -> float:
    texts = list(data.train_sets[0][0])
    students = encode_token_ids(encoder.eval(), encoder.token_ids(texts, "query"))
    return float((students * data.teacher.queries.take(np.arange(len(texts)))).sum(axis=1).mean())
