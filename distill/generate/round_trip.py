"""Checks whether a teacher finds the document that a query was made from, and measures how close generated queries are to real ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.towers import load_maker
from distill.files.device import best_device
from distill.vectors.search import search
from distill.vectors.store import TeacherStore


class RoundTripTeacher:
    """The teacher of a store: embeds generated queries and searches for their documents.

    Args:
        store: the store, which names the teacher's model.
    """

    def __init__(self, store: TeacherStore):
        self.documents = store.documents
        self.encoder = load_maker(store.maker).prepare_for(best_device()).query

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Returns the query vectors [N, D], on the device that searches."""
        return torch.from_numpy(encode_texts(self.encoder, texts, "query", "auto")).to(best_device())

    def finds_documents(self, texts: Sequence[str], document_ids: Sequence[str], k: int) -> np.ndarray:
        """Tells for each query whether its document is among the top `k`: [N] bool."""
        rows = search(self.encode(texts), self.documents, k)[1].cpu().numpy()  # [N, k]
        expected = self.documents.ids.rows(document_ids)  # [N]
        return (rows == expected[:, None]).any(axis=1)


def measure_diversity(texts: Sequence[str], real: Sequence[str], teacher: RoundTripTeacher | None) -> dict[str, dict[str, float]]:
    """Measures the diversity of a sample of generated queries, and of real queries for comparison.

    Returns:
        for `generated` and `real` each: `words`, the mean number of words; `distinct_word_pairs`, the share of two-word sequences that
        are distinct; and with a teacher `nearest_real_cosine`, the mean cosine to the nearest real query other than itself.
    """
    diversity = {"generated": _measure_wording(texts), "real": _measure_wording(real)}
    if teacher is not None and len(real) > 1:
        generated_vectors = torch.nn.functional.normalize(teacher.encode(texts), dim=1)
        real_vectors = torch.nn.functional.normalize(teacher.encode(real), dim=1)
        diversity["generated"]["nearest_real_cosine"] = float(search(generated_vectors, real_vectors, 1)[0].mean())
        diversity["real"]["nearest_real_cosine"] = float(search(real_vectors, real_vectors, 2)[0][:, 1].mean())
    return diversity


def _measure_wording(texts: Sequence[str]) -> dict[str, float]:
    words = [text.casefold().split() for text in texts]
    pairs = [pair for words_of_text in words for pair in pairwise(words_of_text)]
    mean_words = float(np.mean([len(words_of_text) for words_of_text in words]))
    return {"words": mean_words, "distinct_word_pairs": len(set(pairs)) / max(1, len(pairs))}
