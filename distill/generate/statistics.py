"""Statistics of real queries (their lengths, first words and spelling) and of the words of the corpus (their idf)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, takewhile

from distill.files.sampling import evenly_spaced_rows
from distill.generate.filters import MARKS
from distill.texts.texts import Texts
from distill.texts.words import is_unspaced, list_words

TEXTS_COUNTED = 20_000  # size of the sample of texts; a larger one would hardly change the statistics
OPENING_WORDS = 100  # the commonest among the first three words of real queries: what, is, how, to, ...
LONGEST_OPENING = 4  # words
# lengths and openings of the queries of a web search, for corpora of which no query is known
ASSUMED_LENGTHS = [2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 10, 12, 15, 20]  # words
ASSUMED_OPENINGS = ["what is", "what is the", "how to", "how do", "how does", "what are the", "where is", "who is", "when did", "why do"]
WORD = re.compile(rf"[\w{MARKS}]+(?:['\u2019.,-][\w{MARKS}]+)*")


@dataclass(frozen=True)
class Statistics:
    """Statistics of real queries and of the documents that they search."""

    lengths: list[int]  # words of each real query
    openings: list[str]  # first words such as `what is the`, one entry for each query that begins with them
    lower: bool  # whether most real queries are in lower case
    plain: bool  # whether most real queries have no punctuation
    idf: dict[str, float]  # inverse document frequency of each word, lower case
    unknown: float  # idf of a word that no document has

    @cached_property
    def vocabulary(self) -> tuple[list[str], list[float]]:
        """Words of the corpus, sorted, and the cumulative sum of their weights: a word in most documents, or in few, weighs little."""
        weights = {word: self.idf[word] * math.exp(-self.idf[word]) for word in sorted(self.idf) if not word.isdigit()}
        return list(weights), list(accumulate(weights.values()))

    def split_document(self, text: str) -> list[str]:
        """Splits a document into words, in the spelling of real queries."""
        if self.lower:
            text = text.lower()
        return list_plain_words(text) if self.plain else list_words(text)


def list_plain_words(text: str) -> list[str]:
    """Lists the words of a text without punctuation.

    >>> list_plain_words("the Rhine's, a river"), list_plain_words("莱茵河, 2024")
    (['the', "Rhine's", 'a', 'river'], ['莱', '茵', '河', '2024'])
    """
    return [part for word in list_words(text) for part in WORD.findall(word)] if is_unspaced(text) else WORD.findall(text)


def measure_statistics(queries: Texts, documents: Texts) -> Statistics:
    """Measures real queries and documents, or evenly spaced samples of them if they are very many."""
    sample = [queries[row] for row in evenly_spaced_rows(len(queries), TEXTS_COUNTED)]
    words = list(map(list_words, sample))
    idf, unknown = _measure_idf(documents)
    lower_count = sum(query == query.lower() for query in sample)
    plain_count = sum(list_plain_words(query) == split for query, split in zip(sample, words, strict=True))
    return Statistics(
        lengths=[len(split) for split in words],
        openings=_find_openings(words),
        lower=2 * lower_count > len(sample),
        plain=2 * plain_count > len(sample),
        idf=idf,
        unknown=unknown,
    )


def assume_statistics(documents: Texts) -> Statistics:
    """Returns the statistics of documents and of the queries of a web search, where no real query is known."""
    idf, unknown = _measure_idf(documents)
    return Statistics(ASSUMED_LENGTHS, ASSUMED_OPENINGS, lower=True, plain=True, idf=idf, unknown=unknown)


def _find_openings(queries: Sequence[Sequence[str]]) -> list[str]:
    """Finds the common words that each query, a list of words, begins with; the last word of a query is not part of its opening."""
    counts = Counter(word for words in queries for word in words[:3])
    common = {word for word, _ in counts.most_common(OPENING_WORDS)}
    openings = [" ".join(takewhile(common.__contains__, words[:-1][:LONGEST_OPENING])) for words in queries]
    return [opening for opening in openings if opening]


def _measure_idf(documents: Texts) -> tuple[dict[str, float], float]:
    """Measures the inverse document frequency of each word, and of a word that no document has."""
    frequencies = Counter[str]()
    rows = evenly_spaced_rows(len(documents), TEXTS_COUNTED)
    for row in rows:
        frequencies.update(set(list_plain_words(documents[row].lower())))
    count = len(rows)
    idf = {word: math.log((count + 1) / (frequency + 0.5)) for word, frequency in frequencies.items()}
    return idf, math.log((count + 1) / 0.5)
