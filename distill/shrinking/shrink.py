"""`shrink`: teacher and queries in; student, verdict, report and export out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from distill.evaluation.results import Results
from distill.export.export import export
from distill.records import BadInput
from distill.run import Run
from distill.shrinking.advice import list_advice
from distill.shrinking.continuing import (
    compare_before_and_after,
    continue_texts,
    continue_training,
    continue_vectors,
    require_job,
)
from distill.shrinking.request import STORE, TEXTS, Job, Request
from distill.shrinking.texts import JobTexts, log_texts, open_texts, prepare_texts
from distill.shrinking.training import choose_student, train_job
from distill.shrinking.vectors import open_job_teacher, prepare_vectors
from distill.teachers.agreement import compare_with_teacher
from distill.texts.tables import Kind, read_rows
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.vector_files import check_vector_ids


def shrink(
    teacher: Any = None,
    queries: Any = None,
    documents: Any = None,
    judgments: str | None = None,
    out: str = "runs/shrunk",
    size: int | Literal["static"] | None = None,
    minutes: float = 10.0,
    vectors: str | None = None,
    ids: str | None = None,
    fields: dict[str, str] | str | None = None,
    text_field: str | None = None,
    id_field: str | None = None,
    source: TextSource | None = None,
    model: str | None = None,
    backbone: str | None = None,
    continue_from: str | None = None,
    trust: bool = False,
    trust_remote_code: bool = False,
    keep_own_documents: bool = False,
    general: Any = None,
) -> Run:
    """Makes a small query encoder for a teacher's embedding space, measures what it keeps, and writes report and export.

    Everything lands in one run folder; the same call goes on with a job that was killed. Inputs that do not fit together raise BadInput.
    Returns the finished run: `run.student`, `run.results`, `run.verdict`, `run.search(...)`.

    Args:
        teacher: folder or hub name of the teacher, the address of a server, as `encode` takes it, or a store.
        queries: texts to learn from: a list or a file (.txt, .tsv, .csv, .jsonl, .parquet, .gz; `log.csv:query` names a field), else crops.
        documents: texts of the index: such a file, a list, or a folder in BEIR or MS MARCO layout with judged queries. None: queries alone.
        judgments: file of judgments of the queries, as TREC or BEIR write them: query, document, grade.
        out: run folder to write.
        size: number of the teacher's layers that the student keeps, 2 by default; or static, for a table of its tokens without layers.
        minutes: time to train for.
        vectors: the documents' vectors, where they exist: .npy, .parquet, or a flat faiss index. Then a part of the documents is enough.
        ids: text file with the id of each vector, one a line.
        fields: names of the fields of the documents' file, e.g. id=article_id,title=headline,text=body; in Python also a mapping.
        text_field: field of the queries' file that has the query.
        id_field: field of the queries' file that has its id.
        source: instead of documents: any source of texts.
        model: only for a server: its name for the model.
        backbone: encoder that the student begins from where the teacher cannot be cut, as that of a server.
        continue_from: (--continue) run folder of an earlier job, whose student learns the new queries too; the better of the two is kept.
        trust: whether the earlier job's files may name code of other packages, which is then imported; not for one from somebody else.
        trust_remote_code: whether Python code that the teacher's folder brings with it may run; read it before.
        keep_own_documents: whether a document that has a query's id may be found for it, as in MS MARCO, where both are just numbered.
        general: texts of other subjects to cut queries from too: such a file, list or folder, or a data set of the hub, e.g. BeIR/nq.
    """
    return run_job(Request(**{name: value for name, value in locals().items() if value is not None}))


def run_job(request: Request) -> Run:
    """Makes a student from the start, or goes on with that of an earlier job."""
    request = replace(request, out=Path(request.out))
    return start_job(request) if request.continue_from is None else continue_job(request)


def start_job(request: Request) -> Run:
    """Makes a student from the start."""
    embedder = open_job_teacher(request)
    student = choose_student(request, embedder)
    job = Job(request.out)
    with job.claim(request.describe()):
        texts = prepare_texts(request, request.out / TEXTS, embedder)
        refuse_odd_ids(request, texts)
        if request.known_vectors is not None and not (request.index is None and texts.material is None):
            compare_with_teacher(embedder, texts.material, request.known_vectors)
    log_texts(texts)
    prepare_vectors(request, embedder, texts, request.out / STORE)
    run = train_job(request, job, texts, student)
    finish_job(run, texts)
    return run


def continue_job(request: Request) -> Run:
    """Goes on with the student of an earlier job."""
    previous = require_job(str(request.continue_from), request.trust)
    embedder = open_job_teacher(request, previous.path / STORE)
    job = Job(request.out)
    with job.claim(request.describe()):
        texts = continue_texts(request, previous, request.out / TEXTS)
        refuse_odd_ids(request, texts)
    log_texts(texts)
    continue_vectors(embedder, texts, previous, request.out / STORE)
    run = continue_training(request, job, texts, previous)
    finish_job(run, texts)
    if job.read("changes") is None:
        job.write("changes", [str(change) for change in compare_before_and_after(run, texts, previous)])
    return run


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


def list_changes(run: Run) -> list[str]:
    """Lists what became of the earlier student on each set of held-out queries; empty for a job that continues none."""
    return Job(run.path).read("changes") or []


def finish_job(run: Run, texts: JobTexts) -> Results:
    """Exports and measures the student, and writes the report, unless an earlier call did."""
    split = texts.summary["evaluated_on"]
    export(str(run.path))  # first, as its ONNX models are timed beside the others
    # another split may have been evaluated since
    if not (run.path / "results.json").exists() or not run.results.values["dataset"].endswith(f"/{split}"):
        run.evaluate(split)
        export(str(run.path))  # again: the model card has the figures now
    if not (run.path / "report.html").exists():
        run.report()
    return run.results


def open_job_texts(run: Run) -> JobTexts:
    """Opens the texts of a finished job."""
    return open_texts(run.folder.data().source, run.path / TEXTS)


def advise(run: Run, texts: JobTexts) -> list[str]:
    """Lists what to do next."""
    curve = run.history["dev/overlap@10"].values if "dev/overlap@10" in run.history else []
    return list_advice(texts, curve, run.results)
