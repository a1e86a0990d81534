"""Vectors of other programs: what comes in is what was written, whatever the format and however it is cut; the rest is refused."""

import numpy as np
import pytest
import xxhash

from distill.records import BadInput
from distill.vectors import vector_files
from distill.vectors.import_formats import open_vectors

faiss = pytest.importorskip("faiss")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS, WIDTH = 23, 4
VECTORS = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
IDS = [f"t{(row * 5) % ROWS}" for row in range(ROWS)]


def write_npy(folder):
    np.save(folder / "v.npy", VECTORS)
    (folder / "ids.txt").write_text("\n".join(IDS) + "\n")
    return folder / "v.npy", folder / "ids.txt"


def write_npy_parts(folder):
    parts = folder / "parts"
    parts.mkdir()
    for number, (start, stop) in enumerate([(0, 9), (9, 10), (10, ROWS)]):
        np.save(parts / f"{number}.npy", VECTORS[start:stop])
    return parts, write_npy(folder)[1]


def table(lists: str) -> arrow.Table:
    kind = arrow.list_(arrow.float32(), WIDTH) if lists == "fixed" else arrow.list_(arrow.float32())
    return arrow.table({"id": IDS, "title": ["x"] * ROWS, "embedding": arrow.array(VECTORS.tolist(), kind)})


def write_parquet(folder, lists="variable"):
    parquet.write_table(table(lists), folder / "v.parquet", row_group_size=6)
    return folder / "v.parquet", None


def write_fixed_parquet_parts(folder):
    parts = folder / "parts"
    parts.mkdir()
    parquet.write_table(table("fixed")[:10], parts / "a.parquet")
    parquet.write_table(table("fixed")[10:], parts / "b.parquet")
    return parts, "id"


def write_flat(folder):
    index = faiss.IndexFlatIP(WIDTH)
    index.add(VECTORS)
    faiss.write_index(index, str(folder / "v.faiss"))
    return folder / "v.faiss", write_npy(folder)[1]


WRITERS = [write_npy, write_npy_parts, write_parquet, write_fixed_parquet_parts, write_flat]


@pytest.mark.parametrize("size", [1, 7, 10, 23, 50])
@pytest.mark.parametrize("write", WRITERS)
def test_every_row_comes_once_and_in_order(tmp_path, write, size):
    path, ids = write(tmp_path)
    found = open_vectors(str(path), ids and str(ids))
    assert (found.rows, found.width, list(found.ids)) == (ROWS, WIDTH, IDS)
    batches = list(found.batches(size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate(batches), VECTORS)


def test_the_fingerprint_is_of_the_numbers_alone(tmp_path, monkeypatch):
    prints = []
    for number, write in enumerate(WRITERS):
        (tmp_path / str(number)).mkdir()
        path, ids = write(tmp_path / str(number))
        monkeypatch.setattr(vector_files, "ROWS_PER_BATCH", 3 + number)
        prints.append(open_vectors(str(path), ids and str(ids)).fingerprint())
    assert len(set(prints)) == 1
    changed = VECTORS.copy()
    changed[20, 3] += 1e-3
    np.save(tmp_path / "changed.npy", changed)
    assert open_vectors(str(tmp_path / "changed.npy"), str(tmp_path / "0" / "ids.txt")).fingerprint() != prints[0]


def test_the_fingerprint_tells_the_number_formats_apart(tmp_path):
    """The same numbers in halves, or rounded to 8 bits, are other vectors; float32 is known by its bytes, as ever."""
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    rounded = np.round(VECTORS * 32).clip(-127, 127) / 32  # 8 bits, which halves hold exactly
    halves = [array.astype(np.float16) for array in (VECTORS, rounded)]
    arrays = [VECTORS, rounded, *halves, halves[0].astype(np.float32), VECTORS.astype(np.float64), np.zeros_like(VECTORS), 0 * halves[0]]
    prints = []
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
        prints.append(open_vectors(str(tmp_path / f"{number}.npy"), str(tmp_path / "ids.txt")).fingerprint())
    assert len(set(prints)) == len(arrays)
    assert prints[0] == xxhash.xxh3_64_hexdigest(VECTORS.tobytes())
    np.save(tmp_path / "codes.npy", (rounded * 32).astype(np.int8))
    with pytest.raises(
        BadInput, match=r"holds int8 of shape .* \[rows, width\]: multiply whole numbers by their scale and save them as float32"
    ):
        open_vectors(str(tmp_path / "codes.npy"), str(tmp_path / "ids.txt"))


def test_an_index_with_ids_of_its_own(tmp_path):
    index = faiss.IndexIDMap(faiss.IndexFlatL2(WIDTH))
    index.add_with_ids(UNIT, np.arange(ROWS) * 1000)
    faiss.write_index(index, str(tmp_path / "v.index"))
    found = open_vectors(str(tmp_path / "v.index"), None)
    assert list(found.ids) == [str(row * 1000) for row in range(ROWS)]
    np.testing.assert_array_equal(np.concatenate(list(found.batches(5))), UNIT)


def test_whole_numbers_of_a_table_are_ids(tmp_path):
    parquet.write_table(arrow.table({"n": list(range(ROWS)), "v": VECTORS.tolist()}), tmp_path / "v.parquet")
    assert list(open_vectors(str(tmp_path / "v.parquet"), None).ids) == [str(row) for row in range(ROWS)]


@pytest.mark.parametrize("content", ["\ufeff7\r\n\u00e48\r\n9", "7\n\u00e48\n9\n"])
def test_ids_as_editors_write_them(tmp_path, content):
    np.save(tmp_path / "v.npy", VECTORS[:3])
    (tmp_path / "ids").write_bytes(content.encode())
    assert list(open_vectors(str(tmp_path / "v.npy"), str(tmp_path / "ids")).ids) == ["7", "ä8", "9"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\n", "3 vectors, but 2 ids"),
        ("a\nb\nc\nd\n", "3 vectors, but 4 ids"),
        ("a\nb\na\n", "ids.txt: id 'a' of row 3 is already taken by row 1"),
        ("a\n\nc\n", "ids.txt: line 2 is 0 bytes long"),
        ("a\nb\tsome text\nc\n", "ids.txt: line 2 has a tab"),
        ("", "ids.txt: the file is empty"),
    ],
)
def test_ids_that_cannot_be(tmp_path, content, message):
    np.save(tmp_path / "v.npy", VECTORS[:3])
    (tmp_path / "ids.txt").write_text(content)
    with pytest.raises(BadInput, match=message):
        open_vectors(str(tmp_path / "v.npy"), str(tmp_path / "ids.txt"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000.0])
def test_numbers_that_a_store_cannot_hold(tmp_path, value, monkeypatch):
    monkeypatch.setattr(vector_files, "ROWS_PER_BATCH", 5)
    path, ids = write_npy(tmp_path)
    bad = VECTORS.copy()
    bad[12, 1] = value
    np.save(path, bad)
    with pytest.raises(BadInput, match=f"row 12, id '{IDS[12]}', is not finite in float16"):
        open_vectors(str(path), str(ids)).fingerprint()


def test_arrays_that_are_no_vectors(tmp_path):
    (tmp_path / "ids.txt").write_text("a\n")
    for array, message in [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((1, 3), np.int8), "holds int8"),
        (np.zeros((1, 3), ">f4"), "holds >f4"),
        (np.zeros((0, 3)), "but 1 ids"),
    ]:
        np.save(tmp_path / "v.npy", array)
        with pytest.raises(BadInput, match=message):
            open_vectors(str(tmp_path / "v.npy"), str(tmp_path / "ids.txt"))
    (tmp_path / "v.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:40])
    with pytest.raises(BadInput, match="not a whole"):
        open_vectors(str(tmp_path / "v.npy"), str(tmp_path / "ids.txt"))


def test_folders_without_vectors_or_with_two_kinds(tmp_path):
    with pytest.raises(BadInput, match=r"no \.npy or \.parquet file in this folder"):
        open_vectors(str(tmp_path), None)
    (tmp_path / "a.npy").touch()
    (tmp_path / "b.parquet").touch()
    with pytest.raises(BadInput, match="not both"):
        open_vectors(str(tmp_path), None)


def test_parts_whose_order_by_name_is_not_that_by_number(tmp_path):
    """Whoever wrote the ids had one of both in mind."""
    for number in range(11):
        np.save(tmp_path / f"part-{number}.npy", VECTORS[:1])
    with pytest.raises(BadInput, match=r"one by name and another by number, from part-10\.npy on: write numbers with as many digits"):
        open_vectors(str(tmp_path), [str(number) for number in range(11)])
    for number in range(11):
        (tmp_path / f"part-{number}.npy").rename(tmp_path / f"part-{number:02d}.npy")
    assert open_vectors(str(tmp_path), [str(number) for number in range(11)]).rows == 11


def test_parts_of_unlike_width(tmp_path):
    parts, ids = write_npy_parts(tmp_path)
    np.save(parts / "1.npy", np.zeros((1, WIDTH + 1), np.float32))
    with pytest.raises(BadInput, match=r"1.npy: holds float32 of shape \(1, 5\): expected a table of floats 4 wide"):
        open_vectors(str(parts), str(ids))


@pytest.mark.parametrize(
    ("columns", "ids", "message"),
    [
        ({"a": ["x"], "b": ["y"], "v": [[1.0, 2.0]]}, None, "which column holds the ids.*one of a, b"),
        ({"a": ["x"], "v": [[1.0, 2.0]]}, "nope", "Say --ids with one of a"),
        ({"a": ["x"], "v": [[1.0, 2.0]], "w": [[1.0]]}, None, "2 columns hold lists of floats"),
        ({"a": ["x"]}, None, "0 columns hold lists of floats"),
        ({"a": ["x", None], "v": [[1.0], [2.0]]}, None, "rows without an id"),
        ({"a": ["x", "x"], "v": [[1.0], [2.0]]}, None, "'x' of row 2 is already taken by row 1"),
        ({"a": ["x", "y", "z"], "v": [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]}, None, "not every vector is 2 numbers"),
        ({"a": ["x", "y"], "v": [[1.0, 2.0], None]}, None, "not every vector is 2 numbers"),
        ({"a": ["x", "y"], "v": [[1.0, 2.0], [1.0, None]]}, None, "not every vector is 2 numbers"),
    ],
)
def test_tables_that_cannot_be(tmp_path, columns, ids, message):
    parquet.write_table(arrow.table(columns), tmp_path / "v.parquet")
    with pytest.raises(BadInput, match=message):
        open_vectors(str(tmp_path / "v.parquet"), ids).fingerprint()


def test_indexes_that_cannot_be(tmp_path):
    path = str(tmp_path / "v.index")
    index = faiss.IndexHNSWFlat(WIDTH, 4)
    index.add(VECTORS)
    faiss.write_index(index, path)
    with pytest.raises(BadInput, match="IndexHNSWFlat has no exact vectors"):
        open_vectors(path, None)
    flat = faiss.IndexFlatL2(WIDTH)
    flat.add(VECTORS)
    faiss.write_index(flat, path)
    with pytest.raises(BadInput, match="by L2 distance"):
        open_vectors(path, None)
    flat = faiss.IndexFlat(WIDTH, faiss.METRIC_L1)
    flat.add(VECTORS)
    faiss.write_index(flat, path)
    with pytest.raises(BadInput, match="ranks by metric 2 of faiss, neither"):
        open_vectors(path, None)
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(VECTORS)
    faiss.write_index(flat, path)
    with pytest.raises(BadInput, match="has no ids of its own: give --ids"):
        open_vectors(path, None)


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "words.txt").write_text("no vectors")
    for path, message in [("none.npy", "no such file"), (".", "in this folder"), ("words.txt", "nor an index that faiss reads")]:
        with pytest.raises(BadInput, match=message):
            open_vectors(str(tmp_path / path), str(tmp_path / "words.txt"))
