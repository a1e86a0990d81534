"""Asking a server for vectors: every text once and in its place, whatever the server does; the key goes nowhere else."""

from __future__ import annotations

import random
import socket
import time

import numpy as np
import pytest
from embeddings_server import WIDTH, Handler, serving, vector

from distill.records import BadInput
from distill.teachers import endpoint
from distill.teachers.server import ServerTeacher

TEXTS = [f"text number {number}" for number in range(1000)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.delenv(endpoint.KEY, raising=False)


def expected(texts):
    return np.stack([vector(text) for text in texts])


def embed(teacher, texts, role, progress=lambda count: None):
    return teacher.embed(teacher.prepare(texts, role), role, progress)


def test_every_text_has_its_own_vector():
    with serving() as server:
        teacher = ServerTeacher(server.address, "some-model", {"query": "ask: "})
        done = []
        np.testing.assert_array_equal(embed(teacher, TEXTS[:100], "document", done.append), expected(TEXTS[:100]))
        np.testing.assert_array_equal(embed(teacher, TEXTS[:3], "query"), expected([f"ask: {text}" for text in TEXTS[:3]]))
        assert embed(teacher, [], "query").shape == (0, WIDTH)
    assert done == [32, 32, 32, 4]
    assert {model for _, _, model in server.requests} == {"some-model"}
    assert server.answered == {"width": 1, **dict.fromkeys([*TEXTS[:100], *(f"ask: {text}" for text in TEXTS[:3])], 1)}


def five_percent(handler: Handler, number: int) -> bool:
    if random.Random(number).random() >= 0.05:
        return False
    handler.answer(500 + number % 4, {"error": "try later"})
    return True


def breaks_off(handler: Handler, number: int) -> bool:
    """Every fourth answer is cut: in its body, or in its JSON, or it lacks a vector."""
    if number % 4:
        return False
    if number % 12 == 0:
        handler.answer(200, handler.embeddings(["some text"] * 32), cut=100)
    elif number % 12 == 4:
        handler.answer(200, "not what was asked for")
    else:
        handler.answer(200, handler.embeddings(["some text"] * 3))
    return True


def hangs_up(handler: Handler, number: int) -> bool:
    if number % 3:
        return False
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.mark.parametrize("trouble", [five_percent, breaks_off, hangs_up])
def test_trouble_on_the_way(trouble):
    with serving(trouble) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        np.testing.assert_array_equal(embed(teacher, TEXTS, "document"), expected(TEXTS))
    assert len(server.requests) > 32  # 32 batches, some of them again
    assert server.answered == dict.fromkeys(TEXTS, 1)


def test_a_server_that_says_when_is_left_alone_until_then():
    def throttles(handler: Handler, number: int) -> bool:
        if number != 5:
            return False
        times.append(time.monotonic())
        handler.answer(429, {"error": "slow down"}, {"Retry-After": "1"})
        return True

    times: list[float] = []
    with serving(throttles) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        np.testing.assert_array_equal(embed(teacher, TEXTS, "document"), expected(TEXTS))
    # what was under way when it said so may still arrive
    disturbed = [at for at, _, _ in server.requests if times[0] + 0.2 < at < times[0] + 0.9]
    assert disturbed == []
    assert max(at for at, _, _ in server.requests) > times[0] + 0.9


def test_a_server_that_says_to_ask_at_once_is_waited_for_all_the_same(monkeypatch):
    waits = []
    monkeypatch.setattr(endpoint, "wait_exponential_jitter", lambda **_: lambda attempt: waits.append(attempt.attempt_number) or 0.01)

    def throttles(handler: Handler, number: int) -> bool:
        if number >= 3:
            return False
        handler.answer(429, {"error": "slow down"}, {"Retry-After": "0"})
        return True

    with serving(throttles) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH, concurrent=1)
        np.testing.assert_array_equal(embed(teacher, TEXTS[:3], "document"), expected(TEXTS[:3]))
    assert waits == [1, 2, 3]


def test_no_more_requests_a_minute_than_allowed():
    with serving() as server:
        teacher = ServerTeacher(server.address, "m", requests_per_minute=1200, width=WIDTH)  # one every 0.05 s
        embed(teacher, TEXTS[:320], "document")
    times = sorted(at for at, _, _ in server.requests)
    assert len(times) == 10
    assert times[-1] - times[0] > 9 * 0.05 * 0.9


def test_it_gives_up_in_the_end(monkeypatch):
    def always(handler: Handler, number: int) -> bool:
        handler.answer(503, {"error": "out of order"})
        return True

    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    with serving(always) as server, pytest.raises(BadInput, match=r"gave up after 8 tries.*HTTP 503.*out of order"):
        embed(ServerTeacher(server.address, "m", width=WIDTH), TEXTS[:3], "query")
    assert len(server.requests) == 8
    with serving(always) as server, pytest.raises(BadInput, match="gave up after 3 tries"):
        embed(ServerTeacher(server.address, "m"), TEXTS[:3], "query")  # nothing answered yet: the address may be wrong
    assert len(server.requests) == 3


def test_the_first_failure_stops_the_others():
    """And the same endpoint can be used again."""

    def breaks_down(handler: Handler, number: int) -> bool:
        handler.answer(*((404, {"error": "bad day"}) if number == 2 else (503, {"error": "later"})))
        return number < 20

    with serving(breaks_down) as server:
        teacher = ServerTeacher(server.address, "m", width=WIDTH)
        with pytest.raises(BadInput, match="bad day"):
            embed(teacher, TEXTS, "document")
        assert len(server.requests) < 12  # of 32 batches, though the first one was still being repeated
        server.trouble = lambda handler, number: False
        np.testing.assert_array_equal(embed(teacher, TEXTS[:40], "document"), expected(TEXTS[:40]))


def test_a_redirect_is_not_followed(monkeypatch):
    """It would carry the key to another server."""
    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    with serving() as other:

        def redirects(handler: Handler, number: int) -> bool:
            handler.answer(307, {}, {"Location": f"{other.address}/embeddings"})
            return True

        with serving(redirects) as server, pytest.raises(BadInput, match="HTTP 307"):
            embed(ServerTeacher(server.address, "m", width=WIDTH), TEXTS[:1], "query")
        assert (len(server.requests), other.requests) == (1, [])


def test_half_of_a_sign_is_sent_as_an_escape():
    with serving() as server:
        assert embed(ServerTeacher(server.address, "m", width=WIDTH), ["half \ud83d", "café"], "query").shape == (2, WIDTH)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (400, {}, "HTTP 400.*text 7 is too long"),
        (404, {}, "HTTP 404.*check the address"),
        (302, {"Location": "http://127.0.0.1:9/v1/embeddings"}, "HTTP 302"),
        (429, {"Retry-After": "86400"}, "wants to be left alone for 86400 s"),
    ],
)
def test_what_asking_again_does_not_mend(status, headers, words, monkeypatch):
    def refuses(handler: Handler, number: int) -> bool:
        handler.answer(status, {"error": "text 7 is too long", "you sent": handler.headers["Authorization"]}, headers)
        return True

    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    with serving(refuses) as server, pytest.raises(BadInput, match=words) as error:
        embed(ServerTeacher(server.address, "m", width=WIDTH), TEXTS[:1], "query")
    assert len(server.requests) == 1
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_valid(status, monkeypatch):
    def refuses(handler: Handler, number: int) -> bool:
        handler.answer(status, {"error": "incorrect key sk-se****et"})
        return True

    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    with serving(refuses) as server, pytest.raises(BadInput, match=f"HTTP {status}.*{endpoint.KEY}") as error:
        embed(ServerTeacher(server.address, "m", width=WIDTH), TEXTS[:1], "query")
    assert len(server.requests) == 1
    assert "sk-" not in str(error.value)


def test_the_key_goes_to_the_server_alone(monkeypatch):
    monkeypatch.setenv(endpoint.KEY, " sk-secret\n")
    with serving() as server:
        teacher = ServerTeacher(server.address, "m")
        embed(teacher, TEXTS[:1], "query")
    assert {key for _, key, _ in server.requests} == {"Bearer sk-secret"}
    assert "secret" not in str(teacher.maker) + teacher.where
    monkeypatch.delenv(endpoint.KEY)
    with serving() as server:
        embed(ServerTeacher(server.address, "m"), TEXTS[:1], "query")
    assert {key for _, key, _ in server.requests} == {None}


@pytest.mark.parametrize("key", ["sk secret", "sk-\nsecret", "sk-sécret"])
def test_a_key_that_cannot_be_one_is_not_shown(key, monkeypatch):
    monkeypatch.setenv(endpoint.KEY, key)
    with pytest.raises(BadInput, match=endpoint.KEY) as error:
        ServerTeacher("http://127.0.0.1:9/v1", "m")
    assert "cret" not in str(error.value)


@pytest.mark.parametrize("address", ["http://me:secret@host/v1", "https://host/v1?key=secret"])
def test_an_address_holds_no_key(address):
    with pytest.raises(BadInput, match=endpoint.KEY) as error:
        ServerTeacher(address, "m")
    assert "=secret" not in str(error.value) and ":secret" not in str(error.value)


def test_another_width_is_another_model():
    with serving() as server, pytest.raises(BadInput, match=f"answers with {WIDTH} numbers a text, 12 before"):
        embed(ServerTeacher(server.address, "m", width=12), TEXTS[:1], "query")


def test_empty_texts_are_sent_as_a_space():
    with serving() as server:
        found = embed(ServerTeacher(server.address, "m", width=WIDTH), ["a", ""], "document")
    np.testing.assert_array_equal(found, expected(["a", " "]))


def test_a_fingerprint_is_of_model_and_prompts():
    one, moved = (ServerTeacher(address, "m", width=2).maker.fingerprint for address in ("http://a/v1", "http://b/v1/embeddings/"))
    others = [ServerTeacher("http://a/v1", "n", width=2), ServerTeacher("http://a/v1", "m", {"query": "q: "}, width=2)]
    assert one == moved
    assert len({one, *(other.maker.fingerprint for other in others)}) == 3
