"""`Texts`: texts by row, read from their file when needed; only ids and offsets are in memory."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from distill.files.fingerprints import fingerprint, hash_values
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.text_files import TextFile
from distill.texts.text_list import TextList

TEXTS_IN_A_SCAN = 4096  # more texts than this in one call are a pass through the file, whose pages are then released

BETWEEN_WORDS = re.compile(r"(?:[^\w+#]|_)+")


class Texts:
    """Ids and texts by row; `texts[row]` is what gets embedded. Made by `Texts.open`, `Texts.from_lists` or `concatenate_texts`.

    Of a file only ids and offsets (17 bytes a row and the id) are in memory; every text is decoded when it is read.

    >>> texts = Texts.from_lists(["a", "b"], ["one river", "two"])
    >>> len(texts), texts[0], list(texts.subset([1]).ids)
    (2, 'one river', ['b'])
    """

    def __init__(
        self,
        containers: Sequence[TextFile | TextList],
        container_of: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        ids: Ids,
        name: str,
    ):
        self.containers = tuple(containers)
        self.container_of = container_of  # [N] uint8, number of the container that holds each text
        self.starts = starts  # [N] int64, where each text begins in its container
        self.ends = ends  # [N] int64, where it ends
        self.ids = ids
        self.name = name

    @classmethod
    def open(cls, path: str | Path, *, join_title: bool = False, allow_empty: bool = True, unique_ids: bool = True) -> Texts:
        """Reads the ids and line offsets of a TSV (`id<TAB>text`) or JSON lines file, plain or gzipped.

        Args:
            path: the file; its ending says which of the two it is.
            join_title: whether texts are `title + " " + text` where a JSON record has a title.
            allow_empty: False refuses an empty text, which is a mistake among queries but occurs in a corpus.
            unique_ids: False numbers the repeats of an id (`7`, `7#2`) where True refuses them.

        Raises:
            BadInput: the file is missing or empty, or one of its lines has no id or no text.
        """
        file = TextFile.open(path, join_title)
        parts = list(file.scan())
        if not any(len(part.ids) for part in parts):
            raise BadInput(f"{path}: no usable line: expected {file.expected_lines}")
        raw = np.concatenate([part.ids for part in parts])
        starts = np.concatenate([part.starts for part in parts])
        ends = np.concatenate([part.ends for part in parts])
        ids = Ids(raw) if unique_ids else Ids(raw).with_numbered_repeats()
        texts = cls([file], np.zeros(len(raw), np.uint8), starts, ends, ids, file.stem)
        texts._refuse_duplicates()
        if not allow_empty:
            texts.refuse_empty()
        return texts

    @classmethod
    def from_lists(cls, ids: Sequence[str], texts: Sequence[str], name: str = "texts", titles: Sequence[str] | None = None) -> Texts:
        """Texts that are in memory.

        Args:
            ids: N different ids.
            texts: N texts.
            name: names them in messages.
            titles: N titles to show beside the texts; they are not embedded.

        Raises:
            BadInput: the lists differ in length, an id repeats or is not valid, or a text is no string.

        >>> texts = Texts.from_lists(["a", "b"], ["one", "two"], name="numbers")
        >>> texts.read([1, 0]), texts.place(1)
        (['two', 'one'], 'numbers[1]')
        """
        container = TextList(ids, texts, titles, name)
        rows = np.arange(len(container.ids))
        result = cls([container], np.zeros(len(rows), np.uint8), rows, rows + 1, Ids.of(container.ids), name)
        result._refuse_duplicates()
        return result

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> str:
        return self._container(row).read_text(self.starts[row], self.ends[row])

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def title(self, row: int) -> str:
        """The title of a text, "" where it has none."""
        return self._container(row).read_title(self.starts[row], self.ends[row])

    def place(self, row: int) -> str:
        """Where a text comes from, for messages: `path line 3` or, in memory, `name[2]`."""
        return self._container(row).place(self.starts[row])

    def _container(self, row: int) -> TextFile | TextList:
        return self.containers[self.container_of[row]]

    def read(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The texts of several rows."""
        texts = [self[row] for row in rows]
        if len(texts) > TEXTS_IN_A_SCAN:
            for container in self.containers:
                container.release()
        return texts

    def subset(self, rows: Sequence[int] | np.ndarray, name: str | None = None) -> Texts:
        """The given rows in the given order; the mapped file is shared."""
        rows = np.asarray(rows, dtype=np.int64)
        ids = Ids(self.ids.raw[rows])
        return Texts(self.containers, self.container_of[rows], self.starts[rows], self.ends[rows], ids, name or self.name)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the containers' content, the selected rows and whether titles are joined; not over paths or names."""
        rows = [xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).data) for array in (self.container_of, self.starts)]
        return fingerprint([container.fingerprint for container in self.containers], rows)

    @cached_property
    def content_fingerprint(self) -> str:
        """16 hex digits over the ids and the texts in their order, whatever else their file holds. Reads every text."""
        ids, texts = hash_values(self.ids.raw.tolist()), hash_values(map(str.encode, self))  # [N] uint64 each
        return xxhash.xxh3_64_hexdigest(np.stack([ids, texts]).tobytes())

    def fingerprints(self, role: Literal["query", "document"]) -> tuple[str, ...]:
        """Returns the fingerprints by which a store may know these texts: the one to record, then the one of releases up to 0.2.

        Queries are known by their content, so that queries of other splits can be added to their file; documents, which may be many
        millions, by the bytes of their file.
        """
        return (self.fingerprint,) if role == "document" else (self.content_fingerprint, self.fingerprint)

    @cached_property
    def wording_hashes(self) -> np.ndarray:
        """[N] uint64, equal for texts that differ in whitespace and case alone."""
        return hash_wordings(self)

    @cached_property
    def words_hashes(self) -> np.ndarray:
        """[N] uint64, equal for texts that differ in white space, case, punctuation and forms of Unicode alone."""
        return hash_words(self)

    def split(self, holdout: int) -> tuple[Texts, Texts]:
        """Sets some texts aside, the same ones every time: those whose ids have the lowest hashes.

        Args:
            holdout: number of texts to set aside; a larger number sets aside the same ones and more.

        Returns:
            the rest, without texts that have the wording of one that is set aside, and those set aside; both in the order they had.

        Raises:
            BadInput: nothing would be left.

        >>> rest, held_out = Texts.from_lists(["a", "b", "c"], ["one", "two", "three"]).split(holdout=1)
        >>> list(rest), list(held_out)
        (['one', 'three'], ['two'])
        """
        rest, held_out = split_rows(self.ids.raw, self.wording_hashes, holdout, self.name)
        return self.subset(rest), self.subset(held_out)

    def duplicate_mask(self, others: Iterable[Texts]) -> np.ndarray:
        """[N] bool: whether each text is also in one of the others; whitespace and case are ignored."""
        other_hashes = [np.empty(0, np.uint64), *(other.wording_hashes for other in others)]
        return np.isin(self.wording_hashes, np.concatenate(other_hashes))

    def leak_mask(self, others: Iterable[Texts]) -> np.ndarray:
        """[N] bool: whether each text has the words of one of the others, in their order; punctuation is ignored too."""
        other_hashes = [np.empty(0, np.uint64), *(other.words_hashes for other in others)]
        return np.isin(self.words_hashes, np.concatenate(other_hashes))

    def _refuse_duplicates(self) -> None:
        rows = self.ids.first_duplicate_rows()
        if rows is not None:
            first, second = rows
            raise BadInput(f"{self.place(second)}: id {self.ids[first]!r} is already taken by {self.place(first)}: ids must be unique")

    def refuse_empty(self) -> None:
        """Raises BadInput where a text is empty, which is a mistake among queries."""
        for row, text in enumerate(self):
            if not text.strip():
                raise BadInput(f"{self.place(row)}: the text of {self.ids[row]!r} is empty: remove the line or give it words")

    def refuse_odd_ids(self) -> None:
        """Raises BadInput where an id cannot be a column of a run file, before hours are spent: evaluation writes such files."""
        odd = self.ids.first_odd()
        if odd is not None:
            row, fault = odd
            raise BadInput(f"{self.place(row)}: the id {self.ids[row]!r} {fault}: rename it")


def hash_wordings(texts: Iterable[str]) -> np.ndarray:
    """[N] uint64: a hash of each text, equal for texts that differ in whitespace and case alone."""
    return hash_values(" ".join(text.split()).casefold().encode(errors="replace") for text in texts)


def hash_words(texts: Iterable[str]) -> np.ndarray:
    """[N] uint64: a hash of each text's words, equal for `What is the Rhine?` and `what is the rhine`; C++ and C# differ."""
    return hash_values((_join_words(text) or " ".join(text.split())).encode(errors="replace") for text in texts)


def _join_words(text: str) -> str:
    normal_form = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return BETWEEN_WORDS.sub(" ", normal_form.casefold()).strip()


def split_rows(ids: np.ndarray, wordings: np.ndarray, holdout: int, name: str, what: str = "texts") -> tuple[np.ndarray, np.ndarray]:
    """Chooses `holdout` of N texts by a hash of their ids, so that a larger holdout contains a smaller one.

    Args:
        ids: [N] UTF-8 bytes.
        wordings: [N] hashes, equal for texts of the same wording.
        holdout: number of texts to choose.
        name: names the source of the texts in messages.
        what: names the texts there.

    Returns:
        rows of the rest, without texts of a chosen wording, and the chosen rows; each ascending.
    """
    if holdout < 0:
        raise BadInput(f"{name}: holdout is {holdout}: it is a number of {what} to set aside, 0 or more")
    if holdout and holdout >= len(ids):
        raise BadInput(f"{name}: holdout of {holdout} leaves nothing of {len(ids)} {what}: ask for fewer")
    by_hash = np.argsort(hash_values(ids.tolist()), kind="stable")
    held_out = np.sort(by_hash[:holdout])
    rest = np.flatnonzero(~np.isin(wordings, wordings[held_out]))
    return rest, held_out


def concatenate_texts(parts: Sequence[Texts], name: str | None = None) -> Texts:
    """The rows of several `Texts`, one after the other; BadInput where two of them share an id."""
    if len(parts) == 1 and name in (None, parts[0].name):
        return parts[0]
    containers = list(dict.fromkeys(container for part in parts for container in part.containers))
    container_of = []
    for part in parts:
        numbers = np.array([containers.index(container) for container in part.containers], np.uint8)
        container_of.append(numbers[part.container_of])
    starts = np.concatenate([part.starts for part in parts])
    ends = np.concatenate([part.ends for part in parts])
    ids = Ids(np.concatenate([part.ids.raw for part in parts]))
    texts = Texts(containers, np.concatenate(container_of), starts, ends, ids, name or "+".join(part.name for part in parts))
    texts._refuse_duplicates()
    return texts
