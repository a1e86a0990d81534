"""`distill search`: the student answers over the teacher's documents."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from distill.encoders.towers import load_towers
from distill.evaluation.evaluate import embed_corpus
from distill.files.device import best_device
from distill.texts.sources import TextSource
from distill.training.run_folder import RunFolder
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents


def search_documents(run: str, query: str, k: int = 5) -> None:
    """Prints the documents that the student finds nearest to a query, from the teacher's own store.

    Args:
        run: run folder, as `distill train` leaves it.
        query: the words to search for; - reads one query a line from the terminal or a pipe.
        k: documents to show.
    """
    folder = RunFolder(Path(run))
    towers = load_towers(str(folder.require_student())).prepare_for(best_device())
    student, data = towers.query, folder.data()
    store = folder.teacher_store(data.store_folder).documents
    check_documents(store, data.source)
    if not folder.inherits_documents:
        store = embed_corpus(folder, towers, data.source)
    for words in read_typed_queries() if query == "-" else [query]:
        scores, rows = search(student.encode([words], "query"), store, min(k, len(store)))
        print(f"\n{words}")
        for rank, (score, row) in enumerate(zip(scores[0].tolist(), rows[0].tolist(), strict=True), start=1):
            print(f"  {rank}. {score:.3f}  {describe_document(data.source, store.ids[row])}")


def describe_document(source: TextSource, document: str) -> str:
    """Title and first words of a document; its id alone where its text is elsewhere."""
    if not source.has_documents():
        return document
    texts = source.documents()
    row = int(texts.ids.rows([document])[0])  # imported vectors may lie in another order than the texts
    return f"{texts.title(row) or document}\n     {textwrap.shorten(texts[row], 160, placeholder=' ...')}"


def read_typed_queries() -> Iterator[str]:
    """Queries from standard input, with a prompt where a person types them."""
    while True:
        if sys.stdin.isatty():
            print("query> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
