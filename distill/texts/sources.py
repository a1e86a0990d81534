"""Where documents, queries by split, and judgments come from: MS MARCO folders, BEIR folders, query files, and sources of your own."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.configs import Configurable
from distill.files.fingerprints import fingerprint, hash_values
from distill.records import BadInput
from distill.texts.qrels import Qrels, merge_qrels, read_qrels
from distill.texts.text_files import find_text_file
from distill.texts.texts import Texts, concatenate_texts

TRAIN, HOLDOUT = "train", "holdout"


class TextSource(Configurable, ABC):
    """Documents, and queries and judgments by split; a split `dl19+dl20` is two splits joined.

    No query of `train` has the wording of a query of another split: such queries are removed, and `removed_from_train` counts them.

    A source of your own says how to load its parts; each is loaded once. The other methods are this class's.

    Args:
        root: Folder of the source's files; None where there is none.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant.

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

    def __init__(self, root: str | Path | None = None, holdout: int = 0, relevant_from: int = 1):
        self.root = None if root is None else Path(root)
        self.name = type(self).__name__ if self.root is None else self.root.resolve().name
        self.holdout = holdout
        self.relevant_from = relevant_from
        self._loaded: dict[tuple[str, ...], Any] = {}
        if not isinstance(holdout, int) or holdout < 0:
            raise BadInput(f"{self}: holdout is {holdout}: it is a number of train queries to set aside, 0 or more")
        if not isinstance(relevant_from, int) or relevant_from < 1:
            raise BadInput(f"{self}: relevant_from is {relevant_from}: it is the lowest grade that counts as relevant, 1 or more")

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

    def has_documents(self) -> bool:
        """Whether the documents' texts are here; where their vectors were imported they may be elsewhere."""
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
        """Returns `queries` without those whose wording a split has that is not trained on, the holdout included."""
        others = [self._queries_of(split) for split in self.splits() if split not in train_splits]
        return queries.subset(np.flatnonzero(~queries.duplicate_mask(others)))

    def _load_once(self, *key: str, load: Callable[..., Any]) -> Any:
        """What `load` returns for `key[1:]`, called at most once for each key."""
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
        """Whether the split is set aside from train; a split that is loaded may be called so too."""
        return split == HOLDOUT and self.holdout > 0

    @cached_property
    def _train_and_holdout(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the loaded train queries that form `train` and `holdout`, each ascending."""
        loaded = self.list_splits()
        if TRAIN not in loaded or (self.holdout and HOLDOUT in loaded):
            raise BadInput(f"{self}: a holdout needs a split train and none called holdout: there are {', '.join(loaded)}")
        queries = self._loaded_queries(TRAIN)
        rows = np.flatnonzero(~queries.duplicate_mask(self._loaded_queries(split) for split in loaded if split != TRAIN))
        if self.holdout and self.holdout >= len(rows):
            raise BadInput(f"{self}: holdout of {self.holdout} leaves nothing of {len(rows)} train queries: ask for fewer")
        # Sorted by a hash of their ids: a larger holdout contains a smaller one.
        by_hash = np.argsort(hash_values(queries.ids.raw[rows].tolist()), kind="stable")
        holdout = np.sort(rows[by_hash[: self.holdout]])
        wordings = queries.wording_hashes
        train = rows[~np.isin(wordings[rows], wordings[holdout])]
        return train, holdout


class MsMarcoTsv(TextSource):
    """MS MARCO layout: `collection.tsv`, `queries.{split}.tsv` (gzipped or not) and, for judged splits, `qrels.{split}.tsv`.

    Where the documents' vectors are imported, the queries alone will do.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    root: Path

    def __init__(self, root: str, holdout: int = 0, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        if not any(self.root.glob("queries.*.tsv*")):
            find_text_file(self.root / "collection.tsv")

    def load_documents(self) -> Texts:
        return Texts.open(find_text_file(self.root / "collection.tsv"))

    def has_documents(self) -> bool:
        return _is_there(self.root / "collection.tsv")

    def list_splits(self) -> list[str]:
        names = (re.fullmatch(r"queries\.(.+)\.tsv(\.gz)?", path.name) for path in sorted(self.root.iterdir()))
        return list(dict.fromkeys(name[1] for name in names if name))

    def load_queries(self, split: str) -> Texts:
        return Texts.open(find_text_file(self.root / f"queries.{split}.tsv"), allow_empty=False)

    def load_qrels(self, split: str) -> Qrels | None:
        return read_qrels_if_there(self.root / f"qrels.{split}.tsv")


class Beir(TextSource):
    """BEIR layout: `corpus.jsonl`, `queries.jsonl` (each may be gzipped) and `qrels/{split}.tsv`, which name a split's queries.

    Without `qrels/train.tsv` the queries that no split names form `train`, unlabelled. Where the documents' vectors are imported,
    the queries alone will do.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        join_title: Whether a document's text is its title and its text, as BEIR's own results have it.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    root: Path

    def __init__(self, root: str, holdout: int = 0, join_title: bool = True, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        self.join_title = join_title
        find_text_file(self.root / "queries.jsonl")

    def load_documents(self) -> Texts:
        return Texts.open(find_text_file(self.root / "corpus.jsonl"), join_title=self.join_title)

    def has_documents(self) -> bool:
        return _is_there(self.root / "corpus.jsonl")

    def list_splits(self) -> list[str]:
        if TRAIN in self._judged_splits or not len(self._unjudged_rows):
            return self._judged_splits
        return [TRAIN, *self._judged_splits]

    def load_queries(self, split: str) -> Texts:
        qrels = self._loaded_qrels(split)
        return self._all_queries.subset(self._unjudged_rows if qrels is None else self._judged_rows(qrels), f"queries.{split}")

    def load_qrels(self, split: str) -> Qrels | None:
        return read_qrels_if_there(self.root / "qrels" / f"{split}.tsv")

    @cached_property
    def _judged_splits(self) -> list[str]:
        paths = [*self.root.glob("qrels/*.tsv"), *self.root.glob("qrels/*.tsv.gz")]
        return sorted({path.name.removesuffix(".gz").removesuffix(".tsv") for path in paths})

    @cached_property
    def _all_queries(self) -> Texts:
        return Texts.open(find_text_file(self.root / "queries.jsonl"), allow_empty=False)

    def _judged_rows(self, qrels: Qrels) -> np.ndarray:
        """Rows of the queries that `qrels` judges, ascending."""
        qrels.refuse_unknown_queries(self._all_queries.ids, str(self.root / "queries.jsonl"))
        return np.sort(self._all_queries.ids.rows(list(qrels.judgments)))

    @cached_property
    def _unjudged_rows(self) -> np.ndarray:
        """Rows of the queries that no split judges, ascending."""
        all_qrels = [self._loaded_qrels(split) for split in self._judged_splits]
        judged = [self._judged_rows(qrels) for qrels in all_qrels if qrels is not None]
        return np.setdiff1d(np.arange(len(self._all_queries)), np.concatenate([np.empty(0, np.int64), *judged]))


class QueryFile:
    """Extra queries to train on, without labels: a TSV (`id<TAB>text`) or JSON lines file, by its ending.

    Ids need not be unique, as such files are often several put together: the second `7` is called `7#2`.

    Args:
        path: The file; may be gzipped.
    """

    def __init__(self, path: str):
        self.path = find_text_file(Path(path))
        self.name = self.path.name

    def queries(self) -> Texts:
        return Texts.open(self.path, allow_empty=False, unique_ids=False)


def fingerprint_judgments(source: TextSource, train: str, dev: str) -> dict[str, str]:
    """Fingerprints of the labels that a training and its evaluation read, where there are any."""
    judgments = {f"judgments of {split}": source.qrels(split) for split in (train, dev)}
    return {name: fingerprint(qrels.judgments, source.relevant_from) for name, qrels in judgments.items() if qrels is not None}


def read_qrels_if_there(path: Path) -> Qrels | None:
    """Reads a file of judgments; None where there is none, BadInput where it is there but gzipped."""
    if path.is_file():
        return read_qrels(path)
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file():
        raise BadInput(f"{packed}: judgments are read unpacked: gunzip it")
    return None


def _is_there(path: Path) -> bool:
    """Whether there is a file of texts of that name, gzipped or not."""
    return path.is_file() or path.with_name(f"{path.name}.gz").is_file()
