"""Ranking metrics, query by query, against hand arithmetic, a slow reference and trec_eval."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import torch
from conftest import REAL_DATA

from distill.metrics.ranking import cosine, ndcg, overlap, ranking_metrics, recall, reciprocal_rank
from distill.metrics.trec_runs import read_trec, write_trec
from distill.records import Ranking

DATA = REAL_DATA / "msmarco-dl"


# --- hand arithmetic ---


def test_mrr_of_ranks_1_and_3():
    assert reciprocal_rank(torch.tensor([[1, 0, 0], [0, 0, 1]]), 10).tolist() == pytest.approx([1, 1 / 3])


def test_mrr_stops_at_k_and_asks_for_the_grade():
    ranked = torch.tensor([[1, 0, 2, 0], [0, 0, 0, 3]])
    assert reciprocal_rank(ranked, 3).tolist() == [1, 0]
    assert reciprocal_rank(ranked, 3, relevant_from=2).tolist() == pytest.approx([1 / 3, 0])


def test_recall_counts_what_was_not_retrieved():
    ranked, judged = torch.tensor([[2, 0, 1]]), torch.tensor([[2, 1, 3, 2, 0, 0]])  # two of the four relevant are nowhere in the ranking
    assert recall(ranked, judged, 100).item() == 2 / 4
    assert recall(ranked, judged, 100, relevant_from=2).item() == pytest.approx(1 / 3)
    assert recall(ranked, judged, 2).item() == 1 / 4


def test_ndcg_has_linear_gain_and_an_ideal_of_all_judged():
    ranked, judged = torch.tensor([[1, 3, 0]]), torch.tensor([[1, 2, 3]])
    gained = 1 + 3 / math.log2(3)  # grades 1, 3 at ranks 1, 2
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(ranked, judged, 3).item() == pytest.approx(gained / ideal, abs=1e-12)
    assert ndcg(ranked, judged, 2).item() == pytest.approx(gained / (3 + 2 / math.log2(3)), abs=1e-12)


def test_a_query_without_relevant_documents_scores_0():
    ranked, judged = torch.tensor([[2, 0], [0, 0], [-1, 0]]), torch.tensor([[2, 0], [0, 0], [-1, -1]])
    for values in (reciprocal_rank(ranked, 10), recall(ranked, judged, 10), ndcg(ranked, judged, 10)):
        assert values.tolist() == [1, 0, 0]


def test_negative_grades_gain_nothing():
    assert ndcg(torch.tensor([[-2, 1]]), torch.tensor([[1, -2]]), 10).item() == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize("width", [0, 1])
def test_fewer_columns_than_k(width):
    ranked, judged = torch.ones(2, width, dtype=torch.long), torch.tensor([[1, 1], [1, 1]])
    assert reciprocal_rank(ranked, 10).tolist() == [width, width]
    assert recall(ranked, judged, 10).tolist() == [width / 2, width / 2]
    assert ndcg(ranked, judged, 10).tolist() == pytest.approx([width / (1 + 1 / math.log2(3))] * 2)


def test_overlap_of_top_2():
    reference, candidate = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), torch.tensor([[2, 1, 9], [5, 9, 4], [1, 2, 7]])
    assert overlap(reference, candidate, 2).tolist() == [1, 0.5, 0]
    assert overlap(reference, candidate, 3).tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_overlap_ignores_empty_places():
    assert overlap(torch.tensor([[3, -1, -1], [-1, -1, -1]]), torch.tensor([[3, -1, -1], [-1, -1, -1]]), 3).tolist() == [1, 0]


def test_cosine():
    reference, candidate = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert cosine(reference, candidate).tolist() == pytest.approx([1, math.sqrt(0.5), 0])


def graded(seed, queries=40, retrieved=30, judged=50):
    generator = random.Random(seed)
    all_grades = [[generator.choice([-1, 0, 0, 0, 1, 2, 3]) for _ in range(judged)] for _ in range(queries)]
    all_grades[0] = [0] * judged
    # the ranking holds some of the judged documents and some nobody judged
    ranked = [generator.sample(grades + [0] * 40, retrieved) for grades in all_grades]
    return ranked, all_grades


def reference_values(ranked, judged, k, relevant_from):
    """The definitions, in plain Python: (reciprocal rank, recall, nDCG)."""
    relevant = [grade >= relevant_from for grade in ranked[:k]]
    gain = lambda grades: sum(max(grade, 0) / math.log2(rank + 1) for rank, grade in enumerate(grades[:k], start=1))  # noqa: E731
    return (
        next((1 / rank for rank, hit in enumerate(relevant, start=1) if hit), 0.0),
        sum(relevant) / max(1, sum(grade >= relevant_from for grade in judged)),
        gain(ranked) / (gain(sorted(judged, reverse=True)) or 1),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("k", "relevant_from"), [(1, 1), (10, 2), (100, 1)])
def test_equals_the_definitions(seed, k, relevant_from):
    ranked, judged = graded(seed)
    expected = torch.tensor([reference_values(*pair, k, relevant_from) for pair in zip(ranked, judged, strict=True)], dtype=torch.double)
    r, j = torch.tensor(ranked), torch.tensor(judged)
    measured = torch.stack([reciprocal_rank(r, k, relevant_from), recall(r, j, k, relevant_from), ndcg(r, j, k)], 1)
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-12)


# --- against trec_eval, on real runs ---


def read_qrels(path):
    qrels = defaultdict(dict)
    for line in path.read_text().splitlines():
        query_id, _, document_id, grade = line.split()
        qrels[query_id][document_id] = int(grade)
    return dict(qrels)


def grade_tensors(run, qrels):
    """(ranked_grades, judged_grades) of every judged query, also those the run misses."""
    ranked = [[qrels[query].get(document, 0) for document, _ in run.get(query, [])] for query in qrels]
    judged = [list(grades.values()) for grades in qrels.values()]
    return tuple(torch.tensor([row + [0] * (max(map(len, rows)) - len(row)) for row in rows]) for rows in (ranked, judged))


def as_rows(run):
    """(Run, document ids) of 100 documents a query, with every other score tied to the one before."""
    documents = [document for found in run.values() for document, _ in found]
    scores = np.array([[score for _, score in found[::2]] for found in run.values()]).repeat(2, axis=1)
    return Ranking(list(run), np.arange(len(documents)).reshape(len(run), -1), scores), documents


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the TREC DL runs and judgements in {DATA}")
@pytest.mark.parametrize("year", ["dl19", "dl20"])
@pytest.mark.parametrize("system", ["bm25", "tasb"])
def test_equals_trec_eval(tmp_path, system, year):
    ir_measures = pytest.importorskip("ir_measures")
    qrels, run = read_qrels(DATA / f"qrels.{year}.tsv"), read_trec(DATA / f"runs/{system}.{year}.trec")
    del run[next(iter(run))]  # a query the run misses counts as 0
    # written again: trec_eval breaks the ties of these files by document id
    write_trec(*as_rows(run), tmp_path / "again.trec")
    again = list(ir_measures.read_trec_run(str(tmp_path / "again.trec")))
    ndcg_10, rr_10, recall_100 = (ir_measures.parse_measure(name) for name in ("nDCG@10", "RR(rel=2)@10", "R(rel=2)@100"))
    theirs = ir_measures.calc_aggregate([ndcg_10, rr_10, recall_100], qrels, again)
    ours = ranking_metrics(*grade_tensors(run, qrels), relevant_from=2)
    for measure, name in ((ndcg_10, "ndcg@10"), (rr_10, "mrr@10"), (recall_100, "recall@100")):
        assert ours[name].mean().item() == pytest.approx(theirs[measure], abs=1e-6), measure
