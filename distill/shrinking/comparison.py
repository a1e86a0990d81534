"""The students of a ladder side by side, and the one to deploy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

from distill.evaluation.costs import read_exact
from distill.evaluation.fields import OVERLAP, STUDENT, TEACHER
from distill.evaluation.query_lengths import FEWEST
from distill.evaluation.results import COLUMNS
from distill.files.atomic import write_json
from distill.metrics.retention import Interval
from distill.run import Run
from distill.shrinking.ladder import BYTES, Cost, Limits, format_megabytes
from distill.training.run_folder import SEVERAL

DEFAULT_SHARE, DEFAULT_OVERLAP = 0.97, 0.7  # to be kept of nDCG@10, and of overlap@10 where nothing is judged


@dataclass(frozen=True)
class Entry:
    """A student of the ladder, trained and measured.

    Args:
        name: such as `2 layers`.
        run: its run folder.
        retention: what it keeps of the teacher's main metric, with its 95% interval.
        overlap: overlap@10 with the teacher on held-out queries.
        cost: as its evaluation measured it.
        queries: how many the interval is about.
    """

    name: str
    run: Path
    retention: Interval
    overlap: float
    cost: Cost
    queries: int

    def describe(self, metric: str) -> str:
        """What it keeps and costs, in half a sentence."""
        share = format_interval(self.retention)
        return f"finds {share} of the teacher's top 10 at {self.cost}" if metric == OVERLAP else f"keeps {share} of {metric} at {self.cost}"

    def sure_low(self, students: int) -> float:
        """The lower end of its interval where it is the best of so many: the more are compared, the more of them look good by chance.

        Of a few queries nothing is sure: it is 0.

        >>> from dataclasses import replace
        >>> entry = Entry("2 layers", Path("2-layers"), Interval(0.98, 0.96, 1.0), 0.7, Cost(4, 62), queries=500)
        >>> round(entry.sure_low(1), 3), round(entry.sure_low(5), 3), replace(entry, queries=4).sure_low(1)
        (0.96, 0.954, 0.0)
        """
        if self.queries < FEWEST:
            return 0.0
        error = (self.retention.value - self.retention.low) / NormalDist().inv_cdf(0.975)
        return self.retention.value - error * NormalDist().inv_cdf(1 - 0.025 / students)


@dataclass(frozen=True)
class Frontier:
    """The students of a ladder, and the one to deploy; its `repr` is a table and a sentence.

    Args:
        path: folder of the runs, of frontier.json and of the report.
        entries: the students, the fastest first.
        teacher: the teacher's cost; None where its model is not here.
        metric: what `retention` is about, e.g. nDCG@10.
        recommended: the student to deploy.
        reason: the recommendation in a sentence.
    """

    path: Path
    entries: list[Entry]
    teacher: Cost | None
    metric: str
    recommended: Entry
    reason: str

    @property
    def run(self) -> Run:
        """The run of the student to deploy."""
        return Run(self.recommended.run)

    def __repr__(self) -> str:
        headings = ["", f"kept of {self.metric}", OVERLAP, "ms a query", "MB"]
        rows = [format_row(entry.name, format_interval(entry.retention), f"{entry.overlap:.3f}", entry.cost) for entry in self.entries]
        if self.teacher is not None:
            rows.append(format_row(TEACHER, "100%", "1", self.teacher))
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [headings, *rows]]
        return "\n".join([*lines, self.reason])


def compare(folder: Path, runs: dict[str, Run], limits: Limits) -> Frontier:
    """Puts the students side by side and chooses one."""
    entries = []
    for name, run in runs.items():
        results = run.results
        cost = read_cost(results.systems[STUDENT] | read_exact(run.path, results.values))
        assert cost is not None, "students are models"
        queries = results.agreement["queries"] if results.main_metric == OVERLAP else results.values["judged_queries"]
        entries.append(Entry(name, run.path, results.main_retention, results.agreement[OVERLAP], cost, queries))
    entries.sort(key=lambda entry: entry.cost.milliseconds)
    results = Run(entries[0].run).results
    metric = COLUMNS[results.main_metric][0] if results.main_metric in COLUMNS else results.main_metric
    recommended, reason = recommend(entries, limits, metric)
    return Frontier(folder, entries, read_cost(results.systems[TEACHER]), metric, recommended, reason)


def read_cost(system: dict[str, float]) -> Cost | None:
    """Reads what a system costs from its fields of results.json; None where its model is not here."""
    if "query_latency_ms_p50" not in system:
        return None
    return Cost(system["query_latency_ms_p50"], system["params"] * BYTES / 1e6)


def recommend(entries: Sequence[Entry], limits: Limits, metric: str) -> tuple[Entry, str]:
    """Chooses the student to deploy: the fastest that surely keeps enough, else the one that keeps most.

    Args:
        entries: the students, the fastest first.
        limits: what is asked for. A student that was measured just within them before its training may be just beyond them now. The
            interval of a student has to lie above `at_least` though it was chosen among several, so it is taken wider than it is shown.
        metric: what is kept.

    Returns:
        The student, and the reason in a sentence.
    """
    at_least = limits.at_least or (DEFAULT_OVERLAP if metric == OVERLAP else DEFAULT_SHARE)
    within = [entry for entry in entries if limits.allow(entry.cost)]
    if not within:
        nearest = entries[0]
        return nearest, f"none is within the limits, now that they are measured again: {nearest.name} {nearest.describe(metric)}"
    enough = [entry for entry in within if entry.sure_low(len(entries)) >= at_least]
    share = f"{100 * at_least:g}%"
    if enough:
        chosen = enough[0]
        return chosen, f"take {chosen.name}, the fastest that surely keeps {share}: it {chosen.describe(metric)}"
    chosen = max(within, key=lambda entry: entry.retention.value)
    why = f"none surely keeps {share}: more queries of your users, or more --minutes, help"
    if chosen.queries < FEWEST:
        why = f"nothing is sure by {chosen.queries} queries: measure on {FEWEST} or more"
    return chosen, f"take {chosen.name}, which keeps most: it {chosen.describe(metric)}; {why}"


def save(outcome: Frontier) -> None:
    """Writes frontier.json."""
    entries = [{**asdict(entry), "run": str(entry.run.relative_to(outcome.path))} for entry in outcome.entries]
    values = {
        "metric": outcome.metric,
        "students": entries,
        "teacher": outcome.teacher and asdict(outcome.teacher),
        "recommended": outcome.recommended.name,
        "reason": outcome.reason,
    }
    write_json(outcome.path / SEVERAL, values)


def format_interval(share: Interval) -> str:
    """Formats a share with its interval.

    >>> format_interval(Interval(0.981, 0.969, 0.994))
    '98.1% [96.9, 99.4]'
    """
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def format_row(name: str, kept: str, overlap: str, cost: Cost) -> list[str]:
    """The cells of a row of the table."""
    return [name, kept, overlap, f"{cost.milliseconds:.2f}", format_megabytes(cost.megabytes)]
