"""How much of the teacher a student keeps abroad: on collections of other domains than the one it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.data.known_queries import KnownQueries
from distill.evaluation.evaluation_set import EvaluationSet, ModelVectors, StoredVectors, TeacherVectors
from distill.evaluation.fields import MAIN_METRIC, STUDENT, TEACHER
from distill.evaluation.measured_queries import MeasuredQueries, measure_queries
from distill.evaluation.query_lengths import describe, describe_overlap, measure_lengths
from distill.evaluation.suite_results import SuiteResults
from distill.evaluation.suite_teacher import open_suite_teacher
from distill.evaluation.systems import System, open_system
from distill.files.progress import log
from distill.files.provenance import collect_provenance
from distill.metrics.retention import NOTHING_TO_RETAIN, bootstrap_mean, bootstrap_of_means, bootstrap_ratio
from distill.records import BadInput
from distill.teachers.cached import embed_into_cache
from distill.teachers.embedder import Embedder
from distill.texts.suite import SPLIT, list_collections, open_collections
from distill.texts.text_source import TextSource


def evaluate_suite(student: Any, teacher: Any, suite: str | Path | Sequence[str | Path], split: str = SPLIT) -> SuiteResults:
    """Measures a student beside its teacher on several collections: a row for each, and the mean with its interval.

    Vectors of a teacher that is a folder or a hub name are kept in the cache: a second evaluation embeds the student's queries alone.

    Args:
        student: any model of texts, as `distill.evaluate` takes it, which writes query vectors into the teacher's space.
        teacher: likewise, or a store, whose model then embeds the collections.
        suite: folders in BEIR or MS MARCO layout, or folders of such folders.
        split: judged queries of each collection.

    Raises:
        BadInput: a folder is no collection, two have one name, or the teacher's model is not here.
    """
    return open_suite(suite, teacher, split).measure(open_system(student))


def open_suite(suite: str | Path | Sequence[str | Path], teacher: Any, split: str = SPLIT) -> Suite:
    """Opens collections and the model of the teacher; the arguments are those of `evaluate_suite`."""
    return Suite(open_collections(suite, split), open_suite_teacher(teacher), split)


def open_suite_if_named(suite: list[str] | None, teacher: Any, fits: bool, watched: Sequence[str] = ()) -> Suite | None:
    """Opens a suite, where one was named; refuses it unless the student fits.

    Warns of collections in the folders `watched`, by which the student's checkpoint was chosen.
    """
    if suite is None:
        return None
    if not fits:
        raise BadInput("suite: needs a student that is a model and searches the teacher's documents")
    opened = open_suite(suite, teacher)
    paths = {path.resolve() for folder in map(Path, watched) if folder.is_dir() for path in list_collections(folder)}
    chosen_by = [name for name, source in opened.sources.items() if source.root is not None and source.root.resolve() in paths]
    if chosen_by:
        log.warning(f"suite: {', '.join(chosen_by)}: data.dev_suite chose the checkpoint by them: report the others")
    return opened


@dataclass(frozen=True)
class Suite:
    """Collections by name, and the teacher that embeds them."""

    sources: dict[str, TextSource]
    teacher: Embedder | System
    split: str

    def measure(self, student: System, known: KnownQueries | None = None) -> SuiteResults:
        """Measures a student on every collection; `known` is a sample of what it was trained on."""
        measured = []
        for name, source in self.sources.items():
            vectors = open_teacher_vectors(self.teacher, source, self.split)
            measured.append(measure_collection(name, EvaluationSet(source, self.split, vectors), student, known))
        models = {"teacher": describe_teacher(self.teacher), "student": student.fingerprint or student.name}
        return SuiteResults({**summarise(measured), "provenance": {**collect_provenance(), **models}})


def open_teacher_vectors(teacher: Embedder | System, source: TextSource, split: str) -> TeacherVectors:
    """The teacher's vectors of a collection: stored in the cache where the teacher can be told from others, else embedded now."""
    if isinstance(teacher, System):
        return ModelVectors(source, teacher)
    return StoredVectors(source, embed_into_cache(teacher, source, split))


def describe_teacher(teacher: Embedder | System) -> dict[str, Any]:
    """The model as it was named now: its vectors in the cache may have been made under another name."""
    return {"name": teacher.name, "fingerprint": teacher.fingerprint} if isinstance(teacher, System) else teacher.maker.to_json()


@dataclass(frozen=True)
class MeasuredCollection:
    """What was measured on a collection.

    Attributes:
        name: of its folder.
        documents: number of its documents.
        queries: what was measured on each of its queries.
        familiarity: how many of them are unlike training queries; None where these are not known.
    """

    name: str
    documents: int
    queries: MeasuredQueries
    familiarity: dict[str, float] | None


def measure_collection(name: str, evaluation: EvaluationSet, student: System, known: KnownQueries | None) -> MeasuredCollection:
    """Ranks a collection's documents by teacher and student, and grades both."""
    vectors = torch.from_numpy(student.encode(list(evaluation.queries), "query"))
    width = evaluation.teacher_vectors.shape[1]
    if vectors.shape[1] != width:
        raise BadInput(f"suite: the student's vectors are {vectors.shape[1]} wide, the teacher's {width}: not one space")
    rankings = evaluation.rank_systems({TEACHER: evaluation.teacher_vectors, STUDENT: vectors})
    queries = measure_queries(evaluation, rankings)
    if not queries.values[TEACHER].get(MAIN_METRIC, np.zeros(1)).any():
        raise BadInput(f"suite: {name}: {NOTHING_TO_RETAIN}")
    familiarity = None if known is None else known.compare(list(evaluation.queries), evaluation.teacher_vectors)
    return MeasuredCollection(name, len(evaluation.teacher.document_ids), queries, familiarity)


def summarise(collections: Sequence[MeasuredCollection]) -> dict[str, Any]:
    """Each collection's figures, and means over collections, each collection counting alike.

    Intervals of a collection are over its queries; those of a mean over collections and, within each, over queries.
    """
    measured = [part.queries for part in collections]
    retention = {}
    for metric in measured[0].values[TEACHER]:
        pairs = [(part.values[STUDENT][metric], part.values[TEACHER][metric]) for part in measured]
        if all(teacher.any() for _, teacher in pairs):
            retention[metric] = describe(bootstrap_of_means(pairs))
    overlaps = bootstrap_of_means([(part.overlaps, np.ones_like(part.overlaps)) for part in measured])
    return {
        "collections": {part.name: describe_collection(part) for part in collections},
        "retention": retention,
        "agreement": describe_overlap(overlaps),
        "lengths": measure_lengths(measured),
    }


def describe_collection(part: MeasuredCollection) -> dict[str, Any]:
    """The fields of one collection in results.json."""
    queries = part.queries
    teacher, student = queries.values[TEACHER], queries.values[STUDENT]
    return {
        "documents": part.documents,
        "queries": len(queries.word_counts),
        "judged_queries": len(queries.judged),
        "words": float(np.median(queries.word_counts)),
        "systems": {name: {metric: float(v.mean()) for metric, v in values.items()} for name, values in queries.values.items()},
        "retention": {metric: describe(bootstrap_ratio(student[metric], teacher[metric])) for metric in teacher if teacher[metric].any()},
        "agreement": describe_overlap(bootstrap_mean(queries.overlaps)),
        **({} if part.familiarity is None else {"familiarity": part.familiarity}),
    }
