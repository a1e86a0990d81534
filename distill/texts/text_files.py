"""Files of texts, TSV or JSON lines, plain or gzipped: where each id and each text lies in them."""

from __future__ import annotations

import gzip
import json
import mmap
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.locks import wait_for_lock
from distill.records import BadInput
from distill.texts.ids import LONGEST_ID_BYTES, as_bytes, describe_bad_id

TAB, NEWLINE, RETURN = b"\t\n\r"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TSV_ENDINGS = (".tsv", ".txt")
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")


class TextSpans(NamedTuple):
    """Where n texts of a file lie."""

    ids: np.ndarray  # [n] S, UTF-8 bytes
    starts: np.ndarray  # [n] int64, first byte of the text (TSV) or of the line (JSON)
    ends: np.ndarray  # [n] int64, the byte after its last


@dataclass(frozen=True)
class TextFile:
    """One file of texts, mapped into memory on first use; pickled for another process it holds only the path."""

    path: Path  # as the user named it; errors name this one
    plain_path: Path  # the same bytes without compression
    join_title: bool  # whether a text is its record's title and its text

    @classmethod
    def open(cls, path: str | Path, join_title: bool = False) -> TextFile:
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        if file_ending(path) not in TSV_ENDINGS + JSON_ENDINGS:
            raise BadInput(f"{path}: the ending says neither TSV nor JSON lines: name it .tsv or .jsonl (.gz may follow)")
        plain_path = unpack_gzip(path) if path.suffix == ".gz" else path
        file = cls(path, plain_path, join_title and file_ending(path) in JSON_ENDINGS)
        if not plain_path.stat().st_size:
            raise BadInput(f"{path}: the file is empty: expected {file.expected_lines}")
        return file

    @property
    def is_json(self) -> bool:
        return file_ending(self.path) in JSON_ENDINGS

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return self.path.name.removesuffix(".gz").removesuffix(file_ending(self.path))

    @property
    def expected_lines(self) -> str:
        """What its lines should be, for messages."""
        return '{"_id": ..., "text": ...} on every line' if self.is_json else "id<TAB>text on every line"

    @cached_property
    def bytes(self) -> mmap.mmap:
        with open(self.plain_path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def release(self) -> None:
        """Removes the pages that were read from this process's memory; they stay in the system's cache of files."""
        self.bytes.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(file_fingerprint(self.plain_path), self.is_json, self.join_title)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "bytes"}  # a memory map cannot be pickled

    def read_text(self, start: int, end: int) -> str:
        """The text to embed: the one between two offsets, with its title before it where titles are joined."""
        title, text = self._title_and_text(start, end)
        return f"{title} {text}" if self.join_title and title else text

    def read_title(self, start: int, end: int) -> str:
        """The title of the text between two offsets, "" where it has none."""
        return self._title_and_text(start, end)[0]

    def _title_and_text(self, start: int, end: int) -> tuple[str, str]:
        line = self.bytes[start:end].decode(errors="replace")
        if not self.is_json:
            return "", line
        record = json.loads(line)
        title = record.get("title")
        return replace_surrogates(title) if isinstance(title, str) else "", replace_surrogates(record["text"])

    def scan(self, chunk_bytes: int = 1 << 24) -> Iterator[TextSpans]:
        """Finds the ids and offsets of all texts, chunk by chunk; every chunk ends with a line."""
        find_spans = _find_json_spans if self.is_json else _find_tsv_spans
        start = len(BYTE_ORDER_MARK) if self.bytes[:3] == BYTE_ORDER_MARK else 0
        while start < len(self.bytes):
            end = self.bytes.find(b"\n", start + chunk_bytes) + 1 or len(self.bytes)
            yield find_spans(self, start, end)
            self.release()
            start = end

    def chunk(self, start: int, end: int) -> np.ndarray:
        """[end - start] uint8: bytes of the file."""
        return np.frombuffer(self.bytes, np.uint8, end - start, start)

    def line_number(self, offset: int) -> int:
        """The 1-based number of the line at `offset`, counted only when a message needs it, so that no line numbers are stored."""
        starts = range(0, offset, 1 << 24)
        chunks = (self.chunk(start, min(start + starts.step, offset)) for start in starts)
        return 1 + sum(int(np.count_nonzero(chunk == NEWLINE)) for chunk in chunks)

    def place(self, start: int) -> str:
        """Where a text comes from, for messages."""
        return f"{self.path} line {self.line_number(start)}"

    def line_error(self, offset: int, fault: str) -> BadInput:
        """The error to raise where the line at `offset` has a fault."""
        return BadInput(f"{self.path}: line {self.line_number(offset)} {fault}")


def find_text_file(path: Path) -> Path:
    """Returns the file of that name, or its gzipped form; BadInput where there is neither."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    raise BadInput(f"{path}: no such file")


def unpack_gzip(path: Path) -> Path:
    """Returns a file of the plain bytes of a gzipped file, which is decompressed once into the cache."""
    status = path.stat()
    with open(path, "rb") as file:
        file.seek(max(0, status.st_size - 8))
        trailer = file.read().hex()  # gzip's checksum and size of the plain bytes: a restored file may have its old times and size
    key = fingerprint(str(path.resolve()), status.st_size, status.st_mtime_ns, trailer)
    plain_path = cache_folder() / "unpacked" / f"{key}-{path.stem}"
    with wait_for_lock(plain_path):
        if plain_path.exists():
            return plain_path
        with refuse_broken_gzip(path), write_atomically(plain_path) as temporary, gzip.open(path) as packed, open(temporary, "wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    return plain_path


def _find_tsv_spans(file: TextFile, start: int, end: int) -> TextSpans:
    chunk = file.chunk(start, end)
    line_starts, line_ends = line_spans(chunk)
    tabs = np.append(np.flatnonzero(chunk == TAB), len(chunk))
    first_tabs = tabs[np.searchsorted(tabs, line_starts)]
    has_tab = first_tabs < line_ends
    for line in np.flatnonzero(~has_tab):
        if chunk[line_starts[line] : line_ends[line]].tobytes().strip():
            raise file.line_error(start + line_starts[line], "has no tab: expected id<TAB>text")
    line_starts, line_ends, first_tabs = line_starts[has_tab], line_ends[has_tab], first_tabs[has_tab]
    id_lengths = first_tabs - line_starts
    bad = np.flatnonzero((id_lengths == 0) | (id_lengths > LONGEST_ID_BYTES))
    if len(bad):
        raise file.line_error(start + line_starts[bad[0]], describe_bad_id(int(id_lengths[bad[0]])))
    return TextSpans(cut_out(chunk, line_starts, id_lengths), start + first_tabs + 1, start + line_ends)


def line_spans(chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first byte of every line [n] and its end [n]; a newline, and a carriage return before it, are left out.

    >>> line_spans(np.frombuffer(b"ab\\r\\ncde", np.uint8))
    (array([0, 4]), array([2, 7]))
    """
    ends = np.flatnonzero(chunk == NEWLINE)
    if chunk[-1] != NEWLINE:
        ends = np.append(ends, len(chunk))
    starts = np.concatenate([[0], ends[:-1] + 1])
    has_return = (ends > starts) & (chunk[ends - 1] == RETURN)
    return starts, ends - has_return


def cut_out(chunk: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Copies n byte strings, which begin at `starts` [n] and are `lengths` [n] long, into one fixed-width array [n].

    >>> cut_out(np.frombuffer(b"ab\\tcde", np.uint8), np.array([0, 3]), np.array([2, 3])).tolist()
    [b'ab', b'cde']
    """
    columns = np.zeros((len(starts), max(1, lengths.max(initial=0))), np.uint8)
    for column in range(columns.shape[1]):
        rows = np.flatnonzero(lengths > column)
        columns[rows, column] = chunk[starts[rows] + column]
    return columns.view(f"S{columns.shape[1]}").ravel()


def _find_json_spans(file: TextFile, start: int, end: int) -> TextSpans:
    ids, starts, ends = [], [], []
    for line in file.bytes[start:end].split(b"\n"):
        if line.strip():
            ids.append(_read_json_id(file, start, line))
            starts.append(start)
            ends.append(start + len(line))
        start += len(line) + 1
    return TextSpans(as_bytes(ids), np.array(starts, np.int64), np.array(ends, np.int64))


def _read_json_id(file: TextFile, start: int, line: bytes) -> str:
    """The id in a line that begins at offset `start`; BadInput where the line is no record of a text."""
    try:
        record = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or brackets nested thousands deep
        reason = getattr(error, "msg", type(error).__name__)
        raise file.line_error(start, f"is not valid JSON ({reason}): expected {file.expected_lines}") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise file.line_error(start, f"has no text: expected {file.expected_lines}")
    id_ = record.get("_id", record.get("id"))
    if not isinstance(id_, str | int) or isinstance(id_, bool):
        raise file.line_error(start, f"has no id: expected {file.expected_lines}")
    length = len(str(id_).encode(errors="replace"))
    if not 0 < length <= LONGEST_ID_BYTES:
        raise file.line_error(start, describe_bad_id(length))
    return str(id_)


def replace_surrogates(text: str) -> str:
    """The text with `?` in place of each half surrogate pair, which JSON may hold but tokenizers refuse.

    >>> replace_surrogates("half \\ud83d pair")
    'half ? pair'
    """
    return text if text.isascii() else text.encode(errors="replace").decode()


def file_ending(path: Path) -> str:
    """The ending of a file's name, `.gz` left out.

    >>> file_ending(Path("queries.tsv.gz"))
    '.tsv'
    """
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


@contextmanager
def refuse_broken_gzip(path: Path) -> Iterator[None]:
    """Turns an error of the block, which unpacks `path`, into a BadInput."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: not a whole gzip file ({error}): fetch it again") from None
