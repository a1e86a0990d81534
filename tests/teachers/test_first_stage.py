"""The first documents of a run file and of a store, by hand."""

import numpy as np
import pytest

from distill.records import BadInput
from distill.teachers.first_stage import fingerprint_first_stage, retrieve_first_stage, run_to_rows
from distill.texts.ids import Ids
from distill.texts.sources import MsMarcoTsv
from distill.texts.texts import Texts

QUERIES = Texts.from_lists(["q0", "q1", "q2"], ["one", "two", "three"])
CORPUS = Ids.of(f"d{row}" for row in range(8))


def test_rows_of_a_run_are_padded():
    run = {"q0": [("d7", 3.0), ("d2", 2.0), ("d5", 1.0)], "q2": [("d1", 1.0)], "stranger": [("gone", 1.0)]}
    assert run_to_rows(run, QUERIES, CORPUS, 2, "x.trec").tolist() == [[7, 2], [-1, -1], [1, -1]]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"q1": [("d1", 2.0), ("gone", 1.0)]}, "x.trec: query 'q1': document 'gone' is not in the corpus"),
        ({"stranger": [("d1", 1.0)]}, "x.trec: ranks none of these queries"),
    ],
)
def test_a_run_of_other_texts_is_refused(run, words):
    with pytest.raises(BadInput, match=words):
        run_to_rows(run, QUERIES, CORPUS, 2, "x.trec")


def test_candidates_of_a_store_are_its_top_documents(source_root, store_folder):
    source = MsMarcoTsv(str(source_root))
    rows = retrieve_first_stage(str(store_folder), source, "dev", source.queries("dev"), 7)
    vectors = [np.load(store_folder / name / "00000.npy").astype(np.float64) for name in ("queries-dev", "documents")]
    expected = np.argsort(-(vectors[0] @ vectors[1].T), axis=1, kind="stable")[:, :7]
    assert np.mean(rows == expected) > 0.99
    both = retrieve_first_stage(str(store_folder), source, "dev+test", source.queries("dev+test"), 7)
    assert np.array_equal(both[: len(rows)], rows) and len(both) == 24


def test_the_fingerprint_is_the_files_or_the_teachers(store_folder, tmp_path):
    paths = [tmp_path / name for name in ("a.trec", "b.trec", "c.trec")]
    for path, score in zip(paths, (1, 1, 2), strict=True):
        path.write_text(f"q0 Q0 d1 1 {score} x\n")
    same, again, other = [fingerprint_first_stage(str(path)) for path in paths]
    assert same == again != other
    assert fingerprint_first_stage(str(store_folder)) not in (same, other)
