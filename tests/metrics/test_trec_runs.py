"""Run files: what is written reads back in our order, here and in trec_eval; broken ones are refused by line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.metrics.ranking import ndcg
from distill.metrics.trec_runs import read_trec, write_trec
from distill.records import BadInput, Ranking

NAMES = ["d9", "d1", "d5", "d7"]


def run_of(rows, scores, name="student"):
    return Ranking([f"q{query}" for query in range(len(rows))], np.array(rows), np.array(scores, dtype=np.float32), name)


def test_lines(tmp_path):
    write_trec(run_of([[2, 0], [1, -1]], [[1.5, 0.25], [2, -np.inf]]), NAMES, tmp_path / "a.trec")
    assert (tmp_path / "a.trec").read_text() == "q0 Q0 d5 1 1.5 student\nq0 Q0 d9 2 0.25 student\nq1 Q0 d1 1 2 student\n"
    assert read_trec(tmp_path / "a.trec") == {"q0": [("d5", 1.5), ("d9", 0.25)], "q1": [("d1", 2.0)]}


def test_ids_may_come_from_a_function(tmp_path):
    write_trec(run_of([[2, 0]], [[2, 1]]), "doc{}".format, tmp_path / "a.trec")
    assert [document for document, _ in read_trec(tmp_path / "a.trec")["q0"]] == ["doc2", "doc0"]


@pytest.mark.parametrize("score", [0.0, 1e-40, 0.87654321, -3.0, 109.105545])
def test_ties_are_written_strictly_decreasing_in_fp32(tmp_path, score):
    write_trec(run_of([[0, 1, 2, 3]], [[score] * 4]), NAMES, tmp_path / "a.trec")
    found = read_trec(tmp_path / "a.trec")["q0"]
    written = np.array([score for _, score in found], dtype=np.float32)
    assert (np.diff(written) < 0).all()
    assert np.abs(written - np.float32(score)).max() < 1e-4
    assert [document for document, _ in found] == NAMES


def test_trec_eval_ranks_ties_as_we_do(tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    generator = np.random.default_rng(0)
    rows = np.stack([generator.permutation(50)[:20] for _ in range(30)])
    scores = -np.sort(-generator.integers(0, 4, size=rows.shape), axis=1)  # a few values: nearly everything is tied
    grades = generator.integers(0, 4, size=(30, 50))
    write_trec(run_of(rows, scores), [f"d{row}" for row in range(50)], tmp_path / "a.trec")
    qrels = {f"q{query}": {f"d{row}": int(grade) for row, grade in enumerate(judged)} for query, judged in enumerate(grades)}
    run = {query: dict(found) for query, found in read_trec(tmp_path / "a.trec").items()}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(run)
    ours = ndcg(torch.from_numpy(np.take_along_axis(grades, rows, 1)), torch.from_numpy(grades), 10)
    assert ours.tolist() == pytest.approx([theirs[query]["ndcg_cut_10"] for query in run], abs=1e-6)


def test_read_orders_by_score_then_by_line(tmp_path):
    path = tmp_path / "given.trec"
    path.write_text("q Q0 low 1 0.5 x\nq Q0 b 2 7 x\n\nq\tQ0\ta\t3\t7.0\tx\n")
    assert read_trec(path) == {"q": [("b", 7.0), ("a", 7.0), ("low", 0.5)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 1 0.5", r":2: 5 columns"),
        ("q Q0 d 1 high x", r":2: score 'high'"),
        ("q Q0 d 1 nan x", r":2: score 'nan'"),
        ("q Q0 first 2 0.5 x", r":2: document first comes twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    (tmp_path / "broken.trec").write_text(f"q Q0 first 1 0.9 x\n{line}\n")
    with pytest.raises(BadInput, match=message):
        read_trec(tmp_path / "broken.trec")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.trec"):
        read_trec(tmp_path / "none.trec")


@pytest.mark.parametrize("bad", ["two words", "", "tab\t"])
def test_ids_that_would_break_the_columns_leave_no_file(tmp_path, bad):
    with pytest.raises(BadInput, match="white space"):
        write_trec(run_of([[0]], [[1]]), [bad], tmp_path / "a.trec")
    assert list(Path(tmp_path).iterdir()) == []
