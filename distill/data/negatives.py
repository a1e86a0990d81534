"""Where a query's hard negatives come from: chance, a teacher's ranking, or a file of mined ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.artefacts import cache_folder, file_fingerprint, fingerprint
from distill.data.cache import kept
from distill.data.ids import Ids
from distill.data.qrels import Qrels, Relevant
from distill.data.sources import TextSource, check_documents, text_rows
from distill.data.store import TeacherStore
from distill.data.texts import Texts
from distill.device import best_device
from distill.records import BadInput
from distill.search import search


@dataclass(frozen=True)
class Labelled:
    """The queries to train on and what is judged of them."""

    source: TextSource
    split: str
    queries: Texts
    qrels: Qrels
    corpus: Ids

    def pairs(self, from_grade: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries [E] and of their documents [E] judged `from_grade` or more; documents outside the corpus are left out."""
        return self.qrels.pairs(self.queries.ids, self.corpus, from_grade)


@dataclass(frozen=True)
class Examples:
    """What is trained on: E queries, each with a positive and the documents its negatives are drawn from."""

    queries: np.ndarray  # [E] int64, rows of the training queries
    positives: np.ndarray  # [E] int64, rows of the corpus
    pools: np.ndarray  # [E, P] int64, rows of the corpus, -1 where there are fewer

    def __len__(self) -> int:
        return len(self.queries)


class Rows(NamedTuple):
    """What a batch is made of, by row."""

    queries: np.ndarray  # [B]
    documents: np.ndarray  # [B, K]
    relevant: np.ndarray | None = None  # [B, J] all that is judged relevant to each query, -1 beyond


class Negatives:
    """Where hard negatives come from; one subclass for each way. Random documents stand in where they are too few."""

    def examples(self, labelled: Labelled) -> Examples:
        """Every judged pair with the pool its negatives are drawn from; known positives may be in it."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Of what the pools are made from, beside queries and corpus."""
        return ""


class RandomNegatives(Negatives):
    """Documents drawn from the corpus at random, others every epoch."""

    def examples(self, labelled: Labelled) -> Examples:
        queries, positives = labelled.pairs(labelled.source.relevant_from)
        return Examples(queries, positives, np.empty((len(queries), 0), np.int64))


class TopNegatives(Negatives):
    """The documents that a teacher ranks highest for the query.

    Args:
        store: folder of that teacher's vectors, as `distill encode` leaves it.
        skip: so many of the highest are left out, which are often unjudged answers.
        depth: ranks from which negatives are drawn, counted from the first.
    """

    def __init__(self, store: str, skip: int = 0, depth: int = 100):
        if not 0 <= skip < depth:
            raise BadInput(f"data.negatives: skip {skip} must be at least 0 and below depth {depth}")
        self.store, self.skip, self.depth = store, skip, depth

    def examples(self, labelled: Labelled) -> Examples:
        queries, positives = labelled.pairs(labelled.source.relevant_from)
        used, place = np.unique(queries, return_inverse=True)
        top = first_stage_top(labelled.source, self.store, labelled.split, labelled.queries.subset(used), self.depth)
        return Examples(queries, positives, top[place, self.skip :])

    def fingerprint(self) -> str:
        return TeacherStore(self.store).maker["fingerprint"]


class MinedNegatives(Negatives):
    """Negatives from a file: `{"query": id, "positive": id, "negatives": [ids]}` on every line, which is also what is trained on.

    Args:
        path: the file, e.g. as `distill mine` leaves it.
    """

    def __init__(self, path: str):
        self.path = path
        if not Path(path).is_file():
            raise BadInput(f"{path}: no such file")

    def examples(self, labelled: Labelled) -> Examples:
        lines = list(self._lines())
        counts = [len(line["negatives"]) for line in lines]
        queries = self._rows(labelled.queries.ids, [line["query"] for line in lines], range(len(lines)), "query", optional=True)
        positives = self._rows(labelled.corpus, [line["positive"] for line in lines], range(len(lines)), "document")
        flat = [document for line in lines for document in line["negatives"]]
        found = self._rows(labelled.corpus, flat, np.repeat(np.arange(len(lines)), counts), "document")
        pools = np.full((len(lines), max(counts)), -1, np.int64)
        pools[np.arange(max(counts)) < np.array(counts)[:, None]] = found
        known = queries >= 0  # a query that another split asks too is not trained on
        if not known.any():
            raise BadInput(f"{self.path}: none of its queries is in the split {labelled.split!r}: give the file that was mined for it")
        return Examples(queries[known], positives[known], pools[known])

    def fingerprint(self) -> str:
        return file_fingerprint(Path(self.path))

    def _lines(self) -> Iterator[dict[str, Any]]:
        number = 0
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    query, positive, negatives = (record[key] for key in ("query", "positive", "negatives"))
                    found = {"query": str(query), "positive": str(positive), "negatives": [str(id_) for id_ in negatives]}
                except (ValueError, KeyError, TypeError, RecursionError):
                    wanted = '{"query": id, "positive": id, "negatives": [ids]}'
                    raise BadInput(f"{self.path}: line {number} is not {wanted}") from None
                yield found
        if not number:
            raise BadInput(f"{self.path}: the file is empty")

    def _rows(self, known: Ids, ids: list[str], lines: Any, what: str, optional: bool = False) -> np.ndarray:
        rows = known.rows(ids)
        if not optional and (rows < 0).any():
            first = int(np.argmax(rows < 0))
            raise BadInput(f"{self.path}: line {lines[first] + 1}: {what} {ids[first]!r} is not in the corpus: mine it from these texts")
        return rows


def first_stage_top(source: TextSource, store: str, split: str, queries: Texts, k: int) -> np.ndarray:
    """[Q, k] rows of a stored teacher's top documents for `queries` of a split, -1 beyond the corpus; searched once and kept."""
    opened = TeacherStore(store)
    check_documents(opened.documents, source)
    stores = [opened.queries(part, source.queries(part).fingerprint) for part in split.split("+")]
    key = fingerprint([part.checksums for part in [opened.documents, *stores]], queries.fingerprint, k)

    def searched() -> list[np.ndarray]:
        vectors = np.empty((len(queries), opened.documents.width), np.float16)
        missing = np.ones(len(queries), bool)
        for part in stores:
            rows = part.ids.rows(list(queries.ids))
            vectors[rows >= 0] = part.take(rows[rows >= 0])
            missing &= rows < 0
        if missing.any():
            raise BadInput(f"{store}: no vector of {int(missing.sum())} queries of {split}: encode them")
        return [search(torch.from_numpy(vectors).to(best_device()), opened.documents, k, progress=True)[1].cpu().numpy()]

    return text_rows(opened.documents, source, np.asarray(kept(cache_folder() / "teacher-top" / f"{key}.npy", searched)))


class Draw:
    """Draws each example's negatives, others every epoch, from (seed, epoch, example) alone: no number of ranks or resumes shows.

    Args:
        examples: positives and pools; documents that are judged relevant to the query are taken out of its pool.
        known: rows of queries [M] and of documents [M] that are judged relevant, whatever the grade.
        documents: size of the corpus.
        count: negatives an example.
    """

    def __init__(self, examples: Examples, known: tuple[np.ndarray, np.ndarray], documents: int, count: int, seed: int):
        self.examples, self.documents, self.count, self.seed = examples, documents, count, seed
        judged = np.stack([np.concatenate([known[0], examples.queries]), np.concatenate([known[1], examples.positives])])
        self.known = np.unique(judged[0] * documents + judged[1])  # [M] pairs, ascending
        self.relevant = Relevant(self.known // documents, self.known % documents, int(examples.queries.max(initial=-1)) + 1)
        if count + self.relevant.most > documents:
            found = f"the corpus has {documents} documents, up to {self.relevant.most} of them relevant"
            raise BadInput(f"data.negatives_per_query: {count}, but {found}")
        pairs = examples.queries[:, None] * documents + examples.pools
        self.pools = np.where((examples.pools >= 0) & ~np.isin(pairs, self.known), examples.pools, -1)

    def candidates(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """[B, 1 + count] rows of the corpus for examples [B]: the positive, then its negatives."""
        drawn = [self._negatives(row, epoch) for row in rows.tolist()]
        return np.concatenate([self.examples.positives[rows][:, None], np.stack(drawn)], axis=1)

    def _negatives(self, example: int, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, epoch, example])
        pool = self.pools[example]
        chosen = random.permutation(np.unique(pool[pool >= 0]))[: self.count]
        query = self.examples.queries[example] * self.documents
        while len(chosen) < self.count:
            more = random.integers(self.documents, size=2 * self.count)
            more = more[~np.isin(query + more, self.known) & ~np.isin(more, chosen)]
            chosen = np.concatenate([chosen, more[np.sort(np.unique(more, return_index=True)[1])]])[: self.count]
        return chosen
