"""Files of texts, TSV or JSON lines, plain or gzipped: where each id and each text lies in them."""

from __future__ import annotations

import gzip
import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.locks import wait_for_lock
from distill.files.text_lines import (
    BYTE_ORDER_MARK,
    HEAD,
    LONGEST_LINE,
    is_utf8,
    limit_unpacked,
    refuse_broken_gzip,
    refuse_other_kinds,
    too_long,
    warn_of_encoding,
)
from distill.records import BadInput
from distill.texts.ids import ID_NAMES, LONGEST_ID_BYTES, as_bytes, describe_bad_id
from distill.texts.line_spans import NEWLINE, TAB, cut_out, line_spans, skip_byte_order_marks

LAST_OF_ASCII = 0x7F
TSV_ENDINGS = (".tsv", ".txt")
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")
# where a second record begins after a carriage return alone
NEXT_RECORD = {True: re.compile(rb"\}[ \t]*\r\s*\{"), False: re.compile(rb"\r[^\r\t]{1,512}\t")}
# what the first line of a TSV file of ids and texts says that names its columns
ID_HEADINGS = {*ID_NAMES, "pid", "did", "docno"}
TEXT_HEADINGS = {"text", "sentence", "query", "question", "contents", "content", "body", "passage", "document", "title", "url"}


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
        """Finds the ids and offsets of all texts, chunk by chunk; every chunk ends with a line.

        Raises:
            BadInput: a line is no record or longer than memory should hold, or the file is of another encoding.
        """
        self._refuse_other_kinds()
        find_spans = _find_json_spans if self.is_json else _find_tsv_spans
        start, not_utf8 = 0, 0
        while start < len(self.bytes):
            end = self._end_of_chunk(start, chunk_bytes)
            yield find_spans(self, start, end)
            not_utf8 += _count_lines_of_no_utf8(self.chunk(start, end))
            self.release()
            start = end
        if not_utf8:
            warn_of_encoding(self.path, not_utf8)

    def _refuse_other_kinds(self) -> None:
        """Refuses another encoding, lines that end in a carriage return alone, and a first line that names the columns."""
        refuse_other_kinds(self.path, self.bytes[:HEAD])
        has_one_line = self.bytes.find(b"\n", 0, LONGEST_LINE) < 0
        if has_one_line and NEXT_RECORD[self.is_json].search(self.bytes[: 1 << 20]):
            raise BadInput(f"{self.path}: its lines end in a carriage return alone, as on old Macs: save it with line feeds")
        cells = self.bytes[:HEAD].removeprefix(BYTE_ORDER_MARK).split(b"\n")[0].decode(errors="replace").strip().lower().split("\t")
        names = [cell.replace("-", "_").rpartition("_")[2] for cell in cells]  # text of query_text, id of corpus-id
        if not self.is_json and len(cells) > 1 and names[0] in ID_HEADINGS and TEXT_HEADINGS.issuperset(names[1:]):
            raise BadInput(f"{self.path}: line 1 is a header, {' and '.join(cells)}: remove it: every line is read as an id and a text")

    def _end_of_chunk(self, start: int, chunk_bytes: int) -> int:
        """The end of the line that is `chunk_bytes` behind `start`; refuses a line that is too long without reading it whole."""
        last_line = max(start, self.bytes.rfind(b"\n", start, start + chunk_bytes) + 1)
        end = self.bytes.find(b"\n", start + chunk_bytes, last_line + LONGEST_LINE + 1) + 1 or len(self.bytes)
        if end - last_line > LONGEST_LINE:
            raise too_long(self.path, self.line_number(last_line))
        return end

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
            unended = 0  # bytes since the last line break
            for part in limit_unpacked(path, iter(lambda: packed.read(1 << 20), b"")):
                unended = len(part) - 1 - part.rfind(b"\n") if b"\n" in part else unended + len(part)
                if unended > LONGEST_LINE:
                    raise BadInput(f"{path}: unpacks to a line longer than {LONGEST_LINE >> 20} MiB: end every record with a line break")
                plain.write(part)
    return plain_path


def _count_lines_of_no_utf8(chunk: np.ndarray) -> int:
    is_other = chunk > LAST_OF_ASCII
    is_other[1:] |= is_other[:-1]  # and the byte behind each, so that characters with ASCII between them stay apart
    is_rare = np.count_nonzero(is_other) < len(chunk) // 8  # to read these bytes alone is then much faster
    if is_utf8(chunk[is_other].tobytes() if is_rare else chunk.tobytes()):
        return 0
    return sum(not is_utf8(line) for line in chunk.tobytes().split(b"\n"))


def _find_tsv_spans(file: TextFile, start: int, end: int) -> TextSpans:
    chunk = file.chunk(start, end)
    line_starts, line_ends = line_spans(chunk)
    line_starts = skip_byte_order_marks(chunk, line_starts)
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
    ids = cut_out(chunk, line_starts, id_lengths)
    cut = np.flatnonzero(np.char.str_len(ids) != id_lengths)  # NumPy drops zeros at the end of a string
    if len(cut):
        raise file.line_error(start + line_starts[cut[0]], "has an id that ends with a zero byte: remove it")
    return TextSpans(ids, start + first_tabs + 1, start + line_ends)


def _find_json_spans(file: TextFile, start: int, end: int) -> TextSpans:
    ids, starts, ends = [], [], []
    for line in file.bytes[start:end].split(b"\n"):
        mark = len(BYTE_ORDER_MARK) if line.startswith(BYTE_ORDER_MARK) else 0
        if line[mark:].strip():
            ids.append(_read_json_id(file, start, line[mark:]))
            starts.append(start + mark)
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
    if "\0" in str(id_):
        raise file.line_error(start, "has an id with a zero character: remove it")
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
