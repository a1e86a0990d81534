"""An index that exists: vectors and ids from arrays and from every kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import distill
from distill.records import BadInput
from distill.vectors.store import TeacherStore

ROWS, WIDTH = 50, 8


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


IDS = [f"d{row}" for row in range(ROWS)]


def make(kind: str, vectors: np.ndarray, folder: Path) -> distill.Index:
    (folder / "ids.txt").write_text("".join(f"{id_}\n" for id_ in IDS))
    if kind == "array":
        return distill.Index(vectors, IDS)
    if kind == "array and file":
        return distill.Index(vectors.astype(np.float64), folder / "ids.txt")
    if kind in ("npy", "npy and list"):
        np.save(folder / "vectors.npy", vectors)
        return distill.Index(folder / "vectors.npy", IDS if kind == "npy and list" else str(folder / "ids.txt"))
    if kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"id": IDS, "vector": list(vectors)}), folder / "vectors.parquet")
        return distill.Index(folder / "vectors.parquet")
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors)
    faiss.write_index(index, str(folder / "index.faiss"))
    return distill.Index(folder / "index.faiss", IDS)


@pytest.mark.parametrize("kind", ["array", "array and file", "npy", "npy and list", "parquet", "faiss"])
@pytest.mark.parametrize("batch", [7, 65_536])
def test_it_finds_what_a_product_finds(kind, batch, vectors, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.vectors.index.ROWS_PER_BATCH", batch)
    index = make(kind, vectors, tmp_path)
    assert (len(index), index.width, list(index.ids)) == (ROWS, WIDTH, IDS)
    queries = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    scores, ids = index.search(queries, 10)
    expected = queries.astype(np.float64) @ vectors.astype(np.float64).T  # [3, ROWS]
    order = np.argsort(-expected, axis=1)[:, :10]
    assert ids == [[IDS[row] for row in rows] for rows in order]
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, axis=1), atol=1e-5)


def test_one_vector_is_one_row_and_equal_scores_keep_their_order(monkeypatch):
    monkeypatch.setattr("distill.vectors.index.ROWS_PER_BATCH", 2)
    index = distill.Index(np.array([[1.0, 0], [2.0, 0], [2.0, 5], [1.0, 1]]), list("abcd"))
    scores, ids = index.search(np.array([1.0, 0.0]), k=99)
    assert (scores.tolist(), ids) == ([[2.0, 2.0, 1.0, 1.0]], [["b", "c", "a", "d"]])


@pytest.mark.parametrize(
    ("vectors", "ids", "message"),
    [
        (np.zeros((3, 2)), ["a", "b"], "vectors: 3 vectors, but 2 ids in it: give one id for every vector"),
        (np.zeros((2, 2)), ["a", "a"], "id 'a' of row 2 is already taken by row 1"),
        (np.zeros((2, 2)), ["a", ""], "ids: the id of row 1 is '': expected 1 to 512 bytes"),
        (np.zeros((2, 2)), None, "vectors: has no ids of its own"),
        (np.zeros((2, 2), int), ["a", "b"], r"vectors: int64 of shape \(2, 2\): expected an array of floats \[N, D\]"),
        (np.zeros(4), ["a"], r"vectors: float64 of shape \(4,\): expected"),
        (np.zeros((0, 4)), [], "there is no vector in it"),
        ("nowhere.npy", ["a"], "nowhere.npy: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(vectors, ids, message):
    with pytest.raises(BadInput, match=message):
        distill.Index(vectors, ids)


def test_parquet_holds_its_ids(vectors, tmp_path):
    make("parquet", vectors, tmp_path)
    with pytest.raises(BadInput, match="parquet holds the ids of its vectors: give the name of their column instead of a list"):
        distill.Index(tmp_path / "vectors.parquet", IDS)
    assert list(distill.Index(tmp_path / "vectors.parquet", "id").ids) == IDS


def test_what_a_search_cannot_use_is_refused(vectors, monkeypatch):
    index = distill.Index(vectors, IDS)
    with pytest.raises(BadInput, match="query vectors are 3 wide, document vectors 8"):
        index.search(np.zeros((1, 3)), 5)
    broken = vectors.copy()
    broken[4, 2] = np.nan
    with pytest.raises(BadInput, match="document vectors: row 4 has NaN"):
        distill.Index(broken, IDS).search(np.zeros((1, WIDTH)), 5)
    monkeypatch.setattr("distill.vectors.index.ROWS_PER_BATCH", 3)  # the row is that of the whole index
    with pytest.raises(BadInput, match="document vectors: row 4 has NaN"):
        distill.Index(broken, IDS).search(np.zeros((1, WIDTH)), 5)


def test_vectors_say_what_they_are(vectors, store_folder, teacher_folder):
    assert repr(distill.Index(vectors, IDS)) == "Index(50 vectors, 8 wide)"
    store = TeacherStore(store_folder)
    documents = f"60 documents, 32 wide, by {teacher_folder}"
    assert repr(store) == f"TeacherStore({str(store_folder)!r}: {documents}; queries: dev, test, train)"
    assert repr(store.documents) == f"VectorStore({str(store_folder / 'documents')!r}: 60 vectors, 32 wide, by {teacher_folder})"


def test_a_column_of_texts_is_not_taken_for_ids(vectors, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = ["long " * 200 for _ in IDS]
    parquet.write_table(pyarrow.table({"text": texts, "vector": list(vectors)}), tmp_path / "vectors.parquet")
    with pytest.raises(BadInput, match=r"column 'text' has an id of 1000 bytes: .*: name the column of ids with --ids"):
        distill.Index(tmp_path / "vectors.parquet")
