"""Files of texts, TSV or JSON lines, plain or gzipped: where each id and each text lies in them."""

from __future__ import annotations

import gzip
import json
import mmap
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.locks import wait_for_lock
from distill.records import BadInput
from distill.texts.ids import as_bytes

TAB, NEWLINE, RETURN = b"\t\n\r"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TSV_ENDINGS = (".tsv", ".txt")
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")
LONGEST_ID_BYTES = 512  # ids share one width: a stray tab far into a line must not make all of them that wide

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids [n] S, starts [n] int64, ends [n] int64 of texts (TSV) or lines (JSON)


@dataclass(frozen=True)
class TextFile:
    """One file of texts, mapped into memory on first use; it travels to other processes as its path alone."""

    path: Path  # as the user named it; errors say this one
    plain_path: Path  # the same bytes without compression
    join_title: bool

    @classmethod
    def open(cls, path: str | Path, join_title: bool = False) -> TextFile:
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        if _ending(path) not in TSV_ENDINGS + JSON_ENDINGS:
            raise BadInput(f"{path}: the ending says neither TSV nor JSON lines: name it .tsv or .jsonl (.gz may follow)")
        plain_path = unpack_gzip(path) if path.suffix == ".gz" else path
        file = cls(path, plain_path, join_title and _ending(path) in JSON_ENDINGS)
        if not plain_path.stat().st_size:
            raise BadInput(f"{path}: the file is empty: expected {file.expected}")
        return file

    @property
    def holds_json(self) -> bool:
        return _ending(self.path) in JSON_ENDINGS

    @property
    def stem(self) -> str:
        return self.path.name.removesuffix(".gz").removesuffix(_ending(self.path))

    @property
    def expected(self) -> str:
        """What its lines should be, for messages."""
        return '{"_id": ..., "text": ...} on every line' if self.holds_json else "id<TAB>text on every line"

    @cached_property
    def bytes(self) -> mmap.mmap:
        with open(self.plain_path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def release(self) -> None:
        """What was read is no longer part of this process's memory; it stays in the system's cache of files."""
        self.bytes.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(file_fingerprint(self.plain_path), self.holds_json, self.join_title)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "bytes"}  # a map cannot travel

    def title_and_text(self, start: int, end: int) -> tuple[str, str]:
        words = self.bytes[start:end].decode(errors="replace")
        if not self.holds_json:
            return "", words
        record = json.loads(words)
        title = record.get("title")
        return _printable(title) if isinstance(title, str) else "", _printable(record["text"])

    def embedded(self, start: int, end: int) -> str:
        title, text = self.title_and_text(start, end)
        return f"{title} {text}" if self.join_title and title else text

    def scan(self, chunk_bytes: int = 1 << 24) -> Iterator[Rows]:
        """Ids and offsets, chunk by chunk; every chunk ends with a line."""
        rows_of = _json_rows if self.holds_json else _tsv_rows
        start = len(BYTE_ORDER_MARK) if self.bytes[:3] == BYTE_ORDER_MARK else 0
        while start < len(self.bytes):
            end = self.bytes.find(b"\n", start + chunk_bytes) + 1 or len(self.bytes)
            yield rows_of(self, start, end)
            self.release()
            start = end

    def line_number(self, offset: int) -> int:
        """1-based; counted when an error needs it, so that nothing is stored for the others."""
        return 1 + sum(
            int(np.count_nonzero(self.chunk(start, min(start + (1 << 24), offset)) == NEWLINE)) for start in range(0, offset, 1 << 24)
        )

    def chunk(self, start: int, end: int) -> np.ndarray:
        return np.frombuffer(self.bytes, np.uint8, end - start, start)

    def error(self, offset: int, what: str) -> BadInput:
        return BadInput(f"{self.path}: line {self.line_number(offset)} {what}")


def find_text_file(path: Path) -> Path:
    """The file of that name, or its gzipped form."""
    for found in (path, path.with_name(f"{path.name}.gz")):
        if found.is_file():
            return found
    raise BadInput(f"{path}: no such file")


def unpack_gzip(path: Path) -> Path:
    """The plain bytes of a gzipped file, decompressed once into the cache."""
    status = path.stat()
    with open(path, "rb") as file:
        file.seek(max(0, status.st_size - 8))
        trailer = file.read().hex()  # gzip's own checksum and size of the plain bytes: times are kept when files are restored
    key = fingerprint(str(path.resolve()), status.st_size, status.st_mtime_ns, trailer)
    plain_path = cache_folder() / "unpacked" / f"{key}-{path.stem}"
    with wait_for_lock(plain_path):
        if plain_path.exists():
            return plain_path
        try:
            with write_atomically(plain_path) as temporary, gzip.open(path) as packed, open(temporary, "wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInput(f"{path}: not a whole gzip file ({error}): fetch it again") from None
    return plain_path


def _tsv_rows(file: TextFile, start: int, end: int) -> Rows:
    chunk = file.chunk(start, end)
    line_starts, line_ends = line_spans(chunk)
    tabs = np.append(np.flatnonzero(chunk == TAB), len(chunk))
    first_tabs = tabs[np.searchsorted(tabs, line_starts)]
    has_tab = first_tabs < line_ends
    for line in np.flatnonzero(~has_tab):
        if chunk[line_starts[line] : line_ends[line]].tobytes().strip():
            raise file.error(start + line_starts[line], "has no tab: expected id<TAB>text")
    line_starts, line_ends, first_tabs = line_starts[has_tab], line_ends[has_tab], first_tabs[has_tab]
    id_lengths = first_tabs - line_starts
    for line in np.flatnonzero((id_lengths == 0) | (id_lengths > LONGEST_ID_BYTES)):
        raise file.error(start + line_starts[line], _bad_id(int(id_lengths[line])))
    return cut_out(chunk, line_starts, id_lengths), start + first_tabs + 1, start + line_ends


def line_spans(chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First byte and end of every line; the newline, and a carriage return before it, are left out."""
    ends = np.flatnonzero(chunk == NEWLINE)
    if chunk[-1] != NEWLINE:
        ends = np.append(ends, len(chunk))
    starts = np.concatenate([[0], ends[:-1] + 1])
    return starts, ends - ((ends > starts) & (chunk[ends - 1] == RETURN))


def cut_out(chunk: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[n] fixed-width byte strings that begin at `starts`, filled column by column."""
    columns = np.zeros((len(starts), max(1, lengths.max(initial=0))), np.uint8)
    for column in range(columns.shape[1]):
        there = np.flatnonzero(lengths > column)
        columns[there, column] = chunk[starts[there] + column]
    return columns.view(f"S{columns.shape[1]}").ravel()


def _json_rows(file: TextFile, start: int, end: int) -> Rows:
    ids, starts, ends = [], [], []
    for line in file.bytes[start:end].split(b"\n"):
        if line.strip():
            ids.append(_json_id(file, start, line))
            starts.append(start)
            ends.append(start + len(line))
        start += len(line) + 1
    return as_bytes(ids), np.array(starts, np.int64), np.array(ends, np.int64)


def _json_id(file: TextFile, start: int, line: bytes) -> str:
    try:
        record = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets thousands deep
        said = getattr(error, "msg", type(error).__name__)
        raise file.error(start, f"is not valid JSON ({said}): expected {file.expected}") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise file.error(start, f"has no text: expected {file.expected}")
    id_ = record.get("_id", record.get("id"))
    if not isinstance(id_, str | int) or isinstance(id_, bool):
        raise file.error(start, f"has no id: expected {file.expected}")
    length = len(str(id_).encode(errors="replace"))
    if not 0 < length <= LONGEST_ID_BYTES:
        raise file.error(start, _bad_id(length))
    return str(id_)


def _bad_id(length: int) -> str:
    return f"has an id of {length} bytes: at most {LONGEST_ID_BYTES} are allowed" if length else "has an empty id: give it one"


def _printable(text: str) -> str:
    """JSON may escape half a surrogate pair, which no tokenizer takes."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _ending(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
