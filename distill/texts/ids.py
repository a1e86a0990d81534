"""Ids of rows as one flat array of bytes: nine million of them take tens of megabytes and no Python objects."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np

ID_NAMES = ("_id", "id", "docid", "doc_id", "document_id", "qid", "query_id")  # names that a column of ids commonly has, likeliest first
BYTE_ORDER_MARK = "\ufeff"
IDS_AT_ONCE = 65_536
LONGEST_ID_BYTES = 512  # every id takes as many bytes as the longest one: a misplaced tab must not make that a whole text


class Ids:
    """String ids by row, and rows by string id.

    Args:
        raw: [N] fixed-width `S` array of UTF-8 bytes; may be a read-only memory map.
        order: [N] int64, a stored `argsort(raw)`; computed on first use where it is not given.

    >>> ids = Ids.of(["b", "a"])
    >>> ids[0], ids.rows(["a", "c"]).tolist()
    ('b', [1, -1])
    """

    def __init__(self, raw: np.ndarray, order: np.ndarray | None = None):
        if raw.dtype.kind != "S" or raw.ndim != 1:
            raise TypeError(f"ids are one row of fixed-width bytes, not {raw.dtype} of shape {raw.shape}")
        self.raw = raw
        if order is not None:
            self.order = order

    @classmethod
    def of(cls, ids: Iterable[str]) -> Ids:
        return cls(as_bytes(list(ids)))

    @cached_property
    def order(self) -> np.ndarray:
        """[N] int64: rows by ascending id; equal ids stay in row order."""
        if self.raw.dtype.itemsize <= 8:
            return np.argsort(_as_integers(self.raw), kind="stable")
        return np.argsort(self.raw, kind="stable")

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, row: int) -> str:
        return self.raw[row].decode(errors="replace")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def chunks(self, size: int = 65_536) -> Iterator[list[str]]:
        """Yields the ids in lists of up to `size`, which keeps few of them in memory as strings; one empty list where there is no id."""
        for start in range(0, max(1, len(self)), size):
            yield [self[row] for row in range(start, min(start + size, len(self)))]

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """[len(ids)] int64: the row of each id, -1 where it is unknown; the first row of an id that occurs twice."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1, np.int64)
        encoded = [id_.encode(errors="replace") for id_ in ids]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        # An id wider than `raw` is cut here and may then equal another one: the lengths are compared below.
        cut = np.array(encoded, dtype=self.raw.dtype)
        places = np.searchsorted(self.raw, cut, sorter=self.order)
        candidates = self.order[np.minimum(places, len(self) - 1)]
        is_equal = (self.raw[candidates] == cut) & (np.char.str_len(self.raw[candidates]) == lengths)
        return np.where(is_equal, candidates, -1).astype(np.int64)

    def first_duplicate(self) -> str | None:
        """The repeated id whose second row comes first; None where every id is unique."""
        rows = self.first_duplicate_rows()
        return None if rows is None else self[rows[0]]

    def first_duplicate_rows(self) -> tuple[int, int] | None:
        """The first two rows of `first_duplicate()`, ascending."""
        in_order = self.raw[self.order]
        repeats = np.flatnonzero(in_order[1:] == in_order[:-1])
        if not len(repeats):
            return None
        place = repeats[np.argmin(self.order[repeats + 1])]
        return int(self.order[place]), int(self.order[place + 1])

    def first_odd(self) -> tuple[int, str] | None:
        """The row of the first id that cannot be a column of a run file, and its fault; None where every id can.

        >>> Ids.of(["a", "two words"]).first_odd()
        (1, 'has white space, which separates the columns of run files')
        """
        for start in range(0, len(self), IDS_AT_ONCE):
            part = np.ascontiguousarray(self.raw[start : start + IDS_AT_ONCE])
            for row in _rows_to_look_at(part):
                fault = describe_odd_id(part[row])
                if fault is not None:
                    return start + int(row), fault
        return None

    def in_fewest_bytes(self) -> Ids:
        """The same ids, none wider than the longest of them: those of a subset are as wide as the longest of all rows.

        >>> Ids(Ids.of(["a", "longer"]).raw[:1]).in_fewest_bytes().raw
        array([b'a'], dtype='|S1')
        """
        width = max(1, int(np.char.str_len(self.raw).max(initial=1)))
        return self if width == self.raw.dtype.itemsize else Ids(self.raw.astype(f"S{width}"))

    def with_numbered_repeats(self) -> Ids:
        """Makes all ids unique: the second row of `a` becomes `a#2`, the third `a#3`; a number that is taken is left out.

        >>> list(Ids.of(["a", "a", "a#2"]).with_numbered_repeats())
        ['a', 'a#3', 'a#2']
        """
        if self.first_duplicate_rows() is None:
            return self
        in_order = self.raw[self.order]
        places = np.arange(len(self))
        is_first = np.append(True, in_order[1:] != in_order[:-1])[: len(self)]
        first_place = np.maximum.accumulate(np.where(is_first, places, 0))
        repeats = places - first_place  # how many equal ids come before each
        wide = self.raw.astype(f"S{self.raw.dtype.itemsize + 2 + len(str(len(self)))}")
        taken = {id_ for id_ in self.raw.tolist() if b"#" in id_}
        for place in np.flatnonzero(repeats):
            number = int(repeats[place]) + 1
            while (name := in_order[place] + f"#{number}".encode()) in taken:
                number += 1
            taken.add(name)
            wide[self.order[place]] = name
        return Ids(wide)


def as_bytes(ids: Sequence[str]) -> np.ndarray:
    """[N] fixed-width UTF-8 bytes, as wide as the longest id."""
    return np.array([id_.encode(errors="replace") for id_ in ids], dtype="S" if len(ids) else "S1")


def describe_bad_id(length: int) -> str:
    """Describes the fault of an id of `length` bytes, for messages."""
    return f"has an id of {length} bytes: at most {LONGEST_ID_BYTES} are allowed" if length else "has an empty id: give it one"


def describe_odd_id(id_: bytes) -> str | None:
    """What keeps an id from being a column of a run file; None where nothing does.

    >>> describe_odd_id("\N{NO-BREAK SPACE}7".encode())
    'has white space, which separates the columns of run files'
    """
    try:
        word = id_.decode()
    except UnicodeDecodeError:
        return "is not UTF-8, as judgments and run files are"
    if not word:
        return "is empty"
    if word.split() != [word]:
        return "has white space, which separates the columns of run files"
    if word.startswith(BYTE_ORDER_MARK) or any(unicodedata.category(character) == "Cc" for character in word):
        return "has a character that editors and other tools drop from run files"
    return None


def _rows_to_look_at(raw: np.ndarray) -> np.ndarray:
    """Rows of ids [N] that are not printable ASCII throughout, in ascending order."""
    letters = raw.view(np.uint8).reshape(len(raw), -1)  # [N, width]
    lengths = np.char.str_len(raw)
    is_padding = np.arange(letters.shape[1]) >= lengths[:, None]
    is_plain = (letters > ord(" ")) & (letters < 0x7F)
    return np.flatnonzero(~(is_plain | is_padding).all(axis=1) | (lengths == 0))


def _as_integers(raw: np.ndarray) -> np.ndarray:
    """[N] uint64: ids of up to 8 bytes as big-endian integers, which sort as the bytes do and many times faster."""
    return raw.astype("S8").view(">u8").astype(np.uint64)
