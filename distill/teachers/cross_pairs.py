"""A cross encoder on this machine as a teacher: it reads pairs of a query and a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.encoders.cross import CrossEncoder
from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.files.atomic import has_files
from distill.files.device import Precision, best_device, resolve_precision
from distill.records import BadInput
from distill.teachers.candidates import PairTexts, find_candidates, has_pairs
from distill.teachers.embedder import Embedder, Progress, encode_set
from distill.teachers.reranking import score_pairs
from distill.texts.text_source import TextSource
from distill.vectors.store import VectorStore

TokenIds = Sequence[int]


@dataclass(frozen=True)
class PairTeacher:
    """A cross encoder on this machine. The row of a pair holds its score, then its two vectors where the encoder pools them.

    Args:
        encoder: the model, on the device that computes.
        precision: number format of the matrix products.
        maker: the model, as its stores name it.
    """

    encoder: CrossEncoder
    precision: Precision
    maker: Maker

    @property
    def width(self) -> int:
        """Numbers in a row: 1 + 2 D where the encoder pools two vectors, else 1."""
        return self.encoder.width

    @property
    def where(self) -> str:
        return f"in {self.precision} on {self.encoder.device}"

    def prepare(self, texts: Sequence[tuple[str, str]], role: Role) -> list[tuple[TokenIds, TokenIds]]:
        """Returns the token ids of the query and of the document of N pairs."""
        query_ids = self._token_ids([query for query, _ in texts], role)
        document_ids = self._token_ids([document for _, document in texts], role)
        return list(zip(query_ids, document_ids, strict=True))

    def _token_ids(self, texts: list[str], role: Role) -> list[TokenIds]:
        """Returns the token ids of each text; a text of several pairs is tokenised once."""
        unique = list(dict.fromkeys(texts))
        ids = dict(zip(unique, self.encoder.token_ids(unique, role), strict=True))
        return [ids[text] for text in texts]

    def embed(self, prepared: Sequence[tuple[TokenIds, TokenIds]], role: Role, progress: Progress) -> np.ndarray:
        """Scores N pairs: [N, width] float32."""
        return score_pairs(self.encoder, prepared, self.precision, progress)


def load_pair_teacher(name: str, precision: Precision) -> PairTeacher:
    """Loads a cross encoder from a folder or a hub name onto the best device."""
    encoder = load_cross_encoder(name).to(best_device()).eval()
    precision = resolve_precision(precision, encoder.device.type)
    maker = Maker(name, encoder.fingerprint(), precision=precision, head=encoder.head)
    return PairTeacher(encoder, precision, maker)


def encode_pairs(
    open_teacher: Callable[[], Embedder],
    source: TextSource,
    out: str | Path,
    splits: list[str] | None,
    candidates: str | None,
    candidates_per_query: int = 4,
) -> dict[str, VectorStore]:
    """Writes a teacher's scores of each query's candidates, and its vectors where it has them: one store for each split.

    Args:
        open_teacher: loads the cross encoder, or whatever else embeds pairs, once it is known which.
        source: where documents, queries and judgments come from.
        out: folder to write.
        splits: splits whose queries are scored, e.g. [train].
        candidates: where the documents of each query come from: mined negatives, a TREC run file, or a dual encoder's store.
        candidates_per_query: number of documents for each query, including the positive.

    Returns:
        The finished stores by the name of their split; a store that other ranks are still writing is left out.
    """
    folder = Path(out)
    pairs = list_pairs(source, splits, candidates, candidates_per_query)
    if has_files(folder) and not has_pairs(str(folder)):
        raise BadInput(f"{folder}: not a store of pairs and not empty: choose another --out")
    teacher = open_teacher()
    stores = {split: encode_set(teacher, texts, "query", folder / f"pairs-{split}") for split, texts in pairs.items()}
    return {split: store for split, store in stores.items() if store is not None}


def list_pairs(source: TextSource, splits: list[str] | None, candidates: str | None, k: int) -> dict[str, PairTexts]:
    """Pairs each query of a split with its `k` candidates; returns the pairs by the name of the split."""
    if candidates is None or not splits:
        raise BadInput("a cross encoder reads pairs: give --splits and --candidates: mined negatives, a TREC run file or a store")
    if k < 1:
        raise BadInput(f"candidates_per_query: {k}: must be at least 1")
    pairs = {}
    source.documents().refuse_odd_ids()
    for split in "+".join(splits).split("+"):
        source.queries(split).refuse_odd_ids()
        rows = find_candidates(candidates, source, split, k)
        pairs[split] = PairTexts(source.queries(split), source.documents(), rows)
    return pairs
