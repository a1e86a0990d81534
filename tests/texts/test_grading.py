import math

import numpy as np
import pytest

from distill.texts.grading import grade_judged
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels

CORPUS = Ids.of(["a", "b", "c", "d"])


def test_only_judged_queries_are_graded():
    qrels = Qrels({"q1": {"b": 1}, "q3": {"a": 1, "d": 1}})
    rows = np.array([[0, 1, 2], [0, 1, 2], [0, 2, -1]])
    values = grade_judged(qrels, ["q1", "unjudged", "q3"], CORPUS, rows, relevant_from=1)
    assert values["mrr@10"].tolist() == [0.5, 1.0]
    assert values["recall@100"].tolist() == [1.0, 0.5]
    # gain 1 at rank 2 of an ideal 1; gain 1 at rank 1 of an ideal 1 + 1 / log2(3)
    assert values["ndcg@10"].tolist() == pytest.approx([1 / math.log2(3), 1 / (1 + 1 / math.log2(3))])
    assert {found.dtype for found in values.values()} == {np.dtype(np.float64)}


def test_blocks_of_queries_are_graded_as_all_at_once(monkeypatch):
    qrels = Qrels({"q1": {"b": 1}, "q2": {"a": 2, "c": 1, "d": 1}, "q3": {"d": 1}})
    rows = np.array([[0, 1, 2], [3, 0, 2], [0, 2, -1]])
    at_once = grade_judged(qrels, ["q1", "q2", "q3"], CORPUS, rows, relevant_from=1)
    monkeypatch.setattr("distill.texts.grading.QUERIES_AT_ONCE", 2)
    blocks = grade_judged(qrels, ["q1", "q2", "q3"], CORPUS, rows, relevant_from=1)
    assert {name: values.tolist() for name, values in blocks.items()} == {name: values.tolist() for name, values in at_once.items()}


def test_the_lowest_relevant_grade_counts_for_mrr():
    qrels = Qrels({"q": {"a": 1, "b": 2}})
    values = grade_judged(qrels, ["q"], CORPUS, np.array([[0, 1]]), relevant_from=2)
    assert values["mrr@10"].tolist() == [0.5]


@pytest.mark.parametrize("qrels", [None, Qrels({}), Qrels({"other": {"a": 1}})])
def test_without_judgments_there_is_nothing(qrels):
    assert grade_judged(qrels, ["q"], CORPUS, np.array([[0]]), relevant_from=1) == {}
