"""What every generator of queries is: texts in, for each of them some new queries out."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from distill.generate.statistics import Statistics
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts


@dataclass(frozen=True)
class Material:
    """What queries are made from: a source of texts and those of its splits whose queries may be read."""

    source: TextSource
    split: str

    @cached_property
    def queries(self) -> Texts:
        """The real queries, at least one; what another split asks too is not among them."""
        queries = self.source.remove_leaked(self.source.queries(self.split), self.split.split("+"))
        if not len(queries):
            raise BadInput(f"{self.source}: other splits ask every query of {self.split}: name one with queries of its own")
        return queries

    @cached_property
    def documents(self) -> Texts:
        if not self.source.has_documents():
            raise BadInput(f"{self.source}: has no documents to make queries from: use the generator Noise, which reads queries")
        return self.source.documents()

    def read_by(self, generator: Generator) -> Texts:
        return self.queries if generator.reads == "queries" else self.documents

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics.of(self.queries, self.documents if self.source.has_documents() else self.queries)

    def evaluation_queries(self) -> list[Texts]:
        """Those of every split that is not read, the holdout included."""
        return [self.source.queries(split) for split in self.source.splits() if split not in self.split.split("+")]

    def examples(self, count: int) -> list[tuple[str, str]]:
        """Up to `count` judged (document, query) pairs, evenly spaced over the queries; none where nothing is judged."""
        qrels = self.source.qrels(self.split)
        if qrels is None or not count:
            return []
        rows = qrels.best_documents(list(self.queries.ids), self.documents.ids, self.source.relevant_from)
        judged = np.flatnonzero(rows >= 0)
        chosen = judged[np.linspace(0, len(judged) - 1, min(count, len(judged))).astype(int)]
        return [(self.documents[rows[query]], self.queries[query]) for query in chosen]


Progress = Callable[[int], object]  # told how many queries more are made


@dataclass
class Generator(ABC):
    """Makes queries; one subclass for each way."""

    reads: ClassVar[Literal["queries", "documents"]]
    queries_per_shard: ClassVar[int] = 16_384  # what a kill may lose
    anew: ClassVar[bool] = True  # quick, and the same again for the same seed: `train` may ask for others in every epoch

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def prepare(self, material: Material) -> None:  # noqa: B027, most need nothing
        """Called once before `write`: statistics, weights, examples."""

    def settings(self) -> dict[str, Any]:
        """What decides which queries come out, beside the texts and the seed."""
        return {"name": self.name, **asdict(self)}

    def announce(self, texts: Texts, rows: np.ndarray) -> None:  # noqa: B027, most cost nothing
        """Says, or refuses, what making a query of each of `texts[rows]` costs."""

    @abstractmethod
    def write(self, texts: Sequence[str], counts: Sequence[int], draw: random.Random, progress: Progress) -> list[list[str]]:
        """For each text up to `counts` new queries; `draw` is the only source of chance."""


def check_setting(name: str, holds: bool, otherwise: str) -> None:
    """Refuses a generator's setting of that name."""
    if not holds:
        raise BadInput(f"generator.{name}: {otherwise}")


def check_shares(name: str, shares: dict[str, float], known: Sequence[str]) -> None:
    """Refuses shares of unknown things, and shares that draw nothing."""
    unknown = [key for key in shares if key not in known]
    check_setting(name, not unknown, f"{', '.join(unknown)}: there are {', '.join(known)}")
    check_setting(name, sum(shares.values()) > 0 and min(shares.values()) >= 0, f"{shares}: shares are 0 or more, and one is above 0")
