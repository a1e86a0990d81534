"""How many texts a job has, of what length: a number that the user states, or what a file, a folder or a source holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.planning.options import refuse_below
from distill.records import BadInput
from distill.shrinking.request import find_corpus_file
from distill.shrinking.splits import DEV, DEV_SHARE, HOLDOUT_SHARE, MOST_DEV, MOST_HOLDOUT
from distill.texts.sources import open_source
from distill.texts.tables import Kind, Row, read_queries, read_rows
from distill.texts.text_source import HOLDOUT, TRAIN, TextSource
from distill.texts.texts import Texts

NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}
MOST_READ = 4_000  # texts whose lengths stand for those of all
WORDS = ["how", "long", "does", "it", "take", "to", "read", "all", "of", "the", "old", "books", "in", "a", "large", "house"]
HASH_BYTES = 12  # of the id of a query that came without one


@dataclass(frozen=True)
class Amount:
    """A set of texts: how many there are, how many bytes the longest id has, and some of the texts, real or made up.

    >>> Amount("queries-train", 500, id_bytes=12, sample=("how long",)).is_stated
    False
    """

    name: str
    count: int
    id_bytes: int
    sample: tuple[str, ...]
    is_stated: bool = False  # whether number and length are the user's word, and the sample is made up


def parse_count(value: Any) -> int | None:
    """Reads a number of texts, which may end in k or M; None where the value is no number.

    >>> parse_count("8.8M"), parse_count("500k"), parse_count(24_884), parse_count("articles.csv")
    (8800000, 500000, 24884, None)
    """
    match = NUMBER.fullmatch(str(value))
    return None if match is None else round(float(match[1]) * FACTORS[match[2].lower()])


def read_documents(given: Any, tokens: int) -> Amount:
    """Reads how many documents there are.

    Args:
        given: a number, a file, a folder, a source or a list.
        tokens: length of the documents, where a number is given.
    """
    stated = state_amount("documents", given, tokens)
    if stated is not None:
        return stated
    source = open_folder(given)
    if source is not None:
        return measure_texts("documents", source.documents())
    is_folder = isinstance(given, str | Path) and Path(given).is_dir()
    return measure_rows(read_rows(find_corpus_file(Path(given)) or given if is_folder else given))


def state_amount(kind: Kind, given: Any, tokens: int) -> Amount | None:
    """The number of documents or queries that the user stated, with made-up texts of so many tokens; None where it is no number."""
    count = parse_count(given) if isinstance(given, str | int | float) else None
    if count is not None:
        refuse_below(1, kind, count)
        # ids as shrink makes them: documents are numbered, and queries have hashes
        id_bytes = len(str(count - 1)) if kind == "documents" else HASH_BYTES
        return Amount(kind, count, id_bytes, make_texts(tokens), is_stated=True)
    if isinstance(given, int | float):
        raise BadInput(f"{kind}: {given}: must be 1 or more")
    if isinstance(given, str | Path):
        if not Path(given).exists() and not Path(str(given).rpartition(":")[0] or given).exists():
            raise BadInput(f"{kind}: {str(given)!r}: neither a number, such as 500k or 8.8M, nor a file or a folder")
        log.info(f"counting the {kind} of {given}")
    return None


def make_texts(tokens: int) -> tuple[str, ...]:
    """Makes up texts of about so many tokens: common words, each of which is a single token to nearly every model.

    >>> len(make_texts(12)[0].split())
    10
    """
    random = np.random.default_rng(0)
    return tuple(" ".join(random.choice(WORDS, max(1, tokens - 2))) for _ in range(MOST_READ))


def measure_texts(name: str, texts: Texts) -> Amount:
    """The amount of texts that are there; the sample is spaced evenly over them."""
    sample = texts.read(evenly_spaced_rows(len(texts), MOST_READ))
    return Amount(name, len(texts), texts.ids.in_fewest_bytes().raw.dtype.itemsize, tuple(sample))


def measure_rows(rows: Iterable[Row]) -> Amount:
    """The amount of documents in a file, of which a random sample is held; one without an id is called by its number."""
    sample: list[str] = []
    random, count, id_bytes = Random(0), 0, 1
    for count, row in enumerate(rows, start=1):
        id_bytes = max(id_bytes, len((str(count - 1) if row.id is None else row.id).encode(errors="replace")))
        text, place = f"{row.title} {row.text}".strip(), random.randrange(count)
        if len(sample) < MOST_READ:
            sample.append(text)
        elif place < MOST_READ:
            sample[place] = text
    if not count:
        raise BadInput("documents: there are none: give at least one")
    return Amount("documents", count, id_bytes, tuple(sample))


def open_folder(given: Any) -> TextSource | None:
    """Opens a source, or a folder that has queries, in BEIR or MS MARCO layout; None where something else was given."""
    if isinstance(given, TextSource):
        return given
    has_queries = isinstance(given, str | Path) and Path(given).is_dir() and any(Path(given).glob("queries*"))
    return open_source(given) if has_queries else None


def read_query_sets(given: Any, tokens: int) -> list[Amount]:
    """Reads how many queries each split has, the training queries first.

    Those of a number or a file are divided as `shrink` divides them.
    """
    stated = state_amount("queries", given, tokens)
    if stated is not None:
        return divide_queries(stated)
    source = open_folder(given)
    if source is None:
        return divide_queries(measure_texts("queries", read_queries(given)))
    splits = source.splits()
    if TRAIN not in splits:
        raise BadInput(f"queries: {source}: no split train to learn from, there are {', '.join(splits) or 'none'}: give a number or a file")
    names = sorted(splits, key=lambda name: (name != TRAIN, name != DEV))
    return [measure_texts(f"queries-{name}", source.queries(name)) for name in names]


def divide_queries(queries: Amount) -> list[Amount]:
    """Divides queries into those to learn from, those to choose the epoch by, and those held out.

    >>> [(part.name, part.count) for part in divide_queries(Amount("queries", 500, 12, ("how long",)))]
    [('queries-train', 425), ('queries-dev', 25), ('queries-holdout', 50)]
    """
    holdout = min(MOST_HOLDOUT, max(1, queries.count // HOLDOUT_SHARE))
    dev = min(MOST_DEV, max(1, queries.count // DEV_SHARE))
    train = queries.count - holdout - dev
    if train < 1:
        raise BadInput(f"queries: {queries.count}: too few to learn from, choose the epoch by and hold out: give 20 or more")
    counts = {TRAIN: train, DEV: dev, HOLDOUT: holdout}
    return [Amount(f"queries-{name}", count, queries.id_bytes, queries.sample, queries.is_stated) for name, count in counts.items()]
