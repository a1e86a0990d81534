"""Queries that a language model behind an OpenAI-compatible chat server asks of documents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from distill.files.progress import log
from distill.generate.generator import Generator, Material, Progress, check_setting
from distill.records import BadInput
from distill.teachers.costs import CHARACTERS_PER_TOKEN, mean_characters
from distill.teachers.endpoint import Endpoint, TryAgain
from distill.texts.texts import Texts, evenly_spaced_rows

PROMPT = """You write search queries. For a document you write {count} different queries that somebody types who needs what it says.
Each is short, stands for itself and is answered by the document. Answer with JSON alone: {"queries": ["...", ...]}"""
SCHEMA = {
    "type": "object",
    "properties": {"queries": {"type": "array", "items": {"type": "string"}}},
    "required": ["queries"],
    "additionalProperties": False,
}
UNREADABLE = 3  # answers after which a document is left without queries: asking on would cost money for ever
TIMEOUT = 600.0  # seconds; a long answer is silent until it is whole
TOKENS_PER_QUERY = 16


@dataclass
class Llm(Generator):
    """Asks a chat server for queries that a document answers; its key is read from OPENAI_API_KEY.

    Every document is asked for once, and again when the server fails or its answer is no list of queries; after three such answers it
    stays without queries.

    Args:
        address: of the server, e.g. http://localhost:8000/v1.
        model: what the server calls it.
        prompt: text file with what the model is told first; {count} in it becomes the number of queries. The answer has to be
            {"queries": [...]}.
        examples: judged pairs of a document and its query shown first; where nothing is judged, so many real queries.
        structured: whether the server is told the answer's JSON schema; not all can be.
        stream: whether the answer is sent piece by piece.
        temperature: of sampling.
        longest_document: characters; the rest is cut off.
        requests_per_minute: at most so many are sent.
        price: what a million tokens read cost there.
        output_price: and a million tokens written.
        budget: nothing is sent when the estimated cost is above it.
    """

    reads: ClassVar[Literal["documents"]] = "documents"
    queries_per_shard: ClassVar[int] = 256
    anew: ClassVar[bool] = False
    # of a setting that does not decide what is asked: the same run may go on elsewhere or faster
    beside: ClassVar[tuple[str, ...]] = ("address", "stream", "requests_per_minute", "price", "output_price", "budget")

    address: str
    model: str
    prompt: str | None = None
    examples: int = 3
    structured: bool = True
    stream: bool = False
    temperature: float = 1.0
    longest_document: int = 4000
    requests_per_minute: int | None = None
    price: float | None = None
    output_price: float | None = None
    budget: float = 1.0

    def __post_init__(self) -> None:
        self._server = Endpoint(self.address, "chat/completions", self.requests_per_minute, TIMEOUT)
        check_setting("examples", self.examples >= 0, f"{self.examples}: 0 or more")
        check_setting("longest_document", self.longest_document > 0, f"{self.longest_document}: at least 1")
        try:
            self._prompt = PROMPT if self.prompt is None else Path(self.prompt).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BadInput(f"{self.prompt}: no such file: generator.prompt is one with what the model is told") from None

    def settings(self) -> dict[str, Any]:
        deciding = {key: value for key, value in super().settings().items() if key not in self.beside}
        return {**deciding, "prompt": self._prompt}

    def prepare(self, material: Material) -> None:
        pairs = material.examples(self.examples)
        self._turns = [turn for document, query in pairs for turn in (self._user(document), self._assistant([query]))]
        real = material.queries
        styles = real.read(evenly_spaced_rows(len(real), self.examples)) if not pairs else []
        self._styles = "\nPeople here ask like this:\n" + "\n".join(styles) if styles else ""

    def announce(self, texts: Texts, rows: np.ndarray) -> None:
        if not len(rows):
            return
        documents = np.unique(rows)
        told = sum(len(turn["content"]) for turn in self._messages("", 1))
        read = len(documents) * (told + mean_characters(texts, documents, self.longest_document)) / CHARACTERS_PER_TOKEN
        written = len(rows) * TOKENS_PER_QUERY
        cost = (self.price or 0) * read / 1e6 + (self.output_price or 0) * written / 1e6
        estimate = f"{len(documents)} requests, about {read / 1e6:.3g} million tokens read, {written / 1e6:.3g} written, {cost:.2f} in all"
        if cost > self.budget:
            raise BadInput(f"generator.budget: {self.model} would be asked for {estimate}, above {self.budget:g}: raise it or lower count")
        log.info(f"{self.model} at {self._server.address}: {estimate}" + ("" if self.price else " (no price given)"))

    def write(self, texts: Sequence[str], counts: Sequence[int], draw: random.Random, progress: Progress) -> list[list[str]]:
        made = []
        for (_, count), queries in zip(
            asked := list(zip(texts, counts, strict=True)), self._server.map(self._requested, asked), strict=True
        ):
            made.append(queries)
            progress(count)
        return made

    def _requested(self, item: tuple[str, int]) -> list[str]:
        text, count = item
        unreadable = 0

        def parsed(body: bytes) -> list[str]:
            nonlocal unreadable
            try:
                return parse_queries(parse_stream(body) if self.stream else parse_completion(body))[:count]
            except UnreadableAnswer as error:
                unreadable += 1
                if unreadable == UNREADABLE:
                    return []
                raise TryAgain(str(error), 0.0) from None

        asked: dict[str, Any] = {"model": self.model, "messages": self._messages(text, count), "temperature": self.temperature}
        asked |= {"stream": self.stream}
        if self.structured:
            asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "queries", "strict": True, "schema": SCHEMA}}
        return self._server.post(asked, parsed)

    def _messages(self, text: str, count: int) -> list[dict[str, str]]:
        told = self._prompt.replace("{count}", str(count)) + self._styles
        return [{"role": "system", "content": told}, *self._turns, self._user(text)]

    def _user(self, document: str) -> dict[str, str]:
        return {"role": "user", "content": document[: self.longest_document]}

    def _assistant(self, queries: list[str]) -> dict[str, str]:
        return {"role": "assistant", "content": json.dumps({"queries": queries}, ensure_ascii=False)}


class UnreadableAnswer(Exception):
    """A whole answer of the server in which the model did not write what it was told to."""


def parse_completion(body: bytes) -> str:
    """What the model said, out of a whole answer."""
    try:
        return json.loads(body)["choices"][0]["message"]["content"] or ""
    except (ValueError, TypeError, LookupError) as error:
        raise TryAgain(f"no chat completion: {type(error).__name__}") from None


def parse_stream(body: bytes) -> str:
    """What the model said, out of an answer sent in pieces: lines of `data: {...}`, the last one `data: [DONE]`."""
    # as bytes: a text may hold signs at which Python, but not the protocol, ends a line
    events = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        raise TryAgain("a stream that broke off")
    try:
        choices = [choice for event in events[:-1] for choice in json.loads(event.decode(errors="replace"))["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise TryAgain(f"no stream of a chat completion: {type(error).__name__}") from None


def parse_queries(said: str) -> list[str]:
    """The queries of {"queries": [...]}, which may stand among other words, each on one line."""
    try:
        queries = json.loads(said[said.index("{") : said.rindex("}") + 1])["queries"]
    except (ValueError, TypeError, LookupError, RecursionError):  # a model may open brackets without end
        raise UnreadableAnswer(f"an answer without a list of queries: {' '.join(said.split())[:100]!r}") from None
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise UnreadableAnswer("an answer whose queries are no texts")
    # half a surrogate pair, which JSON may escape, is nothing that a file can hold
    return [" ".join(query.encode(errors="replace").decode().split()) for query in queries]
