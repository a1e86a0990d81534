"""The sources that come with the package: MS MARCO folders, BEIR folders, and files of queries alone."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.records import BadInput
from distill.texts.qrels import Qrels, read_qrels
from distill.texts.text_files import find_text_file
from distill.texts.text_source import TRAIN, TextSource
from distill.texts.texts import Texts


class MsMarcoTsv(TextSource):
    """MS MARCO layout: `collection.tsv`, `queries.{split}.tsv` (gzipped or not) and, for judged splits, `qrels.{split}.tsv`.

    Where the documents' vectors are imported, the queries alone will do.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.
    """

    root: Path

    def __init__(self, root: str, holdout: int = 0, relevant_from: int = 1, keep_own_documents: bool = False):
        super().__init__(root, holdout, relevant_from, keep_own_documents)
        if not any(self.root.glob("queries.*.tsv*")):
            find_text_file(self.root / "collection.tsv")  # raises where the documents are missing too

    def load_documents(self) -> Texts:
        return Texts.open(find_text_file(self.root / "collection.tsv"))

    def has_documents(self) -> bool:
        return _is_there(self.root / "collection.tsv")

    def list_splits(self) -> list[str]:
        matches = [re.fullmatch(r"queries\.(.+)\.tsv(\.gz)?", path.name) for path in sorted(self.root.iterdir())]
        return list(dict.fromkeys(match[1] for match in matches if match))

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
        join_title: Whether a document's text is its title and its text, as in BEIR's published results.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.
    """

    root: Path

    def __init__(self, root: str, holdout: int = 0, join_title: bool = True, relevant_from: int = 1, keep_own_documents: bool = False):
        super().__init__(root, holdout, relevant_from, keep_own_documents)
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
        rows = self._unjudged_rows if qrels is None else self._judged_rows(qrels)
        return self._all_queries.subset(rows, f"queries.{split}")

    def load_unlabelled(self) -> Texts | None:
        if TRAIN not in self._judged_splits or not len(self._unjudged_rows):
            return None
        return self._all_queries.subset(self._unjudged_rows, "queries.unlabelled")

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


class BeirCopy(TextSource):
    """Base of sources that first write their texts to a folder in BEIR layout, and then read them from there."""

    @cached_property
    def copy(self) -> Beir:
        """The texts in that folder."""
        return self.write_copy()

    @abstractmethod
    def write_copy(self) -> Beir:
        """Writes the folder where it does not exist, and opens it."""

    def load_documents(self) -> Texts:
        return self.copy.load_documents()

    def list_splits(self) -> list[str]:
        return self.copy.list_splits()

    def load_queries(self, split: str) -> Texts:
        return self.copy.load_queries(split)

    def load_unlabelled(self) -> Texts | None:
        return self.copy.load_unlabelled()

    def load_qrels(self, split: str) -> Qrels | None:
        return self.copy.load_qrels(split)


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


def read_qrels_if_there(path: Path) -> Qrels | None:
    """Reads a file of judgments; returns None where there is no file, and refuses a gzipped one."""
    if path.is_file():
        return read_qrels(path)
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file():
        raise BadInput(f"{packed}: judgments are read unpacked: gunzip it")
    return None


def _is_there(path: Path) -> bool:
    """Whether there is a file of texts of that name, gzipped or not."""
    return path.is_file() or path.with_name(f"{path.name}.gz").is_file()


def open_source(texts: TextSource | str | Path, keep_own_documents: bool = False) -> TextSource:
    """Returns a source as it is; opens a folder by its layout, BEIR (queries.jsonl) or MS MARCO (queries.SPLIT.tsv)."""
    if isinstance(texts, TextSource):
        return texts
    folder = Path(texts)
    if any((folder / name).is_file() for name in ("queries.jsonl", "queries.jsonl.gz")):
        return Beir(str(folder), keep_own_documents=keep_own_documents)
    if any(folder.glob("queries.*.tsv*")):
        return MsMarcoTsv(str(folder), keep_own_documents=keep_own_documents)
    raise BadInput(f"{texts}: neither queries.jsonl (BEIR) nor queries.SPLIT.tsv (MS MARCO) in it: name such a folder or give a source")
