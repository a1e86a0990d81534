"""`Collection`: a folder of texts as this package writes it: documents, and for every split its queries and judgments."""

from __future__ import annotations

import re
from pathlib import Path

from distill.files.atomic import write_atomically
from distill.records import BadInput
from distill.texts.hubs import judgment_line, text_line
from distill.texts.qrels import Qrels
from distill.texts.sources import read_qrels_if_there
from distill.texts.text_files import find_text_file
from distill.texts.text_source import TRAIN, TextSource
from distill.texts.texts import Texts


class Collection(TextSource):
    """A folder of `queries.SPLIT.jsonl`, for judged splits `qrels.SPLIT.tsv`, and `corpus.jsonl` where it has documents of its own.

    `write_split` and `write_documents` write such a folder.

    Args:
        root: Folder that holds the files.
        documents: Another source, whose documents are searched.
        searches_queries: Whether the train queries are searched as documents, for lack of these.
        relevant_from: Lowest grade that MRR and recall count as relevant; 2 in TREC DL.
        keep_own_documents: Whether a document that has a query's id may be found for it; if not, only where it is judged relevant to it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_split(folder, "train", Texts.from_lists(["a", "b"], ["one", "two"]))
    ...     source = Collection(folder, searches_queries=True)
    ...     source.splits(), list(source.documents())
    (['train'], ['one', 'two'])
    """

    root: Path

    def __init__(
        self,
        root: str,
        documents: TextSource | None = None,
        searches_queries: bool = False,
        relevant_from: int = 1,
        keep_own_documents: bool = False,
    ):
        super().__init__(root, 0, relevant_from, keep_own_documents)
        self.document_source = documents
        if documents is not None:
            self.name = documents.name
        self.searches_queries = searches_queries
        if documents is not None and searches_queries:
            raise BadInput(f"{root}: searches_queries is on and documents are given: choose one of the two")
        if not self.list_splits():
            raise BadInput(f"{root}: no queries.SPLIT.jsonl in it, such as queries.train.jsonl: name another folder")

    def load_documents(self) -> Texts:
        if self.document_source is not None:
            return self.document_source.documents()
        if self.searches_queries:
            return self.queries(TRAIN)
        return Texts.open(find_text_file(self.root / "corpus.jsonl"), join_title=True)

    def has_documents(self) -> bool:
        if self.document_source is not None:
            return self.document_source.has_documents()
        return self.searches_queries or (self.root / "corpus.jsonl").is_file()

    def list_splits(self) -> list[str]:
        matches = [re.fullmatch(r"queries\.(.+)\.jsonl", path.name) for path in self.root.glob("queries.*.jsonl")]
        return sorted((match[1] for match in matches if match), key=lambda split: (split != TRAIN, split))

    def load_queries(self, split: str) -> Texts:
        return Texts.open(self.root / f"queries.{split}.jsonl", allow_empty=False)

    def load_qrels(self, split: str) -> Qrels | None:
        return read_qrels_if_there(self.root / f"qrels.{split}.tsv")


def write_split(root: str | Path, split: str, texts: Texts, qrels: Qrels | None = None) -> None:
    """Writes the queries of one split of a `Collection`, and the judgments of these queries where there are any.

    Args:
        root: folder of the collection.
        split: name of the split, e.g. train.
        texts: the queries.
        qrels: judgments, of which those of other queries are left out; None leaves the split without any.
    """
    judged = qrels.subset(texts.ids).judgments if qrels is not None else {}
    judgments = Path(root) / f"qrels.{split}.tsv"
    if judged:
        lines = [judgment_line(query, document, grade) for query, grades in judged.items() for document, grade in grades.items()]
        with write_atomically(judgments) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        judgments.unlink(missing_ok=True)
    # The queries last: a split is there when its queries are.
    with write_atomically(Path(root) / f"queries.{split}.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{text_line(id_, text)}\n" for id_, text in zip(texts.ids, texts, strict=True))
