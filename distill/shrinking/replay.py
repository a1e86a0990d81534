"""What an epoch of a continued job reads beside its new queries: noise of them, queries of earlier jobs, crops and pieces."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from distill.generate.noise import Noise
from distill.generate.statistics import measure_statistics
from distill.shrinking.crops import drop_repeated
from distill.shrinking.texts import CROPS, PIECES, JobTexts
from distill.texts.text_source import TRAIN
from distill.texts.texts import Texts

NOISE_PER_QUERY, MOST_NOISE = 8, 10_000
# for each new query: so many earlier queries, and as many crops and pieces. Measured on 340 new queries of other kinds beside 4,250
# earlier ones, with crops alone: unseen new ones gained .024 in overlap@10, and the earlier ones lost nothing
REPLAYED = 8


def make_noise(queries: Texts, documents: Texts, evaluation: Sequence[Texts], seed: int = 0) -> list[str]:
    """Changes words of new queries, so that a few hundred of them teach more than themselves; none is an evaluation query.

    Args:
        queries: the new queries.
        documents: texts that words are taken from.
        evaluation: sets of queries that are measured on.
        seed: seed of every random choice.
    """
    count = min(NOISE_PER_QUERY, MOST_NOISE // len(queries))
    generator = Noise()
    generator.set_statistics(measure_statistics(queries, documents))
    changed = generator.write(list(queries), [count] * len(queries), random.Random(seed), lambda _: None)
    return drop_repeated([text for of_query in changed for text in of_query if text.strip()], evaluation, queries)


def choose_shares(texts: JobTexts) -> dict[str, float]:
    """Chooses how many queries an epoch draws from each extra file, for each new query."""
    new = len(texts.source.queries(TRAIN))
    sizes = {path: len(Texts.open(path)) for path in texts.extra}
    groups = [[path for path in sizes if is_earlier(path)], [path for path in sizes if path.stem in (CROPS, PIECES)]]
    total = {path: sum(sizes[other] for other in group) for group in groups for path in group}
    return {str(path): min(REPLAYED * size / total.get(path, size), size / new) for path, size in sizes.items()}


def is_earlier(path: Path) -> bool:
    """Tells whether a file has the training queries of an earlier job.

    >>> is_earlier(Path("texts/train_1.jsonl")), is_earlier(Path("texts/crops.jsonl"))
    (True, False)
    """
    return re.fullmatch(rf"{TRAIN}_\d+", path.stem) is not None
