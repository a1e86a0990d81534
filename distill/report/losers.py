"""The queries on which student and teacher differ most, with the documents that each ranks first."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from distill.evaluation.results import STUDENT, TEACHER
from distill.report.evidence import RunEvidence
from distill.report.figures import HEADINGS
from distill.report.query_results import QueryResults
from distill.texts.text_source import TextSource

MOST_QUERIES = 50  # losers, and as many winners
DOCUMENTS = 5  # of each system beside one another
TEXT_CHARACTERS = 160  # of a document


def losers_and_winners(run: RunEvidence) -> dict[str, Any] | None:
    """The table, as the page's template reads it; None where the queries are not here."""
    queries = run.queries
    if queries is None:
        return None
    student = queries.values[STUDENT][queries.metric]  # [Q]
    teacher = queries.values[TEACHER][queries.metric] if TEACHER in queries.values else np.ones_like(student)
    rows = [_make_row(run, queries, position, float(teacher[position]), float(student[position])) for position in _choose(student, teacher)]
    boxes = "Grades judged are in boxes; " if queries.grades else ""
    note = f"Up to {MOST_QUERIES} of each by {HEADINGS[queries.metric]}. {boxes}documents that both list are coloured."
    return {"heads": ["query", TEACHER, STUDENT, "difference"], "queries": rows, "note": note}


def _choose(student: np.ndarray, teacher: np.ndarray) -> list[int]:
    """Positions of the queries of the largest losses, then of the largest gains."""
    order = np.argsort(student - teacher, kind="stable")
    losers = [int(position) for position in order[:MOST_QUERIES] if student[position] < teacher[position]]
    winners = [int(position) for position in order[::-1][:MOST_QUERIES] if student[position] > teacher[position]]
    return losers + winners


def _make_row(run: RunEvidence, queries: QueryResults, position: int, teacher: float, student: float) -> dict[str, Any]:
    text, difference = queries.texts[position], student - teacher
    cells = [
        {"value": text, "shown": text},
        {"value": f"{teacher:.6f}", "shown": f"{teacher:.3f}"},
        {"value": f"{student:.6f}", "shown": f"{student:.3f}"},
        {"value": f"{difference:.6f}", "shown": f"{difference:+.3f}"},
    ]
    kind = "loser" if student < teacher else "winner"
    return {"kind": kind, "cells": cells, "lists": _list_documents(run.source, queries, queries.ids[position])}


def _list_documents(source: TextSource | None, queries: QueryResults, query: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """For teacher and student the documents that each ranks first for a query."""
    tops = {name: queries.rankings[name].get(query, [])[:DOCUMENTS] for name in (TEACHER, STUDENT)}
    teacher_ids, student_ids = ({document for document, _ in top} for top in tops.values())
    shared, grades = teacher_ids & student_ids, queries.grades.get(query, {})
    lists = []
    for name, top in tops.items():
        documents = [
            {
                **_read_document(source, document),
                "score": f"{score:.3f}",
                "grade": grades.get(document),
                "shared": document in shared,
            }
            for document, score in top
        ]
        lists.append((name, documents))
    return lists


def _read_document(source: TextSource | None, document: str) -> dict[str, str]:
    """Title and beginning of a document; its id alone where its text is not here."""
    if source is None or not source.has_documents():
        return {"name": document, "text": ""}
    texts = source.documents()
    row = int(texts.ids.rows([document])[0])
    if row < 0:
        return {"name": document, "text": ""}
    return {"name": texts.title(row) or document, "text": textwrap.shorten(texts[row], TEXT_CHARACTERS, placeholder=" ...")}
