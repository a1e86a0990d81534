"""`frontier`: which student to deploy. Trains a ladder of them, and says what each keeps, how long it takes and how large it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from distill.files.progress import log
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.report.report import report
from distill.run import Run, train
from distill.shrinking.budget import Rate, choose_length, measure_rate
from distill.shrinking.comparison import Frontier, compare, save
from distill.shrinking.ladder import Candidate, Cost, Limits, list_candidates, measure_costs
from distill.shrinking.request import AUTO, STORE, TEXTS, Job, Request
from distill.shrinking.steps import finish_job, measure_once, prepare_job
from distill.shrinking.texts import JobTexts
from distill.shrinking.training import make_data
from distill.shrinking.vectors import open_job_teacher

STUDENTS, FIRST = "students", "first"  # folders of the runs of the last round, and in it of the first round
REPORT = "report.html"
SHARE_OF_FIRST_ROUND, SHARE_OF_MEASURING = 0.25, 0.1  # of the minutes
AGREEMENT = "dev/overlap@10"


def frontier(
    teacher: Any = None,
    queries: Any = None,
    documents: Any = None,
    judgments: str | None = None,
    out: str = "runs/frontier",
    minutes: float = 60.0,
    max_ms: float | None = None,
    max_mb: float | None = None,
    at_least: float = 0.97,
    **options: Any,
) -> Frontier:
    """Trains students of several sizes for one teacher, measures each, and recommends the one to deploy.

    All share the texts, the teacher's vectors and the time. Those that are too slow or too large are not trained; after a first round
    those go that another one beats in agreement with the teacher, in speed and in size. The same call goes on after a kill.

    Args:
        teacher: as `shrink` takes it.
        queries: as `shrink` takes them.
        documents: as `shrink` takes them.
        judgments: as `shrink` takes them.
        out: folder to write: a run folder for each student in `students/`, `frontier.json`, `report.html`.
        minutes: time for all trainings and measurements together, the teacher's embedding of the texts not counted.
        max_ms: most milliseconds a query may take, the median on one core of this machine.
        max_mb: most megabytes of the student's weights in fp32.
        at_least: share of the teacher's quality that the student has to keep surely: with the lower end of its interval.
        options: of the texts, the vectors and the teacher, as `ShrinkOptions` has them.

    Raises:
        BadInput: where inputs do not fit together, and where no student is within the limits or the time is too short.
    """
    limits = Limits(max_ms, max_mb, at_least)
    given = (teacher, queries, documents, judgments)
    request = Request(*given, out=Path(out), size=AUTO, minutes=minutes, continue_from=None, trust=False, **options)
    return train_sizes(request, limits)


def train_sizes(request: Request, limits: Limits) -> Frontier:
    """Trains and measures the students of a ladder, and finishes the recommended one as `shrink` finishes its student."""
    embedder = open_job_teacher(request)
    candidates = list_candidates(request, embedder)
    job, texts = prepare_job(request, embedder)
    costs = read_costs(job, candidates, request, texts)
    measured = [candidate for candidate in candidates if candidate.name in costs]
    runs = train_ladder(request, job, texts, choose_affordable(measured, costs, limits), costs)
    for run in runs.values():
        link_job(request, run)
        measure_once(run, texts.summary["evaluated_on"])
    outcome = compare(request.out, runs, limits)
    finish_job(outcome.run, texts)
    save(outcome)
    report([str(run.path) for run in runs.values()], str(request.out / REPORT))
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
        measured = measure_costs(candidates, make_data(request, texts))
        job.write("costs", {name: asdict(cost) for name, cost in measured.items()})
    return {name: Cost(**cost) for name, cost in job.read("costs").items()}


def choose_affordable(candidates: Sequence[Candidate], costs: dict[str, Cost], limits: Limits) -> list[Candidate]:
    """Leaves out the students beyond the limits.

    Raises BadInput where none is left.
    """
    allowed = {candidate.name for candidate in candidates if limits.allow(costs[candidate.name])}
    kept = [candidate for candidate in candidates if candidate.name in allowed and candidate.instead_of not in allowed]
    for candidate in candidates:
        cost = costs[candidate.name]
        verdict = "to be trained" if candidate in kept else "beyond the limits"
        if candidate.instead_of not in allowed:
            log.info(f"{candidate.name}: {cost.milliseconds:.2f} ms a query, {cost.megabytes:.0f} MB: {verdict}")
    if not kept:
        fastest, smallest = (min(getattr(cost, name) for cost in costs.values()) for name in ("milliseconds", "megabytes"))
        raise BadInput(f"max_ms, max_mb: no student is within both: the fastest takes {fastest:.2f} ms, the smallest has {smallest:.0f} MB")
    return kept


def train_ladder(request: Request, job: Job, texts: JobTexts, candidates: Sequence[Candidate], costs: dict[str, Cost]) -> dict[str, Run]:
    """Trains all students a little, and those that no other one beats for the rest of the time; returns these by name."""
    minutes = (1 - SHARE_OF_MEASURING) * request.minutes
    if len(candidates) == 1:
        return {candidates[0].name: train_candidate(request, job, texts, candidates[0], minutes)}
    share = SHARE_OF_FIRST_ROUND * minutes / len(candidates)
    first = {candidate.name: train_candidate(request, job, texts, candidate, share, first=True) for candidate in candidates}
    agreement = {name: max(run.history[AGREEMENT].values) for name, run in first.items()}
    survivors = [candidate for candidate in candidates if not is_beaten(candidate.name, agreement, costs)]
    for candidate in candidates:
        verdict = "goes on" if candidate in survivors else "dropped: another one is better, and no slower or larger"
        log.info(f"{candidate.name}: overlap@10 {agreement[candidate.name]:.3f} on dev: {verdict}")
    share = (1 - SHARE_OF_FIRST_ROUND) * minutes / len(survivors)
    return {
        candidate.name: train_candidate(request, job, texts, candidate, share, start_from=str(first[candidate.name].path))
        for candidate in survivors
    }


def is_beaten(name: str, agreement: dict[str, float], costs: dict[str, Cost]) -> bool:
    """Tells whether another student agrees more with the teacher, and is neither slower nor larger.

    >>> costs = {"1 layer": Cost(2.4, 55), "2 layers": Cost(4.0, 62)}
    >>> is_beaten("2 layers", {"1 layer": 0.7, "2 layers": 0.69}, costs), is_beaten("1 layer", {"1 layer": 0.7, "2 layers": 0.8}, costs)
    (True, False)
    """
    own = costs[name]
    return any(
        agreement[other] > agreement[name] and cost.milliseconds <= own.milliseconds and cost.megabytes <= own.megabytes
        for other, cost in costs.items()
        if other in agreement
    )


def train_candidate(
    request: Request, job: Job, texts: JobTexts, candidate: Candidate, minutes: float, first: bool = False, start_from: str | None = None
) -> Run:
    """Trains a student for as many epochs as fit into its time, which are counted once."""
    folder = Path(STUDENTS, FIRST, candidate.folder) if first else Path(STUDENTS, candidate.folder)
    data = partial(make_data, request, texts)
    rates, lengths = job.read("rates") or {}, job.read("lengths") or {}
    if candidate.name not in rates:
        log.info(f"{candidate.name}: measuring how fast it is trained here")
        rates[candidate.name] = asdict(measure_rate(partial(StudentModule, candidate.spec), data))
        job.write("rates", rates)
    if str(folder) not in lengths:
        lengths[str(folder)] = choose_length(Rate(**rates[candidate.name]), minutes)
        job.write("lengths", lengths)
    epochs, steps = lengths[str(folder)]
    log.info(f"{candidate.name}: {epochs} epochs of {steps} steps in {request.out / folder}")
    module = StudentModule(candidate.spec, start_from=start_from)
    return train(module, data(), request.out / folder, max_epochs=epochs, limit_train_batches=steps, devices=1)
