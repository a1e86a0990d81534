"""Queries that are added later leave the vectors of other sets as they are: a set of queries is known by its own ids and texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash

from distill.files.atomic import read_json, write_json
from distill.records import BadInput
from distill.teachers import embedder
from distill.teachers.encode import encode
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.sources import Beir
from distill.vectors.store import TeacherStore, VectorStore

LINES = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(6)] + [{"_id": "with-a-long-id", "text": "query 6"}]


class World:
    """A BEIR folder, of whose queries q0 and q1 are `test`, q2 is `dev` and the others, unjudged, are `train`; and its store."""

    def __init__(self, root: Path):
        self.root, self.out = root / "texts", root / "store"
        self.encoded: list[str] = []  # what the teacher has read since the last call of `encode`
        (self.root / "qrels").mkdir(parents=True)
        (self.root / "corpus.jsonl").write_text('{"_id": "d0", "text": "one"}\n{"_id": "d1", "text": "two"}\n')
        self.write_queries(LINES)
        self.write_split("test", "q0", "q1")
        self.write_split("dev", "q2")

    def write_queries(self, lines: list[dict[str, str]]) -> None:
        (self.root / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write_split(self, name: str, *queries: str) -> None:
        judgments = "".join(f"{query}\td0\t1\n" for query in queries)
        (self.root / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judgments)

    def encode(self) -> None:
        def lengths(texts: list[str]) -> list[list[int]]:
            self.encoded += texts
            return [[len(text), 1] for text in texts]

        self.encoded = []
        encode(lengths, Beir(str(self.root)), str(self.out), name="lengths")

    def open(self, split: str) -> list[str]:
        """Ids of the queries of a split whose vectors are accepted."""
        return list(open_evaluation_queries(Beir(str(self.root)), TeacherStore(self.out), split)[0].ids)

    def refuses(self, split: str) -> bool:
        folder = self.out / f"queries-{split}"
        fix = f"delete {folder} and encode again, or name the store of these"
        message = f"{folder}: its vectors are not of the queries '{split}' as they are now: {fix}"
        with pytest.raises(BadInput) as found:
            self.open(split)
        return str(found.value) == message

    def pretend_it_is_old(self) -> None:
        """Records what releases up to 0.2 did: fingerprints of the whole file, and of ids as wide as the longest of it."""
        source = Beir(str(self.root))
        for split in source.splits():
            texts = source.queries(split)
            recorded = {"texts": texts.fingerprint, "ids": xxhash.xxh3_64_hexdigest(texts.ids.raw.tobytes())}
            for path in (self.out / f"queries-{split}").glob("*.json"):
                before = read_json(path, "store")
                assert before["texts"] != recorded["texts"]
                write_json(path, before | recorded)


@pytest.fixture(autouse=True)
def _compare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted here is what is written."""
    monkeypatch.setattr(embedder, "refuse_changed_function", lambda *_: None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.encode()
    return made


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_query_that_is_added_leaves_the_other_sets(world):
    others = {name: files(world.out / name) for name in ("documents", "queries-test", "queries-dev")}
    world.write_queries([{"_id": "with-a-longer-id-than-any", "text": "an added query"}, *LINES])
    assert (world.open("test"), world.open("dev")) == (["q0", "q1"], ["q2"])
    assert world.refuses("train")
    with pytest.raises(BadInput, match=r"queries-train: made from other inputs \(rows was 4, now 5\): .* delete it"):
        world.encode()
    shutil.rmtree(world.out / "queries-train")
    world.encode()
    assert [text for text in world.encoded if text != "width"] == ["an added query", "query 3", "query 4", "query 5", "query 6"]
    assert world.open("train") == ["with-a-longer-id-than-any", "q3", "q4", "q5", "with-a-long-id"]
    assert {name: files(world.out / name) for name in others} == others


def test_judgments_of_another_split_leave_the_other_sets(world):
    world.write_split("more", "q4")
    assert (world.open("test"), world.open("dev")) == (["q0", "q1"], ["q2"])
    assert world.refuses("train")


def test_a_file_that_was_of_one_split_alone_may_grow(tmp_path):
    world = World(tmp_path)
    world.write_queries(LINES[:2])
    (world.root / "qrels" / "dev.tsv").unlink()
    world.encode()
    world.write_queries(LINES)
    assert world.open("test") == ["q0", "q1"]


def test_other_words_and_another_order_are_refused(world):
    world.write_queries([LINES[0] | {"text": "query zero"}, *LINES[1:]])
    assert world.refuses("test") and world.open("dev") == ["q2"]
    world.write_queries([LINES[1], LINES[0], *LINES[2:]])
    assert world.refuses("test") and world.open("dev") == ["q2"]
    world.write_queries([{"_id": "q0", "text": "query 1"}, {"_id": "q1", "text": "query 0"}, *LINES[2:]])
    assert world.refuses("test")
    world.write_queries(LINES)
    assert world.open("test") == ["q0", "q1"]


def test_stores_of_earlier_releases_open_and_go_on(world):
    world.pretend_it_is_old()
    vectors = VectorStore(world.out / "queries-train")[:]
    assert [world.open(split) for split in ("test", "dev")] == [["q0", "q1"], ["q2"]] and len(world.open("train")) == 4
    world.encode()
    assert world.encoded == []
    for name in ("manifest.json", "00000.npy"):  # killed before its end
        (world.out / "queries-train" / name).unlink()
    world.encode()
    assert world.encoded == ["query 3", "query 4", "query 5", "query 6"]
    np.testing.assert_array_equal(VectorStore(world.out / "queries-train")[:], vectors)
    assert len(world.open("train")) == 4


def test_a_store_of_an_earlier_release_is_refused_for_other_texts(world):
    world.pretend_it_is_old()
    world.write_queries([LINES[0] | {"text": "query zero"}, *LINES[1:]])
    assert world.refuses("test")
