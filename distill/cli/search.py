"""`distill search`: answers a query with the student over the teacher's documents."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator

from distill.cli.terminal import show_text
from distill.records import printable
from distill.run import Hit, Run
from distill.texts.words import shorten
from distill.vectors.resident import keep_corpora

SHOWN_CHARACTERS = 160  # of the text of a document
Answers = Iterable[tuple[str, list[Hit]]]


def search_documents(run: str, query: str, k: int = 5, trust: bool = False) -> Answers:
    """Prints the documents that the student finds nearest to a query, from the teacher's own store.

    Args:
        run: run folder, as `distill train` leaves it.
        query: the words to search for; - reads one query a line from the terminal or a pipe.
        k: documents to show.
        trust: whether its files may name code of other packages, which is then imported, and sources that do more than read files; not
            for a folder from somebody else.
    """
    opened = Run(run, trust)
    opened.folder.require_student()
    return answer_queries(opened, read_typed_queries() if query == "-" else [query], k)


def answer_queries(run: Run, queries: Iterable[str], k: int) -> Answers:
    """Searches for one query after the other; on a GPU the documents stay in its memory meanwhile."""
    with keep_corpora():
        for query in queries:
            yield query, run.search(query, k)


def show(answers: Answers) -> None:
    for query, hits in answers:
        show_text(f"\n{printable(query, breaks=False)}")
        for rank, hit in enumerate(hits, start=1):
            show_text(f"  {rank}. {hit.score:.3f}  {printable(hit.title or hit.id, breaks=False)}")
            if hit.text:
                show_text(f"     {shorten(hit.text, SHOWN_CHARACTERS)}")


def read_typed_queries() -> Iterator[str]:
    """Queries from standard input, with a prompt where a person types them."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is not UTF-8 is no reason to end
    while True:
        if sys.stdin.isatty():
            show_text("query> ", end="")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


FUNCTION = search_documents
