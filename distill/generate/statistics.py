"""How long real queries are, how they begin and are spelt, and which words of the corpus say something."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, takewhile

import numpy as np

from distill.texts.texts import Texts

TEXTS_COUNTED = 20_000  # evenly spaced; more change nothing that is drawn from here
OPENING_WORDS = 100  # the commonest among the first three words of real queries: what, is, how, to, ...
LONGEST_OPENING = 4
WORD = re.compile(r"\w+(?:['\u2019.,-]\w+)*")


@dataclass(frozen=True)
class Statistics:
    """Of real queries and of the documents they are asked about."""

    lengths: list[int]  # words of each real query
    openings: list[str]  # `what is the`, as often as queries begin with it
    lower: bool  # whether most real queries have no capital
    plain: bool  # whether most have no punctuation
    idf: dict[str, float]  # of each word, lower case
    unknown: float  # idf of a word that was never seen

    @classmethod
    def of(cls, queries: Texts, documents: Texts) -> Statistics:
        real = list(_some(queries))
        split = [query.split() for query in real]
        commonest = {word for word, _ in Counter(word for words in split for word in words[:3]).most_common(OPENING_WORDS)}
        openings = [" ".join(takewhile(commonest.__contains__, words[:-1][:LONGEST_OPENING])) for words in split]
        found, count = Counter[str](), 0
        for text in _some(documents):
            found.update(set(WORD.findall(text.lower())))
            count += 1
        idf = {word: math.log((count + 1) / (frequency + 0.5)) for word, frequency in found.items()}
        lower = sum(query == query.lower() for query in real)
        plain = sum(" ".join(WORD.findall(query)) == " ".join(words) for query, words in zip(real, split, strict=True))
        return cls(
            [len(words) for words in split],
            [opening for opening in openings if opening],
            2 * lower > len(real),
            2 * plain > len(real),
            idf,
            math.log((count + 1) / 0.5),
        )

    @cached_property
    def vocabulary(self) -> tuple[list[str], list[float]]:
        """Words of the corpus, in order, and their summed weights: frequent ones often, those that say nothing rarely."""
        weights = {word: self.idf[word] * math.exp(-self.idf[word]) for word in sorted(self.idf) if not word.isdigit()}
        return list(weights), list(accumulate(weights.values()))

    def words(self, text: str) -> list[str]:
        """The words of a document, spelt as real queries are."""
        if self.lower:
            text = text.lower()
        return WORD.findall(text) if self.plain else text.split()


def _some(texts: Texts) -> Iterator[str]:
    rows = np.linspace(0, len(texts) - 1, min(len(texts), TEXTS_COUNTED)).astype(int)
    return (texts[row] for row in rows)
