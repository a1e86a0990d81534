"""What the student of a job is made from, and its training, which lasts as long as the user said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from distill.data.datamodule import BATCH_SIZE, RetrievalData
from distill.encoders.folder import has_module_list
from distill.encoders.hub import local_folder
from distill.encoders.layer_cuts import choose_layers, cut_layers
from distill.encoders.pooling import PoolingMode
from distill.encoders.static_student import StaticStudent
from distill.encoders.students import Projection, StudentFromBackbone, StudentFromTeacher, StudentSpec
from distill.files.progress import log
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import Run, train
from distill.shrinking.budget import MOST_EPOCHS, choose_length, measure_rate
from distill.shrinking.request import AUTO, STATIC, STORE, Job, Request
from distill.shrinking.splits import DEV
from distill.shrinking.texts import JobTexts
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher
from distill.texts.text_source import TRAIN
from distill.texts.texts import Texts

DEFAULT_LAYERS = 2
A_LONG_TIME = 1e6  # minutes
SMALL_BATCH_SIZE = 16
BATCHES_AT_LEAST = 10  # of an epoch of full batches; fewer texts than that make small ones


def choose_student(request: Request, teacher: Embedder) -> StudentSpec:
    """Chooses what the student is made from: layers of the teacher, its tokens, or the backbone that was given."""
    if request.backbone is None:
        if not isinstance(teacher, LocalTeacher):
            fix = "name a small encoder to begin from as --backbone, e.g. sentence-transformers/all-MiniLM-L6-v2"
            raise BadInput(f"{teacher.maker.name}: its vectors {teacher.maker.describe_origin()}, so it cannot be cut: {fix}")
        if teacher.towers.query.runs_remote_code:
            fix = "name a small encoder to begin from as --backbone"
            raise BadInput(f"{teacher.maker.name}: runs Python code of its folder, which a student does not: {fix}")
        if request.size == STATIC:
            return StaticStudent()
        backbone = teacher.towers.query.backbone
        depth = backbone.config.num_hidden_layers
        size = min(DEFAULT_LAYERS, depth) if request.size == AUTO else request.size or DEFAULT_LAYERS
        if size > depth:
            raise BadInput(f"size: {size}: {teacher.maker.name} has {depth} layers: keep from 1 to {depth} of them")
        cut_layers(backbone, choose_layers(size, depth))  # what cannot be cut is refused before the documents are embedded
        return StudentFromTeacher(size)
    pooling: PoolingMode | None = None if has_module_list(local_folder(request.backbone)) else "mean"
    student = StudentFromBackbone(request.backbone, pooling=pooling)
    projection: Projection = "none" if student.load_whole(teacher.maker).width == teacher.width else "linear"
    return replace(student, projection=projection)


def train_job(request: Request, job: Job, texts: JobTexts, student: StudentSpec) -> Run:
    """Trains the student for as many epochs as fit into the time."""
    return train_in_time(request, job, partial(StudentModule, student), partial(make_data, request, texts))


def make_data(request: Request, texts: JobTexts, dev: str = DEV, shares: dict[str, float] | None = None) -> RetrievalData:
    """Makes the data of a job: its splits, and the extra files of queries, whole or in shares of the training split's size."""
    count = len(texts.source.queries(TRAIN)) + sum(len(Texts.open(path)) for path in texts.extra)
    return RetrievalData(
        texts.source,
        str(request.out / STORE),
        TRAIN,
        dev,
        queries=shares or list(map(str, texts.extra)),
        batch_size=small_batch_size(count),
    )


def small_batch_size(count: int) -> int | None:
    """How many queries a step reads where there are few of them, `count`; None where the default will do."""
    return None if count >= BATCHES_AT_LEAST * BATCH_SIZE else SMALL_BATCH_SIZE


def train_in_time(
    request: Request,
    job: Job,
    make_module: Callable[[], StudentModule],
    make_data: Callable[[], RetrievalData],
    most_epochs: int = MOST_EPOCHS,
) -> Run:
    """Trains for as many epochs as fit into the time, which are counted once: a job that was killed goes on to the same end."""
    epochs, options = job.read("epochs"), {}
    if epochs is None:
        log.info("measuring how fast a student is trained here")
        rate = measure_rate(make_module, make_data)
        epochs, steps = choose_length(rate, request.minutes, most_epochs)
        job.write("steps", steps if steps < rate.steps else None)
        job.write("is_longest", epochs == choose_length(rate, A_LONG_TIME, most_epochs)[0])
        job.write("epochs", epochs)
        length = f"{epochs} epochs" if steps == rate.steps else f"{steps} of its {rate.steps} steps: give more --minutes for all"
        log.info(f"an epoch takes about {rate.epoch:.0f} s: {length}")
    else:
        log.info("the length of this training was chosen before: for other --minutes, choose another --out")
    if job.read("steps") is not None:
        options["limit_train_batches"] = job.read("steps")
    return train(make_module(), make_data(), request.out, max_epochs=epochs, devices=1, **options)
