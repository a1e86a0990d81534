"""Scores given documents of each query with a cross or dual encoder, and ranks the documents by these scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.cross import CrossEncoder
from distill.encoders.cross_folder import is_cross_encoder, load_cross_encoder
from distill.encoders.device_batches import run_in_batches
from distill.encoders.hub import local_folder
from distill.encoders.pair_tokens import PairTokens
from distill.encoders.towers import Towers, load_towers
from distill.files.device import Precision, autocast
from distill.records import Ranking
from distill.texts.texts import Texts

QUERIES_AT_A_TIME = 256

# takes Q queries, the corpus, and rows of the corpus [Q, K], padded with -1; returns scores [Q, K]
Scorer = Callable[[Texts, Texts, np.ndarray], np.ndarray]


def load_scorer(name: str, device: torch.device, precision: Precision) -> tuple[Scorer, CrossEncoder | Towers]:
    """Loads a cross or dual encoder from a folder; returns a function that scores pairs with it, and the encoder."""
    if is_cross_encoder(local_folder(name)):
        cross = load_cross_encoder(name).to(device)
        return lambda queries, corpus, rows: score_with_cross(cross, queries, corpus, rows, precision), cross
    towers = load_towers(name).to(device)
    towers.cap_length(name)
    return lambda queries, corpus, rows: score_with_dual(towers, queries, corpus, rows, precision), towers


def rerank_run(run: Ranking, scores: np.ndarray, name: str) -> Ranking:
    """Sorts the documents of a run by descending `scores` [Q, K]; equal scores keep the order of `run`, padding comes last."""
    scores = np.where(run.rows >= 0, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")  # [Q, K]
    rows = np.take_along_axis(run.rows, order, axis=1)
    return Ranking(run.query_ids, rows, np.take_along_axis(scores, order, axis=1).astype(np.float32), name)


@torch.inference_mode()
def score_with_cross(encoder: CrossEncoder, queries: Texts, corpus: Texts, rows: np.ndarray, precision: Precision = "fp32") -> np.ndarray:
    """Scores every pair with a cross encoder: [Q, K] float32, 0 at padding."""
    scores = np.zeros(rows.shape, np.float32)
    for start in range(0, len(rows), QUERIES_AT_A_TIME):
        part = rows[start : start + QUERIES_AT_A_TIME]
        query, column = np.nonzero(part >= 0)  # [P], [P]
        if not len(query):
            continue
        documents, place = np.unique(part[query, column], return_inverse=True)
        query_ids = encoder.token_ids(queries.read(np.arange(start, start + len(part))), "query")
        document_ids = encoder.token_ids(corpus.read(documents), "document")
        pairs = [(query_ids[q], document_ids[d]) for q, d in zip(query, place, strict=True)]
        scores[start + query, column] = score_pairs(encoder, pairs, precision)[:, 0]
    return scores


@torch.inference_mode()
def score_pairs(
    encoder: CrossEncoder,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    precision: Precision = "fp32",
    progress: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """Scores P pairs with a cross encoder, and returns its vectors too where it pools them.

    Args:
        encoder: the model.
        pairs: token ids of each query and of each document, as if each were encoded alone.
        precision: number format of the matrix products.
        progress: called with the number of pairs that were scored since the last call.

    Returns:
        [P, 1 + 2 D] float32: score, query vector and document vector of every pair; D is 0 without vectors.

    Raises BadInput where a single pair does not fit into the memory of the device.
    """

    queries = [np.asarray(query) for query, _ in pairs]
    documents = [np.asarray(document) for _, document in pairs]
    scored = np.empty((len(pairs), encoder.width), np.float32)

    def join(rows: np.ndarray) -> PairTokens:
        return encoder.build_pairs([queries[row] for row in rows], [documents[row] for row in rows])

    def read(batch: PairTokens) -> Tensor:
        return encoder(batch.to(encoder.device)).pack()

    lengths = encoder.pair_lengths(queries, documents)
    with autocast(precision, encoder.device):
        for rows, values in run_in_batches(lengths, encoder.budget, encoder.device, join, read):
            scored[rows] = values
            progress(len(rows))
    return scored


def score_with_dual(towers: Towers, queries: Texts, corpus: Texts, rows: np.ndarray, precision: Precision = "fp32") -> np.ndarray:
    """Scores every pair by inner product: [Q, K] float32, 0 at padding. Each document is embedded once, however many queries have it."""
    documents, place = np.unique(rows, return_inverse=True)
    document_vectors = encode_texts(towers.document, corpus.read(np.maximum(documents, 0)), "document", precision)  # [N, D]
    query_vectors = encode_texts(towers.query, list(queries), "query", precision)  # [Q, D]
    scores = [query_vectors[i] @ document_vectors[own].T for i, own in enumerate(place.reshape(rows.shape))]
    return np.where(rows >= 0, np.stack(scores), 0).astype(np.float32)
