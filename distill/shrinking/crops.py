"""Queries cut out of documents: crops like a user's own queries, where there are few of these, and pieces of every length."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from distill.files.progress import log
from distill.generate.crop import DEFAULT_KINDS, Crop
from distill.generate.filters import Filters, RealQueries, find_drop_reasons
from distill.generate.statistics import Statistics, assume_statistics, measure_statistics
from distill.teachers.shard_size import measure_rate
from distill.texts.texts import Texts

FEW_QUERIES = 5_000  # with fewer real queries than this, crops are mixed in: experiments/generation/RESULT.md
MOST_CROPS = 12_000  # twelve for each of a thousand queries
CROPS_PER_DOCUMENT = 50  # at most: more would repeat themselves
MOST_PIECES = 12_000  # in equal time they help abroad, and twice as many little more: experiments/abroad/RESULT.md
PIECES_PER_DOCUMENT = 20  # at most
# Of the minutes, for which the teacher embeds pieces; it embeds crops for the rest. A student of a third of the layers learns from a text
# in about the time in which its teacher embeds it: so there is time for some epochs. With more pieces there is one, which costs at home.
SHARE_OF_PIECES = 0.25
ROUND_COUNTS = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)  # far apart, so that a rate measured anew gives the same one
SPARE = 1.4  # crops made for each one kept, as duplicates are dropped
# texts longer than queries help on queries that are unlike those at home
KINDS = {**DEFAULT_KINDS, "snippets": 0.15}
LIKE_QUERIES = Filters()
OF_ANY_LENGTH = Filters(most_words=10_000)


def make_crops(documents: Texts, queries: Texts | None, evaluation: Sequence[Texts], seed: int = 0) -> list[str]:
    """Cuts queries out of documents, all different, none of them one that the student is measured on.

    Args:
        documents: what to cut from.
        queries: real queries, whose length and spelling the crops imitate; None imitates those of a web search.
        evaluation: sets of queries that no crop may repeat.
        seed: seed of every random choice.

    Returns:
        up to 12,000 texts, fewer of few documents.
    """
    count = min(MOST_CROPS, CROPS_PER_DOCUMENT * len(documents))
    statistics = assume_statistics(documents) if queries is None else measure_statistics(queries, documents)
    return drop_repeated(cut(documents, KINDS, statistics, count, seed), evaluation, queries or [])[:count]


def make_pieces(documents: Texts, evaluation: Sequence[Texts], seed: int = 0) -> list[str]:
    """Cuts texts of 3 to 160 words out of documents, for queries of other kinds and lengths than those at hand.

    Args:
        documents: what to cut from.
        evaluation: sets of queries that no piece may repeat.
        seed: seed of every random choice.

    Returns:
        up to 12,000 texts, fewer of few documents.
    """
    count = min(MOST_PIECES, PIECES_PER_DOCUMENT * len(documents))
    pieces = cut(documents, {"pieces": 1.0}, assume_statistics(documents), count, seed)
    return drop_repeated(pieces, evaluation, [], OF_ANY_LENGTH)[:count]


def keep_what_fits(texts: Texts, embed: Callable[[Sequence[str]], object], minutes: float) -> Texts:
    """Keeps as many texts as a teacher embeds in so many minutes; all of them where it is fast enough.

    Args:
        texts: in random order.
        embed: embeds texts, as the teacher will.
        minutes: how long it may take.
    """

    def embed_rows(rows: np.ndarray) -> int:
        embed(texts.read(rows))
        return len(rows)

    if not len(texts):
        return texts
    rate = measure_rate(embed_rows, len(texts), len(texts) / (60 * minutes))
    if 60 * minutes * rate >= len(texts):
        return texts
    most = max((count for count in ROUND_COUNTS if count <= 60 * minutes * rate), default=ROUND_COUNTS[0])
    count = min(most, len(texts))
    log.info(f"{count} of {len(texts)} {texts.name} are kept, as the teacher embeds about {rate:.0f} a second: more --minutes keep more")
    return texts.subset(np.arange(count))


def cut(documents: Texts, kinds: dict[str, float], statistics: Statistics, count: int, seed: int) -> list[str]:
    """Cuts about 1.4 times `count` texts out of documents, in random order, some of them twice."""
    generator = Crop(kinds)
    generator.set_statistics(statistics)
    numbers = np.random.default_rng(seed).integers(len(documents), size=round(SPARE * count))
    rows, counts = np.unique(numbers, return_counts=True)
    texts = generator.write(documents.read(rows), counts.tolist(), random.Random(seed), lambda _: None)
    candidates = [text for of_document in texts for text in of_document if text.strip()]
    random.Random(seed).shuffle(candidates)  # else the last documents would be dropped with what is spare
    return candidates


def drop_repeated(
    candidates: Sequence[str], evaluation: Sequence[Texts], queries: Iterable[str], filters: Filters = LIKE_QUERIES
) -> list[str]:
    """Returns the candidates once each, without those that have the words of an evaluation query, or are one of the real queries."""
    reasons, keys = find_drop_reasons(candidates, filters, RealQueries(evaluation, queries))
    text_by_key = {key: text for key, text, reason in zip(keys.tolist(), candidates, reasons, strict=True) if reason is None}
    return list(text_by_key.values())
