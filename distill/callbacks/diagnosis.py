"""Functions that find faults of a distillation that raise no error, from vectors and losses; `Health` calls them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.data.datamodule import RetrievalData
from distill.encoders.batching import encode_texts
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, is_available, load_maker
from distill.files.device import Precision, free_memory
from distill.records import BadInput, Encoded
from distill.teachers.agreement import Fault, diagnose_wrong_vectors, vectors_agree
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.store import VectorStore

TEXTS_REENCODED = 16  # texts of each stored set that are encoded again
DEV_QUERIES = 256  # dev queries that are compared with the training queries
SAME_QUERY = 0.999  # least cosine at which two queries count as the same
LEAST_RANK_SHARE = 0.25  # least effective rank of the student's vectors, as a share of the teacher's
LEAST_SPREAD_SHARE = 0.1  # least mean cosine distance between the student's query vectors, as a share of the teacher's
NORM_RATIOS = (0.5, 2.0)  # least and largest ratio of the student's mean norm to the teacher's
ROWS_AT_ONCE = 65_536  # training queries that are compared in one matrix product


class Spread(NamedTuple):
    """How much of their space a set of vectors uses.

    Attributes:
        effective_rank: exponential of the entropy of the singular values (Roy and Vetterli, EUSIPCO 2007); 1 for parallel vectors.
        pairwise_cosine: mean cosine over pairs of vectors.
        norm: mean length.
    """

    effective_rank: float
    pairwise_cosine: float
    norm: float


def measure_spread(vectors: Tensor) -> Spread:
    """Measures the spread of vectors [Q, D].

    >>> measure_spread(torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    Spread(effective_rank=1.0, pairwise_cosine=1.0, norm=2.0)
    """
    norms = vectors.norm(dim=1)
    unit = vectors / norms.clamp(min=1e-12)[:, None]
    singular_values = torch.linalg.svdvals(unit)
    shares = singular_values / singular_values.sum().clamp(min=1e-12)
    pairs = max(1, len(unit) * (len(unit) - 1))
    cosine = (unit.sum(0).square().sum() - unit.square().sum()) / pairs
    return Spread(float(torch.special.entr(shares).sum().exp()), float(cosine), float(norms.mean()))


def find_collapse(student: Spread, teacher: Spread) -> Fault | None:
    """Reports vectors of the student that use far less of the space than the teacher's."""
    ranks_suffice = student.effective_rank >= LEAST_RANK_SHARE * teacher.effective_rank
    angles_suffice = 1 - student.pairwise_cosine >= LEAST_SPREAD_SHARE * (1 - teacher.pairwise_cosine)
    if ranks_suffice and angles_suffice:
        return None
    measured = f"effective rank {student.effective_rank:.1f}, mean cosine between queries {student.pairwise_cosine:.3f}"
    expected = f"the teacher's {teacher.effective_rank:.1f} and {teacher.pairwise_cosine:.3f}"
    fix = "lower the learning rate, or add query matching"
    return Fault("collapse", f"the student's vectors collapse: {measured}, {expected}: {fix}")


def find_norm_drift(student: Spread, teacher: Spread) -> Fault | None:
    """Reports vectors of the student whose length differs from the teacher's."""
    least, most = NORM_RATIOS
    if least <= student.norm / teacher.norm <= most:
        return None
    measured = f"the student's vectors have length {student.norm:.3g} on average, the teacher's {teacher.norm:.3g}"
    return Fault("norms", f"{measured}: end the student's head with Normalize, or match by l2")


def find_idle_loss(name: str, weight: float, value: Tensor, student: Encoded) -> Fault | None:
    """Reports a loss that does not change the student."""
    if not weight:
        reason = "its weight is 0"
    elif has_no_gradient(value, student):
        reason = "its gradient is 0"
    else:
        return None
    return Fault(f"gradient of {name}", f"model.losses.{name} teaches the student nothing: {reason}: remove or mend it")


def has_no_gradient(value: Tensor, student: Encoded) -> bool:
    """Tells whether the gradient of a loss with respect to the student's vectors and scores is 0."""
    # scores are a source of their own: once gathered from several ranks they are not computed from the gathered vectors
    sources = [part for part in (student.query, student.document, student.scores) if part.requires_grad]
    if not value.requires_grad or not sources:
        return True
    gradients = torch.autograd.grad(value, sources, retain_graph=True, allow_unused=True)
    return not any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def find_leaks(data: RetrievalData) -> Fault | None:
    """Reports dev queries whose teacher vector equals that of a training query; queries with equal words were removed before."""
    dev_rows = _sample_rows(len(data.dev_vectors), DEV_QUERIES)
    dev = F.normalize(torch.from_numpy(data.dev_vectors.take(dev_rows)).float(), dim=1)
    queries = data.teacher.queries
    copies: list[tuple[int, int]] = []  # dev row and training row
    for start in range(0, len(queries), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(queries)))
        training = F.normalize(torch.from_numpy(queries.take(rows)).float(), dim=1)
        best, nearest = (dev @ training.T).max(dim=1)
        copies += [(int(dev_rows[i]), start + int(nearest[i])) for i in torch.nonzero(best >= SAME_QUERY).flatten().tolist()]
    if not copies:
        return None
    dev_row, training_row = copies[0]
    share = len({row for row, _ in copies}) / len(dev_rows)
    example = f"{data.dev_texts.ids[dev_row]!r} is {read_query_ids(data, [training_row])[0]!r} for one"
    return Fault("leakage", f"{share:.1%} of the dev queries are training queries to the teacher, {example}: what dev says is too good")


@dataclass(frozen=True)
class StoredSet:
    """A set of stored vectors and the texts that they belong to."""

    role: Role
    store: VectorStore
    texts: Texts


def find_wrong_vectors(data: RetrievalData, device: torch.device) -> Fault | None:
    """Reports stored vectors that differ from the vectors that the teacher now computes from the texts, if its model is available.

    Args:
        data: texts and stored vectors.
        device: where the teacher computes if it fits there, a GPU in the number format that is fastest on it.
    """
    maker = data.store.maker
    if not is_available(maker):
        return None
    try:
        teacher = load_maker(maker)
    except BadInput as error:
        return Fault("teacher", str(error))
    teacher.prepare_for(device if has_room(device, teacher) else torch.device("cpu"))
    for stored in list_stored_sets(data):
        fault = check_stored_set(teacher, stored)
        if fault:
            return fault
    return None


def list_stored_sets(data: RetrievalData) -> Iterator[StoredSet]:
    """Yields the sets of documents, training queries and dev queries whose texts are available."""
    if data.source.has_documents():
        documents = data.store.documents
        yield StoredSet(documents.maker.role or "document", documents, data.source.documents())
    for store, queries in zip(data.teacher.queries.stores, data.train_sets, strict=True):
        yield StoredSet("query", store, queries.texts)
    for number, store in enumerate(data.dev_vectors.stores):
        yield StoredSet("query", store, data.dev_texts.subset(np.flatnonzero(data.dev_vectors.store_of == number)))


def check_stored_set(teacher: Towers, stored: StoredSet) -> Fault | None:
    """Encodes a sample of a set again and compares the vectors with the stored ones."""
    store, rows = stored.store, _sample_rows(len(stored.texts), TEXTS_REENCODED)
    ids = [stored.texts.ids[row] for row in rows]
    vectors = torch.from_numpy(store.take(store.ids.rows(ids))).float()  # [n, D]
    precision: Precision = "auto" if teacher.device.type == "cuda" else "fp32"
    again = torch.from_numpy(encode_texts(teacher.tower(stored.role), stored.texts.read(rows), stored.role, precision))  # [n, D]
    if vectors_agree(vectors, again):
        return None
    nearest_rows = search(again, store, 1)[1][:, 0].numpy()
    fault = diagnose_wrong_vectors(vectors, again, nearest=torch.from_numpy(store.take(nearest_rows)).float())
    return fault and Fault(fault.name, f"{store.folder}: of {len(ids)} sampled vectors {fault.message}")


def has_room(device: torch.device, model: nn.Module) -> bool:
    """Whether a model fits into the memory of a device beside what is there, with as much again to compute with."""
    free = free_memory(device)
    return free is None or 2 * sum(part.numel() * part.element_size() for part in model.parameters()) <= free


def read_query_ids(data: RetrievalData, rows: Sequence[int]) -> list[str]:
    """Returns the ids of training queries by row; a query that was generated for one epoch has no id, and its text is returned instead."""
    ends = np.cumsum([len(queries.texts) for queries in data.train_sets])
    ids = []
    for row in rows:
        part = int(np.searchsorted(ends, row, side="right"))
        if part == len(ends):
            assert data.fresh_queries is not None, "rows beyond the training sets are of fresh queries"
            ids.append(data.fresh_queries.text(row))
            continue
        texts = data.train_sets[part].texts
        ids.append(texts.ids[row - int(ends[part]) + len(texts)])
    return ids


def _sample_rows(total: int, most: int) -> np.ndarray:
    """Draws up to `most` of `total` rows with a fixed seed; returns them in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(total)[:most])
