"""Selects the queries that a student is trained on: queries of the training splits, then queries of extra files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.data.loaders import Draw
from distill.files.progress import log
from distill.files.ranks import is_leader
from distill.records import BadInput
from distill.teachers.candidates import open_pair_stores, read_scored_candidates
from distill.teachers.open_stored import DOCUMENTS, QuerySet, lists_candidates
from distill.teachers.run_scores import is_run, read_run_candidates
from distill.texts.ids import Ids
from distill.texts.own_documents import find_own_documents
from distill.texts.qrels import Qrels, RelevantRows
from distill.texts.sources import QueryFile
from distill.texts.text_source import TRAIN, TextSource
from distill.texts.texts import Texts

# the ids of the candidates that a cross encoder has scored, in the order of its store, by split and query id
ScoredCandidates = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class TrainingQueries:
    """Sets of queries, numbered one set after the other.

    Args:
        splits: queries of the training splits, which may be judged.
        files: queries of extra files, which are not judged.
        removed: number of queries of the splits that were left out, because an evaluation split has them too.
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
        """The number of queries of the splits, which come before those of the files."""
        return sum(len(texts) for texts, _ in self.splits)

    def split_ids(self) -> list[str]:
        """Reads the ids of the queries of the splits."""
        return [id_ for texts, _ in self.splits for id_ in texts.ids]

    def read(self, rows: np.ndarray) -> list[str]:
        """Returns the texts of the queries in `rows` [n]."""
        starts = np.cumsum([0, *(len(texts) for texts, _ in self.sets)])
        set_of = np.searchsorted(starts, rows, side="right") - 1  # [n]
        return [self.sets[number].texts[int(row - starts[number])] for number, row in zip(set_of, rows, strict=True)]

    def best_documents(self, qrels: Qrels | None, corpus: Ids, relevant_from: int) -> np.ndarray:
        """Returns the row [N] of each query's best judged document in the corpus; -1 marks a query without one."""
        best = np.full(len(self), -1, np.int64)
        if qrels is not None:
            ids = self.split_ids()
            best[: len(ids)] = qrels.best_documents(ids, corpus, relevant_from)
        return best

    def own_documents(self, source: TextSource, corpus: Ids) -> np.ndarray | None:
        """Returns the row [N] of the document with each query's own id, -1 where none is left out; None where no query has one.

        Where ids repeat in a file, they are no names of queries, but of what these were generated from, as in doc2query's files.
        """
        named = [(texts, True) for texts, _ in self.splits] + [(texts, False) for texts, _ in self.files if not repeats_ids(texts)]
        found = {texts.name: find_own_documents(source, texts.name, texts.ids, corpus, judged) for texts, judged in named}
        parts = [(texts, found.get(texts.name)) for texts, _ in self.sets]
        if all(rows is None for _, rows in parts):
            return None
        return np.concatenate([np.full(len(texts), -1) if rows is None else rows for texts, rows in parts])

    def never_negatives(self, qrels: Qrels | None, corpus: Ids, own_documents: np.ndarray | None) -> RelevantRows:
        """Returns the documents that are no negatives of each query: those with a grade above 0, and its own."""
        queries, documents = (qrels or Qrels({})).relevant_pairs(self.split_ids(), corpus)
        if own_documents is not None:
            with_own = np.flatnonzero(own_documents >= 0)
            queries, documents = np.concatenate([queries, with_own]), np.concatenate([documents, own_documents[with_own]])
        return RelevantRows(queries, documents, len(self))

    def count_draws(self, shares: dict[str, float], files: Sequence[str]) -> list[Draw]:
        """Returns how many queries an epoch draws from each set.

        Args:
            shares: queries that an epoch draws from a file, for each query of the splits, by file; a file without a share is drawn whole.
            files: names of the extra files.
        """
        draws = [Draw(len(texts), len(texts)) for texts, _ in self.splits]
        for (texts, _), name in zip(self.files, files, strict=True):
            number = round(shares[name] * self.split_size) if name in shares else len(texts)
            draws.append(Draw(len(texts), number if len(texts) else 0))
        return draws


def select_training_queries(
    source: TextSource,
    parts: Sequence[str],
    files: Sequence[str],
    scored: ScoredCandidates,
    candidates: int,
    measured_on: Sequence[Texts] = (),
) -> TrainingQueries:
    """Selects the queries to train on; queries that an evaluation split also has are left out.

    Args:
        source: the source of the splits.
        parts: names of the splits to train on.
        files: extra files of queries; DOCUMENTS stands for the source's documents.
        scored: candidates that a cross encoder has scored; unless it is empty, queries without scored candidates are left out.
        candidates: number of scored candidates that a query needs.
        measured_on: further queries that the student is measured on, beside those of the source.
    """
    removed = source.removed_from_train if TRAIN in parts else 0
    splits, extra = [], []
    for part in parts:
        all_texts = source.queries(part)
        texts = remove_measured(source.remove_leaked(all_texts, parts), measured_on)
        removed += len(all_texts) - len(texts)
        if scored:
            texts = keep_scored_queries(texts, part, scored[part], candidates)
        named = texts.subset(np.arange(len(texts)), name=part)  # its vectors are stored under the name of the split
        splits.append(QuerySet(named, all_texts.fingerprints("query")))
    for path in files:
        is_corpus = path == DOCUMENTS
        all_texts = source.documents() if is_corpus else QueryFile(path).queries()
        texts = remove_measured(source.remove_leaked(all_texts, parts), measured_on)
        if is_corpus:
            texts = texts.subset(np.arange(len(texts)), name=DOCUMENTS)
        if is_leader():
            removed_here = len(all_texts) - len(texts)
            left_out = f", {removed_here} more left out, because another split has them too" if removed_here else ""
            log.info(f"{path}: {len(texts)} queries{left_out}")
        extra.append(QuerySet(texts, all_texts.fingerprints("document" if is_corpus else "query")))
    refuse_shared_names([*splits, *extra])
    return TrainingQueries(splits, extra, removed)


def remove_measured(texts: Texts, measured_on: Sequence[Texts]) -> Texts:
    """Returns the texts whose words none of these sets of queries has."""
    return texts.subset(np.flatnonzero(~texts.leak_mask(measured_on))) if measured_on else texts


def refuse_shared_ids(run: str, source: TextSource, split: str) -> None:
    """Refuses a run file where two parts of the split have a query of one id, as it ranks only one of them."""
    seen: set[str] = set()
    for part in split.split("+"):
        ids = set(source.queries(part).ids)
        if shared := seen & ids:
            raise BadInput(
                f"data.teachers: {run}: {min(shared)!r} is a query of two parts of {split}: rename one, a run names queries by id"
            )
        seen |= ids


def read_scored_parts(folder: str, source: TextSource, split: str, candidates: int) -> ScoredCandidates:
    """Reads the documents that a cross encoder, or the system of a run file, has scored for the queries of each part of a split."""
    if is_run(folder):
        refuse_shared_ids(folder, source, split)
        return {part: read_run_candidates(folder, source, part, candidates) for part in split.split("+")}
    parts, stores = split.split("+"), open_pair_stores(folder, source, split)
    return {part: read_scored_candidates(store, candidates, source, part) for part, store in zip(parts, stores, strict=True)}


def read_given_candidates(
    teachers: Mapping[str, Any], source: TextSource, split: str, candidates: int, files: Sequence[str]
) -> ScoredCandidates:
    """Reads the candidates of the first store of pairs or run file among the further teachers; without one the result is empty."""
    folder = next(filter(lists_candidates, teachers.values()), None)
    if folder is None:
        return {}
    if not candidates or files:
        raise BadInput(f"data.teachers: {folder} has read candidates of the train split: set data.candidates, leave data.queries out")
    return read_scored_parts(str(folder), source, split, candidates)


def keep_scored_queries(texts: Texts, part: str, scored: dict[str, list[str]], candidates: int) -> Texts:
    """Returns the queries of a split whose candidates a cross encoder has scored; refuses a split without any."""
    rows = np.flatnonzero([id_ in scored for id_ in texts.ids])
    left_out = f"{len(texts) - len(rows)} queries left out, of which fewer than {candidates} documents were read"
    if not len(rows):
        raise BadInput(f"data.candidates: {part}: {left_out}: none is left: set fewer, or encode with more --candidates_per_query")
    if is_leader() and len(rows) < len(texts):
        log.info(f"{part}: {left_out}")
    return texts.subset(rows)


def repeats_ids(texts: Texts) -> bool:
    """Tells whether the file of these queries has an id several times; `QueryFile` numbers the repeats."""
    return bool(np.char.endswith(texts.ids.raw, b"#2").any())


def refuse_shared_names(sets: Sequence[QuerySet]) -> None:
    """Refuses two sets with the same name, as the vectors of a set are found by its name."""
    names = [texts.name for texts, _ in sets]
    if len(set(names)) < len(names):
        raise BadInput(f"data: query sets {', '.join(names)}: two of them share a name: rename a file")
