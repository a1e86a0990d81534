"""Losses: functions of what the student and the teacher make of a batch.

There is one file for each family; those of the package are named in distill/__init__.py too.
"""

from distill.losses.base import Loss, LossInputs
from distill.losses.contrastive import OneHot
from distill.losses.embedding import DocumentMatching, QueryMatching
from distill.losses.geometry import ContrastiveMatching, SimilarityMatching
from distill.losses.score import MarginMSE, ScoreDistillation, ScoreMSE

__all__ = [
    "ContrastiveMatching",
    "DocumentMatching",
    "Loss",
    "LossInputs",
    "MarginMSE",
    "OneHot",
    "QueryMatching",
    "ScoreDistillation",
    "ScoreMSE",
    "SimilarityMatching",
]
