"""Texts by row, read from the file they came in: ids and offsets are in memory, the words stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.text_files import TextFile

MANY = 4096  # texts read at once: a scan, after which nothing of the file need stay mapped


class Texts:
    """Ids and texts by row. `texts[row]` is what gets embedded; open one with `Texts.open`, join several with `concatenated`.

    Only ids and offsets (17 bytes a row and the id) are held; every text is decoded when asked for.
    """

    def __init__(self, files: Sequence[TextFile], file_of: np.ndarray, starts: np.ndarray, ends: np.ndarray, ids: Ids, name: str):
        self.files = tuple(files)
        self.file_of = file_of  # [N] uint8, which of the files a row is in
        self.starts = starts  # [N] int64, bytes into that file
        self.ends = ends  # [N] int64
        self.ids = ids
        self.name = name

    @classmethod
    def open(cls, path: str | Path, *, join_title: bool = False, allow_empty: bool = True, unique_ids: bool = True) -> Texts:
        """Reads the ids and line offsets of a TSV (`id<TAB>text`) or JSON lines file, plain or gzipped.

        Args:
            join_title: texts are `title + " " + text` where a JSON record has a title.
            allow_empty: False refuses an empty text: right for queries, where it is a mistake, not for a corpus, where it happens.
            unique_ids: False numbers the repeats of an id (`7`, `7#2`) where True refuses them.
        """
        file = TextFile.open(path, join_title)
        parts = list(file.scan())
        if not sum(len(ids) for ids, _, _ in parts):
            raise BadInput(f"{path}: no usable line: expected {file.expected}")
        raw, starts, ends = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        ids = Ids(raw) if unique_ids else Ids(raw).with_unique_names()
        texts = cls([file], np.zeros(len(raw), np.uint8), starts, ends, ids, file.stem)
        texts._refuse_duplicates()
        if not allow_empty:
            texts._refuse_empty()
        return texts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> str:
        return self.files[self.file_of[row]].embedded(self.starts[row], self.ends[row])

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def title(self, row: int) -> str:
        return self.files[self.file_of[row]].title_and_text(self.starts[row], self.ends[row])[0]

    def read(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        texts = [self[row] for row in rows]
        for file in self.files if len(texts) > MANY else ():
            file.release()
        return texts

    def subset(self, rows: Sequence[int] | np.ndarray, name: str | None = None) -> Texts:
        """The given rows in the given order; the mapped file is shared."""
        rows = np.asarray(rows, dtype=np.int64)
        ids = Ids(self.ids.raw[rows])
        return Texts(self.files, self.file_of[rows], self.starts[rows], self.ends[rows], ids, name or self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' bytes, the rows selected and whether titles are joined; not of paths, names or compression."""
        rows = [xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).data) for array in (self.file_of, self.starts)]
        return fingerprint([file.fingerprint for file in self.files], rows)

    @cached_property
    def wording_hashes(self) -> np.ndarray:
        """[N] uint64, equal for texts that differ in whitespace and case alone."""
        return hash_values(" ".join(text.split()).casefold().encode() for text in self)

    def same_wording_mask(self, others: Iterable[Texts]) -> np.ndarray:
        """[N] bool: which texts occur in any of the others, whitespace and case aside."""
        return np.isin(self.wording_hashes, np.concatenate([np.empty(0, np.uint64), *(other.wording_hashes for other in others)]))

    def place(self, row: int) -> str:
        """Where a row comes from, for messages: `path line 3`."""
        file = self.files[self.file_of[row]]
        return f"{file.path} line {file.line_number(self.starts[row])}"

    def _refuse_duplicates(self) -> None:
        if rows := self.ids.first_duplicate_rows():
            first, second = map(self.place, rows)
            raise BadInput(f"{second}: id {self.ids[rows[0]]!r} is already taken by {first}: ids must be unique")

    def _refuse_empty(self) -> None:
        for row, text in enumerate(self):
            if not text.strip():
                raise BadInput(f"{self.place(row)}: the text of {self.ids[row]!r} is empty: remove the line or give it words")


def evenly_spaced_rows(total: int, most: int) -> np.ndarray:
    """Up to `most` different rows of `total`, ascending, from all over them: [min(total, most)] int64.

    >>> evenly_spaced_rows(10, 3).tolist()
    [0, 4, 9]
    """
    return np.linspace(0, total - 1, min(most, total)).astype(np.int64)


def hash_values(values: Iterable[bytes]) -> np.ndarray:
    """[N] uint64, the same on every machine."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64)


def concatenate_texts(parts: Sequence[Texts], name: str | None = None) -> Texts:
    """The rows of several `Texts`, one after the other; an id that two of them share is refused."""
    if len(parts) == 1 and name in (None, parts[0].name):
        return parts[0]
    files = list(dict.fromkeys(file for part in parts for file in part.files))
    file_of = [np.array([files.index(file) for file in part.files], np.uint8)[part.file_of] for part in parts]
    starts, ends = np.concatenate([part.starts for part in parts]), np.concatenate([part.ends for part in parts])
    ids = Ids(np.concatenate([part.ids.raw for part in parts]))
    texts = Texts(files, np.concatenate(file_of), starts, ends, ids, name or "+".join(part.name for part in parts))
    texts._refuse_duplicates()
    return texts
