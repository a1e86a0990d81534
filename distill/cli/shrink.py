"""`distill shrink`: the whole job."""

from __future__ import annotations

import json
import re

from distill.cli.parser import call_function
from distill.cli.search import show as show_answers
from distill.cli.terminal import show_text
from distill.run import Run
from distill.shrinking.shrink import advise, list_changes, open_job_texts, shrink

EXAMPLES = 3  # searches to show


def main(arguments: list[str]) -> None:
    """Runs the verb."""
    show(call_function("shrink", shrink, [re.sub(r"^--continue(?==|$)", "--continue_from", argument) for argument in arguments]))


def show(run: Run) -> None:
    """Prints the verdict, some searches, what to do next, and how to load the student."""
    texts = open_job_texts(run)
    show_text(f"\n{run.results}\nthe student {run.verdict}")
    for change in list_changes(run):
        show_text(change)
    queries = texts.source.queries(texts.summary["evaluated_on"])
    if texts.source.has_documents():
        show_answers((query, run.search(query, 3)) for query in queries.read(range(min(EXAMPLES, len(queries)))))
    advice = advise(run, texts)
    if advice:
        show_text("\nnext:")
        for line in advice:
            show_text(f"  {line}")
    show_text(f"\nreport: {run.path / 'report.html'}")
    show_text("to use the student:\n")
    show_text("    import distill")
    show_text(f'    vector = distill.load_encoder({json.dumps(str(run.path / "student"))}).encode_query("how long does a cold last")')
