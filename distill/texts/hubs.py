"""Texts from the hubs, ir_datasets and Hugging Face: streamed once into files of the cache, and read from there ever after."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.fingerprints import fingerprint
from distill.files.locks import wait_for_lock
from distill.records import BadInput
from distill.texts.qrels import Qrels
from distill.texts.sources import Beir, TextSource
from distill.texts.texts import Texts

LOGGERS = ("ir_datasets", "datasets", "huggingface_hub")  # they tell of each failed attempt; one line at the end says it all

Record = dict[str, str]  # _id, text and perhaps title
Judgment = tuple[str, str, int]  # query, document, grade


class IrDatasets(TextSource):
    """Data sets of ir_datasets by their ids, https://ir-datasets.com; needs the extra `hub`.

    Each file is fetched when it is first asked for; files that already lie under ir_datasets' own home (`IR_DATASETS_HOME`) are used.

    Args:
        corpus: Id whose documents are searched, e.g. msmarco-passage.
        splits: Id that has the queries and, where there are any, the judgments of each split, e.g. {dev: msmarco-passage/dev/small}.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
    """

    def __init__(self, corpus: str, splits: dict[str, str], holdout: int = 0, relevant_from: int = 1):
        super().__init__(hub_folder(corpus, splits), holdout, relevant_from)
        self.name, self.corpus, self.ids = corpus, corpus, splits

    def documents(self) -> Texts:
        # ir_datasets knows of each kind of document what its text is, the title included
        records = stream_from_hub(
            self.corpus, lambda: ({"_id": d.doc_id, "text": d.default_text()} for d in load_ir_dataset(self.corpus).docs_iter())
        )
        write_lines_once(self.root / "documents.jsonl", lambda: map(json.dumps, records))
        return self._opened("documents.jsonl", allow_empty=True)

    def _splits(self) -> list[str]:
        return list(self.ids)

    def _queries(self, split: str) -> Texts:
        id_, name = self.ids[split], f"queries.{split}.jsonl"
        records = stream_from_hub(id_, lambda: ({"_id": q.query_id, "text": q.default_text()} for q in load_ir_dataset(id_).queries_iter()))
        write_lines_once(self.root / name, lambda: map(json.dumps, records))
        return self._opened(name)

    def _qrels(self, split: str) -> Qrels | None:
        id_, name = self.ids[split], f"qrels.{split}.tsv"
        if not (self.root / name).exists() and not next(stream_from_hub(id_, lambda: [load_ir_dataset(id_).has_qrels()])):
            return None
        judged = stream_from_hub(id_, lambda: ((q.query_id, q.doc_id, q.relevance) for q in load_ir_dataset(id_).qrels_iter()))
        write_lines_once(self.root / name, lambda: map(judgment_line, judged))
        return self._judged(name)


class HfDataset(TextSource):
    """A data set of the Hugging Face hub, or a folder, as MTEB and BEIR lay them out; needs the extra `hub`.

    Configurations `corpus` and `queries` (`_id`, `title`, `text`), and judgments (`query-id`, `corpus-id`, `score`) by split.

    Args:
        path: Name on the hub, e.g. mteb/nq, or a folder.
        splits: Splits that have judgments, which name their queries.
        revision: Commit of the data set; give it, as what a name stands for may change.
        judgments: Another data set that has the judgments, e.g. BeIR/nq-qrels.
        holdout: Number of train queries set aside as the split `holdout`, the same ones every time.
        relevant_from: Lowest grade that MRR and recall count as relevant.
    """

    def __init__(
        self,
        path: str,
        splits: list[str],
        revision: str | None = None,
        judgments: str | None = None,
        holdout: int = 0,
        relevant_from: int = 1,
    ):
        super().__init__(hub_folder(path, splits, revision, judgments), holdout, relevant_from)
        self.name, self.path, self.names, self.revision, self.judgments = path, path, splits, revision, judgments

    def documents(self) -> Texts:
        write_lines_once(self.root / "corpus.jsonl", lambda: map(json.dumps, map(as_record, self._rows("corpus", "corpus"))))
        return self._beir.documents()

    def _splits(self) -> list[str]:
        return self._beir._splits()

    def _queries(self, split: str) -> Texts:
        return self._beir._queries(split)

    def _qrels(self, split: str) -> Qrels | None:
        return self._beir._qrels(split)

    @cached_property
    def _beir(self) -> Beir:
        """The same in BEIR layout."""
        for split in self.names:
            judged = ((row["query-id"], row["corpus-id"], row["score"]) for row in self._rows(None, split))
            write_lines_once(self.root / "qrels" / f"{split}.tsv", partial(map, judgment_line, judged))
        write_lines_once(self.root / "queries.jsonl", lambda: map(json.dumps, map(as_record, self._rows("queries", "queries"))))
        return Beir(str(self.root), relevant_from=self.relevant_from)

    def _rows(self, configuration: str | None, split: str) -> Iterator[dict[str, Any]]:
        """Streamed, so that nothing is kept twice; no configuration: the judgments."""
        path = self.path if configuration or not self.judgments else self.judgments
        revision = self.revision if path == self.path else None

        def rows() -> Iterable[dict[str, Any]]:
            from datasets import load_dataset

            return load_dataset(path, configuration or "default", split=split, revision=revision, streaming=True)

        return stream_from_hub(f"{path}, {configuration or 'judgments'}, {split}", rows)


def hub_folder(name: str, *settings: Any) -> Path:
    """The cache's folder of a data set."""
    return cache_folder() / "hubs" / f"{re.sub(r'[^a-zA-Z0-9-]+', '-', name).strip('-')[-60:]}-{fingerprint(name, *settings)}"


def load_ir_dataset(id_: str) -> Any:
    """An ir_datasets data set; nothing is fetched yet."""
    import ir_datasets

    return ir_datasets.load(id_)


def stream_from_hub(what: str, rows: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """`rows()`, whatever way of failing those libraries have told as one line."""
    for name in LOGGERS:
        logging.getLogger(name).disabled = True
    try:
        yield from rows()
    except ImportError as error:
        raise BadInput(f"{what}: needs the package {error.name}: pip install 'distill[hub]'") from None
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise BadInput(f"{what}: no such data set, or no way to it ({said}): mend the name or the network") from None


def write_lines_once(path: Path, lines: Callable[[], Iterable[str]]) -> None:
    """One line after the other into `path`, whole or not at all, unless it is there."""
    if path.exists():
        return
    with wait_for_lock(cache_folder() / "hubs"):  # the libraries fetch into one folder of their own, whoever asks
        if path.exists():
            return
        print(f"{path}: fetched now; the terms of use of its data set hold", flush=True)
        with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines())


def as_record(row: dict[str, Any]) -> Record:
    """What is read of a row of texts."""
    return {"_id": str(row.get("_id", row.get("id"))), "title": row.get("title") or "", "text": row["text"] or ""}


def judgment_line(judgment: Judgment) -> str:
    query, document, grade = judgment
    return f"{query}\t{document}\t{int(grade)}"
