"""Hard negatives by hand: rank window, margin, known positives and their doubles; stopped and started again; refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill

from distill.encoders.maker import Maker
from distill.files.atomic import read_json
from distill.files.line_shards import LineShardWriter
from distill.records import BadInput
from distill.teachers import mining
from distill.teachers.mined import MinedQuery, read_negatives
from distill.teachers.mining import MiningRule
from distill.texts.ids import Ids
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

# documents on a line: a query (1, 0) scores them 10, 9, ... and a query (-1, 0) the other way round
TEXTS = ["ten", "nine", "eight", "seven", " Seven.", "six", "five", "four", "three", "two"]
HEIGHTS = [10.0, 9.0, 8.0, 7.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
QUERIES = {"up": [1.0, 0.0], "down": [-1.0, 0.0], "lost": [0.0, 1.0], "unjudged": [1.0, 1.0]}
QRELS = "up 0 d3 2\nup 0 d1 1\nup 0 d5 0\nup 0 d9 1\ndown 0 d8 1\nlost 0 elsewhere 1\n"


def written(folder: Path, ids: list[str], vectors: list[list[float]], texts: str) -> None:
    writer = StoreWriter(folder, Ids.of(ids), 2, Maker("by hand", "f"), texts)
    writer.write_shard(0, np.array(vectors))
    writer.finish()


@pytest.fixture()
def world(tmp_path: Path) -> Path:
    """Ten documents, four queries."""
    root = tmp_path / "texts"
    root.mkdir()
    (root / "collection.tsv").write_text("".join(f"d{i}\t{text}\n" for i, text in enumerate(TEXTS)))
    (root / "queries.train.tsv").write_text("".join(f"{id_}\t{id_} we go\n" for id_ in QUERIES))
    (root / "qrels.train.tsv").write_text(QRELS)
    source = MsMarcoTsv(str(root))
    written(tmp_path / "store" / "documents", [f"d{i}" for i in range(10)], [[h, 0.0] for h in HEIGHTS], source.documents().fingerprint)
    written(tmp_path / "store" / "queries-train", list(QUERIES), list(QUERIES.values()), source.queries("train").fingerprint)
    return tmp_path


def mine(world: Path, *more: Any, out: str = "out") -> int:
    source = ["--source", "MsMarcoTsv", "--source.root", world / "texts"]
    return distill("mine", "--store", world / "store", *source, "--out", world / out, *more)


def test_by_hand(world: Path) -> None:
    assert mine(world) == 0
    up, down = read_negatives(world / "out")
    # the best judged is d3, 7.0; d0 and d2 score above it, d1 and d9 are relevant too, d4 says what d3 says
    assert up == MinedQuery("up", "d3", 7.0, ["d5", "d6", "d7", "d8"], [6.0, 5.0, 4.0, 3.0])
    # d9 scores -2, above the positive's -3
    assert (down.positive, down.positive_score) == ("d8", -3.0)
    assert down.negatives == ["d7", "d6", "d5", "d3", "d4", "d2", "d1", "d0"]
    assert down.scores == [-4.0, -5.0, -6.0, -7.0, -7.0, -8.0, -9.0, -10.0]


@pytest.mark.parametrize(
    ("options", "up", "down"),
    [
        (["--negatives", 2], ["d5", "d6"], ["d7", "d6"]),
        (["--margin", 2], ["d6", "d7", "d8"], ["d6", "d5", "d3", "d4", "d2", "d1", "d0"]),
        (["--margin", 1.5, "--negatives", 1], ["d6"], ["d6"]),
        # room above the positive: d0 and d2 enter, d9 for the other
        (["--margin", -3, "--negatives", 3], ["d0", "d2", "d5"], ["d9", "d7", "d6"]),
        # ranks of up: d0 1, d1 2, d2 3, d3 4, d4 5, d5 6, d6 7, d7 8, d8 9, d9 10
        (["--first_rank", 7, "--last_rank", 8], ["d6", "d7"], ["d4", "d2"]),
        (["--last_rank", 3], [], ["d7"]),
        (["--last_rank", 1000, "--negatives", 1], ["d5"], ["d7"]),
    ],
    ids=str,
)
def test_window_margin_and_count(world: Path, options: list[Any], up: list[str], down: list[str]) -> None:
    """Of down: d9 1, d8 2, d7 3, d6 4, d5 5, d3 6, d4 7 (equal scores: the lower row first), d2 8, d1 9, d0 10."""
    assert mine(world, *options) == 0
    assert {mined.query: mined.negatives for mined in read_negatives(world / "out")} == {"up": up, "down": down}


def test_from_python(world: Path) -> None:
    """What it made comes back, also of a folder that was done before."""
    for _ in range(2):
        mined = mining.mine(str(world / "store"), MsMarcoTsv(str(world / "texts")), str(world / "out"), negatives=2)
        assert (mined.folder, mined.queries, mined.negatives, mined.queries_without_a_positive) == (world / "out", 2, 4, 2)
        assert [query.negatives for query in mined] == [["d5", "d6"], ["d7", "d6"]]


def test_the_rule_alone() -> None:
    scores = np.array([[9.0, 8.0, 7.0, 6.0, 5.0]])
    excluded = np.array([[False, True, False, False, False]])
    selected = MiningRule(negatives=2, first_rank=1, last_rank=5, margin=0.5).select(scores, np.array([7.5]), excluded)
    assert selected.tolist() == [[False, False, True, True, False]]


def test_the_manifest_says_from_what(world: Path) -> None:
    assert mine(world, "--margin", 0.5) == 0
    manifest = read_json(world / "out" / "manifest.json", "manifest")
    assert manifest["teacher"]["name"] == "by hand"
    assert manifest["rule"] == {"negatives": 8, "first_rank": 1, "last_rank": 100, "margin": 0.5}
    assert (manifest["lines"], manifest["hard_negatives"], manifest["queries_without_a_positive"]) == (2, 12, 2)
    assert manifest["provenance"]["packages"]["torch"]
    assert sorted(path.name for path in (world / "out").glob("[!.]*")) == ["manifest.json", "negatives.jsonl", "plan.json"]
    lines = [json.loads(line) for line in (world / "out" / "negatives.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"query", "positive", "positive_score", "negatives", "scores"}


def test_a_grade_below_the_relevant_is_no_negative(world: Path) -> None:
    """As in TREC DL: grade 1 is related, which is not what a model should learn to push away."""
    assert mine(world, "--source.relevant_from", 2) == 0
    (up,) = read_negatives(world / "out")
    assert (up.positive, up.negatives) == ("d3", ["d5", "d6", "d7", "d8"])


def test_without_the_words_the_same_vector_is_the_same_document(world: Path) -> None:
    for folder in ("documents", "queries-train"):
        for name in ("plan.json", "manifest.json"):
            path = world / "store" / folder / name
            path.write_text(json.dumps({**json.loads(path.read_text()), "texts": None}))
    (world / "texts" / "collection.tsv").unlink()
    assert mine(world) == 0
    assert next(read_negatives(world / "out")).negatives == ["d5", "d6", "d7", "d8"]


def test_shards_are_joined_and_a_stopped_one_goes_on(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mine(world, out="whole") == 0
    monkeypatch.setattr(mining, "QUERIES_PER_SHARD", 1)
    write, calls = LineShardWriter.write_shard, []

    def stops(self: LineShardWriter, shard: int, lines: Iterator[str]) -> None:
        calls.append(shard)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        write(self, shard, lines)

    monkeypatch.setattr(LineShardWriter, "write_shard", stops)
    assert mine(world) == 130
    assert sorted(path.name for path in (world / "out").glob("[!.]*")) == ["00000.part", "plan.json"]
    assert mine(world) == 0
    assert calls == [0, 1, 1]
    assert (world / "out" / "negatives.jsonl").read_bytes() == (world / "whole" / "negatives.jsonl").read_bytes()


def test_a_second_time_is_done_before(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine(world) == 0
    before = {path: path.stat().st_mtime_ns for path in (world / "out").glob("[!.]*")}
    assert mine(world) == 0
    assert "done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (world / "out").glob("[!.]*")} == before


@pytest.mark.parametrize("change", ["rule", "judgments", "vectors", "else"])
def test_other_inputs_are_refused(world: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: list[Any] = []
    if change != "else":
        assert mine(world) == 0
    if change == "rule":
        options = ["--margin", 1]
    if change == "judgments":
        (world / "texts" / "qrels.train.tsv").write_text(QRELS + "down 0 d7 1\n")
    if change == "vectors":
        source = MsMarcoTsv(str(world / "texts"))
        shutil.rmtree(world / "store" / "queries-train")
        written(world / "store" / "queries-train", list(QUERIES), [[1.0, 0.0]] * 4, source.queries("train").fingerprint)
    if change == "else":
        (world / "out").mkdir()
        (world / "out" / "thesis.txt").write_text("mine")
    capsys.readouterr()
    assert mine(world, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("not empty" if change == "else" else f"made from other inputs ({change} was") in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--negatives", 0], "at least 1"),
        (["--first_rank", 0], "begin at 1"),
        (["--first_rank", 9, "--last_rank", 8], "do not end before"),
        (["--split", "nope"], "no split 'nope'"),
    ],
)
def test_what_cannot_be_asked(world: Path, options: list[Any], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine(world, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (world / "out").exists()


def test_judgments_are_needed(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "texts" / "qrels.train.tsv").unlink()
    assert mine(world) == 2
    assert "'train' has no judgments" in capsys.readouterr().err


def test_a_changed_file_is_refused(world: Path) -> None:
    assert mine(world) == 0
    with open(world / "out" / "negatives.jsonl", "a") as file:
        file.write("{}\n")
    with pytest.raises(BadInput, match="changed since it was written"):
        read_negatives(world / "out")


def test_the_small_world(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Against a plain full ranking."""
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    assert distill("mine", "--store", store_folder, *source, "--negatives", 4, "--margin", 0.01, "--out", tmp_path / "out") == 0
    texts = MsMarcoTsv(str(source_root))
    documents, queries, qrels = VectorStore(store_folder / "documents"), VectorStore(store_folder / "queries-train"), texts.qrels("train")
    scores = queries[:].astype(np.float64) @ documents[:].astype(np.float64).T
    seen = 0
    for mined in read_negatives(tmp_path / "out"):
        row = scores[queries.ids.rows([mined.query])[0]]
        positive = row[documents.ids.rows([mined.positive])[0]]
        words = {texts.documents()[int(documents.ids.rows([d])[0])] for d in qrels.judgments[mined.query]}
        allowed = [
            documents.ids[i]
            for i in np.argsort(-row, kind="stable")
            if row[i] <= positive - 0.01 and documents.ids[i] not in qrels.judgments[mined.query] and texts.documents()[int(i)] not in words
        ]
        assert mined.negatives == allowed[:4]
        seen += len(mined.negatives)
    assert seen > 100
