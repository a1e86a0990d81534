"""The real queries and the documents of a source, from which queries are generated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from distill.files.sampling import evenly_spaced_rows
from distill.generate.statistics import Statistics, measure_statistics
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts


@dataclass(frozen=True)
class Material:
    """A source of texts, and the split whose queries a generator may read."""

    source: TextSource
    split: str  # a+b for two splits
    measured_on: tuple[Texts, ...] = ()  # further queries that a student is measured on, beside those of the source's other splits

    @cached_property
    def queries(self) -> Texts:
        """The real queries of the split, without those that another split also has; refuses a split of which none is left."""
        queries = self.source.remove_leaked(self.source.queries(self.split), self.split.split("+"))
        queries = queries.subset(np.flatnonzero(~queries.leak_mask(self.measured_on)))
        if not len(queries):
            raise BadInput(f"{self.source}: every query of {self.split} is in another split too: name one with queries of its own")
        return queries

    @cached_property
    def documents(self) -> Texts:
        if not self.source.has_documents():
            raise BadInput(f"{self.source}: has no documents to make queries from: use the generator Noise, which reads queries")
        return self.source.documents()

    @cached_property
    def statistics(self) -> Statistics:
        """The statistics of the real queries and the documents; for a source without documents the queries take their place."""
        documents = self.documents if self.source.has_documents() else self.queries
        return measure_statistics(self.queries, documents)

    def texts(self, kind: Literal["queries", "documents"]) -> Texts:
        """Returns the texts that a generator makes queries from; `kind` is its `reads`."""
        return self.queries if kind == "queries" else self.documents

    def evaluation_queries(self) -> list[Texts]:
        """Returns the queries of every other split, including the holdout, and of `measured_on`."""
        return [*self.measured_on] + [self.source.queries(split) for split in self.source.splits() if split not in self.split.split("+")]

    def examples(self, count: int) -> list[tuple[str, str]]:
        """Returns up to `count` judged (document, query) pairs, evenly spaced over the queries; an empty list without judgments."""
        qrels = self.source.qrels(self.split)
        if qrels is None or not count:
            return []
        documents = qrels.best_documents(list(self.queries.ids), self.documents.ids, self.source.relevant_from)  # [Q] rows
        judged = np.flatnonzero(documents >= 0)
        chosen = judged[evenly_spaced_rows(len(judged), count)]
        return [(self.documents[documents[query]], self.queries[query]) for query in chosen]
