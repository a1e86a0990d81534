"""How many texts a request has and how many requests are under way: every text is answered once and has its own vector."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from embeddings_server import WIDTH, Handler, serving, vector
from product_servers import OpenAi

import distill
from distill.records import BadInput
from distill.teachers import endpoint, server
from distill.teachers.server import ServerTeacher
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors import store_writer
from distill.vectors.store import VectorStore

pytestmark = pytest.mark.usefixtures("short_waits")
TEXTS = [f"text number {number}" for number in range(200)]


def embed(teacher: ServerTeacher, texts: list[str]) -> np.ndarray:
    return teacher.embed(teacher.prepare(texts, "document"), "document", lambda count: None)


def vectors_of(texts: list[str]) -> np.ndarray:
    return np.stack([vector(text) for text in texts])


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("most", [1, 5, 31])
def test_a_server_that_takes_fewer_texts_gets_fewer(status: int, most: int) -> None:
    def limits(handler: Handler, number: int) -> bool:
        too_many = len(handler.asked["input"]) > most
        if too_many:
            handler.answer(status, {"error": "too many texts"})
        return too_many

    with serving(limits) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        np.testing.assert_array_equal(embed(teacher, TEXTS), vectors_of(TEXTS))
        assert server.answered == dict.fromkeys(TEXTS, 1)
        asked = len(server.requests)
        embed(teacher, TEXTS[:most])
        assert len(server.requests) == asked + len(range(0, most, teacher._most_texts))  # none is refused any more
    assert most / 2 < teacher._most_texts <= most


def test_a_server_that_takes_too_long_for_a_request_gets_fewer_texts() -> None:
    seconds = 0.3

    def is_slow(handler: Handler, number: int) -> bool:
        late = len(handler.asked["input"]) > 9
        if late:
            time.sleep(3 * seconds)
        return late

    with serving(is_slow) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        teacher.endpoint = endpoint.Endpoint(server.address, "embeddings", timeout=seconds)
        np.testing.assert_array_equal(embed(teacher, TEXTS[:40]), vectors_of(TEXTS[:40]))
        assert server.answered == dict.fromkeys(TEXTS[:40], 1)
    assert teacher._most_texts == 8


def test_a_single_text_that_takes_too_long_is_sent_again() -> None:
    def is_slow_once(handler: Handler, number: int) -> bool:
        if number == 0:
            time.sleep(0.9)
        return number == 0

    with serving(is_slow_once) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        teacher.endpoint = endpoint.Endpoint(server.address, "embeddings", timeout=0.3)
        np.testing.assert_array_equal(embed(teacher, TEXTS[:1]), vectors_of(TEXTS[:1]))
        assert len(server.requests) == 2


def test_a_text_that_is_refused_is_named_without_its_prompt() -> None:
    texts = [*TEXTS[:20], "far too long " * 10, *TEXTS[20:]]
    with serving(handler=OpenAi) as server:
        teacher = ServerTeacher(server.address, "m", {"document": "instruct: "}, width=WIDTH)
        with pytest.raises(BadInput, match=r"HTTP 400.*maximum context length.*; it refuses the document '(far too long ){4}far too '"):
            embed(teacher, texts)
    assert max(server.answered.values()) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_other_refusals_end_at_once(status: int) -> None:
    def refuses(handler: Handler, number: int) -> bool:
        handler.answer(status, {"error": "no"})
        return True

    with serving(refuses) as server, pytest.raises(BadInput, match=f"HTTP {status}"):
        embed(ServerTeacher(server.address, "m", width=WIDTH), TEXTS[:32])
    assert len(server.requests) == 1


def test_as_many_requests_at_once_as_told() -> None:
    """The first ones are answered once as many as expected are there; more never are."""
    at_work, most, lock, all_there = 0, 0, threading.Lock(), threading.Barrier(1)

    def waits(handler: Handler, number: int) -> bool:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        if number < all_there.parties:
            all_there.wait(timeout=30)
        time.sleep(0.02)  # one more would be seen
        with lock:
            at_work -= 1
        return False

    texts = [f"text number {number}" for number in range(640)]
    for given, expected_most in ((None, endpoint.CONNECTIONS), (1, 1), (8, 8)):
        most, all_there = 0, threading.Barrier(expected_most)
        with serving(waits) as server:
            found = embed(ServerTeacher(server.address, "m", width=WIDTH, concurrent=given), texts)
        np.testing.assert_array_equal(found, vectors_of(texts))
        assert most == expected_most
    with pytest.raises(BadInput, match="concurrent: 0: must be at least 1"):
        ServerTeacher("http://a/v1", "m", concurrent=0)


class Numbers(TextSource):
    """1,600 documents and 800 queries."""

    def load_documents(self) -> Texts:
        return Texts.from_lists([f"d{number}" for number in range(1600)], [f"document {number}" for number in range(1600)])

    def list_splits(self) -> list[str]:
        return ["train", "dev"]

    def load_queries(self, split: str) -> Texts:
        ids = [f"{split}{number}" for number in range(400)]
        return Texts.from_lists(ids, [f"query {id_}" for id_ in ids])


def fails(handler: Handler, number: int, failures: Counter[str]) -> bool:
    """Fails 5% of all requests: an error, a wait of 0 s, a connection that is dropped, JSON that is broken."""
    rng = random.Random(number)
    if rng.random() >= 0.05:
        return False
    kind = rng.choice(["500", "429", "dropped", "broken"])
    failures[kind] += 1
    if kind == "500":
        handler.answer(500, {"error": "sorry"})
    elif kind == "429":
        handler.answer(429, {"error": "slow down"}, {"Retry-After": "0"})
    elif kind == "dropped":
        handler.connection.shutdown(socket.SHUT_RDWR)
    else:
        handler.answer(200, '{"data": [{"index": 0, "embedding": [0.1', raw=True)
    return True


def test_eight_requests_at_once_of_which_five_percent_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is written once and in order, and no text is answered twice."""
    monkeypatch.setattr(server, "TEXTS_PER_REQUEST", 4)
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 256)
    source, failures = Numbers(), Counter[str]()
    with serving(lambda handler, number: fails(handler, number, failures)) as asked:
        store = distill.encode(asked.address, source, str(tmp_path / "store"), model="m", concurrent=8)
    texts = {"documents": source.documents(), **{f"queries-{split}": source.queries(split) for split in source.splits()}}
    for name, expected_texts in texts.items():
        part = VectorStore(tmp_path / "store" / name)
        part.verify()
        assert list(part.ids) == list(expected_texts.ids)
        np.testing.assert_array_equal(part[:], vectors_of(list(expected_texts)).astype(np.float16))
    assert asked.answered == {"width": 1, **dict.fromkeys((text for part in texts.values() for text in part), 1)}
    assert store.documents.width == WIDTH
    assert failures.keys() == {"500", "429", "dropped", "broken"}
    assert 0.03 < failures.total() / len(asked.requests) < 0.08
