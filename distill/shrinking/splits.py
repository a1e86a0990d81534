"""Which queries a student learns from, by which its best epoch is chosen, and on which it is measured; the three never share a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill.files.fingerprints import hash_values
from distill.files.progress import log
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import HOLDOUT, TRAIN, TextSource
from distill.texts.texts import Texts

DEV, TEST = "dev", "test"
JUDGED = "judged"  # the queries of --judgments beside a source that has a split test of its own
LEAST_QUERIES = 20
HOLDOUT_SHARE, MOST_HOLDOUT = 10, 1_000  # one query in ten is held out, at most so many
DEV_SHARE, MOST_DEV = 20, 500
MOST_JUDGED = 1_000  # judged queries that are kept from training to measure on


@dataclass(frozen=True)
class Split:
    """Queries, and the judgments of them where there are any."""

    queries: Texts
    qrels: Qrels | None = None


@dataclass
class Pool:
    """The queries that may be trained on, all different.

    Args:
        evaluation: sets of queries that are measured on: none of them enters the pool.
    """

    evaluation: Sequence[Texts] = ()
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    removed: int = 0  # queries of which the pool or an evaluation set has the words already

    def __post_init__(self) -> None:
        self._wordings = {int(wording) for texts in self.evaluation for wording in texts.words_hashes}
        self._known_ids = {id_ for texts in self.evaluation for id_ in texts.ids}

    def add(self, queries: Texts) -> int:
        """Adds queries that are not in it yet; an id that another query has gets a number. Returns how many were added."""
        count = len(self.ids)
        for id_, text, wording in zip(queries.ids, queries, queries.words_hashes.tolist(), strict=True):
            if wording in self._wordings:
                self.removed += 1
                continue
            self._wordings.add(wording)
            self.ids.append(self._make_id(id_))
            self.texts.append(text)
        return len(self.ids) - count

    def _make_id(self, id_: str) -> str:
        unique, number = id_, 1
        while unique in self._known_ids:
            number += 1
            unique = f"{id_}#{number}"
        self._known_ids.add(unique)
        return unique

    def divide(self, needs_dev: bool, needs_holdout: bool = True) -> dict[str, Split]:
        """Divides the pool into train and, where there are no others, holdout and dev; a hash of its id decides where a query belongs."""
        if len(self.ids) < LEAST_QUERIES:
            fix = f"give {LEAST_QUERIES} or more, or documents without queries"
            raise BadInput(f"queries: {len(self.ids)} usable ones to learn from ({self.removed} repeated or measured on): {fix}")
        queries = Texts.from_lists(self.ids, self.texts, name="queries")
        by_hash = np.argsort(hash_values(id_.encode() for id_ in self.ids), kind="stable")
        holdout = min(MOST_HOLDOUT, max(1, len(by_hash) // HOLDOUT_SHARE)) if needs_holdout else 0
        dev = min(MOST_DEV, max(1, len(by_hash) // DEV_SHARE)) if needs_dev else 0
        rows = {HOLDOUT: by_hash[:holdout], DEV: by_hash[holdout : holdout + dev], TRAIN: by_hash[holdout + dev :]}
        return {name: Split(queries.subset(np.sort(part))) for name, part in rows.items() if len(part)}


def choose_judged(queries: Texts, qrels: Qrels) -> Split:
    """Chooses the judged queries to measure on: up to 1,000, and at most half of all queries, the same ones every time.

    >>> queries = Texts.from_lists(["a", "b", "c", "d"], ["one", "two", "three", "four"])
    >>> list(choose_judged(queries, Qrels({"b": {"d1": 1}})).queries.ids)
    ['b']
    """
    judged_before = len(qrels)
    qrels = qrels.keep_known(queries.ids, "the queries")
    if len(qrels) < judged_before:
        log.info(
            f"{qrels.name}: {judged_before - len(qrels)} of {judged_before} judged queries are not among the queries given, or repeat one"
        )
    judged = qrels.judged_positions(list(queries.ids))
    by_hash = np.argsort(hash_values(queries.ids.raw[judged].tolist()), kind="stable")
    count = min(MOST_JUDGED, len(judged), max(1, len(queries) // 2))
    chosen = queries.subset(np.sort(judged[by_hash[:count]]))
    return Split(chosen, qrels.subset(chosen.ids))


def judged_splits(source: TextSource) -> dict[str, Split]:
    """Returns the judged splits of a source that students are measured on: all but train and dev, no query in two of them.

    Where only dev is judged, the student is measured on it, under the name `test`: the epoch is then chosen by other queries.
    """
    splits: dict[str, Split] = {}
    for name in source.splits():
        qrels = source.qrels(name)
        if name not in (TRAIN, DEV) and qrels is not None:
            splits[name] = leave_out(Split(source.queries(name), qrels), [split.queries for split in splits.values()])
    if not splits and DEV in source.splits():
        splits[TEST] = Split(source.queries(DEV), source.qrels(DEV))
    return {name: split for name, split in splits.items() if split.qrels and len(split.queries)}


def leave_out(split: Split, others: Sequence[Texts]) -> Split:
    """Returns the queries of a split that no other set has, neither by their wording nor by their id."""
    queries, qrels = split.queries, split.qrels
    is_known = queries.duplicate_mask(others)
    for other in others:
        is_known |= np.isin(queries.ids.raw, other.ids.raw)
    remaining = queries.subset(np.flatnonzero(~is_known))
    if len(remaining) < len(queries):
        count = f"{len(queries) - len(remaining)} of {len(queries)}"
        log.info(f"{queries.name}: {count} left out: others that are measured on have their id or wording")
    return Split(remaining, None if qrels is None else qrels.subset(remaining.ids))


def check_judged_documents(split: Split, known: Ids | None) -> None:
    """Refuses judgments that name none of the documents, and says how many judged documents are unknown."""
    assert split.qrels is not None, "a split that is measured on has judgments"
    if known is None:
        raise BadInput(f"{split.qrels.name}: judgments are about documents, of which there are none: give --documents or --vectors")
    split.qrels.check_documents(known)


def refuse_nothing_relevant(splits: Collection[Split], known: Ids | None) -> None:
    """Refuses judgments of which none, in all splits together, has a grade above 0 for a known document: nothing could be found."""
    judged = [(split.queries.ids, split.qrels) for split in splits if split.qrels is not None]
    if judged and known is not None and not any(len(qrels.relevant_pairs(ids, known)[0]) for ids, qrels in judged):
        names = ", ".join(qrels.name for _, qrels in judged)
        raise BadInput(f"{names}: no known document has a grade above 0, so there is nothing to find: check the last column")


def sample_dev(source: TextSource, measured: Mapping[str, Split]) -> Split | None:
    """Returns up to 1,000 queries of the source's dev split; None where it has none beside those that the student is measured on."""
    if DEV not in source.splits():
        return None
    rest = leave_out(Split(source.queries(DEV), source.qrels(DEV)), [split.queries for split in measured.values()])
    if not len(rest.queries):
        return None
    by_hash = np.argsort(hash_values(rest.queries.ids.raw.tolist()), kind="stable")
    chosen = rest.queries.subset(np.sort(by_hash[:MOST_HOLDOUT]))
    return Split(chosen, None if rest.qrels is None else rest.qrels.subset(chosen.ids))
