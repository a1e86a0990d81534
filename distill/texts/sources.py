"""Text on disk as documents, queries by split, and judgments: MS MARCO folders, BEIR folders, query files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.texts.qrels import Qrels, merge_qrels, read_qrels
from distill.texts.text_files import find_text_file
from distill.texts.texts import Texts, concatenate_texts, hash_values

TRAIN, HOLDOUT = "train", "holdout"


class TextSource(ABC):
    """Documents, and queries and judgments by split; `dl19+dl20` joins two splits.

    No train query says what a query of another split says: those are dropped from `train`, and `removed_from_train` counts them.
    """

    def __init__(self, root: str | Path, holdout: int = 0, relevant_from: int = 1):
        self.root = Path(root)
        self.name = self.root.resolve().name
        self.holdout = holdout
        self.relevant_from = relevant_from
        self._texts: dict[str, Texts] = {}
        self._judgments: dict[str, Qrels] = {}
        if not isinstance(holdout, int) or holdout < 0:
            raise BadInput(f"{root}: holdout is {holdout}: it is a number of train queries to set aside, 0 or more")
        if not isinstance(relevant_from, int) or relevant_from < 1:
            raise BadInput(f"{root}: relevant_from is {relevant_from}: it is the lowest grade that counts as relevant, 1 or more")

    @abstractmethod
    def documents(self) -> Texts:
        """The corpus; an empty text in it is kept."""

    def has_documents(self) -> bool:
        """Whether the documents' texts are here; where their vectors were imported they may be elsewhere."""
        return True

    @abstractmethod
    def _splits(self) -> list[str]:
        """Names of the splits on disk."""

    @abstractmethod
    def _queries(self, split: str) -> Texts:
        """Queries of one split on disk."""

    @abstractmethod
    def _qrels(self, split: str) -> Qrels | None:
        """Judgments of one split on disk, None where it has none."""

    def splits(self) -> list[str]:
        return self._splits() + ([HOLDOUT] if self.holdout else [])

    def queries(self, split: str) -> Texts:
        return concatenate_texts([self._part(part) for part in self._parts(split)], name=f"queries.{split}")

    def qrels(self, split: str) -> Qrels | None:
        """Judgments of the queries of `split`; None where no part of it has any."""
        found = [self._part_qrels(part) for part in self._parts(split)]
        judged = [qrels for qrels in found if qrels is not None]
        return merge_qrels(judged) if judged else None

    @property
    def removed_from_train(self) -> int:
        """How many train queries were dropped because another split asks the same."""
        return len(self._queries(TRAIN)) - sum(map(len, self._train_and_holdout))

    def drop_leaked(self, queries: Texts, trained: Collection[str] = (TRAIN,)) -> Texts:
        """`queries` without those that a split asks too, the holdout included, that is not `trained` on: they leak nothing."""
        others = [self._part(split) for split in self.splits() if split not in trained]
        return queries.subset(np.flatnonzero(~queries.same_wording_mask(others)))

    def _opened(self, name: str, allow_empty: bool = False, join_title: bool = False) -> Texts:
        if name not in self._texts:
            self._texts[name] = Texts.open(find_text_file(self.root / name), allow_empty=allow_empty, join_title=join_title)
        return self._texts[name]

    def _judged(self, name: str) -> Qrels | None:
        if (self.root / f"{name}.gz").is_file() and not (self.root / name).is_file():
            raise BadInput(f"{self.root / name}.gz: judgments are read unpacked: gunzip it")
        if name not in self._judgments and (self.root / name).is_file():
            self._judgments[name] = read_qrels(self.root / name)
        return self._judgments.get(name)

    def _parts(self, split: str) -> list[str]:
        parts, known = split.split("+"), self.splits()
        for part in parts:
            if part not in known:
                raise BadInput(f"{self.root}: no split {part!r}: there are {', '.join(known) or 'none'}")
        return parts

    def _part(self, split: str) -> Texts:
        if split == TRAIN or (split == HOLDOUT and self.holdout):
            train, held = self._train_and_holdout
            return self._queries(TRAIN).subset(train if split == TRAIN else held, f"queries.{split}")
        return self._queries(split)

    def _part_qrels(self, split: str) -> Qrels | None:
        held = split == HOLDOUT and self.holdout
        qrels = self._qrels(TRAIN if held else split)
        if qrels is None:
            return None
        qrels.check(self._queries(TRAIN if held else split).ids, f"the queries of {self.root}")
        return qrels.only(self._part(split).ids) if held or split == TRAIN else qrels

    @cached_property
    def _train_and_holdout(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the train queries on disk that form `train` and `holdout`, each ascending."""
        if TRAIN not in self._splits() or (self.holdout and HOLDOUT in self._splits()):
            raise BadInput(f"{self.root}: a holdout needs a split train and none called holdout: there are {', '.join(self._splits())}")
        queries = self._queries(TRAIN)
        rows = np.flatnonzero(~queries.same_wording_mask(self._queries(split) for split in self._splits() if split != TRAIN))
        if self.holdout and self.holdout >= len(rows):
            raise BadInput(f"{self.root}: holdout of {self.holdout} leaves nothing of {len(rows)} train queries: ask for fewer")
        by_id = np.argsort(hash_values(queries.ids.raw[rows].tolist()), kind="stable")
        held = np.sort(rows[by_id[: self.holdout]])
        wordings = queries.wording_hashes
        train = rows[~np.isin(wordings[rows], wordings[held])]
        return train, held


class MsMarcoTsv(TextSource):
    """MS MARCO layout: `collection.tsv`, `queries.{split}.tsv` (gzipped or not) and, for judged splits, `qrels.{split}.tsv`.

    Where the documents' vectors are imported, the queries alone will do.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    def __init__(self, root: str, holdout: int = 0, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        if not any(self.root.glob("queries.*.tsv*")):
            find_text_file(self.root / "collection.tsv")

    def documents(self) -> Texts:
        return self._opened("collection.tsv", allow_empty=True)

    def has_documents(self) -> bool:
        return any((self.root / name).is_file() for name in ("collection.tsv", "collection.tsv.gz"))

    def _splits(self) -> list[str]:
        names = (re.fullmatch(r"queries\.(.+)\.tsv(\.gz)?", path.name) for path in sorted(self.root.iterdir()))
        return list(dict.fromkeys(name[1] for name in names if name))

    def _queries(self, split: str) -> Texts:
        return self._opened(f"queries.{split}.tsv")

    def _qrels(self, split: str) -> Qrels | None:
        return self._judged(f"qrels.{split}.tsv")


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

    def __init__(self, root: str, holdout: int = 0, join_title: bool = True, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        self.join_title = join_title
        find_text_file(self.root / "queries.jsonl")

    def documents(self) -> Texts:
        return self._opened("corpus.jsonl", allow_empty=True, join_title=self.join_title)

    def has_documents(self) -> bool:
        return any((self.root / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))

    def _splits(self) -> list[str]:
        return self._with_judgments if TRAIN in self._with_judgments or not len(self._unnamed) else [TRAIN, *self._with_judgments]

    @cached_property
    def _with_judgments(self) -> list[str]:
        return sorted(
            {
                path.name.removesuffix(".gz").removesuffix(".tsv")
                for path in [*self.root.glob("qrels/*.tsv"), *self.root.glob("qrels/*.tsv.gz")]
            }
        )

    def _queries(self, split: str) -> Texts:
        qrels = self._qrels(split)
        return self._opened("queries.jsonl").subset(self._unnamed if qrels is None else self._named(qrels), f"queries.{split}")

    def _qrels(self, split: str) -> Qrels | None:
        return self._judged(f"qrels/{split}.tsv")

    def _named(self, qrels: Qrels) -> np.ndarray:
        """Rows of the queries that `qrels` judges, ascending."""
        queries = self._opened("queries.jsonl")
        qrels.check(queries.ids, str(self.root / "queries.jsonl"))
        return np.sort(queries.ids.rows(list(qrels.judgments)))

    @cached_property
    def _unnamed(self) -> np.ndarray:
        """Rows of the queries that no split judges, ascending."""
        named = [self._named(qrels) for qrels in map(self._qrels, self._with_judgments) if qrels is not None]
        return np.setdiff1d(np.arange(len(self._opened("queries.jsonl"))), np.concatenate([np.empty(0, np.int64), *named]))


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


def judgments_fingerprints(source: TextSource, train: str, dev: str) -> dict[str, str]:
    """Of the labels that a training and its evaluation see, where there are any."""
    judged = {f"judgments of {split}": source.qrels(split) for split in (train, dev)}
    return {name: fingerprint(qrels.judgments, source.relevant_from) for name, qrels in judged.items() if qrels is not None}
