"""`shrink`: teacher and queries in; student, verdict, report and export out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from distill.files.device import release_memory
from distill.run import Run
from distill.shrinking.advice import list_advice, name_larger
from distill.shrinking.continuing import (
    compare_before_and_after,
    continue_texts,
    continue_training,
    continue_vectors,
    refuse_other_teacher,
    require_job,
)
from distill.shrinking.frontier import Limits, train_sizes
from distill.shrinking.layers import name_layers_once
from distill.shrinking.request import AUTO, STORE, TEXTS, Job, Request
from distill.shrinking.steps import finish_job, prepare_job, refuse_odd_ids
from distill.shrinking.texts import JobTexts, log_texts, open_texts
from distill.shrinking.training import choose_student, train_job
from distill.shrinking.vectors import open_job_teacher


def shrink(
    teacher: Any = None,
    queries: Any = None,
    documents: Any = None,
    judgments: str | None = None,
    out: str = "runs/shrunk",
    size: int | Literal["static", "auto"] | None = None,
    minutes: float = 10.0,
    **options: Any,
) -> Run:
    """Makes a small query encoder for a teacher's embedding space, measures what it keeps, and writes report and export.

    Everything lands in one run folder; the same call goes on with a job that was killed. Inputs that do not fit together raise BadInput.
    Returns the finished run: `run.student`, `run.results`, `run.verdict`, `run.search(...)`.

    Args:
        teacher: folder or hub name of the teacher, the address of a server, as `encode` takes it, or a store.
        queries: texts to learn from: a list or a file (.txt, .tsv, .csv, .jsonl, .parquet, .gz; `log.csv:query` names a field), else crops.
        documents: texts of the index: such a file, a list, or a folder in BEIR or MS MARCO layout with judged queries. None: queries alone.
        judgments: file of judgments of the queries, as TREC or BEIR write them: query, document, grade.
        out: run folder to write; with size: auto the run folder of each student is in its `students/`.
        size: number of the teacher's layers that the student keeps, 2 by default; static for a table of its tokens without layers; or auto,
            which tries several and takes what `frontier` recommends.
        minutes: time to train for.
        options: of the texts, the vectors and the teacher, as `ShrinkOptions` has them.
    """
    return run_job(Request(teacher, queries, documents, judgments, Path(out), size, minutes, **options))


def run_job(request: Request) -> Run:
    """Makes a student from the start, or goes on with that of an earlier job."""
    request = replace(request, out=Path(request.out))
    return start_job(request) if request.continue_from is None else continue_job(request)


def start_job(request: Request) -> Run:
    """Makes a student from the start."""
    if request.size == AUTO:
        return train_sizes(request, Limits()).run
    embedder = open_job_teacher(request)
    student = choose_student(request, embedder)
    job, texts = prepare_job(request, embedder)
    del embedder
    release_memory()  # for the teacher's layers, of which the student is cut, and its latency
    [student] = name_layers_once(request, job, texts, [student])
    run = train_job(request, job, texts, student)
    finish_job(run, texts)
    return run


def continue_job(request: Request) -> Run:
    """Goes on with the student of an earlier job."""
    previous = require_job(str(request.continue_from), request.trust)
    embedder = open_job_teacher(request, previous.path / STORE)
    refuse_other_teacher(embedder, previous)
    job = Job(request.out)
    with job.claim(request.describe()):
        texts = continue_texts(request, previous, request.out / TEXTS)
        refuse_odd_ids(request, texts)
    log_texts(texts)
    continue_vectors(embedder, texts, previous, request.out / STORE)
    del embedder
    release_memory()
    run = continue_training(request, job, texts, previous)
    finish_job(run, texts)
    if job.read("changes") is None:
        job.write("changes", [str(change) for change in compare_before_and_after(run, texts, previous)])
    return run


def list_changes(run: Run) -> list[str]:
    """Lists what became of the earlier student on each set of held-out queries; empty for a job that continues none."""
    job = Job(run.path)
    return job.read("changes") or [] if job.path.exists() else []


def open_job_texts(run: Run) -> JobTexts:
    """Opens the texts of a finished job."""
    return open_texts(run.folder.data().source, run.path / TEXTS)


def advise(run: Run, texts: JobTexts) -> list[str]:
    """Lists what to do next."""
    curve = run.history["dev/overlap@10"].values if "dev/overlap@10" in run.history else []
    job = Job(run.path)
    if not job.path.exists():  # one of the students of `frontier`, which tried larger ones
        return list_advice(texts, curve, run.results, larger=None)
    inputs = job.read_inputs()
    goes_on = inputs.get("continue_from") is not None
    larger = name_larger(inputs["size"], inputs["backbone"], goes_on)
    return list_advice(texts, curve, run.results, bool(job.read("is_longest")), larger, goes_on)
