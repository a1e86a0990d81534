"""What was measured of each query of a split, teacher beside student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from distill.evaluation.evaluation_set import EvaluationSet
from distill.evaluation.fields import STUDENT, TEACHER
from distill.metrics.ranking import overlap
from distill.records import Ranking
from distill.texts.words import count_words


@dataclass(frozen=True)
class MeasuredQueries:
    """What was measured of Q queries, of which J are judged.

    Args:
        word_counts: [Q] number of words in each query, as `count_words` counts them.
        overlaps: [Q] share of the teacher's first ten documents that the student also finds.
        judged: [J] rows of the judged queries.
        values: `values[system][metric]` is [J]; `values[system]` is empty where nothing is judged.
    """

    word_counts: np.ndarray
    overlaps: np.ndarray
    judged: np.ndarray
    values: dict[str, dict[str, np.ndarray]]


def measure_queries(evaluation: EvaluationSet, rankings: Mapping[str, Ranking]) -> MeasuredQueries:
    """Grades the rankings of teacher, student and baselines, and compares the student's with the teacher's."""
    teacher, student = (torch.from_numpy(rankings[system].rows) for system in (TEACHER, STUDENT))
    qrels = evaluation.source.qrels(evaluation.split)
    return MeasuredQueries(
        word_counts=np.array(list(map(count_words, evaluation.queries)), np.int64),
        overlaps=overlap(teacher, student, 10).numpy(),
        judged=np.empty(0, np.int64) if qrels is None else qrels.judged_positions(evaluation.query_ids),
        values={name: evaluation.measure(ranking) for name, ranking in rankings.items()},
    )
