"""A teacher of ten lines outside the package: a Python function from texts to vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from distill.encoders.folder import load_encoder
from distill.records import Batch, Encoded
from distill.teachers.teacher import Teacher, TextsByRow, score_candidates


class CalledTeacher(Teacher):
    reads_pairs, has_cosine_scores = False, True

    def __init__(self, function: Callable[[list[str]], Tensor], width: int):
        self.function, self.width = function, width

    def connect(self, data: TextsByRow) -> None:
        self.data = data

    def __call__(self, batch: Batch) -> Encoded:
        documents = self.function(self.data.document_texts(batch.document_rows.flatten()))
        return score_candidates(
            self.function(self.data.query_texts(batch.query_rows)),
            documents.view(*batch.document_rows.shape, self.width),
            batch.document_rows,
        )


def embed_letters(texts: list[str]) -> Tensor:
    """Vectors [N, 26] of length 1: how often a text has each letter."""
    counts = torch.tensor([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]).float().view(-1, 26)
    return torch.nn.functional.normalize(counts, dim=1)


class Letters(CalledTeacher):
    """The same as a class that a configuration can name."""

    def __init__(self) -> None:
        super().__init__(embed_letters, 26)

    def fingerprint(self) -> str:
        return "letters-1"


class Model(CalledTeacher):
    """A model that is called when a batch needs it.

    Args:
        folder: of the encoder.
    """

    def __init__(self, folder: str):
        encoder = load_encoder(folder)
        super().__init__(partial(encoder.encode, role="query"), encoder.width)
