"""`HttpClient`: requests to a server that may be slow, broken or hostile; an answer is whole, of limited size and in time, or an error."""

from __future__ import annotations

import html
import re
import ssl
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import certifi
import httpx

from distill.files.progress import log
from distill.records import BadInput, one_line

MOST_BYTES = 32 << 20  # of an answer: 32 vectors of 16,384 numbers are 13 MB of JSON
MOST_ERROR_BYTES = 1 << 16  # of the body of a failure, of which a line is quoted
SECONDS_BETWEEN_LOOKS = 0.1  # at whether an answer is still waited for
KNOWN_ENCODINGS = ("", "identity", "gzip", "deflate")  # others unpack a few bytes to gigabytes at once
THIS_MACHINE = ("localhost", "127.", "::1")
EXAMPLE = "expected one as http://localhost:8080/v1"


@dataclass(frozen=True)
class Answer:
    """An answer of a server; the body of one that is no success may be cut."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class NoAnswer(Exception):
    """No whole answer came: no connection, too slow, too large, or it broke off."""


class TooSlow(NoAnswer):
    """The server was still at work when the time was over."""


class HttpClient:
    """Sends requests to a server from several threads, with a key that no message repeats.

    Redirects are not followed, as they would carry the key to another server. Each request runs in a thread of its own, which nothing
    waits for when the time is over, or after Ctrl-C: a thread that reads from a socket cannot be interrupted.

    Args:
        address: the server, for messages.
        key: sent with every request; "" for none.
        timeout: most seconds without a byte from the server; a whole answer may take twice as long.
    """

    def __init__(self, address: str, key: str, timeout: float):
        self._key = key_pattern(key) if key else None
        self._longest = 2 * timeout
        self._client = _open_client(address, key, timeout)

    def send(self, url: str, content: bytes | None, stopped: threading.Event) -> Answer:
        """Sends a request and waits for the whole answer.

        Args:
            url: where to.
            content: JSON to post; None gets what is there.
            stopped: ends the wait when it is set.

        Raises:
            NoAnswer: there is none; the request may be repeated.
            TooSlow: the server took too long; a smaller request may be answered.
            BadInput: the address is none.
        """
        outcome: Future[Answer] = Future()
        given_up = threading.Event()

        def exchange() -> None:
            try:
                outcome.set_result(self._exchange(url, content, given_up))
            except BaseException as error:  # whatever it is, who waits shall have it
                outcome.set_exception(error)

        threading.Thread(target=exchange, daemon=True).start()
        try:
            self._wait(outcome, stopped)
        finally:
            given_up.set()
        return outcome.result()

    def _wait(self, outcome: Future[Answer], stopped: threading.Event) -> None:
        deadline = time.monotonic() + self._longest
        while not wait([outcome], SECONDS_BETWEEN_LOOKS).done:
            if stopped.is_set():
                raise NoAnswer("another request failed")
            if time.monotonic() > deadline:
                raise TooSlow(f"no whole answer within {self._longest:g} s")

    def _exchange(self, url: str, content: bytes | None, given_up: threading.Event) -> Answer:
        try:
            with self._client.stream("GET" if content is None else "POST", url, content=content) as response:
                most = MOST_BYTES if response.is_success else MOST_ERROR_BYTES
                return Answer(response.status_code, response.headers, self._read(response, most, given_up))
        except httpx.ReadTimeout:
            raise TooSlow(f"no byte within {self._longest / 2:g} s") from None
        except httpx.RequestError as error:  # no connection, or it broke in the middle
            raise NoAnswer(str(error) or type(error).__name__) from None
        except (httpx.InvalidURL, ValueError) as error:  # a host name that is none, seen only when it is looked up
            raise BadInput(f"{url}: not the address of a server ({one_line(error)}): {EXAMPLE}") from None

    def _read(self, response: httpx.Response, most: int, given_up: threading.Event) -> bytes:
        """Reads the body piece by piece; refuses a success of more than `most` bytes, cuts anything else there."""
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in KNOWN_ENCODINGS:
            raise NoAnswer(f"an answer packed as {encoding}, which was not asked for")
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if given_up.is_set():
                raise NoAnswer("given up")
            if len(body) > most and response.is_success:
                raise NoAnswer(f"an answer of more than {most >> 20} MiB")
            if len(body) > most:
                break
        return bytes(body)

    def clean(self, text: object, most: int) -> str:
        """The first `most` characters of what a server says, in one line, without the key and what would steer a terminal."""
        # the key is replaced before the line is cut: a cut could leave a part of the key
        line = self._key.sub("***", str(text)) if self._key else str(text)
        return one_line("".join(letter if letter.isprintable() else " " for letter in line), most)


def key_pattern(key: str) -> re.Pattern[str]:
    """A pattern of all ways in which a message may spell a key: as it is, or escaped for JSON, for addresses or for HTML.

    >>> key_pattern("a/b").sub("***", r"a/b a%2Fb a\\/b \\u0061/b")
    '*** *** *** ***'
    """
    letters = (f"(?:{re.escape(letter)}|%{ord(letter):02x}|u{ord(letter):04x}|&#x?0*{ord(letter)};|{_entity(letter)})" for letter in key)
    return re.compile(r"\\*".join(["", *letters]), re.IGNORECASE)


def _entity(letter: str) -> str:
    return re.escape(html.escape(letter))


def check_address(address: str, path: str) -> None:
    """Refuses an address that is none, or that holds a key; the message does not repeat what may be one."""
    shown = repr(address.rpartition("@")[2].partition("?")[0].partition("#")[0])
    try:
        parts = urlsplit(address)
        url = httpx.URL(address)
        port = parts.port
    except (httpx.InvalidURL, ValueError):
        raise BadInput(f"{shown}: not the address of a server: {EXAMPLE}") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(f"{path}: an address holds no key or password: put the key into the environment as OPENAI_API_KEY")
    is_address = address.startswith(("http://", "https://")) and bool(url.host) and port != 0
    if not is_address or not all(letter.isprintable() and letter != " " for letter in address):
        raise BadInput(f"{shown.strip(repr(''))}: not the address of a server: {EXAMPLE}")


def warn_of_open_key(address: str, key: str) -> None:
    """Warns where a key would go unencrypted to another machine."""
    host = urlsplit(address).hostname or ""
    if key and address.startswith("http://") and not host.startswith(THIS_MACHINE):
        log.warning(f"{address}: the key goes to {host} unencrypted, for everybody on the way to read: use https")


def _open_client(address: str, key: str, timeout: float) -> httpx.Client:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)  # as many as there are threads that ask
    try:
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, verify=_read_certificates(), limits=limits)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # the environment names a proxy that httpx cannot use
        raise BadInput(f"{address}: {one_line(error, 1000)}") from None


@cache
def _read_certificates() -> ssl.SSLContext:
    certificates = ssl.create_default_context()  # the system's certificates may include that of a company's own server
    certificates.load_verify_locations(certifi.where())
    return certificates
