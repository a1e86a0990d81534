"""The steps of a job, and what each of them takes: plain arithmetic on amounts of texts and times of units of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.evaluation.latency import QUERIES
from distill.planning import sizes
from distill.planning.amounts import Amount
from distill.planning.rates import UnitTimes, add, multiply
from distill.shrinking.budget import Rate, choose_length
from distill.vectors.faiss_index import Kind

SEARCHES = 2  # the teacher's and the student's
LATENCY_TURNS = QUERIES + 10  # with those that warm up
EXPORT_SECONDS = 9.0  # to write the ONNX models of a student and to try them, about: measured on two cores, for two layers
STUDENT_SHARE = 1 / 3  # of a training step is its forward pass


@dataclass(frozen=True)
class Step:
    """What a step of a job takes.

    Args:
        name: such as `encode documents`.
        seconds: None where they are not known.
        disk: bytes that it leaves.
        memory: bytes of main memory of each process.
        gpu_memory: bytes on each GPU; None where it uses none.
        about: how much work it is, in a few words.
    """

    name: str
    seconds: float | None
    disk: int
    memory: int
    gpu_memory: int | None
    about: str


@dataclass(frozen=True)
class Work:
    """What a job has to do, and with what.

    Args:
        documents: how many.
        queries: of each split, the training queries first.
        maker: the teacher, as stores name it.
        teacher: embeds documents and queries.
        student: is trained.
        tokens: mean tokens of a document, and of a query.
        gpus: how many share the work; None for the CPU.
        epochs: of training; None where they follow from `minutes`.
        minutes: that training may take.
        candidates: documents that each training query is scored against.
        batch_size: queries of a step on each GPU.
        index: of the export; None for none.
    """

    documents: Amount
    queries: Sequence[Amount]
    maker: Maker
    teacher: Encoder
    student: Encoder
    tokens: tuple[float, float]
    gpus: int | None
    epochs: int | None
    minutes: float
    candidates: int
    batch_size: int
    index: Kind | None

    @property
    def train(self) -> Amount:
        return self.queries[0]

    @property
    def dev(self) -> Amount:
        """The queries by which the epoch is chosen: those of the second split."""
        return self.queries[1] if len(self.queries) > 1 else self.queries[0]

    @property
    def measured(self) -> int:
        """The number of queries that the student is measured on at the end: those of the splits behind dev, else dev's."""
        return sum(amount.count for amount in self.queries[2:]) or self.dev.count

    @property
    def ranks(self) -> int:
        return self.gpus or 1

    @property
    def width(self) -> int:
        return self.teacher.width

    @property
    def weights(self) -> int:
        return self.student.parameter_count()

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.train.count // (self.batch_size * self.ranks))


def list_steps(work: Work, times: UnitTimes, memory: int, training_memory: int | None = None) -> list[Step]:
    """Lists the steps of a job with what each of them takes.

    Args:
        work: the job.
        times: of each unit of work.
        memory: bytes of main memory that a process takes while the teacher embeds.
        training_memory: the same while the student trains; None where it was not measured.
    """
    training = (training_memory or memory) + sizes.texts_memory(work.documents) + sum(map(sizes.texts_memory, work.queries))
    epochs, steps = count_steps(work, times)
    before_training = [
        plan_encoding(work, times, memory, "encode documents", "document", [work.documents]),
        plan_encoding(work, times, memory, "encode queries", "query", work.queries),
    ]
    if work.candidates:
        before_training.append(plan_candidates(work, times, training))
    return [
        *before_training,
        plan_training(work, times, training, epochs, steps),
        plan_dev(work, times, training, epochs),
        plan_evaluation(work, times, training),
        plan_export(work, times, training),
    ]


def plan_encoding(work: Work, times: UnitTimes, memory: int, name: str, role: Role, sets: Sequence[Amount]) -> Step:
    """Every GPU embeds its share of the texts, while its process cuts later ones into tokens and writes earlier ones."""
    unit, tokenizing = (times.document, times.document_tokens) if role == "document" else (times.query, times.query_tokens)
    plans = [sizes.plan_store(amount, rename(work.maker, role), work.width, None if unit is None else 1 / unit) for amount in sets]
    disk = sum(sizes.store_bytes(plan, amount.id_bytes) for plan, amount in zip(plans, sets, strict=True))
    count = sum(amount.count for amount in sets)
    # on a CPU the same cores embed and tokenise
    seconds = multiply(count, add(unit, tokenizing or 0.0)) if work.gpus is None else multiply(count / work.gpus, unit)
    if seconds is not None:
        others = (multiply(count / work.ranks, tokenizing), multiply(disk, times.byte))
        seconds = max([seconds, *(other for other in others if other is not None)])
    gpu = sizes.gpu_encode_memory(work.teacher) if work.gpus else None
    peak = memory + sum(map(sizes.texts_memory, sets)) + max(map(sizes.encode_memory, plans))
    tokens = work.tokens[0] if role == "document" else work.tokens[1]
    return Step(name, seconds, disk, peak, gpu, f"{count:,} texts of {tokens:.0f} tokens")


def rename(maker: Maker, role: Role) -> Maker:
    """The maker as a store of texts of that role names it."""
    return Maker(**{**vars(maker), "role": role})


def plan_candidates(work: Work, times: UnitTimes, memory: int) -> Step:
    """The teacher's top documents of each training query, which are searched for once and kept."""
    disk = work.train.count * work.candidates * sizes.LONG
    seconds = time_search(work, times, work.train.count, ranks=1)
    about = f"the top {work.candidates} of {work.train.count:,} queries"
    return Step("find candidates", seconds, disk, memory + disk, _search_memory(work), about)


def plan_training(work: Work, times: UnitTimes, memory: int, epochs: int | None, steps: int) -> Step:
    """The steps of all epochs; each GPU has a batch of its own."""
    seconds = None if epochs is None else multiply(epochs * steps, times.step)
    tokens = work.train.count * round(work.tokens[1]) * sizes.SINGLE
    gpu = sizes.gpu_train_memory(work.student, work.tokens[1], work.batch_size) if work.gpus else None
    length = f"at most {work.minutes:g} minutes" if epochs is None else f"{epochs} epoch{'s' * (epochs > 1)} of {steps:,} steps"
    about = f"{length}, {work.batch_size} queries a step" + (" and GPU" if work.ranks > 1 else "")
    return Step("train", seconds, sizes.run_bytes(work.weights) + tokens, memory + tokens, gpu, about)


def plan_dev(work: Work, times: UnitTimes, memory: int, epochs: int | None) -> Step:
    """The searches on dev, by the teacher once and by the student after every epoch."""
    seconds = None
    if epochs is not None:
        search = time_search(work, times, work.dev.count, work.ranks)
        seconds = add(multiply(epochs, times.evaluation), multiply(epochs + 1, search))
    return Step("dev", seconds, 0, memory, _search_memory(work), f"{work.dev.count:,} queries after each epoch")


def plan_evaluation(work: Work, times: UnitTimes, memory: int) -> Step:
    """The verdict: teacher and student search all documents on one device; then both are timed, one query at a time."""
    embed = multiply(work.measured * STUDENT_SHARE / work.batch_size, times.step)
    search = time_search(work, times, work.measured, ranks=1)
    seconds = add(times.load, embed, multiply(SEARCHES, search), multiply(LATENCY_TURNS, times.latency))
    return Step("evaluate", seconds, 0, memory, _search_memory(work), f"{work.measured:,} queries, and their latency")


def plan_export(work: Work, times: UnitTimes, memory: int) -> Step:
    """The student's folders and models, whose time does not depend on the texts, and the index where one is asked for."""
    seconds: float | None = EXPORT_SECONDS if work.student.transformer.has_layers else 0.0
    disk = sizes.export_bytes(work.student)
    about = "the student and its ONNX models" if work.student.transformer.has_layers else "the student"
    if work.index is not None:
        added = sizes.index_bytes(work.index, work.documents, work.width)
        # a flat one is written as it is read; how long faiss builds others was not measured
        seconds = add(seconds, multiply(added, times.byte if work.index == "flat" else None))
        disk, memory, about = disk + added, memory + added, f"{about}, {work.index} index"
    return Step("export", seconds, disk, memory, None, about)


def time_search(work: Work, times: UnitTimes, queries: int, ranks: int) -> float | None:
    """Seconds of one exact search over all documents, of which each rank reads its share."""
    documents = work.documents.count / ranks
    return add(multiply(documents, times.scan), multiply(documents * queries, times.pair))


def count_steps(work: Work, times: UnitTimes) -> tuple[int | None, int]:
    """Counts the epochs, and the steps of each; as many as fit into the minutes where no number of epochs was given."""
    steps = work.steps_per_epoch
    if work.epochs is not None:
        return work.epochs, steps
    search = time_search(work, times, work.dev.count, work.ranks)
    evaluation, training = add(times.evaluation, search), multiply(steps, times.step)
    if evaluation is None or training is None:
        return None, steps
    texts = steps * work.batch_size * work.ranks
    return choose_length(Rate(texts, steps, training, evaluation), work.minutes)


def _search_memory(work: Work) -> int | None:
    return sizes.gpu_search_memory(work.documents.count, work.width) if work.gpus else None
