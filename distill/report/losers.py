"""Makes the table of the queries on which student and teacher differ most, with the top documents of both."""

from __future__ import annotations

from typing import Any

import numpy as np

from distill.evaluation.fields import STUDENT, TEACHER
from distill.report.evidence import RunEvidence
from distill.report.figures import HEADINGS
from distill.report.query_results import QueryResults
from distill.texts.text_source import TextSource
from distill.texts.words import shorten

MOST_QUERIES = 50  # most queries on which the student is worse, and most on which it is better
DOCUMENTS = 5  # documents of each system
TEXT_CHARACTERS = 160  # characters of a document


def losers_and_winners(run: RunEvidence) -> dict[str, Any] | None:
    """Makes the table in the format of the page's template; None if the queries are not available."""
    queries = run.queries
    if queries is None:
        return None
    student = queries.values[STUDENT][queries.metric]  # [Q]
    teacher = queries.values[TEACHER][queries.metric] if TEACHER in queries.values else np.ones_like(student)
    positions = _choose_queries(student, teacher)
    rows = [_make_row(run, queries, position, float(teacher[position]), float(student[position])) for position in positions]
    boxes = "Grades judged are in boxes; " if queries.grades else ""
    note = f"Up to {MOST_QUERIES} of each by {HEADINGS[queries.metric]}. {boxes}documents that both list are coloured."
    return {"heads": ["query", TEACHER, STUDENT, "difference"], "queries": rows, "note": note}


def _choose_queries(student: np.ndarray, teacher: np.ndarray) -> list[int]:
    """Returns the positions of the queries with the largest losses, then of those with the largest gains."""
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
    """Lists the top documents of a query for teacher and for student."""
    tops = {name: queries.rankings[name].get(query, [])[:DOCUMENTS] for name in (TEACHER, STUDENT)}
    teacher_ids = {document for document, _ in tops[TEACHER]}
    student_ids = {document for document, _ in tops[STUDENT]}
    shared = teacher_ids & student_ids
    grades = queries.grades.get(query, {})
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
    """Reads title and beginning of a document; returns only its id if the text is not available."""
    if source is None or not source.has_documents():
        return {"name": document, "text": ""}
    texts = source.documents()
    row = int(texts.ids.rows([document])[0])
    if row < 0:
        return {"name": document, "text": ""}
    return {"name": texts.title(row) or document, "text": shorten(texts[row], TEXT_CHARACTERS)}
