"""Whether today's queries still look like those that a student knows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.data.known_queries import KnownQueries, find_nearest, load_known_queries
from distill.encoders.batching import encode_texts
from distill.encoders.towers import load_towers
from distill.files.atomic import write_json
from distill.files.device import best_device
from distill.files.provenance import collect_provenance
from distill.records import BadInput
from distill.texts.tables import read_queries
from distill.texts.text_source import HOLDOUT
from distill.texts.texts import Texts
from distill.texts.words import count_words, shorten
from distill.training.run_folder import RunFolder

LOW_PERCENTILE = 5  # of the held-out queries' nearness: a query below it is less like the training queries than 95% of them are
WORST = 10  # queries to show
SHOWN_CHARACTERS = 100  # of each of them
LEVEL = 0.05  # share of comparisons in which nothing changed that may raise an alarm


@dataclass(frozen=True)
class DriftReport:
    """How today's queries compare with those that were held out of a student's training; `repr` is the table of a terminal.

    Nearness is the cosine of the student's vector of a query to the nearest training query.

    Args:
        values: the fields of the file that `drift` writes: `then` and `today`, each with `queries`, `nearness`, `low` and `longer`; then
            `low_nearness`, `longest_known_words`, `p`, `level` and `worst`.

    >>> then = {"queries": 1000, "nearness": 0.81, "low": 0.05, "longer": 0.01}
    >>> today = {"queries": 400, "nearness": 0.64, "low": 0.31, "longer": 0.02}
    >>> worst = [{"query": "rotor blade icing", "nearness": 0.32}]
    >>> shared = {"run": "runs/mine", "split": "holdout", "low_nearness": 0.634, "longest_known_words": 12, "p": 1e-9, "level": 0.05}
    >>> report = DriftReport({**shared, "then": then, "today": today, "worst": worst})
    >>> report.alarm
    True
    >>> print(report)
    400 queries of today, beside 1000 that runs/mine was not trained on (holdout)
                                              then   today
    mean cosine to nearest training query    0.810   0.640
    below 0.634                               5.0%   31.0%
    longer than 12 words                      1.0%    2.0%
    alarm: today's queries are less like those that the student knows (p < 0.001)
    where nothing has changed, at most 5% of such comparisons raise an alarm
    least like those that it knows:
      0.320  rotor blade icing
    """

    values: dict[str, Any]

    @property
    def p(self) -> float:
        """How often queries of then alone would look so unlike themselves by chance."""
        return self.values["p"]

    @property
    def alarm(self) -> bool:
        """Whether today's queries are less like the training queries than chance explains."""
        return self.p < self.values["level"]

    def save(self, path: str | Path) -> None:
        """Writes the values as JSON."""
        write_json(Path(path), self.values)

    def __repr__(self) -> str:
        return "\n".join(_format_lines(self))


def drift(
    run: str | Path,
    queries: str | Path | Sequence[str] | Texts,
    out: str | Path | None = None,
    level: float = LEVEL,
    trust: bool = False,
) -> DriftReport:
    """Compares today's queries with those that were held out of a student's training.

    The student embeds both, and each query's nearness is its cosine to the nearest of the training queries. A one-sided test of Kolmogorov
    and Smirnov says whether today's are less near than chance explains. Neither the teacher nor an index is needed.

    Args:
        run: run folder, as `distill train` or `shrink` leaves it.
        queries: today's queries: a list, or a file of them as `distill.queries` takes it, e.g. log.csv:query.
        out: a JSON file to write.
        level: the test's false-alarm rate: the share of comparisons in which nothing has changed that may raise an alarm.
        trust: as `RunFolder` has it.

    Returns:
        shares of both, the test's p-value, and the ten queries that are least like those that the student knows.

    Raises BadInput where the run left no sample of its training queries, its student has a space of its own, or there are no queries.

        report = distill.drift("runs/mine", "today.txt")
        if report.alarm:
            print(report)
    """
    if not 0 < level < 1:
        raise BadInput(f"level: {level}: a share of false alarms, e.g. 0.05")
    folder = RunFolder(Path(run), trust=trust)
    student = folder.require_student()
    known = require_known_queries(folder)
    today = read_queries(queries)
    data = folder.data()
    split = choose_split(data.source.splits(), data.dev_split, folder.unlearnt_jobs)
    encoder = load_towers(str(student)).query.prepare_for(best_device())

    def measure_nearness(texts: Texts) -> np.ndarray:
        vectors = torch.from_numpy(encode_texts(encoder, list(texts), "query"))
        return find_nearest(vectors, known.vectors).numpy()

    then = data.source.queries(split)
    values = compare_samples(known, then, measure_nearness(then), today, measure_nearness(today))
    shared = {"run": str(run), "split": split, "level": level}
    report = DriftReport({**shared, **values, "provenance": {**collect_provenance(), "student": encoder.fingerprint()}})
    if out is not None:
        report.save(out)
    return report


def choose_split(splits: Sequence[str], dev: str, unlearnt_jobs: int = 0) -> str:
    """Chooses queries that the student was not trained on, though on others like them: those that were held out, of each job it learnt in.

    Args:
        splits: the names of all splits; `holdout_1` is that of the job before.
        dev: the split to take where none was held out.
        unlearnt_jobs: of how many of the latest jobs it learnt nothing.

    >>> choose_split(["train", "dev", "holdout", "holdout_1"], "dev"), choose_split(["train", "dev"], "dev")
    ('holdout+holdout_1', 'dev')
    >>> choose_split(["train", "dev", "holdout", "holdout_1"], "dev", unlearnt_jobs=1)
    'holdout_1'
    """
    numbers = {name: re.fullmatch(rf"{HOLDOUT}(?:_(\d+))?", name) for name in splits}  # of the jobs, from the latest one on
    held_out = [name for name, number in numbers.items() if number is not None and int(number[1] or 0) >= unlearnt_jobs]
    return "+".join(held_out) or dev


def require_known_queries(folder: RunFolder) -> KnownQueries:
    """Returns the sample of training queries that a run left, where its student writes into the space that their vectors are in."""
    if not folder.inherits_documents:
        raise BadInput(f"{folder.path}: its student has a space of its own, and the training queries have vectors in the teacher's alone")
    known = load_known_queries(folder.known_queries)
    if known is None:
        fix = "train again; data.fresh leaves none, as no epoch has the same queries"
        raise BadInput(f"{folder.known_queries}: not there, so what the student knows cannot be said: {fix}")
    return known


def compare_samples(
    known: KnownQueries, then: Texts, then_nearness: np.ndarray, today: Texts, today_nearness: np.ndarray
) -> dict[str, Any]:
    """Compares two sets of queries by how near [Q] each is to the training queries; returns fields of a report."""
    low = float(np.percentile(then_nearness, LOW_PERCENTILE))

    def describe(queries: Texts, nearness: np.ndarray) -> dict[str, Any]:
        longer = np.mean([count_words(query) > known.longest for query in queries])
        return {
            "queries": len(queries),
            "nearness": float(nearness.mean()),
            "low": float((nearness < low).mean()),
            "longer": float(longer),
        }

    worst = np.argsort(today_nearness, kind="stable")[:WORST]
    return {
        "then": describe(then, then_nearness),
        "today": describe(today, today_nearness),
        "low_nearness": low,
        "longest_known_words": known.longest,
        "p": compare_nearness(then_nearness, today_nearness),
        "worst": [{"query": today[int(row)], "nearness": float(today_nearness[row])} for row in worst],
    }


def compare_nearness(then: np.ndarray, today: np.ndarray) -> float:
    """Returns how likely chance alone makes today's values [M] lie below those of then [N] as far as they do.

    One-sided: queries that are nearer than before, as those that come back every day, raise no alarm.

    >>> round(compare_nearness(np.array([0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.3])), 6)  # one of 20 ways to deal six values to two hands
    0.05
    >>> compare_nearness(np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9]))
    1.0
    """
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Exact calculation unsuccessful", category=RuntimeWarning)  # then p is an approximation
        # "greater": the distribution function of today's values is above, so the values are below
        return float(ks_2samp(today, then, alternative="greater").pvalue)


def _format_lines(report: DriftReport) -> list[str]:
    values = report.values
    then, today = values["then"], values["today"]
    rows = [
        ("mean cosine to nearest training query", f"{then['nearness']:.3f}", f"{today['nearness']:.3f}"),
        (f"below {values['low_nearness']:.3f}", f"{then['low']:.1%}", f"{today['low']:.1%}"),
        (f"longer than {values['longest_known_words']} words", f"{then['longer']:.1%}", f"{today['longer']:.1%}"),
    ]
    less = "today's queries are less like those that the student knows"
    finding = f"alarm: {less}" if report.alarm else f"no alarm: nothing says that {less}"
    p = f"p = {report.p:.3f}" if report.p >= 0.001 else "p < 0.001"
    return [
        f"{today['queries']} queries of today, beside {then['queries']} that {values['run']} was not trained on ({values['split']})",
        f"{'':<37}{'then':>9}{'today':>8}",
        *(f"{name:<37}{before:>9}{now:>8}" for name, before, now in rows),
        f"{finding} ({p})",
        f"where nothing has changed, at most {100 * values['level']:g}% of such comparisons raise an alarm",
        "least like those that it knows:",
        *(f"  {entry['nearness']:.3f}  {shorten(entry['query'], SHOWN_CHARACTERS)}" for entry in values["worst"]),
    ]
