"""`distill evaluate`: how much of the teacher a student keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.cli.terminal import show_text
from distill.evaluation.evaluate import evaluate as evaluate_any
from distill.evaluation.evaluate import evaluate_run
from distill.evaluation.results import Results
from distill.evaluation.suite import evaluate_suite
from distill.evaluation.suite_results import SuiteResults
from distill.records import BadInput
from distill.texts.text_source import TextSource


@dataclass(frozen=True)
class Evaluation:
    """What was measured, the file it is in, None where it is in none, and what the student has to keep."""

    results: Results | SuiteResults
    path: Path | None
    at_least: float | None


def evaluate(
    run: str | None = None,
    split: str = "test",
    source: TextSource | None = None,
    store: str | None = None,
    baselines: dict[str, str] | None = None,
    out: str | None = None,
    student: str | None = None,
    teacher: str | None = None,
    documents: Literal["teacher", "student"] = "teacher",
    at_least: float | None = None,
    trust: bool = False,
    suite: list[str] | None = None,
) -> Evaluation:
    """Measures teacher and student on one corpus: metrics, retention with 95% intervals, agreement, latency.

    Of a run folder, whose student and teacher are known, it leaves `results.json` and one TREC run file a system, in `runs/`, there.
    Or of any two models: `--student FOLDER --teacher FOLDER --source ...`; then `--out` says where to write the results.

    Args:
        run: run folder, as `distill train` leaves it.
        split: judged queries, e.g. test, or dl19+dl20 for two splits together.
        source: texts to measure `student` on; of a run, other texts than it was trained on, which need `store` too.
        store: beside a run: the teacher's store of those texts.
        baselines: more systems by name: a TREC run file, or an encoder folder that writes query vectors into the teacher's space.
        out: where to write the results; `results.json` in the run folder by default. The rankings of results-NAME.json are in `runs-NAME/`.
        student: instead of a run: folder or hub name of any model of texts, sentence-transformers' included.
        teacher: beside `student`: likewise, or a store.
        documents: beside `student`: whose document vectors it searches, the teacher's or its own.
        at_least: what the student has to keep of nDCG@10 (of overlap@10 where nothing is judged), e.g. 0.97; below it the exit code is 1.
        trust: whether the run's files may name code of other packages, which is then imported, and sources that do more than read files;
            not for a folder from somebody else.
        suite: collections of other domains to measure the student on too: folders in BEIR layout, or folders of such folders. Beside
            `student`, also without a source: `at_least` is then about their mean.
    """
    if at_least is not None and not 0 < at_least <= 2:
        raise BadInput(f"at_least: {at_least}: a share of what the teacher has, e.g. 0.97")
    if student is None and teacher is None:
        if run is None:
            raise BadInput("run must be given: name a run folder, or give --student, --teacher and --source")
        if documents != "teacher":
            raise BadInput("--documents belongs to --student: the student of a run searches the documents that it was trained for")
        results = evaluate_run(run, split, source, store, baselines, out, trust, suite)
        return Evaluation(results, Path(out) if out else Path(run) / "results.json", at_least)
    if run is not None or store is not None or student is None or teacher is None or (source is None and suite is None):
        raise BadInput("--student, --teacher and --source belong together, without a run folder and --store: a store is a --teacher")
    measured = _measure_models(student, teacher, source, split, documents, baselines, suite)
    if out is not None:
        measured.save(out)
    return Evaluation(measured, None if out is None else Path(out), at_least)


def _measure_models(
    student: str,
    teacher: str,
    source: TextSource | None,
    split: str,
    documents: Literal["teacher", "student"],
    baselines: dict[str, str] | None,
    suite: list[str] | None,
) -> Results | SuiteResults:
    """Measures two models on a source, on a suite, or on both."""
    if source is None:
        if documents != "teacher" or baselines:
            raise BadInput("--documents and --baselines are of a --source: a suite measures the student on the teacher's documents alone")
        return evaluate_suite(student, teacher, suite or [], split)
    return evaluate_any(student, teacher, source, split, documents, baselines, suite)


def show(evaluation: Evaluation) -> int:
    results = evaluation.results
    show_text(f"\n{results}")
    if evaluation.path is not None:
        show_text(evaluation.path)
    if evaluation.at_least is None or results.main_retention.value >= evaluation.at_least:
        return 0
    show_text(f"{results.main_retention.value:.4f} of the teacher's {results.main_metric} is below --at_least {evaluation.at_least}")
    return 1


FUNCTION = evaluate
