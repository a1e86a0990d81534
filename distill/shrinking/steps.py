"""The steps that every job has: its texts and vectors at the beginning; export, measurement and report at the end."""

from __future__ import annotations

from typing import Any

from distill.evaluation.results import Results
from distill.export.export import export
from distill.records import BadInput
from distill.run import Run
from distill.shrinking.request import STORE, TEXTS, Job, Request
from distill.shrinking.texts import JobTexts, log_texts, prepare_texts
from distill.shrinking.vectors import prepare_vectors
from distill.teachers.agreement import compare_with_teacher
from distill.teachers.embedder import Embedder
from distill.texts.tables import Kind, read_rows
from distill.texts.texts import Texts
from distill.vectors.vector_files import check_vector_ids


def prepare_job(request: Request, embedder: Embedder) -> tuple[Job, JobTexts]:
    """Writes the texts and the vectors of a job, and returns its record and its texts; a second call goes on with what is missing.

    Args:
        request: what the job was asked for.
        embedder: the teacher.
    """
    job = Job(request.out)
    with job.claim(request.describe()):
        texts = prepare_texts(request, request.out / TEXTS, embedder)
        refuse_odd_ids(request, texts)
        if request.known_vectors is not None and not (request.index is None and texts.material is None):
            compare_with_teacher(embedder, texts.material, request.known_vectors)
    log_texts(texts)
    prepare_vectors(request, embedder, texts, request.out / STORE)
    return job, texts


def refuse_odd_ids(request: Request, texts: JobTexts) -> None:
    """Refuses ids with white space before hours are spent: the files of rankings, which end the job, cannot hold them."""
    fields = {role: name for role, name in (("text", request.text_field), ("id", request.id_field)) if name is not None}
    for split in texts.source.splits():
        _refuse_odd_ids(texts.source.queries(split), request.queries, fields, "queries")
    if request.known_vectors is not None:
        check_vector_ids(request.known_vectors.ids, request.known_vectors.files.path)
    elif texts.material is not None:
        _refuse_odd_ids(texts.material, request.document_file, request.field_names, "documents")


def _refuse_odd_ids(texts: Texts, given: Any, fields: dict[str, str], kind: Kind) -> None:
    """Names the line of the file that was given, where an id of `texts`, which were copied from it, is odd."""
    odd = texts.ids.first_odd()
    if odd is not None:
        row, fault = odd
        rows = () if given is None else read_rows(given, fields, kind)
        place = next((read.place for read in rows if read.id == texts.ids[row]), texts.place(row))
        raise BadInput(f"{place}: the id {texts.ids[row]!r} {fault}: rename it")


def has_results(run: Run, texts: JobTexts, split: str) -> bool:
    """Whether the results of a run are of these very queries: its user may have evaluated it on others since."""
    if not (run.path / "results.json").exists():
        return False
    values = run.results.values
    is_same = values["provenance"].get("texts") in texts.source.queries(split).fingerprints("query")
    return is_same and str(values["dataset"]).endswith(f"/{split}")


def finish_job(run: Run, texts: JobTexts) -> Results:
    """Exports and measures the student, and writes the report, unless an earlier call did."""
    export(str(run.path))  # first, as its ONNX models are timed beside the others
    split = texts.summary["evaluated_on"]
    if not has_results(run, texts, split):
        run.evaluate(split)
        export(str(run.path))  # again: the model card has the figures now
    if not (run.path / "report.html").exists():
        run.report()
    return run.results
