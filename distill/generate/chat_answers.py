"""Reads queries from the answer of a chat server: a whole completion or a stream of pieces, with JSON in the model's text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from distill.teachers.endpoint import TryAgain

# RecursionError: a model may open thousands of brackets
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

MOST_OBJECTS = 100  # that are looked at in an answer


class UnreadableAnswer(Exception):
    """The server's answer is complete, but the model's text is not the JSON that the prompt asks for."""


def parse_completion(body: bytes) -> str:
    """Reads the model's text out of a whole answer.

    >>> parse_completion(b'{"choices": [{"message": {"content": "yes"}}]}')
    'yes'
    """
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except UNREADABLE as error:
        raise TryAgain(f"no chat completion: {type(error).__name__}") from None
    if not isinstance(content, str | None):
        raise TryAgain(f"no chat completion: its content is no text but a {type(content).__name__}")
    return content or ""


def parse_stream(body: bytes) -> str:
    """Reads the model's text out of an answer sent in pieces: lines of `data: {...}`, the last one `data: [DONE]`."""
    # bytes are split, not text: Python splits text also at characters that do not end a line in the protocol
    events = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        raise TryAgain("a stream that broke off")
    try:
        choices = [choice for event in events[:-1] for choice in json.loads(event.decode(errors="replace"))["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    except UNREADABLE as error:
        raise TryAgain(f"no stream of a chat completion: {type(error).__name__}") from None


def parse_queries(answer: str) -> list[str]:
    """Reads the queries from {"queries": [...]}, which other words may surround; line breaks in a query become spaces.

    >>> parse_queries('Of course: {"queries": ["how large is a swan", "swan size"]}')
    ['how large is a swan', 'swan size']
    """
    queries = next(find_queries(answer), None)
    if queries is None:
        # whole: where the message is cut, the server's key is replaced first
        raise UnreadableAnswer(f"an answer without a list of queries: {answer}")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise UnreadableAnswer("an answer whose queries are no texts")
    # JSON can escape half a surrogate pair, which UTF-8 cannot encode: it becomes "?"
    return [" ".join(query.encode(errors="replace").decode().split()) for query in queries]


def find_queries(answer: str) -> Iterator[Any]:
    """Yields what is called queries in each JSON object in a text; a model may think aloud in braces before it answers."""
    decoder = json.JSONDecoder()
    for start in [place for place, letter in enumerate(answer) if letter == "{"][:MOST_OBJECTS]:
        with suppress(*UNREADABLE):
            yield decoder.raw_decode(answer, start)[0]["queries"]
