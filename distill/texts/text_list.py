"""Texts in memory, with the same methods as a file of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import xxhash

from distill.files.fingerprints import hash_values
from distill.records import BadInput
from distill.texts.ids import LONGEST_ID_BYTES, describe_bad_id
from distill.texts.text_files import replace_surrogates


class TextList:
    """A list of texts in memory; `start` is the place of a text in the list, where a file of texts has an offset.

    Args:
        ids: N different ids.
        texts: N texts.
        titles: N titles, "" for none; None where no text has one.
        name: names the list in messages.

    Raises:
        BadInput: the lists differ in length, an id is no id, or a text or a title is no text.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str], titles: Sequence[str] | None, name: str):
        self.ids = list(ids)
        self.texts = list(texts)
        self.titles = list(titles or [])
        self.name = name
        _require_as_many(self.texts, self.ids, f"{name}: texts")
        if titles is not None:
            _require_as_many(self.titles, self.ids, f"{name}: titles")
        for row, id_ in enumerate(self.ids):
            self._require_string(row, "id", id_)
            length = len(id_.encode(errors="replace"))
            if not 0 < length <= LONGEST_ID_BYTES:
                raise BadInput(f"{self.place(row)} {describe_bad_id(length)}")
        for row, text in enumerate(self.texts):
            self._require_string(row, "text", text)
        for row, title in enumerate(self.titles):
            self._require_string(row, "title", title)

    def _require_string(self, row: int, what: str, value: object) -> None:
        if not isinstance(value, str):
            raise BadInput(f"{self.place(row)}: its {what} is {str(value)[:40]!r} of type {type(value).__name__}: give a string")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over ids, titles and texts; not over the name."""
        titles = self.titles or [""] * len(self.ids)
        rows = zip(self.ids, titles, self.texts, strict=True)
        return xxhash.xxh3_64_hexdigest(hash_values(json.dumps(row).encode() for row in rows).tobytes())

    def read_text(self, start: int, end: int) -> str:
        return replace_surrogates(self.texts[start])

    def read_title(self, start: int, end: int) -> str:
        return replace_surrogates(self.titles[start]) if self.titles else ""

    def place(self, start: int) -> str:
        return f"{self.name}[{start}]"

    def release(self) -> None:
        """Does nothing: no file is mapped here."""


def _require_as_many(values: Sequence[str], ids: Sequence[str], what: str) -> None:
    """Raises BadInput where there are not as many `values` as `ids`."""
    if len(values) != len(ids):
        raise BadInput(f"{what}: {len(values)} for {len(ids)} ids: give one for each id")
