"""Asks a language model on an OpenAI-compatible chat server to write queries for documents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.generate.chat_answers import UnreadableAnswer, parse_completion, parse_queries, parse_stream
from distill.generate.generator import Generator, Progress, check_setting
from distill.generate.material import Material
from distill.records import BadInput
from distill.teachers.costs import CHARACTERS_PER_TOKEN, mean_characters
from distill.teachers.endpoint import Endpoint, TryAgain
from distill.texts.texts import Texts

PROMPT = """You write search queries. For a document you write {count} different queries that somebody types who needs what it says.
Each is short, stands for itself and is answered by the document. Answer with JSON alone: {"queries": ["...", ...]}"""
SCHEMA = {
    "type": "object",
    "properties": {"queries": {"type": "array", "items": {"type": "string"}}},
    "required": ["queries"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "queries", "strict": True, "schema": SCHEMA}}
UNREADABLE = 3  # answers after which a document is left without queries, as each further request costs money
TIMEOUT = 600.0  # seconds; without a stream the server sends nothing until the whole answer is ready
LONGEST_PROMPT = 1 << 20  # characters; a device would be read without end
TOKENS_PER_QUERY = 16  # to estimate the cost

Message = dict[str, str]  # role and content


class Llm(Generator):
    """Asks a chat server for queries that a document answers; the server's key is read from OPENAI_API_KEY.

    There is one request for each document. It is repeated when the server fails or the answer is no list of queries; after three answers
    of that kind the document gets no queries.

    Args:
        address: address of the server, e.g. http://localhost:8000/v1.
        model: the server's name for the model.
        prompt: text file with the system message; {count} in it becomes the number of queries. The answer has to be
            {"queries": [...]}.
        examples: number of judged pairs of a document and its query to show to the model; without judgments, number of real queries.
        structured: whether a request contains the JSON schema of the answer, which some servers do not support.
        stream: whether the server sends the answer piece by piece.
        temperature: temperature of sampling.
        longest_document: most characters of a document; the rest is cut off.
        requests_per_minute: most requests in a minute.
        price: price of a million tokens that the model reads.
        output_price: price of a million tokens that the model writes.
        budget: nothing is sent when the estimated cost is above it.
    """

    reads: ClassVar[Literal["documents"]] = "documents"
    queries_per_shard: ClassVar[int] = 256
    is_cheap: ClassVar[bool] = False
    # settings that do not change what the model writes: an unfinished run may go on with other values of these
    unrecorded_settings: ClassVar[tuple[str, ...]] = ("address", "stream", "requests_per_minute", "price", "output_price", "budget")

    def __init__(
        self,
        address: str,
        model: str,
        prompt: str | None = None,
        examples: int = 3,
        structured: bool = True,
        stream: bool = False,
        temperature: float = 1.0,
        longest_document: int = 4000,
        requests_per_minute: int | None = None,
        price: float | None = None,
        output_price: float | None = None,
        budget: float = 1.0,
    ):
        self._server = Endpoint(address, "chat/completions", requests_per_minute, TIMEOUT)
        check_setting("examples", examples >= 0, f"{examples}: 0 or more")
        check_setting("longest_document", longest_document > 0, f"{longest_document}: at least 1")
        self._prompt = PROMPT if prompt is None else _read_prompt(prompt)
        self.model, self.examples, self.temperature, self.longest_document = model, examples, temperature, longest_document
        self.structured, self.stream = structured, stream
        self.price, self.output_price, self.budget = price, output_price, budget

    def settings(self) -> dict[str, Any]:
        recorded = {key: value for key, value in super().settings().items() if key not in self.unrecorded_settings}
        return {**recorded, "prompt": self._prompt}

    def prepare(self, material: Material) -> None:
        pairs = material.examples(self.examples)
        self._example_messages = [message for pair in pairs for message in self._show_example(*pair)]
        self._style = ""
        if not pairs:
            queries = material.queries.read(evenly_spaced_rows(len(material.queries), self.examples))
            self._style = "\nPeople here ask like this:\n" + "\n".join(queries) if queries else ""

    def check_cost(self, texts: Texts, rows: np.ndarray) -> None:
        if not len(rows):
            return
        documents = np.unique(rows)
        prompt_length = sum(len(message["content"]) for message in self._messages("", 1))
        characters = len(documents) * (prompt_length + mean_characters(texts, documents, self.longest_document))
        tokens_read = characters / CHARACTERS_PER_TOKEN
        tokens_written = len(rows) * TOKENS_PER_QUERY
        cost = (self.price or 0) * tokens_read / 1e6 + (self.output_price or 0) * tokens_written / 1e6
        amounts = f"about {tokens_read / 1e6:.3g} million tokens read, {tokens_written / 1e6:.3g} written, {cost:.2f} in all"
        estimate = f"{len(documents)} requests, {amounts}"
        if cost > self.budget:
            raise BadInput(f"generator.budget: {self.model} would be asked for {estimate}, above {self.budget:g}: raise it or lower count")
        log.info(f"{self.model} at {self._server.address}: {estimate}" + ("" if self.price else " (no price given)"))

    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        documents = list(zip(texts, counts, strict=True))
        queries = []
        for (_, count), queries_of_text in zip(documents, self._server.map(self._request_queries, documents), strict=True):
            queries.append(queries_of_text)
            progress(count)
        return queries

    def _request_queries(self, document: tuple[str, int]) -> list[str]:
        """Requests at most `count` queries for a text; returns none if the model never answers with a list of queries."""
        text, count = document
        unreadable = 0

        def parse(body: bytes) -> list[str]:
            nonlocal unreadable
            answer = parse_stream(body) if self.stream else parse_completion(body)
            try:
                return parse_queries(answer)[:count]
            except UnreadableAnswer as error:
                unreadable += 1
                if unreadable == UNREADABLE:
                    return []
                raise TryAgain(str(error), 0.0) from None

        request: dict[str, Any] = {
            "model": self.model,
            "messages": self._messages(text, count),
            "temperature": self.temperature,
            "stream": self.stream,
        }
        if self.structured:
            request["response_format"] = RESPONSE_FORMAT
        return self._server.post(request, parse)

    def _messages(self, text: str, count: int) -> list[Message]:
        """Makes the messages of the request: instructions, examples, and the text."""
        instructions = self._prompt.replace("{count}", str(count)) + self._style
        return [{"role": "system", "content": instructions}, *self._example_messages, self._show_document(text)]

    def _show_document(self, text: str) -> Message:
        return {"role": "user", "content": text[: self.longest_document]}

    def _show_example(self, document: str, query: str) -> list[Message]:
        answer = json.dumps({"queries": [query]}, ensure_ascii=False)
        return [self._show_document(document), {"role": "assistant", "content": answer}]


def _read_prompt(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            prompt = file.read(LONGEST_PROMPT + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file: generator.prompt is one with what the model is told") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 (byte {error.start}): save it as UTF-8") from None
    if len(prompt) > LONGEST_PROMPT:
        raise BadInput(f"{path}: longer than {LONGEST_PROMPT} characters: generator.prompt is a file with what the model is told")
    return prompt
