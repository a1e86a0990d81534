"""A server as the teacher, from the command line: every row once and in order, nothing asked twice that is written, nothing secret left."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import QUERY_MATCHING, distill
from conftest import make_teacher
from embeddings_server import WIDTH, Handler, Server, serving, vector

from distill.teachers import endpoint, server
from distill.teachers.embedder import map_in_thread
from distill.vectors import store_writer
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

KEY = "sk-this-is-secret"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(server, "TEXTS_PER_REQUEST", 4)
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 16)
    monkeypatch.setenv(endpoint.KEY, KEY)
    yield


def encode(server: Server, source: Path, out: Path, *more: Any) -> int:
    options = ["--source", "MsMarcoTsv", "--source.root", source, "--out", out, *more]
    return distill("encode", "--teacher", server.address, "--model", "some-model", *options)


def texts(source: Path) -> dict[str, dict[str, str]]:
    """Texts by id of each set, as they lie on disk."""
    names = {"documents": "collection.tsv"} | {f"queries-{split}": f"queries.{split}.tsv" for split in ("train", "dev", "test")}
    return {name: dict(line.split("\t") for line in (source / file).read_text().splitlines()) for name, file in names.items()}


def assert_whole(source: Path, out: Path) -> None:
    for name, expected in texts(source).items():
        store = VectorStore(out / name)
        store.verify()
        # train queries that another split asks too are not encoded
        assert list(store.ids) == [id_ for id_ in expected if id_ in set(store.ids)]
        assert name == "queries-train" or len(store) == len(expected)
        np.testing.assert_array_equal(store[:], np.stack([vector(expected[id_]) for id_ in store.ids]).astype(np.float16))


def stubborn(handler: Handler, number: int) -> bool:
    """5% fail, some are throttled, some break off."""
    chance = random.Random(number).random()
    if chance < 0.05:
        handler.answer(500, {"error": "sorry"})
    elif chance < 0.08:
        handler.answer(429, {"error": "slow down"}, {"Retry-After": "0.05"})
    elif chance < 0.12:
        handler.answer(200, handler.embeddings(["cut off"] * 4), cut=20)
    return chance < 0.12


def test_a_stubborn_server(source_root: Path, tmp_path: Path) -> None:
    with serving(stubborn) as server:
        assert encode(server, source_root, tmp_path / "store") == 0
        assert_whole(source_root, tmp_path / "store")
        rows = sum(len(VectorStore(tmp_path / "store" / name)) for name in texts(source_root))
        assert server.answered.total() == rows + 1  # every row once, and the word that tells the width
        asked = len(server.requests)
        assert asked > rows / 4 + 1  # some of them again
        assert encode(server, source_root, tmp_path / "store") == 0
        assert len(server.requests) == asked  # nothing is left to ask


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_restart_asks_for_nothing_that_is_written(
    source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """What a server was paid for is written, also where the disk is slower than the server."""
    save = StoreWriter._save
    monkeypatch.setattr(StoreWriter, "_save", lambda *given: (time.sleep(seconds), save(*given)))

    def breaks_down(handler: Handler, number: int) -> bool:
        if number < 12:
            return False
        handler.answer(400, {"error": "bad day"})
        return True

    with serving(breaks_down) as server:
        assert encode(server, source_root, tmp_path / "store") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bad day" in error
    documents, words = tmp_path / "store" / "documents", list(texts(source_root)["documents"].values())
    written = [int(path.stem) for path in sorted(documents.glob("0*.npy"))]
    assert written == [0, 1]
    with serving() as server:  # elsewhere by now
        assert encode(server, source_root, tmp_path / "store") == 0
    assert_whole(source_root, tmp_path / "store")
    elsewhere = {text for name, those in texts(source_root).items() if name != "documents" for text in those.values()}
    assert set(server.answered) & (set(words[:32]) - set(words[32:]) - elsewhere) == set()
    assert set(words[32:]) <= set(server.answered) and "width" not in server.answered
    maker = json.loads((documents / "manifest.json").read_text())["maker"]
    assert maker["name"] == f"some-model at {server.address}"


def test_the_key_is_written_nowhere(source_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(stubborn) as server:
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]") == 0
    assert {key for _, key, _ in server.requests} == {f"Bearer {KEY}"}
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_what_it_may_cost_is_said_first(source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents, queries = (list(texts(source_root)[name].values()) for name in ("documents", "queries-dev"))
    tokens = (sum(map(len, documents)) + sum(map(len, queries))) / 4
    price = 2.0 / tokens * 1e6  # two in all
    with serving() as server:
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]", "--price", price) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "72 texts" in error and "about 2.00 in all" in error and "above 1" in error
        assert (server.requests, (tmp_path / "store").exists()) == ([], False)
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]", "--price", price, "--budget", 3) == 0
        assert "72 texts" in capsys.readouterr().out.splitlines()[0]
        (tmp_path / "store" / "documents" / "00001.npy").unlink()
        (tmp_path / "store" / "documents" / "manifest.json").unlink()
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]", "--price", price) == 0
        assert "16 texts" in capsys.readouterr().out.splitlines()[0]
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]", "--price", price) == 0
        assert "texts, about" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--teacher", "http://127.0.0.1:9/v1"], "a server needs --model"),
        (["--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--pooling", "mean"], "pooling: for a dual encoder as the teacher"),
        (["--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--requests_per_minute", 0], "requests_per_minute: 0"),
        (["--teacher", "nowhere", "--model", "m"], "only for a server"),
        (["--teacher", "nowhere", "--price", 1], "only for a server"),
    ],
)
def test_options_that_do_not_go_together(options: list[Any], words: str, source_root: Path, tmp_path: Path, capsys) -> None:
    assert distill("encode", *options, "--source", "MsMarcoTsv", "--source.root", source_root, "--out", tmp_path / "store") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "store").exists()


def test_another_model_or_other_prompts_are_refused(source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]") == 0
        asked = len(server.requests)
        for more in (["--model", "another"], ["--prompts", '{"query": "ask: "}']):
            assert encode(server, source_root, tmp_path / "store", "--splits", "[dev]", *more) == 2
            assert "made from other inputs" in capsys.readouterr().err
        assert len(server.requests) == asked


def test_a_student_learns_from_a_server(source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert encode(server, source_root, tmp_path / "store") == 0
    backbone = make_teacher(tmp_path / "backbone", width=16, layers=1)
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", backbone, "--model.student.projection", "linear"]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source_root, "--data.store", tmp_path / "store"]
    trainer = ["--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--out", tmp_path / "run"]
    assert distill("train", *student, "--model.losses", QUERY_MATCHING, *data, *trainer) == 0
    assert distill("evaluate", tmp_path / "run") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["provenance"]["teacher"]["name"].startswith("some-model at http://127.0.0.1")
    assert "params" not in results["systems"]["teacher"]
    assert json.loads((tmp_path / "store" / "documents" / "manifest.json").read_text())["width"] == WIDTH


def test_what_is_given_up_is_not_waited_for() -> None:
    """The garbage collector may close it in a thread that is just starting, which would then wait for itself."""
    goes_on = threading.Event()
    given_up = map_in_thread(lambda item: goes_on.wait(30) if item else item, [0, 1])
    assert next(given_up) == 0
    started = time.monotonic()
    given_up.close()
    waited = time.monotonic() - started
    goes_on.set()
    assert waited < 5
