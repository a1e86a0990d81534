"""Scores of given pairs, and the ranking they make."""

import numpy as np
import pytest
import torch
from families import make_cross

from distill.encoders.towers import load_towers
from distill.records import Ranking
from distill.teachers import reranking
from distill.teachers.reranking import rerank_run, score_with_cross, score_with_dual
from distill.texts.sources import MsMarcoTsv
from distill.texts.texts import Texts


def test_reranking_by_hand():
    run = Ranking(["a", "b"], np.array([[4, 2, 7], [5, 6, -1]]), np.zeros((2, 3), np.float32))
    found = rerank_run(run, np.array([[0.1, 0.5, 0.5], [-3.0, -2.0, 9.0]]), "x")
    assert found.rows.tolist() == [[2, 7, 4], [6, 5, -1]]
    assert found.scores.tolist() == [[0.5, 0.5, pytest.approx(0.1)], [-2.0, -3.0, -np.inf]]


def test_scores_do_not_depend_on_what_is_scored_together(source_root, teacher_folder, monkeypatch):
    """Neither on how many queries are read at a time nor on the order of documents."""
    source = MsMarcoTsv(str(source_root))
    queries, corpus = source.queries("test"), source.documents()
    rows = np.random.default_rng(0).integers(-1, 60, (12, 5))
    cross, towers = make_cross("bert", "cls"), load_towers(str(teacher_folder))
    whole, dual = score_with_cross(cross, queries, corpus, rows), score_with_dual(towers, queries, corpus, rows)
    monkeypatch.setattr(reranking, "QUERIES_AT_A_TIME", 5)
    assert np.allclose(score_with_cross(cross, queries, corpus, rows[:, ::-1].copy())[:, ::-1], whole, atol=1e-5)
    assert np.allclose(score_with_dual(towers, queries, corpus, rows[:, ::-1].copy())[:, ::-1], dual, atol=1e-5)
    assert (whole[rows < 0] == 0).all() and (dual[rows < 0] == 0).all()
    assert torch.tensor(whole[rows >= 0]).unique().numel() > 20


def test_queries_without_a_document_are_passed_over(monkeypatch):
    """A whole block of them too."""
    monkeypatch.setattr(reranking, "QUERIES_AT_A_TIME", 2)
    encoder = make_cross("bert", "cls")
    texts = Texts.from_lists(list("abcde"), ["old river", "new music", "red bread", "how to find", "the ocean"])
    rows = np.array([[-1, -1], [-1, -1], [1, -1], [-1, -1], [-1, 0]])
    found = score_with_cross(encoder, texts, texts, rows)
    alone = encoder.score(["red bread", "the ocean"], ["new music", "old river"]).scores.numpy()
    assert found.shape == (5, 2) and np.count_nonzero(found) == 2
    assert found[2, 0] == pytest.approx(alone[0], abs=1e-5) and found[4, 1] == pytest.approx(alone[1], abs=1e-5)
