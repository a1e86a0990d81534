"""Filters of generated queries: length, letters, evaluation queries, real queries, duplicates, and the teacher's round trip."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from distill.files.fingerprints import hash_values
from distill.records import BadInput
from distill.texts.words import count_words, is_unspaced


def join_ranges(codes: Sequence[int]) -> str:
    """Writes ascending code points as the inside of a character class; ranges are matched several times as fast as single characters.

    >>> join_ranges([0x61, 0x62, 0x63, 0x7A])
    'a-cz-z'
    """
    ends = [*(place for place in range(1, len(codes)) if codes[place] != codes[place - 1] + 1), len(codes)]
    return "".join(f"{chr(codes[start])}-{chr(codes[end - 1])}" for start, end in zip([0, *ends], ends, strict=False))


# combining marks belong to their words: vowels of Hindi and Thai, accents that stand behind their letter; \w leaves them out
NO_MARKS = {0x34F, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}  # which choose between two pictures of a character
MARKS = join_ranges([code for code in range(0x300, 0x1E950) if unicodedata.category(chr(code)) in ("Mn", "Mc") and code not in NO_MARKS])
WORD = re.compile(rf"\w[\w{MARKS}]*")
MARK = re.compile(f"[{MARKS}]+")
LEAST_SIMILARITY = 0.3  # of near duplicates: below it are texts about one subject, and MinHash would miss many of them
# the reason why a planned query is not in the file
DropReason = Literal["not made", "length", "letters", "evaluation query", "real query", "round trip", "duplicate", "near duplicate"]
REASONS: tuple[DropReason, ...] = get_args(DropReason)


@dataclass(frozen=True)
class Filters:
    """Settings of the filters. Evaluation queries, real queries and exact duplicates are always dropped.

    Args:
        least_words: least number of words in a query.
        most_words: largest number of words in a query.
        least_letters: least share of a query's characters that are letters, digits or single spaces between words.
        near_duplicates: drops a query whose similarity to an earlier one is at least this number: the Jaccard similarity of their
            four-letter pieces, estimated by MinHash. 0.8 is a common choice; it needs 256 bytes of memory for each query. Off by default.
        round_trip: number of top documents in which the teacher of `store` must find the document that a query was made from; other
            queries are dropped. Off by default.
    """

    least_words: int = 1
    most_words: int = 64
    least_letters: float = 0.5
    near_duplicates: float | None = None
    round_trip: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.least_words <= self.most_words:
            raise BadInput(f"filters: least_words {self.least_words}, most_words {self.most_words}: at least 1, and the most not less")
        if self.near_duplicates is not None and not LEAST_SIMILARITY <= self.near_duplicates <= 1:
            raise BadInput(f"filters.near_duplicates: {self.near_duplicates}: a similarity from {LEAST_SIMILARITY} to 1")
        if self.round_trip is not None and self.round_trip < 1:
            raise BadInput(f"filters.round_trip: {self.round_trip}: must be at least 1")


class RealQueries:
    """The real queries. Generated copies of evaluation queries would be leaks; copies of training queries are useless.

    Args:
        evaluation: queries of every evaluation split.
        known: queries of the training split.
    """

    def __init__(self, evaluation: Iterable[Iterable[str]], known: Iterable[str]):
        evaluation_words = [split_words(text) for texts in evaluation for text in texts]
        self._evaluation = {sort_words(words) for words in evaluation_words} | {join_letters(words) for words in evaluation_words}
        self._known = {" ".join(split_words(text)) for text in known}

    def is_evaluation_query(self, words: Sequence[str]) -> bool:
        """Tells whether an evaluation query has the same words in any order, or the same letters: `what's` equals `whats`."""
        return sort_words(words) in self._evaluation or join_letters(words) in self._evaluation

    def is_known(self, wording: str) -> bool:
        """Tells whether these words, joined by spaces, are a query of the training split."""
        return wording in self._known


def split_words(text: str) -> list[str]:
    """Splits a text into words; case, punctuation, spaces and different Unicode forms of a character make no difference.

    >>> split_words("What's  a Mute-Swan?")
    ['what', 's', 'a', 'mute', 'swan']
    """
    normal_form = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return WORD.findall(normal_form.casefold().replace("_", " "))


def sort_words(words: Sequence[str]) -> str:
    """Joins the words in alphabetical order, so that the same words in any order give the same text."""
    return " ".join(sorted(words))


def join_letters(words: Sequence[str]) -> str:
    """Joins the letters of the words without their marks, so that a text with the vowel points of Arabic or Hebrew equals one without.

    >>> join_letters(["what", "s"]), join_letters(["x\u0301y"])
    ('whats', 'xy')
    """
    letters = "".join(words)
    return letters if letters.isascii() else MARK.sub("", letters)


def find_drop_reasons(texts: Sequence[str], filters: Filters, real: RealQueries) -> tuple[list[DropReason | None], np.ndarray]:
    """Applies the filters that need no other generated query.

    Returns:
        the reason to drop each text, or None, and a hash [N] uint64 of each text's words, equal for duplicates.
    """
    reasons: list[DropReason | None] = []
    wordings = []
    for text in texts:
        words = split_words(text)
        wording = " ".join(words)
        reasons.append(_find_drop_reason(text, words, wording, filters, real))
        wordings.append(wording)
    return reasons, hash_values(map(str.encode, wordings))


def _find_drop_reason(text: str, words: list[str], wording: str, filters: Filters, real: RealQueries) -> DropReason | None:
    length = count_words(wording) if is_unspaced(wording) else len(words)
    if not filters.least_words <= length <= filters.most_words:
        return "length"
    if len(wording) < filters.least_letters * len(text):
        return "letters"
    if real.is_evaluation_query(words):
        return "evaluation query"
    if real.is_known(wording):
        return "real query"
    return None


def find_duplicates(keys: np.ndarray) -> np.ndarray:
    """Marks the keys that equal an earlier key: [N] bool for keys [N].

    >>> find_duplicates(np.array([5, 7, 5])).tolist()
    [False, False, True]
    """
    is_duplicate = np.ones(len(keys), bool)
    is_duplicate[np.unique(keys, return_index=True)[1]] = False
    return is_duplicate
