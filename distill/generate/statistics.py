"""How long real queries are, how they begin and are spelt, and which words of the corpus are informative."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, takewhile

from distill.texts.texts import Texts, evenly_spaced_rows

TEXTS_COUNTED = 20_000  # evenly spaced; more change nothing that is drawn from here
OPENING_WORDS = 100  # the commonest among the first three words of real queries: what, is, how, to, ...
LONGEST_OPENING = 4  # words
WORD = re.compile(r"\w+(?:['\u2019.,-]\w+)*")


@dataclass(frozen=True)
class Statistics:
    """Statistics of real queries and of the documents that they search."""

    lengths: list[int]  # words of each real query
    openings: list[str]  # `what is the`, as often as queries begin with it
    lower: bool  # whether most real queries have no capital
    plain: bool  # whether most have no punctuation
    idf: dict[str, float]  # inverse document frequency of each word, lower case
    unknown: float  # idf of a word that no document has

    @cached_property
    def vocabulary(self) -> tuple[list[str], list[float]]:
        """Words of the corpus, in order, and their summed weights: frequent words weigh much, those that are in most documents little."""
        weights = {word: self.idf[word] * math.exp(-self.idf[word]) for word in sorted(self.idf) if not word.isdigit()}
        return list(weights), list(accumulate(weights.values()))

    def split_document(self, text: str) -> list[str]:
        """The words of a document, spelt as real queries are."""
        if self.lower:
            text = text.lower()
        return WORD.findall(text) if self.plain else text.split()


def measure_statistics(queries: Texts, documents: Texts) -> Statistics:
    """Measures real queries and documents, or where there are very many, an evenly spaced sample of them."""
    sample = [queries[row] for row in evenly_spaced_rows(len(queries), TEXTS_COUNTED)]
    words = [query.split() for query in sample]
    idf, unknown = _measure_idf(documents)
    lower_count = sum(query == query.lower() for query in sample)
    plain_count = sum(" ".join(WORD.findall(query)) == " ".join(split) for query, split in zip(sample, words, strict=True))
    return Statistics(
        lengths=[len(split) for split in words],
        openings=_find_openings(words),
        lower=2 * lower_count > len(sample),
        plain=2 * plain_count > len(sample),
        idf=idf,
        unknown=unknown,
    )


def _find_openings(queries: Sequence[Sequence[str]]) -> list[str]:
    """The common words that each query, as its words, begins with; a query's last word is what it is about, and no opening."""
    counts = Counter(word for words in queries for word in words[:3])
    common = {word for word, _ in counts.most_common(OPENING_WORDS)}
    openings = [" ".join(takewhile(common.__contains__, words[:-1][:LONGEST_OPENING])) for words in queries]
    return [opening for opening in openings if opening]


def _measure_idf(documents: Texts) -> tuple[dict[str, float], float]:
    """The inverse document frequency of each word, and of a word that no document has."""
    frequencies = Counter[str]()
    rows = evenly_spaced_rows(len(documents), TEXTS_COUNTED)
    for row in rows:
        frequencies.update(set(WORD.findall(documents[row].lower())))
    count = len(rows)
    idf = {word: math.log((count + 1) / (frequency + 0.5)) for word, frequency in frequencies.items()}
    return idf, math.log((count + 1) / 0.5)
