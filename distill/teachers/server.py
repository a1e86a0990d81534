"""A server as a teacher: texts go out, vectors come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.files.progress import log
from distill.records import BadInput, one_line
from distill.teachers.embedder import Progress
from distill.teachers.endpoint import ATTEMPTS, SLOW, Endpoint, Refused, TryAgain
from distill.teachers.server_interfaces import OPENAI, UNREADABLE, RoleFields, find_interface, read_vectors

TEXTS_PER_REQUEST = 32  # almost every server accepts as many; where one does not, fewer are sent
FIRST_ATTEMPTS = 3  # of the first request, so that a wrong address is reported within seconds
TOO_MANY_TEXTS = (400, 413, 422, SLOW)  # what servers answer to a request of too many texts or tokens, and to other mistakes too
QUOTED_TEXT = 60  # characters of a text that the server refuses


class ServerTeacher:
    """A server that turns texts into vectors; each text is sent once, however often its request is repeated.

    Args:
        address: address of the server; its end says which interface it has, e.g. http://localhost:8080/v1 for OpenAI's.
        model: the server's name for the model; None asks a server of a single model for it.
        prompts: text put before every query and document.
        requests_per_minute: most requests in a minute, including repeated ones; None is no limit.
        width: numbers in a vector; None measures it by encoding one word.
        dimensions: numbers in a vector to ask for; None leaves it to the server.
        role_fields: JSON fields added to the requests of a role, e.g. {"query": {"input_type": "query"}}.
        concurrent: requests sent in parallel; None is `endpoint.CONNECTIONS`.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        prompts: dict[str, str] | None = None,
        requests_per_minute: int | None = None,
        width: int | None = None,
        dimensions: int | None = None,
        role_fields: RoleFields | None = None,
        concurrent: int | None = None,
    ):
        self.interface = find_interface(address)
        self.interface.check_role_fields(role_fields or {})
        if dimensions is not None and dimensions < 1:
            raise BadInput(f"dimensions: {dimensions}: must be at least 1")
        self.endpoint = Endpoint(address, self.interface.path.strip("/"), requests_per_minute, concurrent=concurrent)
        self.model, self.prompts = model or read_served_model(self.endpoint), prompts or {}
        self.dimensions, self.role_fields = dimensions, {role: fields for role, fields in (role_fields or {}).items() if fields}
        name = f"{self.model} at {self.endpoint.address}"
        self.maker = Maker(name, self._make_fingerprint(), origin="server", prompts=prompts)
        self._width = width
        self._most_texts, self._lock = TEXTS_PER_REQUEST, threading.Lock()

    def _make_fingerprint(self) -> str:
        """A server's weights cannot be read and its address may change: this is of the model's name and of what a request says."""
        settings = {
            "interface": None if self.interface is OPENAI else self.interface.name,
            "dimensions": self.dimensions,
            "role_fields": self.role_fields or None,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        return fingerprint("endpoint", self.model, self.prompts, *([given] if given else []))  # alone, as before there were settings

    @property
    def width(self) -> int:
        if self._width is None:
            self._width = self._request(["width"], attempts=FIRST_ATTEMPTS).shape[1]
        return self._width

    @property
    def where(self) -> str:
        return f"by {self.maker.name}"

    def prepare(self, texts: Sequence[str], role: Role) -> list[str]:
        """Puts the prompt before each text."""
        # many servers refuse an empty text, which a corpus may have
        return [self.prompts.get(role, "") + text or " " for text in texts]

    def embed(self, prepared: Sequence[str], role: Role, progress: Progress) -> np.ndarray:
        """Returns the vectors [N, D] float32 of N prompted texts."""
        size = self._most_texts
        batches = [list(prepared[start : start + size]) for start in range(0, len(prepared), size)]
        vectors = [np.empty((0, self.width), np.float32)]
        for part in self.endpoint.map(lambda texts: np.concatenate(list(self._embed_parts(texts, role))), batches):
            vectors.append(part)
            progress(len(part))
        return np.concatenate(vectors)

    def _embed_parts(self, texts: list[str], role: Role) -> Iterator[np.ndarray]:
        """Yields the vectors of a batch, in one part or, where the server refuses so many texts at once, in several."""
        start, was_slow = 0, False
        while start < len(texts):
            part = texts[start : start + self._most_texts]
            try:
                vectors = self._request(part, role)
            except Refused as refusal:
                if refusal.status not in TOO_MANY_TEXTS:
                    raise
                if refusal.status == SLOW and not was_slow:  # it may have been busy with something else
                    was_slow = True
                    continue
                if len(part) == 1:
                    text = one_line(part[0].removeprefix(self.prompts.get(role, "")), QUOTED_TEXT)
                    raise BadInput(f"{refusal}; it refuses the {role} {text!r}") from None
                self._send_fewer_texts((len(part) + 1) // 2, refusal.status)
            else:
                start, was_slow = start + len(part), False
                yield vectors

    def _send_fewer_texts(self, most: int, status: int) -> None:
        """Limits the texts of every following request, of all threads."""
        reason = "takes too long for a request" if status == SLOW else f"refuses a request (HTTP {status})"
        with self._lock:
            if most < self._most_texts:
                self._most_texts = most
                log.info(f"{self.endpoint.address}: {reason}: at most {most} texts in one from now on")

    def _request(self, texts: list[str], role: Role = "document", attempts: int = ATTEMPTS) -> np.ndarray:
        content = self.interface.write_request(self.model, texts, role, self.dimensions, self.role_fields)
        return self.endpoint.post(content, lambda body: self._parse(body, len(texts)), attempts, divisible=len(texts) > 1)

    def _parse(self, body: bytes, count: int) -> np.ndarray:
        """Reads the vectors [count, D] float32 from an answer and refuses those of another width."""
        vectors = read_vectors(body, count, self.interface)
        address, width = self.endpoint.address, vectors.shape[1]
        if self.dimensions not in (None, width):
            reason = f"answers with {width} numbers a text, {self.dimensions} were asked for"
            raise BadInput(f"{address}: {reason}: it cannot shorten its vectors to that: leave --dimensions out or give another number")
        if self._width not in (None, width):
            raise BadInput(f"{address}: answers with {width} numbers a text, {self._width} before: not the same model")
        return vectors


def read_served_model(endpoint: Endpoint) -> str:
    """Reads the name of the only model of a server from its /info, with its revision where that is told."""

    def parse(body: bytes) -> str:
        try:
            info: Any = json.loads(body)
            model, revision = info["model_id"], info.get("model_sha")
        except UNREADABLE as error:
            raise TryAgain(f"no name of a model at /info: {type(error).__name__}") from None
        if not isinstance(model, str) or not model:
            raise TryAgain(f"no name of a model at /info: {model!r}")
        return endpoint.clean(f"{model}@{revision}" if revision else model)

    try:
        return endpoint.get("info", parse, FIRST_ATTEMPTS)
    except Refused as refusal:
        reason = f"HTTP {refusal.status}: does not tell which model it serves"
        raise BadInput(f"{endpoint.address}/info: {reason}: give its name as --model") from None
