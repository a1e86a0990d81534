"""What a cross encoder says about pairs, for `distill encode` to write into a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.encoders.cross import CrossEncoder
from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.files.device import Precision, best_device, resolve_precision
from distill.records import BadInput
from distill.teachers.candidates import PairTexts, read_candidates
from distill.teachers.reranking import score_pairs
from distill.texts.sources import TextSource

Ids = Sequence[int]


@dataclass(frozen=True)
class PairTeacher:
    """A cross encoder on this machine; a vector is the score of a pair, its query's vector and its document's."""

    encoder: CrossEncoder
    precision: Precision

    @property
    def width(self) -> int:
        return 1 + (2 * self.encoder.backbone.config.hidden_size if self.encoder.head == "dual_pooling" else 0)

    @property
    def where(self) -> str:
        return f"in {self.precision} on {self.encoder.device}"

    def cut(self, texts: Sequence[tuple[str, str]], role: Role) -> list[tuple[Ids, Ids]]:
        queries, documents = (dict.fromkeys(side) for side in zip(*texts, strict=True))
        ids = [dict(zip(side, self.encoder.token_ids(list(side), role), strict=True)) for side in (queries, documents)]
        return [(ids[0][query], ids[1][document]) for query, document in texts]

    def vectors(self, cut: Sequence[tuple[Ids, Ids]], role: Role, progress: Callable[[int], object]) -> np.ndarray:
        return score_pairs(self.encoder, cut, self.precision, progress)


def load_pair_teacher(name: str, precision: Precision) -> tuple[PairTeacher, Maker]:
    """The cross encoder in a folder, and what a store says of it."""
    encoder = load_cross_encoder(name).to(best_device()).eval()
    teacher = PairTeacher(encoder, resolve_precision(precision, encoder.device.type))
    maker = Maker(name, encoder.fingerprint(), precision=teacher.precision, head=encoder.head)
    return teacher, maker


def list_pair_sets(source: TextSource, splits: list[str] | None, candidates: str | None, k: int) -> list[tuple[str, PairTexts]]:
    """The pairs of each split and the names of their stores."""
    if candidates is None or not splits:
        raise BadInput("a cross encoder reads pairs: give --splits and --candidates: mined negatives, a TREC run file or a store")
    if k < 1:
        raise BadInput(f"candidates_per_query: {k}: must be at least 1")
    found = []
    for split in [part for parts in splits for part in parts.split("+")]:
        rows = read_candidates(candidates, source, split, k)
        found.append((f"pairs-{split}", PairTexts(source.queries(split), source.documents(), rows)))
    return found
