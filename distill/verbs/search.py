"""`distill search`: the student answers over the teacher's documents."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from distill.data.store import check_texts
from distill.device import best_device
from distill.encoders.folder import load_encoder
from distill.search import search
from distill.verbs.run_folder import RunFolder


def search_documents(run: str, query: str, k: int = 5) -> None:
    """Prints the documents that the student finds nearest to a query, from the teacher's own store.

    Args:
        run: run folder, as `distill train` leaves it.
        query: the words to search for; - reads one query a line from the terminal or a pipe.
        k: documents to show.
    """
    folder = RunFolder(Path(run))
    student = load_encoder(str(folder.needs_student())).prepare_for(best_device())
    data = folder.data()
    texts, store = data.source.documents(), folder.teacher_store(data.store_folder).documents
    check_texts(store, texts.fingerprint, f"the documents of {data.source.root}")
    for words in typed() if query == "-" else [query]:
        scores, rows = search(student.encode([words], "query"), store, min(k, len(store)))
        print(f"\n{words}")
        for rank, (score, row) in enumerate(zip(scores[0].tolist(), rows[0].tolist(), strict=True), start=1):
            snippet = textwrap.shorten(texts[row], 160, placeholder=" ...")
            print(f"  {rank}. {score:.3f}  {texts.title(row) or texts.ids[row]}\n     {snippet}")


def typed() -> Iterator[str]:
    """Queries from standard input, with a prompt where a person types them."""
    while True:
        if sys.stdin.isatty():
            print("query> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
