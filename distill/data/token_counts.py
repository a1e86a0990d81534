"""Counts the tokens of training queries and documents, which say what tokens a student needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from distill.encoders.encoder import Encoder
from distill.encoders.tokenizing import tokenizer_fingerprint, truncated_ids
from distill.files.cache import cache_folder, load_or_compute
from distill.files.fingerprints import fingerprint
from distill.files.progress import progress_bar
from distill.files.sampling import evenly_spaced_rows
from distill.texts.texts import Texts

MOST_TEXTS = 100_000  # of a set of queries, or of the documents: more change no count that matters
TEXTS_PER_CHUNK = 4096


def count_tokens(encoder: Encoder, queries: Sequence[Texts], documents: Texts | None = None) -> np.ndarray:
    """Counts how often each token occurs, without special tokens; the same texts always give the same counts.

    Each set of queries counts as much as another, however long its texts are, and all of them together as much as the documents: of
    several ways to count, this covered most tokens of held-out queries.

    Args:
        encoder: its tokenizer and its longest text are used.
        queries: sets of queries.
        documents: documents; None where there are only their vectors.

    Returns:
        [V] float64, one number for each row of the word table; those of queries add up to 1, and so do those of documents.
    """
    total = np.zeros(len(encoder.word_table.weight))
    for texts in queries:
        total += _load_or_measure_shares(texts, encoder) / len(queries)
    return total if documents is None else total + _load_or_measure_shares(documents, encoder)


def _load_or_measure_shares(texts: Texts, encoder: Encoder) -> np.ndarray:
    """Measures what share [V] of the tokens of some texts each token makes up, special tokens aside."""
    counts = _load_or_count(texts, encoder)
    counts[encoder.tokenizer.all_special_ids] = 0
    return counts / max(counts.sum(), 1)


def _load_or_count(texts: Texts, encoder: Encoder) -> np.ndarray:
    """Counts [V] float64 of up to MOST_TEXTS texts, evenly spaced, from the cache where this tokenizer has read them before."""
    sample = texts.subset(evenly_spaced_rows(len(texts), MOST_TEXTS))
    rows = len(encoder.word_table.weight)
    name = fingerprint("counts", sample.fingerprint, tokenizer_fingerprint(encoder.tokenizer), encoder.settings.max_length, rows)
    path = cache_folder() / "tokens" / f"{name}.npy"
    return load_or_compute(path, lambda: _count(sample, encoder, rows)).astype(np.float64)


def _count(texts: Texts, encoder: Encoder, rows: int) -> Iterator[np.ndarray]:
    counts = np.zeros(rows, np.int64)
    starts = range(0, len(texts), TEXTS_PER_CHUNK)
    for start in progress_bar(starts, total=len(starts), desc=f"count tokens of {texts.name}", unit=" chunks", shown=len(starts) > 1):
        chunk = texts.read(np.arange(start, min(start + TEXTS_PER_CHUNK, len(texts))))
        ids = truncated_ids(encoder.tokenizer, chunk, encoder.settings.max_length, special_tokens=False)
        counts += np.bincount(np.fromiter(chain.from_iterable(ids), np.int64), minlength=rows)[:rows]
    yield counts
