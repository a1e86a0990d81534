"""`shrink`: teacher and queries in; student, verdict, report and export out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from distill.data.datamodule import RetrievalData
from distill.encoders.folder import has_module_list, load_encoder
from distill.encoders.hub import local_folder
from distill.encoders.pooling import PoolingMode
from distill.encoders.students import Projection, StudentFromBackbone, StudentFromTeacher, StudentSpec
from distill.evaluation.results import Results
from distill.export.export import export
from distill.files.progress import log
from distill.losses.embedding import QueryMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import Run, train
from distill.shrinking.advice import list_advice
from distill.shrinking.budget import choose_epochs, measure_rate
from distill.shrinking.request import Job, Request
from distill.shrinking.texts import JobTexts, log_texts, open_texts, prepare_texts
from distill.shrinking.vectors import open_job_teacher, prepare_vectors
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher
from distill.texts.text_source import TextSource
from distill.vectors.open_vectors import open_vectors

TEXTS, STORE = "texts", "store"  # folders in the job's folder
BATCH_SIZE, SMALL_BATCH_SIZE = 64, 16
DEFAULT_LAYERS = 2


def shrink(
    teacher: Any,
    queries: Any = None,
    documents: Any = None,
    judgments: str | None = None,
    out: str = "runs/shrunk",
    size: int | None = None,
    minutes: float = 10.0,
    vectors: str | None = None,
    ids: str | None = None,
    fields: dict[str, str] | None = None,
    text_field: str | None = None,
    id_field: str | None = None,
    source: TextSource | None = None,
    model: str | None = None,
    backbone: str | None = None,
) -> Run:
    """Makes a small query encoder for a teacher's embedding space, measures what it keeps, and writes report and export.

    Everything lands in one run folder, with which every other verb goes on. A call that was killed is started again by the same call.

    Args:
        teacher: folder or hub name of the teacher, the address of a server with OpenAI's embeddings interface, or a store.
        queries: texts to learn from: a list, or a file (.txt, .tsv, .csv, .jsonl, .parquet, gzipped too); `log.csv:query` names its field.
            Without any, crops of the documents take their place.
        documents: texts of the index: a file of these kinds, a list, or a folder in BEIR or MS MARCO layout, whose judged queries are then
            used. Without any, students are compared with the teacher among the queries alone.
        judgments: file of judgments of the queries, as TREC or BEIR write them: query, document, grade.
        out: run folder to write.
        size: number of the teacher's layers that the student keeps; 2 by default.
        minutes: time to train for.
        vectors: the documents' vectors, where they exist: .npy, .parquet, or a flat faiss index. Then a part of the documents is enough.
        ids: text file with the id of each vector, one a line.
        fields: names of the fields of the documents' file, e.g. {id: article_id, title: headline, text: body}.
        text_field: field of the queries' file that has the query.
        id_field: field of the queries' file that has its id.
        source: instead of documents: any source of texts.
        model: only for a server: its name for the model.
        backbone: encoder that the student begins from where the teacher cannot be cut, as that of a server.

    Returns:
        The finished run: `run.student`, `run.results`, `run.verdict`, `run.search(...)`.

    Raises:
        BadInput: the inputs do not fit together, or the folder holds something else.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    request = Request(**given | {"out": Path(out)})
    index = None if vectors is None else open_vectors(vectors, ids)
    embedder = open_job_teacher(request)
    student = choose_student(request, embedder)
    job = Job(request.out)
    job.claim(request.describe())
    texts = prepare_texts(request, request.out / TEXTS, index)
    log_texts(texts)
    prepare_vectors(request, embedder, texts, request.out / STORE, index)
    run = train_job(request, job, texts, student)
    finish_job(run, texts)
    return run


def choose_student(request: Request, teacher: Embedder) -> StudentSpec:
    """Chooses what the student is made from: layers of the teacher, or the backbone that was given."""
    if request.backbone is None:
        if not isinstance(teacher, LocalTeacher):
            fix = "name a small encoder to begin from as --backbone, e.g. sentence-transformers/all-MiniLM-L6-v2"
            raise BadInput(f"{teacher.maker.name}: its vectors {teacher.maker.describe_origin()}, so it cannot be cut: {fix}")
        size = request.size or DEFAULT_LAYERS
        depth = teacher.towers.query.backbone.config.num_hidden_layers
        if size > depth:
            raise BadInput(f"size: {size}: {teacher.maker.name} has {depth} layers: keep from 1 to {depth} of them")
        return StudentFromTeacher(size)
    pooling: PoolingMode | None = None if has_module_list(local_folder(request.backbone)) else "mean"
    width = load_encoder(request.backbone, pooling).width
    projection: Projection = "none" if width == teacher.width else "linear"
    return StudentFromBackbone(request.backbone, projection, pooling)


def train_job(request: Request, job: Job, texts: JobTexts, student: StudentSpec) -> Run:
    """Trains the student for as many epochs as fit into the time, which is decided once."""
    count = texts.summary["train"] + texts.summary.get("crops", 0)
    make_data = partial(
        RetrievalData,
        source=texts.source,
        store=str(request.out / STORE),
        queries=None if texts.crops is None else [str(texts.crops)],
        batch_size=BATCH_SIZE if count >= 10 * BATCH_SIZE else SMALL_BATCH_SIZE,
    )
    make_module = partial(StudentModule, student)
    epochs = job.read("epochs")
    if epochs is None:
        epochs = choose_epochs(measure_rate(lambda: make_module(make_losses()), make_data), request.minutes)
        job.write("epochs", epochs)
    log.info(f"{epochs} epochs")
    return train(make_module(make_losses()), make_data(), request.out, max_epochs=epochs, devices=1)


def make_losses() -> dict[str, Any]:
    """Makes the losses of a job; a module trains losses of its own."""
    return {"query_matching": QueryMatching()}


def finish_job(run: Run, texts: JobTexts) -> Results:
    """Measures the student, and writes report and export, unless an earlier call did."""
    if not (run.path / "results.json").exists():
        run.evaluate(texts.summary["evaluated_on"])
    export(str(run.path))
    if not (run.path / "report.html").exists():
        run.report()
    return run.results


def open_job_texts(run: Run) -> JobTexts:
    """Opens the texts of a finished job."""
    return open_texts(run.folder.data().source, run.path / TEXTS)


def advise(run: Run, texts: JobTexts) -> list[str]:
    """Lists what to do next."""
    curve = run.history["dev/overlap@10"].values if "dev/overlap@10" in run.history else []
    return list_advice(texts, curve, run.results.values["agreement"])
