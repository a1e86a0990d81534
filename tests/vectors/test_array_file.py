"""Files that change while they are read: what was opened is read, or one line says so; the process never dies of it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from distill.encoders.maker import Maker
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors import array_file, store_writer
from distill.vectors.array_file import ArrayFile, ArrayFiles, copy_rows
from distill.vectors.import_formats import open_vectors
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

ROWS, WIDTH = 40, 64
VECTORS = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float16)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A store of four shards of ten rows."""
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 10)
    write_store(tmp_path / "store", VECTORS, "t1")
    return tmp_path / "store"


def write_store(folder: Path, vectors: np.ndarray, teacher: str) -> None:
    writer = StoreWriter(folder, Ids.of([f"d{row}" for row in range(ROWS)]), WIDTH, Maker("teacher", teacher), "x1")
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, vectors[rows])
    writer.finish()


def opened(folder: Path) -> VectorStore:
    store = VectorStore(folder)
    np.testing.assert_array_equal(store.take(np.arange(ROWS)), VECTORS)
    assert store.ids[0] == "d0"
    return store


def replace_shard(path: Path) -> None:
    np.save(path.with_name("new.npy"), np.ones((10, WIDTH), np.float16))
    os.replace(path.with_name("new.npy"), path)


def rewrite(path: Path) -> None:
    """In place, as many bytes."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with open(path, "r+b") as file:
        file.write(content)


def link_elsewhere(path: Path) -> None:
    replace_shard(path)
    path.rename(path.with_name("elsewhere.npy"))
    path.symlink_to(path.with_name("elsewhere.npy"))


CHANGES = {
    "replaced": replace_shard,
    "rewritten": rewrite,
    "cut": lambda path: os.truncate(path, 200),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, 10_000),
    "gone": os.remove,
    "linked": link_elsewhere,
}
READINGS = {
    "take": lambda store: store.take(np.array([12, 11])),
    "take a run": lambda store: store.take(np.array([11, 12])),
    "slice": lambda store: store[5:15],
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_shard_that_changes_ends_in_one_line(folder, change, reading):
    store = opened(folder)
    CHANGES[change](folder / "00001.npy")
    with pytest.raises(BadInput, match=r"00001\.npy: (changed|gone) while it was read.*: delete the store and run"):
        READINGS[reading](store)
    np.testing.assert_array_equal(store[20:40], VECTORS[20:])  # the others are as they were


@pytest.mark.parametrize("name", ["ids.npy", "order.npy"])
@pytest.mark.parametrize("change", ["cut", "emptied", "gone"])
def test_ids_that_change_end_in_one_line(folder, change, name):
    store = opened(folder)
    CHANGES[change](folder / name)
    with pytest.raises(BadInput, match=f"{name}: (changed|gone) while it was read"):
        store.ids.rows(["d7"])


def test_a_store_encoded_again_by_another_teacher(folder):
    store = opened(folder)
    shutil.rmtree(folder)
    write_store(folder, -VECTORS, "t2")
    for reading in READINGS.values():
        with pytest.raises(BadInput, match="changed while it was read"):
            reading(store)


def test_the_same_bytes_written_again_are_the_same(folder):
    """A backup that is put back, `touch`, a copy to another disk and a link to it."""
    store = opened(folder)
    for path in list(folder.glob("*.npy")):
        shutil.copy(path, folder / "copy")
        os.replace(folder / "copy", path)
    os.utime(folder / "00002.npy", (1, 1))
    np.testing.assert_array_equal(store[:], VECTORS)
    np.testing.assert_array_equal(store.take(np.arange(ROWS)), VECTORS)
    assert store.ids.rows(["d7"]).tolist() == [7]


def test_a_file_cut_right_before_its_rows_are_copied(tmp_path):
    """The system reports it; plain reading would end the process by SIGBUS."""
    np.save(tmp_path / "a.npy", np.ones((1000, WIDTH), np.float16))
    file = ArrayFile(tmp_path / "a.npy", "write it again")
    os.truncate(tmp_path / "a.npy", 128)
    with pytest.raises(OSError) as error:
        copy_rows(np.array([file.array.ctypes.data + 900 * 2 * WIDTH], np.uint64), np.empty((1, WIDTH), np.float16))
    assert error.value.errno == errno.EFAULT


@pytest.mark.parametrize("rows", [[0], [999, 0, 0, 7], list(range(1000)) * 3, []], ids=len)
@pytest.mark.parametrize(("dtype", "odd"), [("<f2", False), ("<f2", True), (">f4", False), ("<f8", False)])
def test_rows_are_those_that_numpy_finds(tmp_path, rows, dtype, odd, monkeypatch):
    table = np.random.default_rng(0).standard_normal((1000, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", table)
    np.save(tmp_path / "b.npy", np.asfortranarray(-table) if odd else -table)
    files = [ArrayFile(tmp_path / name, "write it again") for name in ("a.npy", "b.npy")]
    rows = np.array(rows, np.int64)
    numbers = np.arange(len(rows)) % 2
    expected = np.where(numbers[:, None] == 0, table[rows], -table[rows])

    def forbidden(*_) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    # as it is; as in some containers, which forbid the call; another system
    for copy in (array_file._system_copy, lambda: forbidden, lambda: None):
        monkeypatch.setattr(array_file, "_system_copy", copy)
        arrays = ArrayFiles(files, table.dtype)
        for _ in range(2):
            found = np.empty((len(rows), 3), table.dtype)
            arrays.take(numbers, rows, found)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("row", [-1, ROWS])
def test_a_row_that_there_is_not(folder, row):
    with pytest.raises(IndexError, match="the store has 40"):
        VectorStore(folder).take(np.array([0, row]))


# vectors to import


@pytest.mark.parametrize("change", ["rewritten", "cut", "gone"])
def test_vectors_that_change_while_they_are_imported(tmp_path, change):
    np.save(tmp_path / "v.npy", VECTORS.astype(np.float32))
    vectors = open_vectors(str(tmp_path / "v.npy"), [f"d{row}" for row in range(ROWS)])
    vectors.fingerprint()
    CHANGES[change](tmp_path / "v.npy")
    with pytest.raises(BadInput, match=r"v\.npy: (changed|gone) while it was read"):
        list(vectors.batches(8))


@pytest.fixture
def index(tmp_path) -> Path:
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(WIDTH))
    index.add_with_ids(VECTORS.astype(np.float32), np.arange(ROWS) * 10)
    faiss.write_index(index, str(tmp_path / "v.index"))
    return tmp_path / "v.index"


def test_faiss_files_are_read_as_faiss_reads_them(index, tmp_path):
    faiss = pytest.importorskip("faiss")
    ours = open_vectors(str(index), None)
    np.testing.assert_array_equal(np.concatenate(list(ours.batches(7))), VECTORS)
    assert list(ours.ids) == [str(10 * row) for row in range(ROWS)]
    unit = VECTORS.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for metric in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
        flat = faiss.IndexFlat(WIDTH, metric)
        flat.add(unit)
        faiss.write_index(flat, str(tmp_path / "flat"))
        ours = open_vectors(str(tmp_path / "flat"), [f"d{row}" for row in range(ROWS)])
        np.testing.assert_array_equal(
            np.concatenate(list(ours.batches(7))), faiss.read_index(str(tmp_path / "flat")).reconstruct_n(0, ROWS)
        )


INNER = 4 + 33  # the index of vectors behind letters and header of the ids'
CRAFTED = {
    "empty": lambda whole: b"",
    "letters": lambda whole: whole[:4],
    "half a header": lambda whole: whole[:20],
    "half": lambda whole: whole[: len(whole) // 2],
    "no ids": lambda whole: whole[: -8 * ROWS],
    "last byte": lambda whole: whole[:-1],
    "negative width": lambda whole: whole[: INNER + 4] + struct.pack("<i", -WIDTH) + whole[INNER + 8 :],
    "no width": lambda whole: whole[: INNER + 4] + struct.pack("<i", 0) + whole[INNER + 8 :],
    "negative rows": lambda whole: whole[: INNER + 8] + struct.pack("<q", -1) + whole[INNER + 16 :],
    "rows without end": lambda whole: whole[: INNER + 8] + struct.pack("<q", 1 << 62) + whole[INNER + 16 :],
    "numbers without end": lambda whole: whole[: INNER + 37] + struct.pack("<Q", (1 << 64) - 1) + whole[INNER + 45 :],
    "ids without end": lambda whole: whole[: -8 * ROWS - 8] + struct.pack("<Q", 1 << 61) + whole[-8 * ROWS :],
    "ids in ids": lambda whole: whole[:INNER] * 200 + whole[INNER:],
    "a graph": lambda whole: b"IHNf" + os.urandom(500),
    "words": lambda whole: b"some words",
}


@pytest.mark.parametrize("craft", CRAFTED)
def test_crafted_faiss_files_are_refused(index, craft):
    index.write_bytes(CRAFTED[craft](index.read_bytes()))
    with pytest.raises(BadInput, match=r"v\.index: (a damaged faiss index|neither \.npy|IndexHNSWFlat has no|the kind IxM2 has no)"):
        open_vectors(str(index), None)
