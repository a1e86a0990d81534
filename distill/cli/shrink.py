"""`distill shrink`: the whole job."""

from __future__ import annotations

import re

from distill.cli.parser import call_function
from distill.cli.search import show as show_answers
from distill.run import Run
from distill.shrinking.shrink import advise, list_changes, open_job_texts, shrink

EXAMPLES = 3  # searches to show


def main(arguments: list[str]) -> None:
    """Runs the verb."""
    show(call_function("shrink", shrink, [re.sub(r"^--continue(?==|$)", "--continue_from", argument) for argument in arguments]))


def show(run: Run) -> None:
    """Prints the verdict, some searches, what to do next, and how to load the student."""
    texts = open_job_texts(run)
    print(f"\n{run.results}\nthe student {run.verdict}")
    for change in list_changes(run):
        print(change)
    queries = texts.source.queries(texts.summary["evaluated_on"])
    if texts.source.has_documents():
        show_answers((query, run.search(query, 3)) for query in queries.read(range(min(EXAMPLES, len(queries)))))
    advice = advise(run, texts)
    if advice:
        print("\nnext:")
        for line in advice:
            print(f"  {line}")
    print(f"\nreport: {run.path / 'report.html'}")
    print("to use the student:\n")
    print("    import distill")
    print(f'    vector = distill.load_encoder("{run.path / "student"}").encode_query("how long does a cold last")')
