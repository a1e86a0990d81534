"""`frontier`: which student to deploy. Trains a ladder of them, and says what each keeps, how long it takes and how large it is."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from distill.files.device import release_memory
from distill.files.progress import log
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.report.report import write_report
from distill.run import Run, train
from distill.shrinking.budget import Rate, choose_length, measure_rate, refuse_short_time
from distill.shrinking.comparison import Frontier, compare, save
from distill.shrinking.ladder import Candidate, Cost, Limits, list_candidates, measure_costs
from distill.shrinking.layers import name_layers_once
from distill.shrinking.request import AUTO, STORE, TEXTS, Job, Request
from distill.shrinking.splits import DEV
from distill.shrinking.steps import finish_job, prepare_job
from distill.shrinking.texts import JobTexts
from distill.shrinking.training import make_data
from distill.shrinking.vectors import open_job_teacher

STUDENTS, FIRST = "students", "first"  # folders of the runs of the last round, and in it of the first round
REPORT = "report.html"
SHARE_OF_FIRST_ROUND, SHARE_OF_MEASURING = 0.25, 0.2  # of the minutes
AGREEMENT = "dev/overlap@10"
SPREAD = 0.2  # standard deviation, over queries, of the difference of two students' overlap@10


def frontier(
    teacher: Any = None,
    queries: Any = None,
    documents: Any = None,
    judgments: str | None = None,
    out: str = "runs/frontier",
    minutes: float = 60.0,
    max_ms: float | None = None,
    max_mb: float | None = None,
    at_least: float | None = None,
    **options: Any,
) -> Frontier:
    """Trains students of several sizes for one teacher, measures each, and recommends the one to deploy.

    All share the texts, the teacher's vectors and the time. Those that are too slow or too large are not trained. After a first round a
    student is dropped where another one is better, and neither slower nor larger. The same call goes on after a kill.

    Args:
        teacher: as `shrink` takes it.
        queries: as `shrink` takes them.
        documents: as `shrink` takes them.
        judgments: as `shrink` takes them.
        out: folder to write: a run folder for each student in `students/`, `frontier.json`, `report.html`.
        minutes: time for all trainings and measurements together; the teacher's embedding of the texts, and the choice of layers, come
            before. It is shared out once: a call that goes on keeps to that.
        max_ms: most milliseconds a query may take, the median on one core of this machine.
        max_mb: most megabytes of the student's weights in fp32.
        at_least: share that the student has to keep surely: of nDCG@10, 0.97 by default; of overlap@10 where no query is judged, 0.7.
        options: of the texts, the vectors and the teacher, as `ShrinkOptions` has them, but not `continue_from` and `trust`.

    Raises:
        BadInput: where inputs do not fit together, and where no student is within the limits or the time is too short.
    """
    limits = Limits(max_ms, max_mb, at_least)
    given = (teacher, queries, documents, judgments)
    request = Request(*given, out=Path(out), size=AUTO, minutes=minutes, continue_from=None, trust=False, **options)
    return train_sizes(request, limits)


def train_sizes(request: Request, limits: Limits) -> Frontier:
    """Trains the students of a ladder, finishes each as `shrink` finishes its student, and compares them."""
    embedder = open_job_teacher(request)
    candidates = list_candidates(request, embedder)
    job, texts = prepare_job(request, embedder)
    del embedder
    release_memory()
    costs = read_costs(job, candidates, request, texts)
    measured = [candidate for candidate in candidates if candidate.name in costs]
    specs = name_layers_once(request, job, texts, [candidate.spec for candidate in measured])
    named = [replace(candidate, spec=spec) for candidate, spec in zip(measured, specs, strict=True)]
    runs = train_ladder(request, job, texts, choose_affordable(named, costs, limits), costs)
    for run in runs.values():
        link_job(request, run)
        finish_job(run, texts)
    outcome = compare(request.out, runs, limits)
    save(outcome)
    write_report([str(run.path) for run in runs.values()], str(request.out / REPORT), verdict=outcome.reason)
    return outcome


def link_job(request: Request, run: Run) -> None:
    """Makes the texts and vectors of a job part of a student's run folder, so that `shrink --continue` goes on with it."""
    for name in (TEXTS, STORE):
        link = run.path / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(request.out / name, run.path))


def read_costs(job: Job, candidates: Sequence[Candidate], request: Request, texts: JobTexts) -> dict[str, Cost]:
    """Measures what each student costs, once a job."""
    if job.read("costs") is None:
        measured = measure_costs(candidates, make_data(request, texts), request.out)
        job.write("costs", {name: asdict(cost) for name, cost in measured.items()})
    return {name: Cost(**cost) for name, cost in job.read("costs").items()}


def choose_affordable(candidates: Sequence[Candidate], costs: dict[str, Cost], limits: Limits) -> list[Candidate]:
    """Leaves out the students beyond the limits.

    Raises BadInput where none is left.
    """
    allowed = {candidate.name for candidate in candidates if limits.allow(costs[candidate.name])}
    needed = [candidate for candidate in candidates if allowed.isdisjoint(candidate.instead_of)]
    affordable = [candidate for candidate in needed if candidate.name in allowed]
    for candidate in needed:
        verdict = "to be trained" if candidate in affordable else "beyond the limits"
        log.info(f"{candidate.name}: {costs[candidate.name]}: {verdict}")
    if not affordable:
        fastest = min(costs.values(), key=lambda cost: cost.milliseconds)
        smallest = min(costs.values(), key=lambda cost: cost.megabytes)
        raise BadInput(f"max_ms, max_mb: no student is within both: the fastest takes {fastest}, the smallest {smallest}: allow more")
    return affordable


def train_ladder(request: Request, job: Job, texts: JobTexts, candidates: Sequence[Candidate], costs: dict[str, Cost]) -> dict[str, Run]:
    """Trains all students a little, and those that no other one beats for the rest of the time; returns these by name.

    Where the time is too short for two rounds, all are trained once.
    """
    if job.read("lengths"):
        log.info("the lengths of trainings that have begun were chosen before: for other --minutes, choose another --out")
    minutes, first = (1 - SHARE_OF_MEASURING) * request.minutes, {}
    rates = read_rates(request, job, texts, candidates)
    if choose_rounds(job, minutes / len(candidates), rates) == 2:
        share = SHARE_OF_FIRST_ROUND * minutes / len(candidates)
        minutes -= SHARE_OF_FIRST_ROUND * minutes
        refuse_short_share(request, job, candidates, share, first=True)
        first = {candidate.name: train_candidate(request, job, texts, candidate, share, first=True) for candidate in candidates}
        candidates = drop_beaten(candidates, first, costs, len(texts.source.queries(DEV)))
    share = minutes / len(candidates)
    refuse_short_share(request, job, candidates, share, first=False)
    starts = {name: str(run.path) for name, run in first.items()}
    return {
        candidate.name: train_candidate(request, job, texts, candidate, share, start_from=starts.get(candidate.name))
        for candidate in candidates
    }


def choose_rounds(job: Job, share: float, rates: dict[str, Rate]) -> int:
    """Chooses two rounds where the minutes of each student are enough for them, else one; once a job that has begun to train."""
    rounds: int | None = job.read("rounds") if job.read("lengths") else None
    if rounds is None:
        rounds = 2 if SHARE_OF_FIRST_ROUND * share >= max(rate.shortest for rate in rates.values()) else 1
        job.write("rounds", rounds)
    return rounds


def refuse_short_share(request: Request, job: Job, candidates: Sequence[Candidate], share: float, first: bool) -> None:
    """Refuses a time that is too short for a student whose training of a round has not begun; `share` is the minutes of each in it."""
    lengths, rates = job.read("lengths") or {}, job.read("rates")
    new = [candidate for candidate in candidates if str(choose_folder(candidate, first)) not in lengths]
    needed = max((Rate(**rates[candidate.name]).shortest for candidate in new), default=0.0)
    if share < needed:
        refuse_short_time(request.minutes, request.minutes * needed / share)


def choose_folder(candidate: Candidate, first: bool) -> Path:
    """The run folder of a student in the folder of the job."""
    return Path(STUDENTS, FIRST, candidate.folder) if first else Path(STUDENTS, candidate.folder)


def drop_beaten(candidates: Sequence[Candidate], first: dict[str, Run], costs: dict[str, Cost], queries: int) -> list[Candidate]:
    """Leaves out the students that another one beat in the first round, on so many dev queries."""
    agreement = {name: max(run.history[AGREEMENT].values) for name, run in first.items()}
    survivors = [candidate for candidate in candidates if not is_beaten(candidate.name, agreement, costs, queries)]
    for candidate in candidates:
        verdict = "goes on" if candidate in survivors else "dropped: another one is better, and no slower or larger"
        log.info(f"{candidate.name}: overlap@10 {agreement[candidate.name]:.3f} on {queries} dev queries: {verdict}")
    return survivors


def is_beaten(name: str, agreement: dict[str, float], costs: dict[str, Cost], queries: int) -> bool:
    """Tells whether another student agrees more with the teacher, by more than chance explains, and is neither slower nor larger.

    >>> costs = {"1 layer": Cost(2.4, 55), "2 layers": Cost(4.0, 62)}
    >>> worse, better = {"1 layer": 0.7, "2 layers": 0.65}, {"1 layer": 0.7, "2 layers": 0.8}
    >>> is_beaten("2 layers", worse, costs, queries=500), is_beaten("1 layer", better, costs, queries=500)
    (True, False)
    >>> is_beaten("2 layers", worse, costs, queries=10)  # too few to tell
    False
    """
    own, margin = costs[name], 2 * SPREAD / math.sqrt(queries)
    return any(
        agreement[other] > agreement[name] + margin and cost.milliseconds <= own.milliseconds and cost.megabytes <= own.megabytes
        for other, cost in costs.items()
        if other in agreement
    )


def read_rates(request: Request, job: Job, texts: JobTexts, candidates: Sequence[Candidate]) -> dict[str, Rate]:
    """Measures how fast each student is trained here, once a job."""
    rates = job.read("rates") or {}
    for candidate in candidates:
        if candidate.name not in rates:
            log.info(f"{candidate.name}: measuring how fast it is trained here")
            rates[candidate.name] = asdict(measure_rate(partial(StudentModule, candidate.spec), partial(make_data, request, texts)))
            job.write("rates", rates)
    return {name: Rate(**rate) for name, rate in rates.items()}


def train_candidate(
    request: Request, job: Job, texts: JobTexts, candidate: Candidate, minutes: float, first: bool = False, start_from: str | None = None
) -> Run:
    """Trains a student for as many epochs as fit into its time, which are counted once."""
    folder = choose_folder(candidate, first)
    lengths = job.read("lengths") or {}
    if str(folder) not in lengths:
        lengths[str(folder)] = choose_length(Rate(**job.read("rates")[candidate.name]), minutes)
        job.write("lengths", lengths)
    epochs, steps = lengths[str(folder)]
    log.info(f"{candidate.name}: {epochs} epochs of {steps} steps in {request.out / folder}")
    module = StudentModule(candidate.spec, start_from=start_from)
    return train(module, make_data(request, texts), request.out / folder, max_epochs=epochs, limit_train_batches=steps, devices=1)
