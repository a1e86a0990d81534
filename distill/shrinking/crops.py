"""Queries cut out of documents, for jobs that have few real ones or none."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np

from distill.generate.crop import DEFAULT_KINDS, Crop
from distill.generate.filters import Filters, RealQueries, find_drop_reasons
from distill.generate.statistics import assume_statistics, measure_statistics
from distill.texts.texts import Texts

FEW_QUERIES = 5_000  # with fewer real queries than this, crops are mixed in: experiments/generation/RESULT.md
MOST_CROPS = 12_000  # twelve for each of a thousand queries
CROPS_PER_DOCUMENT = 50  # at most: more would repeat themselves
SPARE = 1.4  # crops made for each one kept, as duplicates are dropped
# texts longer than queries help on queries that are unlike those at home
KINDS = {**DEFAULT_KINDS, "snippets": 0.15}


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
    generator = Crop(KINDS)
    generator.set_statistics(assume_statistics(documents) if queries is None else measure_statistics(queries, documents))
    numbers = np.random.default_rng(seed).integers(len(documents), size=round(SPARE * count))
    rows, counts = np.unique(numbers, return_counts=True)
    crops = generator.write(documents.read(rows), counts.tolist(), random.Random(seed), lambda _: None)
    candidates = [crop for of_document in crops for crop in of_document if crop.strip()]
    random.Random(seed).shuffle(candidates)  # else the cut below would drop the last documents
    return drop_repeated(candidates, evaluation, queries or [])[:count]


def drop_repeated(candidates: Sequence[str], evaluation: Sequence[Texts], queries: Iterable[str]) -> list[str]:
    """Returns the candidates once each, without those that have the words of an evaluation query, or are one of the real queries."""
    reasons, keys = find_drop_reasons(candidates, Filters(), RealQueries(evaluation, queries))
    text_by_key = {key: text for key, text, reason in zip(keys.tolist(), candidates, reasons, strict=True) if reason is None}
    return list(text_by_key.values())
