import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from distill.encoders.maker import Maker
from distill.files.atomic import read_json, write_json
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors import store_writer
from distill.vectors.store import TeacherStore, VectorStore, check_texts
from distill.vectors.store_plan import StorePlan, shard_name
from distill.vectors.store_writer import StoreWriter

ROWS, WIDTH, PER_SHARD = 23, 5, 7
VECTORS = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
HALVES = VECTORS.astype(np.float16)
IDS = Ids.of([f"text-{(row * 5) % ROWS}" for row in range(ROWS)])  # not in sorted order
MAKER = Maker("teacher", "t1")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", PER_SHARD)


def writer_in(folder, **changes) -> StoreWriter:
    return StoreWriter(**{"folder": folder, "ids": IDS, "width": WIDTH, "maker": MAKER, "texts": "x1", **changes})


def write_missing(writer: StoreWriter) -> list[int]:
    written = [shard for shard, _ in writer.missing_shards()]
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, VECTORS[rows])
    return written


@pytest.fixture
def folder(tmp_path):
    """A finished store of 23 vectors in shards of 7, 7, 7 and 2."""
    writer = writer_in(tmp_path / "store")
    write_missing(writer)
    writer.finish()
    return tmp_path / "store"


def changed(path, offset: int = -1) -> None:
    """Flips every bit of one byte."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


# what goes in comes out


def test_shards_cover_the_rows():
    plans = {rows: StorePlan(rows, WIDTH, PER_SHARD, MAKER, "ids", None) for rows in (ROWS, 14, 0)}
    assert plans[ROWS].shard_sizes == [7, 7, 7, 2]
    assert plans[14].shard_sizes == [7, 7]
    assert plans[0].shard_sizes == []
    assert plans[14].files == ["ids.npy", "order.npy", "00000.npy", "00001.npy"]


def test_vectors_come_back_in_half_precision(folder):
    store = VectorStore(folder)
    assert (len(store), store.width, store.shape) == (ROWS, WIDTH, (ROWS, WIDTH))
    assert (store.maker, store.texts) == (MAKER, "x1")
    assert store[:].dtype == np.float16
    np.testing.assert_array_equal(store[:], HALVES)
    assert list(store.ids) == list(IDS)
    np.testing.assert_array_equal(store.ids.rows(["text-5", "text-0", "nobody"]), [1, 0, -1])
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["plan.json", "manifest.json", "ids.npy", "order.npy", *map(shard_name, range(4))]
    )


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 7), (6, 8), (7, 14), (3, 20), (20, 23), (22, 99), (21, 21), (-3, None), (None, -1), (14, 7), (50, 60)]
)
def test_slices_across_shards(folder, start, stop):
    np.testing.assert_array_equal(VectorStore(folder)[start:stop], HALVES[start:stop])


def test_vectors_given_column_by_column_come_back_in_rows(tmp_path):
    writer = writer_in(tmp_path / "store")
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, np.asfortranarray(VECTORS[rows]))
    writer.finish()
    assert np.array_equal(VectorStore(tmp_path / "store")[:], HALVES)


def test_shards_that_lie_column_by_column_are_read_as_they_lie(folder):
    for shard in range(4):
        path = folder / shard_name(shard)
        np.save(path, np.asfortranarray(np.load(path)))
    assert np.array_equal(VectorStore(folder)[3:17], HALVES[3:17])


def test_a_slice_with_steps_is_refused(folder):
    with pytest.raises(IndexError, match="use take"):
        VectorStore(folder)[::2]


@pytest.mark.parametrize("rows", [[0], [6, 7], [22, 0, 13, 14, 13, 7], list(range(ROWS))[::-1], []], ids=str)
def test_take_any_rows_in_any_order(folder, rows):
    rows = np.array(rows, np.int64)
    np.testing.assert_array_equal(VectorStore(folder).take(rows), HALVES[rows])


def test_rows_taken_are_copies(folder):
    store = VectorStore(folder)
    for vectors in (store[0:3], store.take(np.arange(3))):
        vectors[:] = 0
    np.testing.assert_array_equal(store[0:3], HALVES[:3])


def test_a_store_of_nothing(tmp_path):
    writer = writer_in(tmp_path / "store", ids=Ids.of([]))
    writer.finish()
    assert VectorStore(tmp_path / "store")[:].shape == (0, WIDTH)


@pytest.mark.parametrize(
    ("length", "empty", "normalized", "cosines"), [(1, 0, True, True), (0.8, 0, False, True), (5, 0, False, False), (1, 1, True, True)]
)
def test_lengths_tell_cosines(length, empty, normalized, cosines, tmp_path):
    """Scores of vectors that were cut short are as large as cosines too; one text without a vector among two hundred changes nothing."""
    vectors = np.random.default_rng(0).standard_normal((200, WIDTH)).astype(np.float32)
    vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:empty] = 0
    writer = writer_in(tmp_path / "store", ids=Ids.of([f"d{row}" for row in range(200)]))
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, vectors[rows])
    writer.finish()
    store = VectorStore(tmp_path / "store")
    assert (store.normalized, store.has_cosine_scores) == (normalized, cosines)


def test_a_few_empty_documents_at_the_beginning_are_few_of_all(tmp_path):
    vectors = np.ones((5_000, 1), np.float32)
    vectors[:30] = 0
    ids = Ids.of([f"d{row}" for row in range(len(vectors))])
    writer = StoreWriter(tmp_path / "store", ids, 1, MAKER, "texts")
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, vectors[rows])
    writer.finish()
    assert VectorStore(tmp_path / "store").normalized


def test_pickling_takes_the_path_alone(folder):
    store = VectorStore(folder)
    store.take(np.arange(ROWS))
    assert list(store.ids)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled)[:], HALVES)


# stopped and started again


def test_a_new_writer_goes_on_with_the_missing_shards(tmp_path):
    folder = tmp_path / "store"
    first = writer_in(folder)
    for shard in (0, 2):
        first.write_shard(shard, VECTORS[shard * PER_SHARD : (shard + 1) * PER_SHARD])
    first.finish()
    assert not first.finished
    before = {shard: (folder / shard_name(shard)).stat().st_mtime_ns for shard in (0, 2)}

    second = writer_in(folder)
    assert [(shard, rows.tolist()) for shard, rows in second.missing_shards()] == [(1, [*range(7, 14)]), (3, [21, 22])]
    assert write_missing(second) == [1, 3]
    second.finish()
    assert second.finished and second.missing_shards() == []
    assert {shard: (folder / shard_name(shard)).stat().st_mtime_ns for shard in (0, 2)} == before
    np.testing.assert_array_equal(VectorStore(folder)[:], HALVES)
    VectorStore(folder).verify()


def test_a_finished_store_is_left_alone(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    writer = writer_in(folder)
    assert writer.finished and write_missing(writer) == []
    writer.finish()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_half_written_files_do_not_count(tmp_path):
    folder = tmp_path / "store"
    writer_in(folder)
    (folder / f".{shard_name(1)}.123.tmp").write_bytes(b"half a shard")
    writer = writer_in(folder)
    assert [shard for shard, _ in writer.missing_shards()] == [0, 1, 2, 3]
    write_missing(writer)
    writer.finish()
    VectorStore(folder).verify()


def test_two_writers_share_the_shards(tmp_path):
    folder = tmp_path / "store"
    writers = [writer_in(folder), writer_in(folder)]
    for shard in range(4):
        writers[shard % 2].write_shard(shard, VECTORS[shard * PER_SHARD : (shard + 1) * PER_SHARD])
    for writer in writers:
        writer.finish()
    np.testing.assert_array_equal(VectorStore(folder)[:], HALVES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maker": replace(MAKER, fingerprint="t2")}, "the model was teacher of fingerprint t1, now teacher of fingerprint t2"),
        ({"texts": "x2"}, "texts was x1, now x2"),
        ({"width": 6}, "width was 5, now 6"),
        ({"ids": Ids.of(["a", "b"])}, "rows was 23, now 2"),
    ],
    ids=["maker", "texts", "width", "ids"],
)
def test_other_inputs_are_refused(folder, changes, message):
    with pytest.raises(BadInput, match=rf"made from other inputs \({message}.*\): choose another --out or delete it"):
        writer_in(folder, **changes)


@pytest.mark.parametrize(("origin", "phrase"), [("import", "were imported"), ("server", "came from an endpoint")])
def test_an_unfinished_store_of_the_release_before_goes_on(origin, phrase, tmp_path):
    """Its plan has a phrase where this release has an origin, and no fields without a value."""
    maker, folder = replace(MAKER, origin=origin, role="document"), tmp_path / "store"
    writer_in(folder, maker=maker).write_shard(0, VECTORS[:PER_SHARD])
    plan = read_json(folder / "plan.json", "plan")
    old = {"name": "teacher", "fingerprint": "t1", "role": "document", "origin": phrase}
    write_json(folder / "plan.json", {**plan, "maker": old})
    writer = writer_in(folder, maker=maker)
    assert write_missing(writer) == [1, 2, 3]
    writer.finish()
    assert VectorStore(folder).maker == maker
    assert writer_in(folder, maker=maker).finished


def test_a_finished_store_of_the_release_before_keeps_its_manifest(folder):
    manifest = {**read_json(folder / "manifest.json", "manifest"), "maker": {"name": "teacher", "fingerprint": "t1", "pooling": None}}
    write_json(folder / "manifest.json", manifest)
    assert VectorStore(folder).maker == MAKER
    writer_in(folder).update_name()
    assert read_json(folder / "manifest.json", "manifest") == manifest


def test_a_store_keeps_the_size_of_its_shards(folder, monkeypatch):
    (folder / "00001.npy").unlink()
    (folder / "manifest.json").unlink()
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 8)
    writer = writer_in(folder, choose_rows=lambda most: pytest.fail("a store that exists has its plan"))
    assert write_missing(writer) == [1]
    writer.finish()
    np.testing.assert_array_equal(VectorStore(folder)[:], HALVES)


def test_the_rows_of_a_new_store_are_chosen_and_all_ranks_agree(tmp_path):
    def slower_rank(most: int) -> int:
        assert most == PER_SHARD
        writer_in(tmp_path / "store", choose_rows=lambda most: 4)  # another rank writes its plan meanwhile
        return 5

    writer = writer_in(tmp_path / "store", choose_rows=slower_rank)
    assert writer.plan.shard_sizes == [4, 4, 4, 4, 4, 3]
    write_missing(writer)
    writer.finish()
    np.testing.assert_array_equal(VectorStore(tmp_path / "store")[:], HALVES)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(BadInput, match="not a vector store and not empty"):
        writer_in(tmp_path)


# what must not be used


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
def test_numbers_that_are_not_finite_name_their_text(tmp_path, value):
    writer = writer_in(tmp_path / "store")
    vectors = VECTORS[7:14].copy()
    vectors[4, 2] = value  # row 11; 1e6 is beyond float16
    with pytest.raises(BadInput, match=f"'{IDS[11]}' is not finite in float16"), np.errstate(over="ignore"):
        writer.write_shard(1, vectors)
    assert [shard for shard, _ in writer.missing_shards()] == [0, 1, 2, 3]


def test_an_unfinished_store_is_refused(tmp_path):
    writer = writer_in(tmp_path / "store")
    writer.write_shard(0, VECTORS[:PER_SHARD])
    with pytest.raises(BadInput, match="this store is unfinished: run distill encode"):
        VectorStore(tmp_path / "store")
    with pytest.raises(BadInput, match="no vector store"):
        VectorStore(tmp_path / "nothing")


def test_a_truncated_shard_is_refused(folder):
    path = folder / shard_name(2)
    path.write_bytes(path.read_bytes()[:-4])
    store = VectorStore(folder)
    with pytest.raises(BadInput, match=r"00002\.npy: missing or truncated"):
        store.take(np.array([0]))
    with pytest.raises(BadInput, match=r"00002\.npy: its bytes changed"):
        store.verify()


def test_a_missing_shard_is_refused(folder):
    (folder / shard_name(1)).unlink()
    with pytest.raises(BadInput, match=r"00001\.npy: missing or truncated"):
        VectorStore(folder)[0:1]
    with pytest.raises(BadInput, match=r"00001\.npy: missing"):
        VectorStore(folder).verify()


def test_a_shard_of_another_shape_is_refused(folder):
    shutil.copy(folder / shard_name(0), folder / shard_name(3))
    with pytest.raises(BadInput, match=r"00003\.npy: holds \(7, 5\), the manifest says \(2, 5\)"):
        VectorStore(folder)[0:1]


@pytest.mark.parametrize("name", ["00000.npy", "00003.npy", "ids.npy", "order.npy"])
def test_a_flipped_byte_is_found(folder, name):
    VectorStore(folder).verify()
    changed(folder / name)
    with pytest.raises(BadInput, match=f"{name}: its bytes changed since it was written"):
        VectorStore(folder).verify()


def test_a_manifest_without_its_keys_is_refused(folder):
    manifest = read_json(folder / "manifest.json", "manifest")
    del manifest["width"]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(BadInput, match="not a store manifest: 'width' is missing"):
        VectorStore(folder)


# a teacher's stores


@pytest.fixture
def teacher_store(tmp_path):
    for name, texts in (("documents", "docs"), ("queries-dev", "dev texts"), ("queries-train", "train texts")):
        writer = writer_in(tmp_path / "teacher" / name, texts=texts)
        write_missing(writer)
        writer.finish()
    return tmp_path / "teacher"


def test_query_sets_by_name(teacher_store):
    store = TeacherStore(teacher_store)
    assert store.maker == MAKER
    assert sorted(store.query_sets()) == ["dev", "train"]
    np.testing.assert_array_equal(store.queries("dev", ("now", "dev texts"))[:], HALVES)


def test_an_unknown_query_set_lists_the_known_ones(teacher_store):
    with pytest.raises(BadInput, match=r"no vectors of the queries 'test' \(there are: dev, train\)"):
        TeacherStore(teacher_store).queries("test", ("test texts",))


def test_no_query_set_says_none(teacher_store):
    for name in ("dev", "train"):
        shutil.rmtree(teacher_store / f"queries-{name}")
    with pytest.raises(BadInput, match=r"there are: none"):
        TeacherStore(teacher_store).queries("dev", ("dev texts",))


def test_vectors_of_other_texts_are_refused(teacher_store):
    with pytest.raises(BadInput, match="its vectors are not of the queries 'dev' as they are now"):
        TeacherStore(teacher_store).queries("dev", ("edited texts", "of before"))
    store = TeacherStore(teacher_store).documents
    check_texts(store, ("docs",), "the documents")
    with pytest.raises(BadInput, match="not of the documents as they are now"):
        check_texts(store, ("edited",), "the documents")


def test_ids_without_texts_cannot_be_compared(tmp_path):
    writer = writer_in(tmp_path / "imported", texts=None)
    write_missing(writer)
    writer.finish()
    check_texts(VectorStore(tmp_path / "imported"), ("anything",), "the documents")


def test_queries_by_another_teacher_are_refused(teacher_store):
    shutil.rmtree(teacher_store / "queries-dev")
    writer = writer_in(teacher_store / "queries-dev", maker=Maker("stranger", "t2"), texts="dev texts")
    write_missing(writer)
    writer.finish()
    with pytest.raises(BadInput, match=r"made by stranger, but documents by another teacher \(teacher\)"):
        TeacherStore(teacher_store).queries("dev", ("dev texts",))


def test_no_documents_no_teacher_store(tmp_path):
    with pytest.raises(BadInput, match="documents: no vector store"):
        TeacherStore(tmp_path)


@pytest.mark.parametrize("claim", [{"rows": 78_826_967_995}, {"width": 4_215_531_862}, {"rows_per_shard": 1 << 63}])
def test_a_manifest_that_claims_more_than_there_is_is_refused(claim, tmp_path):
    """At once: 78 billion rows would be looked for shard by shard, and room made for rows of 4 billion numbers."""
    writer = writer_in(tmp_path / "store", ids=Ids.of(["a", "b"]))  # of one shard, as it stays with larger ones
    writer.write_shard(0, VECTORS[:2])
    writer.finish()
    manifest = tmp_path / "store" / "manifest.json"
    write_json(manifest, {**read_json(manifest, "manifest"), **claim})
    with pytest.raises(BadInput, match=r"manifest\.json: not a store manifest: rows, width"):
        VectorStore(tmp_path / "store")
