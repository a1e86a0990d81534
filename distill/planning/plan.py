"""`plan`: what a job will cost, before anything of it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.datamodule import BATCH_SIZE
from distill.encoders.students import StudentSpec
from distill.encoders.tokenizing import Role
from distill.files.atomic import write_json
from distill.files.device import best_device
from distill.files.sampling import evenly_spaced_rows
from distill.modules.batch_defaults import choose_batch_size
from distill.planning import sizes
from distill.planning.amounts import Amount, open_folder, read_documents, read_query_sets
from distill.planning.measuring import Measurements, make_student, measure, measure_encoding_memory, time_latency
from distill.planning.options import MINUTES, PlanOptions, refuse_below
from distill.planning.rates import NOT_MEASURED, Rates, UnitTimes, derive_times, read_rates
from distill.planning.steps import Step, Work, count_steps, list_steps
from distill.planning.table import format_bytes, format_table
from distill.records import BadInput
from distill.shrinking.request import Request
from distill.shrinking.training import choose_student, small_batch_size
from distill.shrinking.vectors import open_job_teacher
from distill.teachers.local import LocalTeacher

MOST_COUNTED = 1_000  # texts whose tokens are counted
NOWHERE = Path(".distill-plan")  # a job that never runs


@dataclass(frozen=True)
class Plan:
    """What a job takes, step by step; its `repr` is a table.

    Args:
        steps: in their order; `plan["train"]` is one of them.
        times: seconds of each unit of work, from which the steps follow.
        gpus: how many share the work; None for the CPU of this machine.
        epochs: of training; None where they are not known.
        notes: where the figures come from, and what is not known.
    """

    steps: list[Step]
    times: UnitTimes
    gpus: int | None
    epochs: int | None
    notes: list[str]

    @property
    def seconds(self) -> float | None:
        """Of all steps; None where that of one is not known."""
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if len(known) == len(self.steps) else None

    @property
    def disk(self) -> int:
        """Bytes that all steps leave."""
        return sum(step.disk for step in self.steps)

    @property
    def memory(self) -> int:
        """Bytes of main memory that a process takes at most."""
        return max(step.memory for step in self.steps)

    @property
    def gpu_memory(self) -> int | None:
        """Bytes on each GPU at most; None without one."""
        return max((step.gpu_memory for step in self.steps if step.gpu_memory is not None), default=None)

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def __repr__(self) -> str:
        total = Step("in all", self.seconds, self.disk, self.memory, self.gpu_memory, "")
        return "\n".join([*format_table(self.steps, total, self.gpus is not None), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as plain values."""
        totals = {"seconds": self.seconds, "disk": self.disk, "memory": self.memory, "gpu_memory": self.gpu_memory}
        return {**asdict(self), **totals}


def plan(teacher: Any, documents: Any, queries: Any = None, gpus: int | None = None, out: str | None = None, **options: Any) -> Plan:
    """Says what a job will take before it runs: time, disk and memory of each step, from what this machine or a GPU does in a second.

    A few seconds of work: the teacher embeds some texts here, a student is trained for some steps, random vectors are written and searched.

    Args:
        teacher: folder or hub name of a model, or a store of its vectors.
        documents: how many, e.g. 8.8M; or a file of them, or a folder in BEIR or MS MARCO layout, which are counted and measured.
        queries: how many, e.g. 500k; or a file or a folder, as documents; by default those of the documents' folder.
        gpus: how many GPUs share the work; by default the job runs on this machine as it is.
        out: JSON file to write the numbers into.
        options: of the training, the texts and the machine, as `PlanOptions` has them.

    Raises:
        BadInput: a number is none, a file is missing, the teacher is no model that runs here, or the time is too short.
    """
    refuse_output(out, documents, queries, options.get("rates"))
    outcome = make_plan(teacher, documents, queries, gpus, PlanOptions(**options))
    if out is not None:
        write_json(Path(out), outcome.to_json())
    return outcome


def refuse_output(out: str | None, *inputs: Any) -> None:
    """Refuses, before anything is measured, an output that is a folder, or the file that an input is read from."""
    if out is None:
        return
    if Path(out).is_dir():
        raise BadInput(f"out: {out}: a folder is there: name a file")
    for given in inputs:
        # texts may be named with their fields, as articles.csv:body
        if isinstance(given, str | Path) and Path(out).resolve() in (Path(given).resolve(), Path(str(given).rpartition(":")[0]).resolve()):
            raise BadInput(f"out: {out}: is read here, and would be lost: name another file")


def make_plan(teacher: Any, documents: Any, queries: Any, gpus: int | None, options: PlanOptions) -> Plan:
    """Reads the amounts, measures or derives the times, and does the arithmetic."""
    refuse_below(1, "gpus", gpus)
    rates = None if options.rates is None else read_rates(options.rates)
    if queries is None and open_folder(documents) is None:
        raise BadInput("queries: none are given: say how many, e.g. 500k, or name a file of them")
    corpus = read_documents(documents, options.document_tokens)
    sets = read_query_sets(documents if queries is None else queries, options.query_tokens)
    start = time.perf_counter()
    embedder, spec = open_models(teacher, sets[0], options)
    student, loading = make_student(spec, embedder), time.perf_counter() - start
    has_gpu = best_device().type == "cuda"
    document_lengths, document_tokens = tokenize(embedder, corpus.sample, "document")
    query_lengths, query_tokens = tokenize(embedder, sets[0].sample, "query")
    planned_gpus = 1 if gpus is None and (rates is not None or has_gpu) else gpus
    work = Work(
        documents=corpus,
        queries=sets,
        maker=embedder.maker,
        teacher=embedder.towers.document,
        student=student,
        tokens=(float(document_lengths.mean()), float(query_lengths.mean())),
        gpus=planned_gpus,
        epochs=options.epochs,
        minutes=options.minutes or MINUTES,
        candidates=options.candidates,
        batch_size=options.batch_size or default_batch_size(sets[0].count, planned_gpus),
        index=options.index,
    )
    if rates is None and (work.gpus is None or has_gpu):
        measured = measure(embedder, spec, corpus, sets[0], work.dev, work.candidates, work.batch_size)
    else:
        measured = measure_elsewhere(work, embedder, rates, document_lengths, query_lengths)
    times = replace(measured.times, load=loading, document_tokens=document_tokens, query_tokens=query_tokens)
    steps = list_steps(work, times, measured.encoding, measured.training)
    return Plan(steps, times, work.gpus, count_steps(work, times)[0], list_notes(work, times, rates))


def default_batch_size(queries: int, gpus: int | None) -> int:
    """The queries of a step on each GPU, or on this machine's CPU, as `shrink` has it."""
    size = BATCH_SIZE if gpus is None else choose_batch_size(queries, gpus)
    return small_batch_size(queries) or size


def open_models(teacher: Any, queries: Amount, options: PlanOptions) -> tuple[LocalTeacher, StudentSpec]:
    """Opens the teacher, and chooses what the student is made from, as `shrink` does."""
    trust = options.trust_remote_code
    given = list(queries.sample[:1])
    request = Request(teacher, given, out=NOWHERE, size=options.size, backbone=options.backbone, trust_remote_code=trust)
    embedder = open_job_teacher(request)
    if not isinstance(embedder, LocalTeacher):
        raise BadInput(
            f"teacher: {embedder.maker.name}: not a model that runs here, so nothing can be measured: name a folder or a hub name"
        )
    return embedder, choose_student(request, embedder)


def tokenize(teacher: LocalTeacher, texts: Sequence[str], role: Role) -> tuple[np.ndarray, float]:
    """Cuts some texts into tokens, as the teacher reads them; returns how many each has [n], and the seconds that a text takes."""
    chosen = [texts[row] for row in evenly_spaced_rows(len(texts), MOST_COUNTED)]
    teacher.prepare(chosen[:1], role)  # the first call is slower
    start = time.perf_counter()
    lengths = np.array([len(ids) for ids in teacher.prepare(chosen, role)])
    return lengths, (time.perf_counter() - start) / len(chosen)


def measure_elsewhere(work: Work, teacher: LocalTeacher, rates: Rates | None, documents: np.ndarray, queries: np.ndarray) -> Measurements:
    """Derives the times from the rates of a GPU that is not here, and lengths [n] of texts; without any they are unknown."""
    times = UnitTimes(device="GPUs that are not here", latency=time_latency(teacher, work.student, work.train.sample))
    if rates is not None:
        times = derive_times(rates, work.teacher, work.student, documents, queries, work.batch_size, times)
    return Measurements(times, measure_encoding_memory(teacher))


def list_notes(work: Work, times: UnitTimes, rates: Rates | None) -> list[str]:
    """Lists where the figures come from, what was assumed, and what will not fit."""
    ranks = f"{work.gpus} x " if rates is not None and work.ranks > 1 else ""
    notes = [f"for {ranks}{times.device}; memory of a process with its code, models and texts; ? is not known"]
    stated = [amount for amount in (work.documents, work.train) if amount.is_stated]
    if stated:
        names = " and ".join(amount.name.partition("-")[0] for amount in stated)
        fix = "set --document_tokens and --query_tokens, or name files"
        notes.append(f"the length of {names} is assumed: {fix}")
    if None in (times.document, times.step, times.pair, times.scan):
        notes.append(NOT_MEASURED)
    if rates is not None and rates.gpu_memory is not None:
        needed = sizes.gpu_encode_memory(work.teacher)
        if needed > rates.gpu_memory:
            notes.append(f"a batch of this teacher takes {format_bytes(needed)} of a GPU that has {format_bytes(round(rates.gpu_memory))}")
    return notes
