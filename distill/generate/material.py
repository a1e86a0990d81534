"""What queries are generated from: the real queries and the documents of a source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from distill.generate.statistics import Statistics, measure_statistics
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts, evenly_spaced_rows


@dataclass(frozen=True)
class Material:
    """A source of texts and those of its splits whose queries may be read."""

    source: TextSource
    split: str  # a+b for two splits

    @cached_property
    def queries(self) -> Texts:
        """The real queries of the split, at least one, without those of another split's wording."""
        queries = self.source.remove_leaked(self.source.queries(self.split), self.split.split("+"))
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
        """Of the real queries and the documents; where there are no documents, queries take their place."""
        return measure_statistics(self.queries, self.documents if self.source.has_documents() else self.queries)

    def texts(self, kind: Literal["queries", "documents"]) -> Texts:
        """The texts that a generator makes queries from: `generator.reads` says which kind it needs."""
        return self.queries if kind == "queries" else self.documents

    def evaluation_queries(self) -> list[Texts]:
        """The queries of every split that is not read, the holdout included."""
        return [self.source.queries(split) for split in self.source.splits() if split not in self.split.split("+")]

    def examples(self, count: int) -> list[tuple[str, str]]:
        """Up to `count` judged (document, query) pairs, evenly spaced over the queries; none where nothing is judged."""
        qrels = self.source.qrels(self.split)
        if qrels is None or not count:
            return []
        documents = qrels.best_documents(list(self.queries.ids), self.documents.ids, self.source.relevant_from)  # [Q] rows
        judged = np.flatnonzero(documents >= 0)
        chosen = judged[evenly_spaced_rows(len(judged), count)]
        return [(self.documents[documents[query]], self.queries[query]) for query in chosen]
