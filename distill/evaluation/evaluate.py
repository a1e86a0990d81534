"""How much of the teacher a student keeps, on a whole corpus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from distill.data.known_queries import KnownQueries, load_known_queries, warn_of_unknown
from distill.encoders.towers import is_available, load_maker, load_towers
from distill.evaluation.costs import Timing, open_exported
from distill.evaluation.evaluation_set import EvaluationSet, GivenVectors, StoredVectors, embed_documents, open_teacher
from distill.evaluation.fields import STUDENT, TEACHER
from distill.evaluation.latency import as_served, sample_queries
from distill.evaluation.measured_queries import measure_queries
from distill.evaluation.query_lengths import describe, describe_overlap, measure_lengths
from distill.evaluation.ranking_files import refuse_linked_rankings, write_rankings
from distill.evaluation.results import Results
from distill.evaluation.run_texts import embed_corpus, open_run_texts
from distill.evaluation.suite import open_suite_if_named
from distill.evaluation.systems import System, open_system
from distill.files.configs import refuse_unknown_choices
from distill.files.device import best_device
from distill.files.progress import log
from distill.files.provenance import collect_provenance
from distill.metrics.ranking import cosine, overlap
from distill.metrics.retention import NOTHING_TO_RETAIN, bootstrap_mean, bootstrap_ratio
from distill.records import BadInput, Ranking
from distill.teachers.function import as_float32
from distill.texts.ids import Ids
from distill.texts.sources import open_source
from distill.texts.text_source import HOLDOUT, TextSource
from distill.training.run_folder import RunFolder
from distill.vectors.resident import keep_corpora
from distill.vectors.store import TeacherStore, VectorStore


def evaluate(
    student: Any,
    teacher: Any,
    texts: TextSource | str | Path,
    split: str = "test",
    documents: Literal["teacher", "student"] = "teacher",
    baselines: dict[str, str] | None = None,
    suite: list[str] | None = None,
) -> Results:
    """Measures any student beside any teacher on one corpus: metrics, retention with 95% intervals, agreement, latency.

    Args:
        student: a folder or hub name, an Encoder, a SentenceTransformer, a static model, a function from texts to vectors, or the
            vectors [Q, D] of the split's queries.
        teacher: the same kinds of models; or a store (its folder or a TeacherStore); or two arrays, of the split's queries [Q, D] and
            of the documents [N, D].
        texts: a source, or a folder in BEIR or MS MARCO layout.
        split: queries to measure on, e.g. test, or dl19+dl20 for two splits together; retention needs judged ones.
        documents: whose document vectors the student searches: the teacher's, or its own where it is a model with a space of its own.
        baselines: more systems by name: a TREC run file, or an encoder folder that writes query vectors into the teacher's space.
        suite: folders of collections of other domains, on which the student is measured too, as `evaluate_suite` does.

    Returns:
        Results; `print(results)` is the table, `results.verdict` one line.

    Raises:
        BadInput: where vectors and texts do not belong together, or widths differ.
    """
    refuse_unknown_choices(evaluate, {"documents": documents})
    check_names(baselines or {})
    abroad = open_suite_if_named(suite, teacher, not isinstance(student, np.ndarray | Tensor) and documents == "teacher")
    source = open_source(texts)
    teacher_vectors, teacher_model = open_teacher(teacher, source, split)
    evaluation = EvaluationSet(source, split, teacher_vectors)
    evaluation.check_judgments()
    subject, vectors = _open_student(student, evaluation)
    if documents == "student":
        if subject.system is None:
            raise BadInput('documents: "student" needs a model: vectors of queries alone cannot embed the documents')
        subject.documents = (embed_documents(subject.system, source), source.documents().ids)
    if teacher_model is None and isinstance(teacher_vectors, StoredVectors):
        teacher_model = open_maker(teacher_vectors.store)
    timing = Timing(split, sample_queries(evaluation.queries))
    results = _measure(evaluation, subject, vectors, teacher_model, timing, baselines or {})
    if abroad is not None and subject.system is not None:
        results.values["suite"] = abroad.measure(subject.system).values
    return results


def evaluate_run(
    run: str | Path,
    split: str = "test",
    source: TextSource | None = None,
    store: str | None = None,
    baselines: dict[str, str] | None = None,
    out: str | Path | None = None,
    trust: bool = False,
    suite: list[str] | None = None,
) -> Results:
    """Measures the student of a run folder beside its teacher, and leaves the results there.

    Leaves `results.json` and one TREC run file a system, in `runs/`, in the run folder.

    Args:
        run: run folder, as `distill train` leaves it.
        split: judged queries, e.g. test, or dl19+dl20 for two splits together.
        source: other texts than the run was trained on; needs `store` too.
        store: the teacher's store of those texts.
        baselines: more systems by name: a TREC run file, or an encoder folder that writes query vectors into the teacher's space.
        out: where to write the results; `results.json` in the run folder by default. The rankings of results-NAME.json are in `runs-NAME/`.
        trust: as `RunFolder` has it.
        suite: folders of collections of other domains, on which the student is measured too, as `evaluate_suite` does.
    """
    folder = RunFolder(Path(run), trust=trust)
    destination = Path(out) if out else folder.path / "results.json"
    refuse_linked_rankings(destination, split, trust)
    check_names(baselines or {})
    towers = load_towers(str(folder.require_student()))
    texts, opened = open_run_texts(folder, source, store)
    abroad = open_suite_if_named(suite, opened, folder.inherits_documents, folder.settings()["data"].get("dev_suite") or ())
    known = load_known_queries(folder.known_queries)  # before hours are spent: the file may be damaged
    evaluation = EvaluationSet(texts, split, StoredVectors(texts, opened))
    evaluation.queries.refuse_odd_ids()
    evaluation.check_judgments()
    system = open_system(towers)
    student = _Student(system)
    if not folder.inherits_documents:
        corpus = embed_corpus(folder, towers, texts)
        student.documents = (corpus, corpus.ids)
    timing = _plan_timing(folder, evaluation, system, is_own=source is None)
    vectors, teacher = student.encode_queries(evaluation), open_maker(opened)
    results = _measure(evaluation, student, vectors, teacher, timing, baselines or {}, folder.record())
    _compare_with_known(results, evaluation, known)
    write_rankings(results.rankings, baselines or {}, opened.documents.ids, destination, texts, split)
    results.save(destination)
    if abroad is not None:
        results.values["suite"] = abroad.measure(system, known).values
        results.save(destination)
    return results


def _compare_with_known(results: Results, evaluation: EvaluationSet, known: KnownQueries | None) -> None:
    """Adds how many queries are unlike those that the student was trained on, and warns of many."""
    if known is not None:
        results.values["familiarity"] = known.compare(list(evaluation.queries), evaluation.teacher_vectors)
        warn_of_unknown(evaluation.split, results.values["familiarity"])


@dataclass
class _Student:
    """A student under evaluation.

    Args:
        system: its model; None where there are only vectors of its queries.
        documents: document vectors of its own, and the id of each; None where it searches the teacher's.
    """

    system: System | None = None
    documents: tuple[VectorStore | np.ndarray, Ids] | None = None

    def encode_queries(self, evaluation: EvaluationSet) -> Tensor:
        """[Q, D] vectors of the queries."""
        assert self.system is not None
        return torch.from_numpy(self.system.encode(list(evaluation.queries), "query"))

    def rank_beside_teacher(self, evaluation: EvaluationSet, vectors: Tensor) -> dict[str, Ranking]:
        """The documents nearest to the teacher's query vectors, and to its own [Q, D]."""
        teacher = evaluation.teacher_vectors
        if self.documents is None:
            return evaluation.rank_systems({TEACHER: teacher, STUDENT: vectors})
        own = evaluation.rank_documents(STUDENT, vectors, *self.documents)
        return {TEACHER: evaluation.rank_documents(TEACHER, teacher), STUDENT: own}


def _open_student(student: Any, evaluation: EvaluationSet) -> tuple[_Student, Tensor]:
    """Opens a student of any kind; returns it with its vectors [Q, D] of the queries."""
    if not isinstance(student, np.ndarray | Tensor):
        opened = _Student(open_system(student))
        return opened, opened.encode_queries(evaluation)
    vectors, queries = torch.from_numpy(as_float32(student)), len(evaluation.queries)
    if len(vectors) != queries:
        raise BadInput(f"student: {len(vectors)} vectors, but {evaluation.split} has {queries} queries: give one for each, in order")
    return _Student(), vectors


@keep_corpora()
def _measure(
    evaluation: EvaluationSet,
    student: _Student,
    vectors: Tensor,
    teacher: System | None,
    timing: Timing,
    baselines: dict[str, str],
    training: dict[str, Any] | None = None,
) -> Results:
    """Ranks, grades and times every system."""
    rankings = student.rank_beside_teacher(evaluation, vectors)
    for name, path in baselines.items():
        rankings[name] = _rank_baseline(name, path, evaluation)
    evaluation.warn_of_copied_queries(rankings)
    measured = measure_queries(evaluation, rankings)
    values = measured.values
    retention = _measure_retention(values)  # first: it refuses a teacher of which there is nothing to retain
    systems = {name: {metric: float(v.mean()) for metric, v in metrics.items()} for name, metrics in values.items()}
    models = {name: system for name, system in ((STUDENT, student.system), (TEACHER, teacher)) if system is not None}
    costs, latency = timing.measure_costs(models)
    for name, cost in costs.items():
        systems[name] |= cost
    results = {
        "dataset": f"{evaluation.source.name}/{evaluation.split}",
        "queries": len(evaluation.queries),
        "judged_queries": len(measured.judged),
        "systems": systems,
        "retention": retention,
        "agreement": _measure_agreement(evaluation, student, vectors, rankings),
        "lengths": measure_lengths([measured]),
        "latency": latency,
        "provenance": _describe(evaluation, student) | ({} if training is None else {"training": training}),
    }
    return Results(results, rankings)


def _describe(evaluation: EvaluationSet, student: _Student) -> dict[str, Any]:
    """Where the figures come from."""
    return {
        **collect_provenance(),
        "device": str(best_device()),
        "teacher": evaluation.teacher.provenance,
        "student": student.system and (student.system.fingerprint or student.system.name),
        "documents": evaluation.source.documents().fingerprint if evaluation.source.has_documents() else None,
        "texts": evaluation.queries.content_fingerprint,
        "own_documents_left_out": evaluation.count_own_documents(),
    }


def _rank_baseline(name: str, path: str, evaluation: EvaluationSet) -> Ranking:
    if Path(path).is_file():
        return evaluation.read_ranking(name, Path(path))
    vectors = open_system(path).encode(list(evaluation.queries), "query")
    return evaluation.rank_documents(name, torch.from_numpy(vectors))


def _measure_retention(values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Student over teacher for each metric the teacher scores on, with the paired 95% interval."""
    retention = {}
    scored = {metric: teacher for metric, teacher in values[TEACHER].items() if teacher.any()}
    if values[TEACHER] and not scored:
        raise BadInput(NOTHING_TO_RETAIN)
    for metric, teacher in scored.items():
        retention[metric] = describe(bootstrap_ratio(values[STUDENT][metric], teacher))
    return retention


def _measure_agreement(evaluation: EvaluationSet, student: _Student, vectors: Tensor, rankings: dict[str, Ranking]) -> dict[str, Any]:
    """Student against teacher without labels: on the split at hand where it has no judgments, else on the queries that were held out."""
    both_are_models = student.system is not None and not isinstance(evaluation.teacher, GivenVectors)
    is_judged = evaluation.source.qrels(evaluation.split) is not None
    is_stored = not isinstance(evaluation.teacher, StoredVectors) or evaluation.teacher.has_queries(HOLDOUT)
    if both_are_models and is_judged and is_stored and HOLDOUT in evaluation.source.splits() and evaluation.split != HOLDOUT:
        evaluation = EvaluationSet(evaluation.source, HOLDOUT, evaluation.teacher)
        vectors = student.encode_queries(evaluation)
        rankings = student.rank_beside_teacher(evaluation, vectors)
    teacher_rows, student_rows = rankings[TEACHER].rows, rankings[STUDENT].rows
    overlaps = bootstrap_mean(overlap(torch.from_numpy(teacher_rows), torch.from_numpy(student_rows), 10).numpy())
    agreement = describe_overlap(overlaps)
    if vectors.shape == evaluation.teacher_vectors.shape:  # else they are of two spaces, which have no angles between them
        agreement["cosine"] = float(cosine(evaluation.teacher_vectors, vectors).mean())
    return {**agreement, "split": evaluation.split, "queries": len(vectors)}


def _plan_timing(run: RunFolder, evaluation: EvaluationSet, student: System, is_own: bool) -> Timing:
    """Latency is measured on the run's dev queries, as `export` does; on the queries at hand where other texts are given."""
    served = open_exported(run, student.fingerprint)
    if not is_own:
        return Timing(evaluation.split, sample_queries(evaluation.queries), served)
    data = run.data()
    return Timing(data.dev_split, sample_queries(data.source.queries(data.dev_split)), served)


def open_maker(store: TeacherStore) -> System | None:
    """The model that made a store; None, and a line that says so, where it is not on this machine."""
    if is_available(store.maker):
        return open_system(as_served(load_maker(store.maker)), torch.device("cpu"))  # only timed, there
    log.info(f"{store.maker.name}: the teacher's model is not here: no size and latency of it")
    return None


def check_names(baselines: dict[str, str]) -> None:
    """Refuses a name that cannot be a column, a ranking's name and a file's name at once."""
    for name in baselines:
        if name in (TEACHER, STUDENT) or not re.fullmatch(r"[\w.-]+", name):
            raise BadInput(f"baselines: {name!r}: name it with letters, digits, '.', '_' and '-', and not {TEACHER} or {STUDENT}")
