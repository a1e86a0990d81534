"""Which queries a student is trained on: those of the training splits, then those of extra files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.data.loaders import Draw
from distill.files.progress import log
from distill.files.ranks import is_leader
from distill.records import BadInput
from distill.teachers.open_stored import QuerySet
from distill.texts.sources import QueryFile
from distill.texts.text_source import TRAIN, TextSource
from distill.texts.texts import Texts

# by split and query id, the ids of the candidates that a cross encoder has scored, in its order
ScoredCandidates = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class TrainingQueries:
    """Sets of queries, numbered one set after the other.

    Args:
        splits: of the training splits, which may be judged.
        files: of extra files, which are not.
        removed: how many queries of the splits were left out, because an evaluation split has their wording.
    """

    splits: list[QuerySet]
    files: list[QuerySet]
    removed: int

    @property
    def sets(self) -> list[QuerySet]:
        return self.splits + self.files

    def __len__(self) -> int:
        return sum(len(texts) for texts, _ in self.sets)

    @property
    def split_size(self) -> int:
        """How many queries the splits have; they come first."""
        return sum(len(texts) for texts, _ in self.splits)

    def split_ids(self) -> list[str]:
        """Reads the ids of the queries of the splits."""
        return [id_ for texts, _ in self.splits for id_ in texts.ids]

    def read(self, rows: np.ndarray) -> list[str]:
        """Returns the texts of the queries in `rows` [n]."""
        starts = np.cumsum([0, *(len(texts) for texts, _ in self.sets)])
        set_of = np.searchsorted(starts, rows, side="right") - 1  # [n]
        return [self.sets[number].texts[int(row - starts[number])] for number, row in zip(set_of, rows, strict=True)]

    def draws(self, shares: dict[str, float], files: Sequence[str]) -> list[Draw]:
        """Returns how many queries of each set an epoch has.

        Args:
            shares: by file, how many of its queries an epoch draws for each query of the splits; a file without a share is read whole.
            files: names of the extra files.
        """
        draws = [Draw(len(texts), len(texts)) for texts, _ in self.splits]
        for (texts, _), name in zip(self.files, files, strict=True):
            number = round(shares[name] * self.split_size) if name in shares else len(texts)
            draws.append(Draw(len(texts), number if len(texts) else 0))
        return draws


def select_training_queries(
    source: TextSource, parts: Sequence[str], files: Sequence[str], scored: ScoredCandidates, candidates: int
) -> TrainingQueries:
    """Selects the queries to train on: none that an evaluation split has too.

    Args:
        source: has the splits.
        parts: names of the splits to train on.
        files: extra files of queries.
        scored: candidates that a cross encoder has scored; where there are some, queries without are left out.
        candidates: how many of them a query has to have.
    """
    removed = source.removed_from_train if TRAIN in parts else 0
    splits, extra = [], []
    for part in parts:
        whole = source.queries(part)
        texts = source.remove_leaked(whole, parts)
        removed += len(whole) - len(texts)
        if scored:
            texts = keep_scored_queries(texts, part, scored[part], candidates)
        named = texts.subset(np.arange(len(texts)), name=part)  # as its vectors are
        splits.append(QuerySet(named, whole.fingerprint))
    for path in files:
        whole = QueryFile(path).queries()
        texts = source.remove_leaked(whole, parts)
        if is_leader():
            log.info(f"{path}: {len(texts)} queries, {len(whole) - len(texts)} more left out, which another split asks too")
        extra.append(QuerySet(texts, whole.fingerprint))
    refuse_shared_names([*splits, *extra])
    return TrainingQueries(splits, extra, removed)


def keep_scored_queries(texts: Texts, part: str, scored: dict[str, list[str]], candidates: int) -> Texts:
    """Returns the queries of a split whose candidates a cross encoder has scored; refuses a split without any."""
    rows = np.flatnonzero([id_ in scored for id_ in texts.ids])
    left_out = f"{len(texts) - len(rows)} queries left out, of which fewer than {candidates} documents were read"
    if not len(rows):
        raise BadInput(f"data.candidates: {part}: {left_out}: none is left: set fewer, or encode with more --candidates_per_query")
    if is_leader() and len(rows) < len(texts):
        log.info(f"{part}: {left_out}")
    return texts.subset(rows)


def refuse_shared_names(sets: Sequence[QuerySet]) -> None:
    """Refuses two sets of one name, by which their vectors are found."""
    names = [texts.name for texts, _ in sets]
    if len(set(names)) < len(names):
        raise BadInput(f"data: query sets {', '.join(names)}: two of them share a name: rename a file")
