"""Texts from two hubs, ir_datasets and Hugging Face: downloaded once into the cache, and read from there afterwards."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.extras import install_hint
from distill.files.fingerprints import fingerprint
from distill.files.locks import wait_for_lock
from distill.files.progress import log
from distill.records import BadInput, one_line
from distill.texts.qrels import Qrels, read_qrels
from distill.texts.sources import Beir, BeirCopy
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts

HUB_LOGGERS = ("ir_datasets", "datasets", "huggingface_hub")  # they log each failed attempt; one line at the end is enough


class IrDatasets(TextSource):
    """Data sets of ir_datasets by their ids, https://ir-datasets.com; needs the extra `hub`.

    Each file is downloaded when it is first read; files that already lie under ir_datasets' own home (`IR_DATASETS_HOME`) are used.

    Args:
        corpus: Id whose documents are searched, e.g. msmarco-passage.
        splits: Id that has the queries and, where there are any, the judgments of each split, e.g. {dev: msmarco-passage/dev/small}.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.
    """

    def __init__(self, corpus: str, splits: dict[str, str], holdout: int = 0, relevant_from: int = 1, keep_own_documents: bool = False):
        super().__init__(None, holdout, relevant_from, keep_own_documents)
        self.name = self.corpus = corpus
        self.ids = splits
        self.folder = data_set_folder(corpus, splits)

    def load_documents(self) -> Texts:
        def lines() -> Iterator[str]:
            with refuse_hub_errors(self.corpus):
                for document in load_ir_dataset(self.corpus).docs_iter():
                    # default_text works for every kind of document, and includes the title
                    yield text_line(document.doc_id, document.default_text())

        return Texts.open(write_lines_once(self.folder / "documents.jsonl", lines()))

    def list_splits(self) -> list[str]:
        return list(self.ids)

    def load_queries(self, split: str) -> Texts:
        def lines() -> Iterator[str]:
            with refuse_hub_errors(self.ids[split]):
                for query in load_ir_dataset(self.ids[split]).queries_iter():
                    yield text_line(query.query_id, query.default_text())

        return Texts.open(write_lines_once(self.folder / f"queries.{split}.jsonl", lines()), allow_empty=False)

    def load_qrels(self, split: str) -> Qrels | None:
        def lines() -> Iterator[str]:
            with refuse_hub_errors(self.ids[split]):
                for judgment in load_ir_dataset(self.ids[split]).qrels_iter():
                    yield judgment_line(judgment.query_id, judgment.doc_id, judgment.relevance)

        path = self.folder / f"qrels.{split}.tsv"
        if not path.exists():
            with refuse_hub_errors(self.ids[split]):
                has_qrels = load_ir_dataset(self.ids[split]).has_qrels()
            if not has_qrels:
                return None
        return read_qrels(write_lines_once(path, lines()))


class HfDataset(BeirCopy):
    """A data set of the Hugging Face hub, or a folder, as MTEB and BEIR lay them out; needs the extra `hub`.

    Configurations `corpus` and `queries` (`_id`, `title`, `text`), and judgments (`query-id`, `corpus-id`, `score`) by split.

    Args:
        path: Name on the hub, e.g. mteb/nq, or a folder.
        splits: Splits that have judgments, which name their queries.
        revision: Commit of the data set; give it, as the content under a name may change.
        judgments: Another data set that has the judgments, e.g. BeIR/nq-qrels.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.
    """

    def __init__(
        self,
        path: str,
        splits: list[str],
        revision: str | None = None,
        judgments: str | None = None,
        holdout: int = 0,
        relevant_from: int = 1,
        keep_own_documents: bool = False,
    ):
        super().__init__(None, holdout, relevant_from, keep_own_documents)
        self.name = self.path = path
        self.judged_splits = splits
        self.revision = revision
        self.judgments = judgments
        self.folder = data_set_folder(path, splits, revision, judgments)

    def load_documents(self) -> Texts:
        write_lines_once(self.folder / "corpus.jsonl", self._text_lines("corpus"))
        return super().load_documents()

    def write_copy(self) -> Beir:
        for split in self.judged_splits:
            write_lines_once(self.folder / "qrels" / f"{split}.tsv", self._judgment_lines(split))
        write_lines_once(self.folder / "queries.jsonl", self._text_lines("queries"))
        return Beir(str(self.folder), relevant_from=self.relevant_from)

    def _text_lines(self, part: str) -> Iterator[str]:
        with refuse_hub_errors(f"{self.path}, {part}, {part}"):
            for row in stream_rows(self.path, part, part, self.revision):
                yield text_line(row.get("_id", row.get("id")), row["text"] or "", row.get("title") or "")

    def _judgment_lines(self, split: str) -> Iterator[str]:
        path = self.judgments or self.path
        revision = self.revision if path == self.path else None
        with refuse_hub_errors(f"{path}, judgments, {split}"):
            for row in stream_rows(path, "default", split, revision):
                yield judgment_line(row["query-id"], row["corpus-id"], row["score"])


def data_set_folder(name: str, *settings: Any) -> Path:
    """The cache's folder of a data set with these settings."""
    readable_name = re.sub(r"[^a-zA-Z0-9-]+", "-", name).strip("-")
    return cache_folder() / "hubs" / f"{readable_name[-60:]}-{fingerprint(name, *settings)}"


def load_ir_dataset(id_: str) -> Any:
    """An ir_datasets data set; nothing is downloaded yet."""
    import ir_datasets

    return ir_datasets.load(id_)


def stream_rows(path: str, configuration: str, split: str, revision: str | None) -> Any:
    """Rows of a Hugging Face data set, streamed so that the data set is not stored twice."""
    from datasets import load_dataset

    return load_dataset(path, configuration, split=split, revision=revision, streaming=True)


@contextmanager
def refuse_hub_errors(data_set: str) -> Iterator[None]:
    """Turns any error of the hubs' libraries in the block into a BadInput, and silences their log."""
    loggers = [logging.getLogger(name) for name in HUB_LOGGERS]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    except ImportError as error:
        raise BadInput(f"{data_set}: needs the package {error.name}: {install_hint('hub')}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise BadInput(f"{data_set}: no such data set, or no way to it ({reason}): mend the name or the network") from None
    finally:
        for logger in loggers:
            logger.disabled = False


def write_lines_once(path: Path, lines: Iterable[str]) -> Path:
    """Writes `lines` to `path`, all of them or no file, and returns the path; where the file exists `lines` is not read."""
    if path.exists():
        return path
    with wait_for_lock(cache_folder() / "hubs"):  # the hubs' libraries download into one folder of their own
        if path.exists():
            return path
        log.info(f"{path}: downloading; the terms of use of its data set hold")
        with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    return path


def text_line(id_: Any, text: str, title: str | None = None) -> str:
    """One line of a JSON lines file of texts.

    >>> text_line(7, "a river")
    '{"_id": "7", "text": "a river"}'
    """
    record = {"_id": str(id_), "text": text} if title is None else {"_id": str(id_), "title": title, "text": text}
    return json.dumps(record)


def judgment_line(query: str, document: str, grade: float) -> str:
    """One line of a file of judgments in three columns; refuses a grade that is no whole number."""
    if grade != int(grade):
        raise BadInput(f"judgment of document {document!r} for query {query!r}: the grade {grade} is no whole number")
    return f"{query}\t{document}\t{int(grade)}"
