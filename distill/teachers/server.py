"""OpenAI-compatible servers: asked until they answer, and one of embeddings as a teacher: texts go out, vectors come back."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.records import BadInput

T = TypeVar("T")
R = TypeVar("R")

KEY = "OPENAI_API_KEY"  # the environment variable that every client of such servers reads; the key is kept nowhere else
TEXTS_PER_REQUEST = 32  # what every such server takes
CONNECTIONS = 4
ATTEMPTS = 8
FIRST_ATTEMPTS = 3  # of the first request: an address that is wrong is told within seconds
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; doubled from try to try
LONGEST_PAUSE = 600.0  # seconds; a server that wants more is asked again another time
TIMEOUT = 60.0
MEND_THE_KEY = (401, 403)
COMES_BACK = (408, 409, 425, 429)  # and everything from 500 up


def is_address(teacher: str) -> bool:
    return teacher.startswith(("http://", "https://"))


class Endpoint:
    """One path of a server, asked by several threads at a time.

    Failed, throttled and broken answers are asked for again, with waits that double, or as long as the server says in Retry-After.

    Args:
        address: of the server, e.g. http://localhost:8080/v1.
        path: below it, e.g. embeddings.
        requests_per_minute: at most so many, failed ones included; None is no limit.
        timeout: seconds without a word from the server.
    """

    def __init__(self, address: str, path: str, requests_per_minute: int | None = None, timeout: float = TIMEOUT):
        parts = urlsplit(address)
        if parts.username or parts.password or parts.query:
            raise BadInput(f"{path}: an address holds no key or password: put the key into the environment as {KEY}")
        if requests_per_minute is not None and requests_per_minute < 1:
            raise BadInput(f"requests_per_minute: {requests_per_minute}: must be at least 1")
        self.address, self.path = address.rstrip("/").removesuffix(f"/{path}"), path
        self.timeout = timeout
        self._pace = Pace(requests_per_minute)
        self._stopped = threading.Event()
        self._key = _key()

    def each(self, ask: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`ask` of every item, in their order; several at once, until one fails."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            answers = [pool.submit(ask, item) for item in items]
            try:
                for answer in answers:
                    yield answer.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def ask(self, asked: dict[str, Any], parsed: Callable[[bytes], R], attempts: int = ATTEMPTS) -> R:
        """What `parsed` makes of the answer's body; it raises TryAgain for one that is not what was asked for."""
        why = ""
        for attempt in range(attempts):
            self._pace.wait(self._stopped)
            if self._stopped.is_set():
                break
            try:
                return parsed(self._posted(asked))
            except TryAgain as error:
                why = str(error)
                if error.after is not None:
                    self._pace.hold(error.after)  # everyone's: the server is tired of us, not of this request
                else:
                    self._stopped.wait(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1))
        raise BadInput(f"{self.address}: gave up after {attempts} tries ({why}): the same command goes on when it answers again")

    def _posted(self, asked: dict[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(f"{self.address}/{self.path}", json.dumps(asked).encode(), headers)
        try:
            with _opener().open(request, timeout=self.timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:  # no connection, or it broke in the middle
            raise TryAgain(str(error) or type(error).__name__) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        if error.code in MEND_THE_KEY:  # what such an answer says may repeat the key
            return BadInput(f"{self.address}: HTTP {error.code}: the server wants a valid key in the environment variable {KEY}")
        try:
            said = " ".join(error.read().decode(errors="replace").split())[:300]
        except (OSError, http.client.HTTPException):
            said = ""
        said = f"HTTP {error.code} {said.replace(self._key, '***') if self._key else said}".strip()
        if error.code not in COMES_BACK and error.code < 500:
            return BadInput(f"{self.address}: {said}: check the address, --model and the texts")
        after = seconds_from_header(error.headers.get("Retry-After"))
        if after is not None and after > LONGEST_PAUSE:
            return BadInput(f"{self.address}: wants to be left alone for {after:.0f} s ({said}): run the same command after that")
        return TryAgain(said, after)


class ServerTeacher:
    """Texts to vectors [N, D] by asking a server, in order and each once.

    Args:
        address: of the server, e.g. http://localhost:8080/v1.
        model: what the server calls it.
        prompts: put before every text of that role.
        requests_per_minute: at most so many, failed ones included; None is no limit.
        width: dimensions of the vectors; None asks the server with one word.
    """

    def __init__(
        self,
        address: str,
        model: str,
        prompts: dict[str, str] | None = None,
        requests_per_minute: int | None = None,
        width: int | None = None,
    ):
        self._server = Endpoint(address, "embeddings", requests_per_minute)
        self.address = self._server.address
        self.model, self.prompts = model, prompts or {}
        self.name = f"{model} at {self.address}"
        self._width = width

    @property
    def where(self) -> str:
        return f"by {self.name}"

    @property
    def width(self) -> int:
        if self._width is None:
            self._width = self._requested(["width"], FIRST_ATTEMPTS).shape[1]
        return self._width

    def fingerprint(self) -> str:
        """Of the model's name and the prompts: its weights are nobody's to see, and the same server may move."""
        return fingerprint("endpoint", self.model, self.prompts)

    def cut(self, texts: Sequence[str], role: Role) -> Sequence[str]:
        return texts  # the server does it

    def vectors(self, texts: Sequence[str], role: Role, progress: Callable[[int], object] = lambda done: None) -> np.ndarray:
        """Vectors [N, D] float32 of `texts`, in their order."""
        # many servers refuse an empty text, which a corpus may have
        prompted = [self.prompts.get(role, "") + text or " " for text in texts]
        batches = [prompted[start : start + TEXTS_PER_REQUEST] for start in range(0, len(prompted), TEXTS_PER_REQUEST)]
        found = [np.empty((0, self.width), np.float32)]
        for answer in self._server.each(self._requested, batches):
            found.append(answer)
            progress(len(answer))
        return np.concatenate(found)

    def _requested(self, texts: list[str], attempts: int = ATTEMPTS) -> np.ndarray:
        asked = {"model": self.model, "input": texts, "encoding_format": "float"}
        return self._server.ask(asked, lambda body: self._parsed(body, len(texts)), attempts)

    def _parsed(self, body: bytes, count: int) -> np.ndarray:
        """[count, D] float32, by the index that each vector bears."""
        try:
            by_index = {item["index"]: item["embedding"] for item in json.loads(body)["data"]}
            found = np.array([by_index[index] for index in range(count)], np.float32)
        except (ValueError, TypeError, LookupError) as error:
            raise TryAgain(f"an answer that is not {count} vectors: {type(error).__name__}") from None
        if found.ndim != 2 or not np.isfinite(found).all():
            raise TryAgain(f"an answer that is not {count} vectors")
        if self._width not in (None, found.shape[1]):
            raise BadInput(f"{self.address}: answers with {found.shape[1]} numbers a text, {self._width} before: not the same model")
        return found


class Pace:
    """When the next request may go, over all threads."""

    def __init__(self, requests_per_minute: int | None):
        self.interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stopped: threading.Event) -> None:
        """Returns when it is this caller's turn, or at once when `stopped`."""
        while not stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + self.interval
                    return
                left = self._next - now
            stopped.wait(left)

    def hold(self, pause: float) -> None:
        """Nobody's turn for that many seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + pause)


class TryAgain(Exception):
    """An answer to ask for again; `after` so many seconds, where the server says so."""

    def __init__(self, why: str, after: float | None = None):
        super().__init__(why)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise BadInput(f"{KEY}: the environment variable holds more than a key: no spaces, line ends or quotes")
    return key


def seconds_from_header(retry_after: str | None) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
