"""Whether a teacher finds the document a query was made from, and how near generated queries are to real ones."""

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


class RoundTrip:
    """The teacher that made a store, asked with generated queries."""

    def __init__(self, store: TeacherStore):
        self.documents = store.documents
        self.encoder = load_maker(store.maker).prepare_for(best_device()).query

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """[N, D] on the device that searches."""
        return torch.from_numpy(encode_texts(self.encoder, texts, "query", "auto")).to(best_device())

    def found(self, texts: Sequence[str], documents: Sequence[str], k: int) -> np.ndarray:
        """[N] bool: whether the document of that id is among the top `k` of its query."""
        _, rows = search(self.vectors(texts), self.documents, k)
        return (rows.cpu().numpy() == self.documents.ids.rows(documents)[:, None]).any(axis=1)


def measure_diversity(texts: Sequence[str], real: Sequence[str], teacher: RoundTrip | None) -> dict[str, dict[str, float]]:
    """Of a sample of generated queries, and of real ones as the yardstick: words a query, share of two-word pieces that occur once, and
    with a teacher the mean cosine to the nearest real query (for a real one: the nearest other).
    """
    found = {"generated": _wording(texts), "real": _wording(real)}
    if teacher and len(real) > 1:
        generated, known = (torch.nn.functional.normalize(teacher.vectors(those), dim=1) for those in (texts, real))
        found["generated"]["nearest_real_cosine"] = float(search(generated, known, 1)[0].mean())
        found["real"]["nearest_real_cosine"] = float(search(known, known, 2)[0][:, 1].mean())
    return found


def _wording(texts: Sequence[str]) -> dict[str, float]:
    words = [text.casefold().split() for text in texts]
    pairs = [pair for each in words for pair in pairwise(each)]
    return {"words": float(np.mean([len(each) for each in words])), "distinct_word_pairs": len(set(pairs)) / max(1, len(pairs))}
