"""Lines of text files that other programs wrote: which encoding they are in, and none longer than memory should hold."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from distill.files.progress import log
from distill.records import BadInput

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MOST_UNPACKED = 300  # bytes that a gzip file may hold for each of its own; text has 2 to 30, what fills memory and disk up to 1,000
LONGEST_LINE = 64 << 20  # bytes; a longer one is no text but a file of another kind, and would fill the memory
HEAD = 4096  # bytes from which the kind of a file is told

# what a file may begin with that is no UTF-8; UTF-32 before UTF-16, whose mark it begins with
MAGIC = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xfd7zXZ": "an xz file",
    b"BZh91AY&SY": "a bzip2 file",
    b"PK\x03\x04": "a zip file or a spreadsheet",
    b"PAR1\x15": "a parquet file",
}


def read_lines(path: Path, replace: bool = False) -> Iterator[tuple[int, str]]:
    """Reads the lines of a UTF-8 file, plain or gzipped by its ending, with or without a byte order mark.

    Lines may end as on any system. No line is read into memory that is longer than `LONGEST_LINE`.

    Args:
        path: the file.
        replace: whether bytes that are not UTF-8 become U+FFFD, which a line of the log counts, where False refuses them.

    Yields:
        the 1-based number of a line, and the line with its end.

    Raises:
        BadInput: a line is too long or not UTF-8, the file is of another encoding, or its gzip form is broken or holds far too much.
    """
    bad = 0
    is_packed = path.suffix == ".gz"
    with refuse_broken_gzip(path), gzip.open(path) if is_packed else open(path, "rb") as file:
        lines = iter(lambda: file.readline(LONGEST_LINE + 1), b"")
        for number, line in enumerate(_cut_lines(path, limit_unpacked(path, lines) if is_packed else lines), 1):
            if replace and not is_utf8(line):
                bad += 1
            yield number, line.decode(errors="replace") if replace else decode_line(path, number, line)
    if bad:
        warn_of_encoding(path, bad)


def _cut_lines(path: Path, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yields lines without the byte order mark of the first; refuses other kinds of files and lines that are too long."""
    for number, line in enumerate(lines, 1):
        if number == 1:
            refuse_other_kinds(path, line[:HEAD])
            line = line.removeprefix(BYTE_ORDER_MARK)
        if len(line) > LONGEST_LINE:
            raise too_long(path, number)
        if number == 1 and not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
            yield from (part + b"\n" for part in line.rstrip(b"\r").split(b"\r"))  # a whole file with the line ends of old Macs
        else:
            yield line


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raises BadInput where the first bytes of a file are those of another encoding or of a packed file."""
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
    if kind is None and _has_zeros_by_turns(head):
        kind = "UTF-16"
    if kind is None:
        return
    if kind.startswith("UTF"):
        raise BadInput(f"{path}: is {kind}, not UTF-8: save it as UTF-8")
    raise BadInput(f"{path}: is {kind}, not text: unpack it, or give it the ending of its kind")


def _has_zeros_by_turns(head: bytes) -> bool:
    """Whether every second byte of a part of `head` is 0, as in UTF-16 without a mark; texts of other scripts have fewer such bytes."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    return max(even, odd) >= max(3, len(head) // 40) and min(even, odd) * 4 <= max(even, odd)


def decode_line(path: Path, number: int, line: bytes) -> str:
    """The text of a line; BadInput, which names the likely encoding, where it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        kind = "Windows-1252" if any(0x80 <= other <= 0x9F for other in line) else "Latin-1"
        raise BadInput(f"{path} line {number}: not UTF-8 (byte {byte:#04x}, perhaps of {kind}): save the file as UTF-8") from None


def limit_unpacked(path: Path, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the unpacked parts of a gzip file; refuses one that unpacks to far more than texts do."""
    most = max(LONGEST_LINE, MOST_UNPACKED * path.stat().st_size)
    total = 0
    for part in parts:
        total += len(part)
        if total > most:
            raise BadInput(f"{path}: unpacks to over {MOST_UNPACKED} times its size, as no texts do: unpack it yourself if you trust it")
        yield part


def too_long(path: Path, number: int) -> BadInput:
    """The error to raise where a line is longer than `LONGEST_LINE`."""
    return BadInput(f"{path}: line {number} is longer than {LONGEST_LINE >> 20} MiB: end every record with a line break")


def is_utf8(content: bytes) -> bool:
    """Whether bytes are UTF-8.

    >>> is_utf8("é".encode()), is_utf8("é".encode("latin-1"))
    (True, False)
    """
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@cache
def warn_of_encoding(path: Path, lines: int) -> None:
    """Logs, once for each file, how many of its lines are not UTF-8."""
    some = "1 line is" if lines == 1 else f"{lines} lines are"
    log.warning(f"{path}: {some} not UTF-8, Latin-1 perhaps: what cannot be read became U+FFFD: save the file as UTF-8")


@contextmanager
def refuse_broken_gzip(path: Path) -> Iterator[None]:
    """Turns an error of the block, which unpacks `path`, into a BadInput."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: not a whole gzip file ({error}): fetch it again") from None
