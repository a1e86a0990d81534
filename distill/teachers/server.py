"""A server with OpenAI's embeddings interface as a teacher: texts go out, vectors come back."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.embedder import Progress
from distill.teachers.endpoint import ATTEMPTS, Endpoint, TryAgain
from distill.vectors.store_plan import WIDEST

TEXTS_PER_REQUEST = 32  # every such server accepts as many
# of JSON that is no answer: other values, integers above float32, brackets nested thousands deep
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
FIRST_ATTEMPTS = 3  # of the first request, so that a wrong address is reported within seconds


class ServerTeacher:
    """A server that turns texts into vectors; each text is sent once, however often its request is repeated.

    Args:
        address: address of the server, e.g. http://localhost:8080/v1.
        model: the server's name for the model.
        prompts: text put before every query and document.
        requests_per_minute: most requests in a minute, including repeated ones; None is no limit.
        width: numbers in a vector; None measures it by encoding one word.
    """

    def __init__(
        self,
        address: str,
        model: str,
        prompts: dict[str, str] | None = None,
        requests_per_minute: int | None = None,
        width: int | None = None,
    ):
        self.endpoint = Endpoint(address, "embeddings", requests_per_minute)
        self.model, self.prompts = model, prompts or {}
        # a server's weights cannot be read and its address may change: the fingerprint is that of the model's name and the prompts
        self.maker = Maker(
            f"{model} at {self.endpoint.address}", fingerprint("endpoint", model, self.prompts), origin="server", prompts=prompts
        )
        self._width = width

    @property
    def width(self) -> int:
        if self._width is None:
            self._width = self._request(["width"], FIRST_ATTEMPTS).shape[1]
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
        batches = [list(prepared[start : start + TEXTS_PER_REQUEST]) for start in range(0, len(prepared), TEXTS_PER_REQUEST)]
        vectors = [np.empty((0, self.width), np.float32)]
        for part in self.endpoint.map(self._request, batches):
            vectors.append(part)
            progress(len(part))
        return np.concatenate(vectors)

    def _request(self, texts: list[str], attempts: int = ATTEMPTS) -> np.ndarray:
        content = {"model": self.model, "input": texts, "encoding_format": "float"}
        return self.endpoint.post(content, lambda body: self._parse(body, len(texts)), attempts)

    def _parse(self, body: bytes, count: int) -> np.ndarray:
        """Reads the vectors [count, D] float32 from an answer and sorts them by their index."""
        vectors = read_embeddings(body, count)
        if self._width not in (None, vectors.shape[1]):
            address, width = self.endpoint.address, vectors.shape[1]
            raise BadInput(f"{address}: answers with {width} numbers a text, {self._width} before: not the same model")
        return vectors


def read_embeddings(body: bytes, count: int) -> np.ndarray:
    """Reads the vectors [count, D] float32 from the JSON of an answer, in the order of their indexes.

    Raises:
        TryAgain: it is not JSON, or not exactly `count` vectors of one width, of numbers that float32 holds.

    >>> read_embeddings(b'{"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]}', 2).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    try:
        answer = json.loads(body)
        if isinstance(answer, dict) and "data" not in answer and "error" in answer:
            raise TryAgain(f"an answer that is not {count} vectors: {answer['error']}")
        items = answer["data"]
        by_index = {item["index"]: item["embedding"] for item in items}
        with np.errstate(over="ignore"):
            vectors = np.array([by_index[index] for index in range(count)], np.float32)
    except UNREADABLE as error:
        raise TryAgain(f"an answer that is not {count} vectors: {type(error).__name__}") from None
    if len(items) != count:
        raise TryAgain(f"an answer of {len(items)} vectors to {count} texts")
    if vectors.ndim != 2 or not 0 < vectors.shape[1] <= WIDEST or not np.isfinite(vectors).all():
        raise TryAgain(f"an answer that is not {count} vectors of finite numbers: shape {vectors.shape}")
    return vectors
