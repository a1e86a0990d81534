"""Servers that send too much, too slowly, or nonsense: each ends in one line, soon, and without the key."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from distill.generate.llm import Llm
from distill.records import BadInput
from distill.teachers import endpoint, http_client
from distill.teachers.endpoint import Endpoint
from distill.teachers.server import ServerTeacher

SECRET = "sk-se/cret&0123456789"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http_client, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv(endpoint.KEY, SECRET)


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server whose every connection is handed to `answer` once a request has arrived; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.02)
    ended = threading.Event()

    def handle(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65536)
                answer(connection)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)
            except OSError:  # it hung up
                pass

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        ended.set()
        thread.join()
        listener.close()


def whole(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> Callable[[socket.socket], object]:
    head = b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *headers])
    return lambda connection: connection.sendall(head + b"\r\n\r\n" + body)


def vectors(*embeddings: object) -> bytes:
    return json.dumps({"data": [{"index": index, "embedding": value} for index, value in enumerate(embeddings)]}).encode()


def ask(answer: Callable[[socket.socket], object], texts: int = 1) -> str:
    """What the user reads who asks such a server for vectors."""
    with answering(answer) as address, pytest.raises(BadInput) as refusal:
        ServerTeacher(address, "m")._request(["text"] * texts, attempts=2)
    message = str(refusal.value)
    assert message.isprintable() and "sk-se" not in message and "cret" not in message
    assert address in message
    return message


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"<html>log in</html>",
        DEEP,
        b'{"data": ' + DEEP,
        b'{"data": null}',
        b'{"data": []}',
        b'{"data": [null]}',
        b'{"data": [{"index": "0", "embedding": [1]}]}',
        b'{"data": [{"index": [0], "embedding": [1]}]}',
        b'{"data": [{"embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": [1' + b"0" * 400 + b"]}]}",
        b'{"data": [{"index": 0, "embedding": [1' + b"0" * 5000 + b"]}]}",
        b'{"data": [{"index": 0, "embedding": [1e39]}]}',
        b'{"data": [{"index": 0, "embedding": [NaN]}]}',
        b'{"data": [{"index": 0, "embedding": [1e400]}]}',
        vectors([]),
        vectors(None),
        vectors({}),
        vectors("AACAPw"),
        vectors("AACA!w=="),
        vectors("AACA"),
        vectors("AADAfw=="),
        vectors(""),
        vectors([[1.0], [2.0]]),
        vectors([1.0, None]),
        vectors([1.0], [2.0]),
        vectors([0.0] * ((1 << 20) + 1)),
    ],
    ids=lambda body: repr(body[:60]),
)
def test_an_answer_without_vectors(body):
    assert "gave up after 2 tries (an answer " in ask(whole(body))


@pytest.mark.parametrize("body", [vectors([1.0], [1.0, 2.0]), vectors([1.0]), vectors([1.0], [2.0], [3.0]), vectors([], [])])
def test_as_many_vectors_as_texts_of_one_width(body):
    assert "an answer " in ask(whole(body), texts=2)


def test_a_failure_that_is_called_a_success_is_quoted():
    assert "no such model" in ask(whole(b'{"error": {"message": "no such model \\u001b[31m"}}'))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda connection: connection.sendall(b"\x1b[2J\r\n\r\n"), "tries"),
        (lambda connection: connection.sendall(b"HTTP/1.1 " + SECRET.encode() + b"\r\n\r\n"), "illegal status line"),
        (lambda connection: connection.sendall(OK + b"Content-Length: 100\r\n\r\n{"), "tries"),
        (lambda connection: connection.sendall(OK + b"Content-Length: -1\r\n\r\n{"), "tries"),
        (lambda connection: connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "tries"),
        (lambda connection: connection.sendall(OK + b"X: y\r\n" * 30_000 + b"\r\n"), "tries"),
        (lambda connection: connection.sendall(OK + b"Content-Encoding: br\r\n\r\n\x00"), "packed as br"),
        (lambda connection: connection.sendall(OK + b"Content-Encoding: gzip, gzip\r\n\r\n\x00"), "packed as gzip, gzip"),
        (lambda connection: connection.sendall(OK + b"Content-Encoding: gzip\r\n\r\n\x00"), "tries"),
        (
            whole(b"", b"301 Moved", b"Location: http://elsewhere/" + SECRET.encode()),
            r"redirects to http://elsewhere/***: give that address",
        ),
        (whole(b"", b"307 Moved", b"Location: http://elsewhere/\x1b[31m"), "Invalid URL in location header"),
        (whole(b"", b"503 Busy", b"Retry-After: inf"), "left alone for inf s"),
        (whole(b"", b"503 Busy", b"Retry-After: nan"), "gave up after 2 tries"),
        (whole(b"", b"503 Busy", b"Retry-After: Mon, 01 Jan 99999 00:00:00 GMT"), "gave up after 2 tries"),
        (whole(b"", b"429 Busy", b"Retry-After: Fri, 31 Dec 9999 23:59:59 -0000"), "tries"),
    ],
)
def test_broken_protocols(answer, words):
    assert words in ask(answer)


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        json.dumps(SECRET),
        SECRET.replace("/", "\\/"),
        SECRET.replace("/", "%2F").replace("&", "%26"),
        SECRET.replace("&", "&amp;"),
        SECRET.replace("s", "\\u0073"),
        "x" * 275 + SECRET,  # where the message is cut
    ],
)
def test_a_key_that_the_server_repeats_is_not_printed(spelling):
    ask(whole(json.dumps({"error": spelling}).encode()))
    ask(whole(f"no: {spelling}".encode(), b"400 No"))
    ask(whole(json.dumps(spelling).encode(), b"500 No"))


def test_a_refused_key_is_asked_for():
    assert "the server wants a valid key in the environment variable OPENAI_API_KEY" in ask(whole(SECRET.encode(), b"401 No"))


def test_a_key_that_a_model_repeats_is_not_printed(monkeypatch):
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    answer = {"choices": [{"message": {"content": "x" * 60 + SECRET}}]}
    # spelt so that no bytes of it are the key's: it shows only once the JSON is read
    body = json.dumps(answer).replace("sk-se", "\\u0073k-se").encode()
    with answering(whole(body)) as address, pytest.raises(BadInput, match="without a list of queries") as refusal:
        model = Llm(address, "m")
        model._server.post({}, lambda body: _raise_again(model, body), attempts=2)
    assert "cret" not in str(refusal.value)


def _raise_again(model: Llm, body: bytes) -> object:
    from distill.generate.chat_answers import UnreadableAnswer, parse_completion, parse_queries

    try:
        return parse_queries(parse_completion(body))
    except UnreadableAnswer as error:
        raise endpoint.TryAgain(str(error)) from None


@pytest.mark.parametrize("content", [["text"], 7, {"text": "a"}, True])
def test_a_chat_answer_that_is_no_text(content):
    from distill.generate.chat_answers import parse_completion

    with pytest.raises(endpoint.TryAgain, match="no chat completion"):
        parse_completion(json.dumps({"choices": [{"message": {"content": content}}]}).encode())
    with pytest.raises(endpoint.TryAgain, match="RecursionError"):
        parse_completion(DEEP)


def endless(piece: bytes, seconds: float, head: bytes = OK + b"\r\n") -> Callable[[socket.socket], object]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(seconds)

    return answer


def test_a_body_without_end_takes_no_memory(monkeypatch):
    monkeypatch.setattr(http_client, "MOST_BYTES", 1 << 20)
    tracemalloc.start()
    assert "more than 1 MiB" in ask(endless(b" " * 65536, 0))
    assert "HTTP 500" in ask(endless(b"y" * 65536, 0, b"HTTP/1.1 500 No\r\n\r\n"))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"X-Slow: "], ids=["body", "headers"])
def test_a_byte_now_and_then_is_not_waited_for(head):
    with answering(endless(b" ", 0.05, head)) as address:
        server = Endpoint(address, "embeddings", timeout=0.2)
        start = time.monotonic()
        with pytest.raises(BadInput, match=r"no whole answer within 0\.4 s"):
            server.post({}, bytes, attempts=1)
        assert time.monotonic() - start < 3


def test_ctrl_c_ends_a_wait_at_once():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background with SIGINT ignored
    try:
        with answering(lambda connection: time.sleep(3)) as address:
            teacher = ServerTeacher(address, "m", width=2)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            start = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                teacher.embed(["a"] * 200, "query", lambda count: None)
            assert time.monotonic() - start < 1.5
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http://[::1/v1",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://host:0/v1",
        "http://a b/v1",
        "http://host/v1\n",
        "http://host/\x1b[31m",
        "ftp://host/v1",
        "http://user:pa ss@[::1",
        "http://user:sk-secret@host:x/v1?key=sk-secret#sk-secret",
        "http://host/v1#sk-secret",
        "http://host/v1?key=sk-secret",
    ],
)
def test_an_address_that_is_none(address):
    with pytest.raises(BadInput, match=r"not the address of a server|holds no key") as refusal:
        Endpoint(address, "embeddings")
    assert str(refusal.value).isprintable() and "sk-secret" not in str(refusal.value) and "pa ss" not in str(refusal.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".com"])
def test_a_host_name_that_no_machine_can_have(host):
    with pytest.raises(BadInput, match=r"not the address of a server|gave up after 1 tries"):
        Endpoint(f"http://{host}/v1", "embeddings").post({}, bytes, attempts=1)


@pytest.mark.parametrize(
    ("address", "warned"),
    [("http://example.com/v1", 1), ("http://10.0.0.7:8080/v1", 1), ("https://example.com/v1", 0), ("http://localhost:8080/v1", 0)]
    + [("http://127.0.0.1/v1", 0), ("http://[::1]:80/v1", 0)],
)
def test_a_key_in_the_open_wants_a_warning(address, warned, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "distill")
    monkeypatch.setattr(logging.getLogger("distill"), "propagate", True)
    Endpoint(address, "embeddings")
    assert [record.getMessage().count("unencrypted") for record in caplog.records] == [1] * warned
    caplog.clear()
    monkeypatch.delenv(endpoint.KEY)
    Endpoint(address, "embeddings")
    assert not caplog.records


def test_a_gzip_answer_is_still_read():
    import gzip

    packed = gzip.compress(vectors([1.0, 2.0]))
    with answering(whole(packed, b"200 OK", b"Content-Encoding: gzip")) as address:
        np.testing.assert_array_equal(ServerTeacher(address, "m")._request(["text"]), [[1, 2]])


@pytest.mark.parametrize(
    "proxy", ["foo://proxy", "http://user:pa55word@[::1", "http://user:pa55word@host:port", "socks9://user:pa55word@host"]
)
def test_a_proxy_that_is_none(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(BadInput, match=r"http://example\.com") as refusal:
        Endpoint("http://example.com", "embeddings").post({}, bytes, attempts=1)
    assert "pa55word" not in str(refusal.value)


def test_a_proxy_that_refuses(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with answering(whole(SECRET.encode(), b"407 Who are you")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(BadInput, match="HTTP 407") as refusal:
            Endpoint("http://example.invalid/v1", "embeddings").post({}, bytes, attempts=1)
    assert "cret" not in str(refusal.value)
