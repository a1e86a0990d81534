"""What a student was trained on, in short: how long its queries were and where they lie in the teacher's space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill.data.datamodule import RetrievalData
from distill.files.atomic import refuse_unreadable, write_atomically
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.records import BadInput, one_line
from distill.texts.words import count_words

SAMPLE = 4_000  # queries whose vectors are kept
AT_ONCE = 8_192  # queries that are compared with them at once
LONGEST_PERCENTILE = 99  # of the words of training queries: a longer query is longer than those that it knows
LEAST_PERCENTILE = 2  # of the dev queries' cosine to the nearest training query: a query below it is unlike those that it knows
MANY_LONGER, MANY_UNLIKE = 0.1, 0.2  # shares of the queries at hand from which on a warning is due


@dataclass(frozen=True)
class KnownQueries:
    """A sample of the queries that a student was trained on.

    Attributes:
        longest: words that 99% of them do not exceed.
        least: cosine to the nearest of them that 98% of the dev queries exceed, in the teacher's space.
        vectors: [n, D] the teacher's vectors of the sample, of length 1.
    """

    longest: int
    least: float
    vectors: Tensor

    def compare(self, queries: Sequence[str], vectors: Tensor) -> dict[str, float]:
        """Measures how many queries are longer than, and unlike, those that were trained on.

        Args:
            queries: Q queries.
            vectors: [Q, D] the teacher's vectors of them.

        Returns:
            the fields `longest_known_words`, `longer` and `unlike` of results.json; the last two are shares of the queries.
        """
        longer = np.mean([count_words(query) > self.longest for query in queries])
        unlike = (find_nearest(vectors, self.vectors) < self.least).float().mean()
        return {"longest_known_words": self.longest, "longer": float(longer), "unlike": float(unlike)}

    def save(self, path: Path) -> None:
        """Writes the file that `load_known_queries` reads."""
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, longest=self.longest, least=self.least, vectors=self.vectors.half().numpy())


def load_known_queries(path: Path) -> KnownQueries | None:
    """Reads what a training left; None where there is nothing: an earlier release trained, or `data.fresh` generated the queries."""
    if not path.exists():
        return None
    try:
        with refuse_unreadable("what training queries were like", path), np.load(path, allow_pickle=False) as file:
            vectors = torch.from_numpy(file["vectors"]).float()
            return KnownQueries(int(file["longest"]), float(file["least"]), vectors)
    except (BadZipFile, EOFError) as error:
        raise BadInput(f"{path}: damaged ({one_line(error)}): restore it, or delete it") from None


def sample_known_queries(data: RetrievalData) -> KnownQueries:
    """Samples the training queries of a data module, after its `setup`.

    Queries that `data.fresh` generates cannot be sampled, as no epoch has the same: `train` leaves no sample of a run that reads them.
    Half of the sample is of the splits, half of the extra files, each of which counts as often as an epoch draws from it.
    """
    queries = data.training_queries
    draws = queries.count_draws(data.query_shares, data.query_files)
    starts = np.cumsum([0, *(size for size, _ in draws)])
    number_of_splits = len(queries.splits)
    groups = [range(number_of_splits), range(number_of_splits, len(draws))]
    groups = [group for group in groups if sum(draws[place].number for place in group)]
    rows, draws_of_row = [], []
    for group in groups:
        share = SAMPLE / len(groups) / sum(draws[place].number for place in group)  # of each query that is drawn
        for place in group:
            size, number = draws[place]
            if size and number:
                rows.append(starts[place] + evenly_spaced_rows(size, max(1, round(share * number))))
                draws_of_row.append(np.full(len(rows[-1]), number / len(rows[-1])))
    sample = np.concatenate(rows)
    longest = find_percentile(list(map(count_words, queries.read(sample))), np.concatenate(draws_of_row), LONGEST_PERCENTILE)
    vectors = normalize(torch.from_numpy(data.teacher.queries.take(sample)).float(), dim=-1)
    dev = torch.from_numpy(data.dev_vectors.take(evenly_spaced_rows(len(data.dev_texts), SAMPLE))).float()
    least = float(np.percentile(find_nearest(dev, vectors).numpy(), LEAST_PERCENTILE))
    return KnownQueries(longest, least, vectors)


def find_percentile(values: Sequence[int], weights: np.ndarray, percentile: float) -> int:
    """Returns the least of the values that so many percent of the weight [n] do not exceed.

    >>> find_percentile([150, 3, 4], np.array([1.0, 60.0, 39.0]), 99), find_percentile([150, 3, 4], np.array([2.0, 60.0, 38.0]), 99)
    (4, 150)
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])  # [n]
    # the last bits of a sum of weights must not decide
    return int(values[order[min(len(values) - 1, int(np.searchsorted(reached, percentile / 100 * reached[-1] * (1 - 1e-9))))]])


def find_nearest(vectors: Tensor, known: Tensor) -> Tensor:
    """Returns the highest cosine [Q] of each vector [Q, D] to any of the known ones [n, D], which have length 1."""
    parts = vectors.split(AT_ONCE)
    return torch.cat([(normalize(part.float().cpu(), dim=-1) @ known.T).amax(dim=1) for part in parts])


def warn_of_unknown(place: str, familiarity: dict[str, Any]) -> None:
    """Warns where many of the queries at hand are longer than, or unlike, those that the student was trained on."""
    longer, unlike = familiarity["longer"], familiarity["unlike"]
    fix = "train on texts of that kind too (data.queries)"
    if longer >= MANY_LONGER:
        known = f"99% of those it was trained on, {familiarity['longest_known_words']} words"
        log.warning(f"{place}: {longer:.0%} of the queries are longer than {known}: it keeps less of such queries: {fix}")
    if unlike >= MANY_UNLIKE:
        log.warning(f"{place}: {unlike:.0%} of the queries are unlike those that the student was trained on: {fix}")
