"""What every generator of queries is: it takes texts and makes some new queries of each."""

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
    """Makes queries; a subclass is one way of making them, and its arguments are its settings.

    A subclass says in `reads` what it makes queries from, and implements `write`.
    """

    reads: ClassVar[Literal["queries", "documents"]]
    queries_per_shard: ClassVar[int] = 16_384  # made together: what a kill may lose
    is_cheap: ClassVar[bool] = True  # quick, and the same again for the same seed: a training may make other queries in every epoch

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def settings(self) -> dict[str, Any]:
        """What decides which queries are made, beside the texts and the seed, as plain values."""
        return {"name": self.name, **self.init_args}

    def prepare(self, material: Material) -> None:
        """Called once before `write`: loads statistics, weights, examples."""

    def check_cost(self, texts: Texts, rows: np.ndarray) -> None:
        """Logs what one query of each of `texts[rows]` will cost, and refuses what is too expensive.

        Args:
            texts: all texts that queries are made from.
            rows: [n] int64, a row for each query that will be made.
        """

    @abstractmethod
    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        """Makes queries.

        Args:
            texts: N texts.
            counts: for each text how many queries to make.
            rng: the only source of chance, so that the same seed makes the same queries.
            progress: to be called with the number of queries as they are made.

        Returns:
            for each text its queries, at most as many as `counts` says.
        """


def check_setting(name: str, is_valid: bool, problem: str) -> None:
    """Refuses a generator's setting of that name where it is not valid."""
    if not is_valid:
        raise BadInput(f"generator.{name}: {problem}")


def check_shares(name: str, shares: dict[str, float], known: Sequence[str]) -> None:
    """Refuses shares of unknown things, and shares that draw nothing."""
    unknown = [key for key in shares if key not in known]
    check_setting(name, not unknown, f"{', '.join(unknown)}: there are {', '.join(known)}")
    check_setting(name, sum(shares.values()) > 0 and min(shares.values()) >= 0, f"{shares}: shares are 0 or more, and one is above 0")
