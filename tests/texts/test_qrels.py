import numpy as np
import pytest

from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels, RelevantRows, merge_qrels, read_qrels

JUDGED = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}}


def written(path, content):
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 d1 2\nq1 Q0 d2 0\n\nq2 0 d1 1\n",
        "q1\t0\td1\t2\r\nq1\t0\td2\t0\r\nq2\t0\td1\t1",
        "q1 \t0  d1\t2\nq1\t0 d2\t0\nq2 0 d1 1\n",
        "q1\td1\t2\nq1\td2\t0\nq2\td1\t1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n",
        "Query\tDocument\tGrade\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n",
        "qid iter docid rel\nq1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n",
        "\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq1\td2\t0\nq2\td1\t1\n",
    ],
    ids=[
        "trec",
        "tabs and carriage returns",
        "mixed",
        "three columns",
        "beir",
        "another header",
        "trec with a header",
        "byte order mark and a repeat",
    ],
)
def test_every_form_reads_the_same(tmp_path, content):
    qrels = read_qrels(written(tmp_path / "qrels.tsv", content))
    assert qrels.judgments == JUDGED
    assert len(qrels) == 2


def test_ids_between_tabs_may_have_spaces_and_odd_separators(tmp_path):
    assert read_qrels(written(tmp_path / "q.tsv", "q 1\td\u20281\t-1\n")).judgments == {"q 1": {"d\u20281": -1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 0 d1 2\n\nq1 0 d2 good\n", r"q\.tsv: line 3 has the grade 'good': expected a whole number"),
        ("q1 0 d1 100000000000000000000\n", r"q\.tsv: line 1 has the grade 100000000000000000000: too large"),
        ("q1 0 d1 2\nq1 d2 2\n", r"q\.tsv: line 2 has 3 columns, not 4: expected query, 0 \(optional\), document, grade"),
        ("q1 d1\n", r"q\.tsv: line 1 has 2 columns, not 3 or 4"),
        ("q1 0 d1 2\nq1 0 d1 1\n", r"q\.tsv: line 2 judges document 'd1' of query 'q1' again, differently"),
        ("query-id\tcorpus-id\tscore\n", r"q\.tsv: no judgment in it"),
        ("", r"q\.tsv: no judgment in it"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    with pytest.raises(BadInput, match=message):
        read_qrels(written(tmp_path / "q.tsv", content))


def test_judgments_of_known_queries_are_kept():
    qrels = Qrels(JUDGED, "q.tsv")
    assert qrels.keep_known(Ids.of(["q0", "q2"]), "the queries").judgments == {"q2": {"d1": 1}}
    with pytest.raises(BadInput, match=r"q\.tsv: none of its queries, 'q1' for one, is in the queries: the two files must belong together"):
        qrels.keep_known(Ids.of(["q0"]), "the queries")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.tsv: no such file"):
        read_qrels(tmp_path / "none.tsv")


def test_grades_of_retrieved_rows():
    qrels = Qrels({"q1": {"d0": 3, "gone": 2, "d2": -2, "d1": 1}, "q2": {"d2": 1}})
    corpus = Ids.of(["d0", "d1", "d2", "d3"])
    rows = np.array([[1, 3, 0], [0, 2, -1], [2, -1, -1]])
    ranked, judged = qrels.grade(["q1", "q2", "unjudged"], corpus, rows)
    assert ranked.tolist() == [[1, 0, 3], [0, 1, 0], [0, 0, 0]]
    # the document missing from the corpus stays to be won; the negative grade is 0
    assert judged.tolist() == [[3, 2, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert ranked.dtype == judged.dtype == np.int64


def test_grades_with_nothing_judged_or_nothing_asked():
    ranked, judged = Qrels({}).grade(["q"], Ids.of(["d"]), np.array([[0, -1]]))
    assert (ranked.tolist(), judged.tolist()) == ([[0, 0]], [[0]])
    ranked, judged = Qrels({}).grade([], Ids.of(["d"]), np.empty((0, 5), np.int64))
    assert (ranked.shape, judged.shape) == ((0, 5), (0, 1))


def test_random_grades_agree_with_dicts():
    rng = np.random.default_rng(0)
    judgments = {f"q{q}": {f"d{d}": int(rng.integers(-1, 4)) for d in rng.integers(0, 60, 12)} for q in range(20)}
    rows = np.array([rng.permutation(50)[:10] for _ in range(20)])
    ranked, judged = Qrels(judgments).grade(list(judgments), Ids.of([f"d{d}" for d in range(50)]), rows)
    assert ranked.tolist() == [[max(0, judgments[f"q{q}"].get(f"d{d}", 0)) for d in row] for q, row in enumerate(rows)]
    assert judged.sum(1).tolist() == [sum(max(0, grade) for grade in grades.values()) for grades in judgments.values()]


def test_merged_and_only():
    more = merge_qrels([Qrels(JUDGED, "a"), Qrels({"q2": {"d9": 3}, "q3": {"d1": 1}}, "b")])
    assert more.judgments == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1, "d9": 3}, "q3": {"d1": 1}}
    assert more.name == "a+b"
    assert JUDGED["q2"] == {"d1": 1}
    assert more.subset(["q3", "unknown"]).judgments == {"q3": {"d1": 1}}


def test_queries_that_the_query_file_lacks_are_refused():
    qrels = Qrels(JUDGED, "qrels.dev.tsv")
    qrels.refuse_unknown_queries(Ids.of(["q2", "q1", "q0"]), "queries.dev.tsv")
    with pytest.raises(BadInput, match=r"qrels\.dev\.tsv: query 'q1' not in queries\.dev\.tsv: the two files must belong together"):
        qrels.refuse_unknown_queries(Ids.of(["q2"]), "queries.dev.tsv")
    with pytest.raises(BadInput, match=r"query 'q1' and 1 others not in queries"):
        qrels.refuse_unknown_queries(Ids.of(["q"]), "queries.dev.tsv")


def test_best_is_the_highest_grade_in_the_corpus_and_the_first_of_equals():
    judgments = {"a": {"d0": 1, "d2": 3, "d1": 3}, "b": {"gone": 3, "d3": 1}, "c": {"d1": 0}, "d": {"gone": 2}}
    corpus = Ids.of(["d3", "d2", "d1", "d0"])
    queries = ["d", "c", "unjudged", "b", "a"]
    np.testing.assert_array_equal(Qrels(judgments).best_documents(queries, corpus), [-1, -1, -1, 0, 1])
    np.testing.assert_array_equal(Qrels(judgments).best_documents(queries, corpus, relevant_from=2), [-1, -1, -1, -1, 1])


def test_pairs_of_rows_and_what_is_relevant_to_each_query():
    qrels = Qrels({"a": {"d2": 1, "d0": 0, "gone": 2, "d1": 3}, "c": {"d2": 2}, "d": {"d0": -1}})
    corpus = Ids.of(["d0", "d1", "d2"])
    queries, documents = qrels.relevant_pairs(["c", "b", "a", "d"], corpus)
    assert (queries.tolist(), documents.tolist()) == ([0, 2, 2], [2, 2, 1])
    assert [part.tolist() for part in qrels.relevant_pairs(["c", "b", "a"], corpus, 2)] == [[0, 2], [2, 1]]
    relevant = RelevantRows(queries, documents, 4)
    assert relevant.rows_for(np.array([3, 2, 0, 2])).tolist() == [[-1, -1], [2, 1], [2, -1], [2, 1]]
    nothing = np.empty(0, np.int64)
    assert RelevantRows(nothing, nothing, 3).rows_for(np.array([0, 2])).shape == (2, 0)
