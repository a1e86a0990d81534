"""Text on disk as documents, queries by split, and judgments: MS MARCO folders, BEIR folders, the docstrings of this machine."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import re
import sysconfig
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from distill.artefacts import read_json, write_json, written_atomically
from distill.data.qrels import Qrels, merged, read_qrels
from distill.data.texts import Texts, concatenated, hashes, plain_or_packed
from distill.records import BadInput

log = logging.getLogger(__name__)

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
        if holdout < 0:
            raise BadInput(f"{root}: holdout is {holdout}: it is a number of train queries to set aside, 0 or more")

    @abstractmethod
    def documents(self) -> Texts:
        """The corpus; an empty text in it is kept."""

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
        return concatenated([self._part(part) for part in self._parts(split)], name=f"queries.{split}")

    def qrels(self, split: str) -> Qrels | None:
        """Judgments of the queries of `split`; None where no part of it has any."""
        found = [self._part_qrels(part) for part in self._parts(split)]
        judged = [qrels for qrels in found if qrels is not None]
        return merged(judged) if judged else None

    @property
    def removed_from_train(self) -> int:
        """How many train queries were dropped because another split asks the same."""
        return len(self._queries(TRAIN)) - sum(map(len, self._train_and_holdout))

    def unseen(self, queries: Texts) -> Texts:
        """`queries` without those that a split other than train, or the holdout, asks too: extra queries to train on leak nothing."""
        others = [self._part(split) for split in self.splits() if split != TRAIN]
        return queries.subset(np.flatnonzero(~queries.said_in(others)))

    def _opened(self, name: str, allow_empty: bool = False, join_title: bool = False) -> Texts:
        if name not in self._texts:
            self._texts[name] = Texts.open(plain_or_packed(self.root / name), allow_empty=allow_empty, join_title=join_title)
        return self._texts[name]

    def _judged(self, name: str) -> Qrels | None:
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
        rows = np.flatnonzero(~queries.said_in(self._queries(split) for split in self._splits() if split != TRAIN))
        if self.holdout and self.holdout >= len(rows):
            raise BadInput(f"{self.root}: holdout of {self.holdout} leaves nothing of {len(rows)} train queries: ask for fewer")
        by_id = np.argsort(hashes(queries.ids.raw[rows].tolist()), kind="stable")
        held = np.sort(rows[by_id[: self.holdout]])
        wordings = queries.wording_hashes
        train = rows[~np.isin(wordings[rows], wordings[held])]
        log.info("%s: %d train queries dropped, another split asks the same", self.root, len(queries) - len(train) - len(held))
        return train, held


class MsMarcoTsv(TextSource):
    """MS MARCO layout: `collection.tsv`, `queries.{split}.tsv` (gzipped or not) and, for judged splits, `qrels.{split}.tsv`.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    def __init__(self, root: str, holdout: int = 0, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        plain_or_packed(self.root / "collection.tsv")

    def documents(self) -> Texts:
        return self._opened("collection.tsv", allow_empty=True)

    def _splits(self) -> list[str]:
        names = (re.fullmatch(r"queries\.(.+)\.tsv(\.gz)?", path.name) for path in sorted(self.root.iterdir()))
        return list(dict.fromkeys(name[1] for name in names if name))

    def _queries(self, split: str) -> Texts:
        return self._opened(f"queries.{split}.tsv")

    def _qrels(self, split: str) -> Qrels | None:
        return self._judged(f"qrels.{split}.tsv")


class Beir(TextSource):
    """BEIR layout: `corpus.jsonl`, `queries.jsonl` (each may be gzipped) and `qrels/{split}.tsv`, which name a split's queries.

    Without `qrels/train.tsv` the queries that no split names form `train`, unlabelled.

    Args:
        root: Folder that holds the files.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        join_title: Whether a document's text is its title and its text, as BEIR's own results have it.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    def __init__(self, root: str, holdout: int = 0, join_title: bool = True, relevant_from: int = 1):
        super().__init__(root, holdout, relevant_from)
        self.join_title = join_title
        plain_or_packed(self.root / "corpus.jsonl")
        plain_or_packed(self.root / "queries.jsonl")

    def documents(self) -> Texts:
        return self._opened("corpus.jsonl", allow_empty=True, join_title=self.join_title)

    def _splits(self) -> list[str]:
        judged = sorted(path.stem for path in self.root.glob("qrels/*.tsv"))
        return judged if TRAIN in judged or not len(self._unnamed) else [TRAIN, *judged]

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
        named = [self._named(read_qrels(path)) for path in self.root.glob("qrels/*.tsv")]
        return np.setdiff1d(np.arange(len(self._opened("queries.jsonl"))), np.concatenate([np.empty(0, np.int64), *named]))


class QueryFile:
    """Extra queries to train on, without labels: a TSV (`id<TAB>text`) or JSON lines file, by its ending.

    Ids need not be unique, as such files are often several put together: the second `7` is called `7#2`.

    Args:
        path: The file; may be gzipped.
    """

    def __init__(self, path: str):
        self.path = plain_or_packed(Path(path))
        self.name = self.path.name

    def queries(self) -> Texts:
        return Texts.open(self.path, allow_empty=False, unique_ids=False)


class PythonDocs(TextSource):
    """A corpus every Python machine has: docstrings of the standard library and the installed packages, parsed and never imported.

    The summary of a docstring is a query, the rest of it the document that answers it; 80% of the pairs are `train`, 10% `dev`,
    10% `test`. The pairs are written to `root` in BEIR layout on first use and read from there ever after.

    Args:
        root: Folder to keep the corpus in.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        limit: Most documents to keep; the same ones are kept every time.
        packages: Folders to read, each holding packages; the standard library and site-packages by default.
    """

    def __init__(self, root: str, holdout: int = 0, limit: int = 20000, packages: list[str] | None = None):
        super().__init__(root, holdout)
        self.name = "python-docs"
        self.limit = limit
        self.packages = packages or [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
        if self.root.exists():
            self._check_manifest()

    def documents(self) -> Texts:
        return self._beir.documents()

    def _splits(self) -> list[str]:
        return self._beir._splits()

    def _queries(self, split: str) -> Texts:
        return self._beir._queries(split)

    def _qrels(self, split: str) -> Qrels | None:
        return self._beir._qrels(split)

    @cached_property
    def _beir(self) -> Beir:
        if not self.root.exists():
            _write_corpus(self.root, self.packages, self.limit)
        # the title of a docstring is its name, which would give the answer away
        return Beir(str(self.root), join_title=False)

    def _check_manifest(self) -> None:
        path = self.root / "manifest.json"
        manifest = read_json(path, "corpus of docstrings") if path.exists() else {}
        if manifest.get("kind") != "python-docs":
            raise BadInput(f"{self.root}: exists and is no corpus of docstrings: name a folder that does not exist")
        if manifest["limit"] != self.limit:
            raise BadInput(f"{self.root}: made with limit: {manifest['limit']}, not {self.limit}: set that or name another folder")


class Docstring(NamedTuple):
    name: str  # package.module.Class.method
    summary: str
    rest: str


# no questions in these: tests, copies of other packages; signatures, markup, tables, notices; roles and backticks are only unwrapped
SKIPPED_FOLDERS = {"test", "tests", "vendor", "idlelib", "lib2to3", "turtledemo"}
MARKUP = re.compile(r":[\w:]+:`~?[.!]?([^`<]+?)(?:\s*<[^`]*>)?`|\[?`+~?([^`]+)`+\]?_{0,2}")
END_OF_SUMMARY = re.compile(r"\n\s*(?=\n|[:@]\w+|>>>|[-*] |\.\. |\w+:\n|Parameters\n|Returns\n)|(?<=[.!?])\s+(?=[A-Z(`:])")
JUNK = re.compile(
    r"[^A-Za-z]|.*(->|>>>|[{}|=]|://|:$|\)$)|\S*\(|\w+ \([\w.]*(tensor|str|int|bool|float|dict|list)"
    r"|(copyright|deprecated|alias |see |same as|autogenerated|test)",
    re.IGNORECASE,
)


def _docstrings(file: tuple[str, str]) -> list[Docstring]:
    """The docstrings of one (path, module name) that read as a question and its answer."""
    source = Path(file[0]).read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # installed files are not always meant for this Python
        return []
    found = (_split(name, ast.get_docstring(node) or "") for name, node in _public(file[1], tree))
    return [pair for pair in found if len(pair.rest) >= 60 and 3 <= len(pair.summary.split()) <= 30 and not JUNK.match(pair.summary)]


def _public(name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, Any]]:
    yield name, node
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _public(f"{name}.{child.name}", child)


def _split(name: str, docstring: str) -> Docstring:
    """Summary: the first sentence, or the first paragraph where that ends sooner."""
    summary, rest, *_ = [*END_OF_SUMMARY.split(docstring.strip() + "\n\n", maxsplit=1), ""]
    summary, rest = (" ".join(MARKUP.sub(r"\1\2", text).split()) for text in (summary, rest))
    return Docstring(name, summary.rstrip("."), rest)


def _modules(roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(path, module name) of every module below the roots but tests and what is private."""
    for root in dict.fromkeys(roots):
        for folder, folders, files in os.walk(root):
            # metadata and nested site-packages are no identifiers; sorted, or two machines would number them differently
            folders[:] = sorted(name for name in folders if name.isidentifier() and name[0] != "_" and name not in SKIPPED_FOLDERS)
            for name in sorted(files):
                module = Path(folder, name).relative_to(root).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
                if name.endswith(".py") and not name.startswith(("test_", "conftest", "setup.")) and "-" not in module:
                    yield os.path.join(folder, name), module


def _harvest(roots: Sequence[str]) -> list[Docstring]:
    files = list(_modules(roots))
    with ProcessPoolExecutor() if len(files) > 200 else ThreadPoolExecutor(1) as pool:
        found = tqdm(pool.map(_docstrings, files, chunksize=32), total=len(files), desc="reading docstrings", unit=" files", disable=None)
        return sorted(itertools.chain.from_iterable(found))


def _unambiguous(pairs: Sequence[Docstring]) -> list[Docstring]:
    """One pair a name and a document; a summary that several documents share has no one right answer, so none of them stays."""
    pairs = list({pair.name: pair for pair in reversed(pairs)}.values())
    pairs = list({pair.rest.casefold(): pair for pair in pairs}.values())
    summaries = Counter(pair.summary.casefold() for pair in pairs)
    return sorted(pair for pair in pairs if summaries[pair.summary.casefold()] == 1)


def _write_corpus(root: Path, roots: Sequence[str], limit: int) -> None:
    """Writes the pairs in BEIR layout; the folder appears when it is whole."""
    pairs = _unambiguous(_harvest(roots))
    if not pairs:
        raise BadInput(f"{', '.join(roots)}: no docstring that reads as a question and its answer: name folders that hold packages")
    by_name = hashes(pair.name.encode() for pair in pairs)
    chosen = np.sort(np.argsort(by_name, kind="stable")[:limit])
    parts = np.array(([TRAIN] * 8) + ["dev", "test"])[by_name[chosen] % 10]
    pairs = [pairs[row] for row in chosen]
    with written_atomically(root) as folder:
        (folder / "qrels").mkdir(parents=True)
        documents = (json.dumps({"_id": pair.name, "title": pair.name, "text": pair.rest}) for pair in pairs)
        _write_lines(folder / "corpus.jsonl", documents)
        # BEIR tools drop a document that has its query's id, hence the q-
        _write_lines(folder / "queries.jsonl", (json.dumps({"_id": f"q-{pair.name}", "text": pair.summary}) for pair in pairs))
        for split in sorted(set(parts)):
            judged = (f"q-{pair.name}\t{pair.name}\t1" for pair, part in zip(pairs, parts, strict=True) if part == split)
            _write_lines(folder / "qrels" / f"{split}.tsv", itertools.chain(["query-id\tcorpus-id\tscore"], judged))
        write_json(folder / "manifest.json", _manifest(pairs, parts, limit))


def _manifest(pairs: Sequence[Docstring], parts: np.ndarray, limit: int) -> dict[str, Any]:
    owners = importlib.metadata.packages_distributions()
    used = sorted({owner for pair in pairs for owner in owners.get(pair.name.partition(".")[0], [])})
    return {
        "kind": "python-docs",
        "limit": limit,
        "documents": len(pairs),
        "queries": dict(Counter(parts.tolist())),
        "python": platform.python_version(),
        "packages": {owner: importlib.metadata.version(owner) for owner in used},
    }


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
