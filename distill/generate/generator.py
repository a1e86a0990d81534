"""The base class of the generators: a generator makes queries from texts."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from distill.files.configs import Configurable
from distill.generate.material import Material
from distill.records import BadInput
from distill.texts.texts import Texts

Progress = Callable[[int], object]  # called with the number of queries that were just made


class Generator(Configurable, ABC):
    """Makes queries. A subclass sets `reads` and implements `write`; its init arguments are its settings.

    Attributes:
        reads: whether queries are made from real queries or from documents.
        queries_per_shard: queries that are made and written together; a kill loses at most so many.
        is_cheap: whether it is fast and gives the same queries for the same seed: a training may then make new queries every epoch.
    """

    reads: ClassVar[Literal["queries", "documents"]]
    queries_per_shard: ClassVar[int] = 16_384
    is_cheap: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def settings(self) -> dict[str, Any]:
        """Returns everything, besides texts and seed, that determines the queries, as plain values."""
        return {"name": self.name, **self.init_args}

    def prepare(self, material: Material) -> None:
        """Loads statistics, weights or examples; called once before `write`."""

    def check_cost(self, texts: Texts, rows: np.ndarray) -> None:
        """Logs the estimated cost of the queries, and refuses a cost above the budget.

        Args:
            texts: all texts that queries are made from.
            rows: [n] int64, for each query to make the row of its text.
        """

    @abstractmethod
    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        """Makes queries.

        Args:
            texts: N texts.
            counts: number of queries to make from each text.
            rng: the only source of randomness, so that the same seed makes the same queries.
            progress: called with the number of queries that were made since the last call.

        Returns:
            the queries of each text, at most as many as its count.
        """


def check_setting(name: str, is_valid: bool, problem: str) -> None:
    """Raises BadInput, with the setting's name and the problem, unless `is_valid`."""
    if not is_valid:
        raise BadInput(f"generator.{name}: {problem}")


def check_shares(name: str, shares: dict[str, float], known: Sequence[str]) -> None:
    """Refuses shares with unknown names, negative shares, and shares that are all 0."""
    unknown = [key for key in shares if key not in known]
    check_setting(name, not unknown, f"{', '.join(unknown)}: there are {', '.join(known)}")
    check_setting(name, sum(shares.values()) > 0 and min(shares.values()) >= 0, f"{shares}: shares are 0 or more, and one is above 0")
