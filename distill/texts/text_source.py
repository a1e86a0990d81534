"""`TextSource`, the base of all sources of texts: documents, and queries and judgments by split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.configs import Configurable
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.texts.qrels import Qrels, merge_qrels
from distill.texts.texts import Texts, concatenate_texts, split_rows

TRAIN, HOLDOUT = "train", "holdout"


class TextSource(Configurable, ABC):
    """Documents, and queries and judgments by split; a split `dl19+dl20` is two splits joined.

    No query of `train` has the wording of a query of another split: such queries are removed, and `removed_from_train` counts them.

    A source of your own is a subclass with methods that load its parts, as in the example; each part is loaded once.

    Args:
        root: Folder of the source's files; None where there is none.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.

    >>> class Notes(TextSource):
    ...     def load_documents(self):
    ...         return Texts.from_lists(["d1", "d2"], ["The Rhine is a river.", "Bread is baked."])
    ...     def list_splits(self):
    ...         return ["train", "dev"]
    ...     def load_queries(self, split):
    ...         return Texts.from_lists(["q1"], ["what is the rhine"] if split == "train" else ["how to bake"])
    ...     def load_qrels(self, split):
    ...         return Qrels({"q1": {"d1": 1} if split == "train" else {"d2": 1}})
    >>> source = Notes()
    >>> source.splits(), source.queries("train")[0], source.qrels("dev").judgments
    (['train', 'dev'], 'what is the rhine', {'q1': {'d2': 1}})
    """

    def __init__(self, root: str | Path | None = None, holdout: int = 0, relevant_from: int = 1, keep_own_documents: bool = False):
        self.root = None if root is None else Path(root)
        self.name = type(self).__name__ if self.root is None else self.root.resolve().name
        self.holdout = holdout
        self.relevant_from = relevant_from
        self.keep_own_documents = keep_own_documents
        self.places_logged: set[str] = set()  # where own documents were left out, each of which is logged once
        self._loaded: dict[tuple[str, ...], Any] = {}
        if not isinstance(holdout, int) or holdout < 0:
            raise BadInput(f"{self}: holdout is {holdout}: it is a number of train queries to set aside, 0 or more")
        if not isinstance(relevant_from, int) or relevant_from < 1:
            raise BadInput(f"{self}: relevant_from is {relevant_from}: it is the lowest grade that counts as relevant, 1 or more")
        if not isinstance(keep_own_documents, bool):
            raise BadInput(f"{self}: keep_own_documents is {keep_own_documents!r}: it is true or false")

    def __str__(self) -> str:
        """Names the source in messages: its folder, or its name where it has none."""
        return str(self.root or self.name)

    @abstractmethod
    def load_documents(self) -> Texts:
        """Loads the corpus, empty texts included."""

    @abstractmethod
    def list_splits(self) -> list[str]:
        """Names the splits that `load_queries` knows."""

    @abstractmethod
    def load_queries(self, split: str) -> Texts:
        """Loads the queries of one split."""

    def load_qrels(self, split: str) -> Qrels | None:
        """Loads the judgments of one split; None where it has none."""
        return None

    def load_unlabelled(self) -> Texts | None:
        """Loads queries that are in no split, beside judged ones that are in `train`; None where there are none."""
        return None

    def has_documents(self) -> bool:
        """Whether the documents' texts can be read; a source whose vectors were imported may lack them."""
        return True

    def documents(self) -> Texts:
        """The corpus."""
        return self._load_once("documents", load=self.load_documents)

    def splits(self) -> list[str]:
        """Names of all splits, the holdout included."""
        return self.list_splits() + ([HOLDOUT] if self.holdout else [])

    def queries(self, split: str) -> Texts:
        """The queries of a split, or of several joined by `+`.

        Raises:
            BadInput: there is no such split, two splits share an id, or the holdout leaves nothing of train.
        """
        return concatenate_texts([self._queries_of(part) for part in self._split_parts(split)], name=f"queries.{split}")

    def qrels(self, split: str) -> Qrels | None:
        """The judgments of the queries of a split; None where no part of it has any.

        Raises:
            BadInput: there is no such split, or a judgment names a query that the split has not.
        """
        parts = [self._qrels_of(part) for part in self._split_parts(split)]
        judged = [part for part in parts if part is not None]
        return merge_qrels(judged) if judged else None

    @property
    def removed_from_train(self) -> int:
        """How many train queries were removed because another split has their wording."""
        train, holdout = self._train_and_holdout
        return len(self._loaded_queries(TRAIN)) - len(train) - len(holdout)

    def remove_leaked(self, queries: Texts, train_splits: Collection[str] = (TRAIN,)) -> Texts:
        """Returns `queries` without those whose words are also in a split that is not trained on, the holdout included."""
        others = [self._queries_of(split) for split in self.splits() if split not in train_splits]
        return queries.subset(np.flatnonzero(~queries.leak_mask(others)))

    def _load_once(self, *key: str, load: Callable[..., Any]) -> Any:
        """Returns `load(*key[1:])`, which is called only the first time for each key."""
        if key not in self._loaded:
            self._loaded[key] = load(*key[1:])
        return self._loaded[key]

    def _loaded_queries(self, split: str) -> Texts:
        return self._load_once("queries", split, load=self.load_queries)

    def _loaded_qrels(self, split: str) -> Qrels | None:
        return self._load_once("qrels", split, load=self.load_qrels)

    def _split_parts(self, split: str) -> list[str]:
        parts, known = split.split("+"), self.splits()
        for part in parts:
            if part not in known:
                raise BadInput(f"{self}: no split {part!r}: there are {', '.join(known) or 'none'}")
        return parts

    def _queries_of(self, split: str) -> Texts:
        """The queries of one split, which may be the holdout."""
        if split == TRAIN or self._is_holdout(split):
            train, holdout = self._train_and_holdout
            return self._loaded_queries(TRAIN).subset(train if split == TRAIN else holdout, f"queries.{split}")
        return self._loaded_queries(split)

    def _qrels_of(self, split: str) -> Qrels | None:
        """The judgments of one split, which may be the holdout."""
        loaded_split = TRAIN if self._is_holdout(split) else split
        qrels = self._loaded_qrels(loaded_split)
        if qrels is None:
            return None
        qrels.refuse_unknown_queries(self._loaded_queries(loaded_split).ids, f"the queries of {self}")
        return qrels.subset(self._queries_of(split).ids) if loaded_split == TRAIN else qrels

    def _is_holdout(self, split: str) -> bool:
        """Whether the split is the one set aside from train; a source may also load a split of that name."""
        return split == HOLDOUT and self.holdout > 0

    @cached_property
    def _train_and_holdout(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the loaded train queries that form `train` and `holdout`, each ascending."""
        loaded = self.list_splits()
        if TRAIN not in loaded or (self.holdout and HOLDOUT in loaded):
            raise BadInput(f"{self}: a holdout needs a split train and none called holdout: there are {', '.join(loaded)}")
        queries = self._loaded_queries(TRAIN)
        rows = np.flatnonzero(~queries.duplicate_mask(self._loaded_queries(split) for split in loaded if split != TRAIN))
        ids, wordings = queries.ids.raw[rows], queries.wording_hashes[rows]
        rest, holdout = split_rows(ids, wordings, self.holdout, str(self), "train queries")
        return rows[rest], rows[holdout]


def fingerprint_judgments(source: TextSource, train: str, dev: str) -> dict[str, str]:
    """Fingerprints of the labels that a training and its evaluation read, where there are any."""
    judgments = {f"judgments of {split}": source.qrels(split) for split in (train, dev)}
    return {name: fingerprint(qrels.judgments, source.relevant_from) for name, qrels in judgments.items() if qrels is not None}


def require_source(value: Any) -> TextSource:
    """Returns a source; refuses anything else, such as the folder that one would read."""
    if not isinstance(value, TextSource):
        raise BadInput(f"source: {value!r:.100}: no source of texts: give one, e.g. Beir({str(value)!r:.60})")
    return value
