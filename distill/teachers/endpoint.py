"""Requests to one path of a server, from several threads; a failed request is repeated."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from distill.files.launch import read_launch
from distill.records import BadInput
from distill.teachers.http_client import Answer, HttpClient, NoAnswer, TooSlow, check_address, warn_of_open_key

T = TypeVar("T")
R = TypeVar("R")

KEY = "OPENAI_API_KEY"  # the environment variable that every client of such servers reads; the key is stored nowhere else
CONNECTIONS = 4  # requests sent in parallel
ATTEMPTS = 8
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second attempt; they double from attempt to attempt, up to the longest
LONGEST_PAUSE = 600.0  # seconds; a server that asks for a longer pause ends the command, which can be run again later
TIMEOUT = 60.0  # seconds
INVALID_KEY = (401, 403)
SLOW = 408  # HTTP's "request timeout", said of a server that had no time to say it
WORTH_REPEATING = (408, 409, 425, 429)  # and everything from 500 up
QUOTED_CHARACTERS = 300  # of a server's own message


def is_address(teacher: object) -> bool:
    """Tells whether a teacher is given as the address of a server."""
    return isinstance(teacher, str) and teacher.startswith(("http://", "https://"))


class Endpoint:
    """One path of a server, to which several threads may post in parallel.

    A request that failed, was throttled or got a broken answer is sent again, after a wait that doubles each time. A server can ask
    for a longer wait by Retry-After: then all threads wait. The key is read from OPENAI_API_KEY. It is sent to this server only, as
    redirects are not followed, and no message contains it.

    Args:
        address: address of the server, e.g. http://localhost:8080/v1.
        path: path below the address, e.g. embeddings.
        requests_per_minute: most requests in a minute, including repeated ones; None is no limit.
        timeout: most seconds without a byte from the server; a whole answer may take twice as long.
        concurrent: requests that `map` sends in parallel; None is CONNECTIONS.

    Raises:
        BadInput: an address that holds a key or no host, a key with spaces, or fewer requests than one, in a minute or in parallel.
    """

    def __init__(
        self,
        address: str,
        path: str,
        requests_per_minute: int | None = None,
        timeout: float = TIMEOUT,
        concurrent: int | None = None,
    ):
        check_address(address, path)
        for name, number in (("requests_per_minute", requests_per_minute), ("concurrent", concurrent)):
            if number is not None and number < 1:
                raise BadInput(f"{name}: {number}: must be at least 1")
        self._concurrent = CONNECTIONS if concurrent is None else concurrent
        self.address = address.rstrip("/").removesuffix(f"/{path}")
        self._url = f"{self.address}/{path}"
        self._pace = Pace(requests_per_minute)
        self._stopped = threading.Event()
        key = _read_key()
        warn_of_open_key(self.address, key)
        self._client = HttpClient(self.address, key, timeout)

    def map(self, request: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yields `request(item)` for every item, in order, several in parallel; the first error stops them all."""
        self._stopped.clear()
        errors: list[Exception] = []

        def request_or_stop(item: T) -> R:
            try:
                return request(item)
            except Exception as error:
                errors.append(error)
                self._stopped.set()
                raise

        with ThreadPoolExecutor(self._concurrent) as pool:
            answers = [pool.submit(request_or_stop, item) for item in items]
            try:
                for answer in answers:
                    yield answer.result()
            except BaseException as error:  # Ctrl-C too
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise (errors[0] if errors and isinstance(error, Exception) else error) from None

    def post(self, content: dict[str, Any], parse: Callable[[bytes], R], attempts: int = ATTEMPTS, divisible: bool = False) -> R:
        """Sends `content` as JSON and returns the answer, parsed by `parse`.

        Args:
            content: the request.
            parse: converts the body of the answer; raises TryAgain for a body that does not answer the request.
            attempts: most times that the request is sent.
            divisible: the caller can send the request in parts: one that takes too long is not repeated.

        Raises:
            Refused: the server refuses the request for good, or, with status SLOW, a divisible one took too long.
            BadInput: it wants another key, redirects, or no attempt brought an answer.
        """
        body = json.dumps(content).encode()  # in ASCII: half a surrogate pair, which a text may have, is sent as an escape
        return self._repeat(self._url, body, parse, attempts, divisible)

    def get(self, path: str, parse: Callable[[bytes], R], attempts: int = ATTEMPTS) -> R:
        """Reads what is at another path below the address; everything else is as in `post`."""
        return self._repeat(f"{self.address}/{path}", None, parse, attempts)

    def clean(self, text: object) -> str:
        """Returns the beginning of what the server says, in one line, without the key."""
        return self._client.clean(text, QUOTED_CHARACTERS)

    def _repeat(self, url: str, body: bytes | None, parse: Callable[[bytes], R], attempts: int, divisible: bool = False) -> R:
        """Sends a request until there is an answer that can be parsed."""
        retrying = Retrying(
            retry=retry_if_exception_type(TryAgain),
            wait=self._wait,
            stop=stop_after_attempt(attempts) | stop_when_event_set(self._stopped),
            sleep=sleep_using_event(self._stopped),
            retry_error_callback=self._give_up,
        )
        return retrying(lambda: parse(self._send(url, body, divisible)))

    def _wait(self, attempt: RetryCallState) -> float:
        """Returns the seconds until this thread's next attempt."""
        error = attempt.outcome and attempt.outcome.exception()
        if isinstance(error, TryAgain) and error.after:
            self._pace.pause(error.after)  # every thread pauses: a busy server is busy for all requests
            return 0.0
        return wait_exponential_jitter(initial=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)(attempt)

    def _give_up(self, attempt: RetryCallState) -> NoReturn:
        reason = self.clean(attempt.outcome and attempt.outcome.exception())
        tries = f"gave up after {attempt.attempt_number} tries ({reason})"
        raise BadInput(f"{self.address}: {tries}: the same command goes on when it answers again")

    def _send(self, url: str, body: bytes | None, divisible: bool) -> bytes:
        """Sends one request when it is this thread's turn, and returns the body of the answer."""
        self._pace.wait_for_turn(self._stopped)
        if self._stopped.is_set():
            raise TryAgain("another request failed")
        try:
            answer = self._client.send(url, body, self._stopped)
        except NoAnswer as error:
            if divisible and isinstance(error, TooSlow):
                raise Refused(SLOW, f"{self.address}: {error}") from None
            raise TryAgain(str(error)) from None
        if not answer.is_success:
            raise self._make_error(answer)
        return answer.body

    def _make_error(self, answer: Answer) -> Exception:
        """Returns the error to raise for a failed request: TryAgain, or BadInput where another attempt is useless."""
        status = answer.status
        if status in INVALID_KEY:  # the body may repeat the key
            return BadInput(f"{self.address}: HTTP {status}: the server wants a valid key in the environment variable {KEY}")
        if "Location" in answer.headers and 300 <= status < 400:
            place = self.clean(answer.headers["Location"])
            return BadInput(f"{self.address}: HTTP {status}: redirects to {place}: give that address, if you trust it with the key")
        message = f"HTTP {status} {self.clean(answer.body.decode(errors='replace'))}".strip()
        if status not in WORTH_REPEATING and status < 500:
            return Refused(status, f"{self.address}: {message}: check the address, --model and the texts")
        after = seconds_from_header(answer.headers.get("Retry-After"))
        if after is not None and after > LONGEST_PAUSE:
            return BadInput(f"{self.address}: wants to be left alone for {after:.0f} s ({message}): run the same command after that")
        return TryAgain(message, after)


class TryAgain(Exception):
    """The request is worth another attempt; `after` is the wait in seconds that the server asks for, if it does."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class Refused(BadInput):
    """The server refuses a request for good; `status` is the HTTP status that it answers with."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Pace:
    """Decides when the next request may be sent, over all threads; each of several ranks has its share of the requests.

    Args:
        requests_per_minute: most requests in a minute; None is no limit.
    """

    def __init__(self, requests_per_minute: int | None):
        self.interval = 60 * read_launch().world_size / requests_per_minute if requests_per_minute else 0.0  # seconds
        self._next = 0.0
        self._lock = threading.Lock()

    def wait_for_turn(self, stopped: threading.Event) -> None:
        """Returns when the calling thread may send its request, or at once when `stopped` is set."""
        while not stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + self.interval
                    return
                seconds = self._next - now
            stopped.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Stops all threads from sending for so many seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def seconds_from_header(retry_after: str | None) -> float | None:
    """Returns the wait in seconds from a Retry-After header, which holds seconds or a date; None where it holds neither.

    >>> seconds_from_header("7"), seconds_from_header("soon")
    (7.0, None)
    """
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


def _read_key() -> str:
    """Reads the key from the environment; "" where there is none."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise BadInput(f"{KEY}: the environment variable holds more than a key: no spaces, line ends or quotes")
    return key
