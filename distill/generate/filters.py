"""Which generated queries are kept: length, letters, no evaluation query, no duplicate, found again by the teacher."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.files.fingerprints import hash_values
from distill.records import BadInput
from distill.texts.texts import Texts

WORD = re.compile(r"[^\W_]+")
# why a query that was planned is not in the file
REASONS = ("not made", "length", "letters", "evaluation query", "real query", "round trip", "duplicate", "near duplicate")


@dataclass(frozen=True)
class Filters:
    """What is dropped, beside evaluation queries, real queries and duplicates, which always are.

    Args:
        least_words: of a query.
        most_words: of a query.
        least_letters: share of a query that is letters, digits and single spaces between words.
        near_duplicates: drops a query whose similarity to an earlier one is at least this: Jaccard of their four-letter pieces, estimated
            by MinHash; 0.8 is a common choice, and takes 256 bytes of memory a query. Off by default.
        round_trip: keeps a query cut or generated from a document only if the teacher of `store` finds that document among its top so
            many. Off by default.
    """

    least_words: int = 1
    most_words: int = 64
    least_letters: float = 0.5
    near_duplicates: float | None = None
    round_trip: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.least_words <= self.most_words:
            raise BadInput(f"filters: least_words {self.least_words}, most_words {self.most_words}: at least 1, and the most not less")
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise BadInput(f"filters.near_duplicates: {self.near_duplicates}: a similarity is above 0 and at most 1")
        if self.round_trip is not None and self.round_trip < 1:
            raise BadInput(f"filters.round_trip: {self.round_trip}: must be at least 1")


class RealQueries:
    """Real queries: those that may never be generated, and those that need not be."""

    def __init__(self, evaluation: Iterable[Texts], real: Texts):
        asked = [split_words(text) for texts in evaluation for text in texts]
        self._evaluation = {key for words in asked for key in (sort_words(words), "".join(words))}
        self.real = {" ".join(split_words(text)) for text in real}

    def leaks(self, words: Sequence[str]) -> bool:
        """Whether they are an evaluation query's, in any order, or its letters, in any spacing: `what's` is `whats`."""
        return sort_words(words) in self._evaluation or "".join(words) in self._evaluation


def split_words(text: str) -> list[str]:
    """A text's words: case, punctuation, spaces and what Unicode can write in several ways aside."""
    return WORD.findall((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold())


def sort_words(words: Sequence[str]) -> str:
    """The words in any order."""
    return " ".join(sorted(words))


def find_drop_reasons(texts: Sequence[str], filters: Filters, known: RealQueries) -> tuple[list[str | None], np.ndarray]:
    """Why each text is dropped, None where it is kept so far, and 64 bits of its words [N] uint64, equal for duplicates."""
    words = [split_words(text) for text in texts]
    wordings = [" ".join(each) for each in words]
    reasons = [
        "length"
        if not filters.least_words <= len(each) <= filters.most_words
        else "letters"
        if len(wording) < filters.least_letters * len(text)
        else "evaluation query"
        if known.leaks(each)
        else "real query"
        if wording in known.real
        else None
        for text, each, wording in zip(texts, words, wordings, strict=True)
    ]
    return reasons, hash_values(map(str.encode, wordings))


def find_duplicates(keys: np.ndarray) -> np.ndarray:
    """[N] bool: which of the keys [N] an earlier one equals."""
    again = np.ones(len(keys), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    return again
