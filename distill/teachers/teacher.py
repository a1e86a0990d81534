"""A dual encoder's opinion of a batch: inner products of query and document vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.records import Encoded


def score_candidates(query: Tensor, document: Tensor, document_rows: Tensor, relevant_rows: Tensor | None = None) -> Encoded:
    """`query` [B, D] against its own candidates `document` [B, K, D]; the scores are inner products, under mixed precision too."""
    with torch.autocast(query.device.type, enabled=False):  # a score rounded to bf16 and divided by a temperature is noise
        scores = torch.einsum("bd,bkd->bk", query, document)
    return Encoded(query, document, scores, document_rows, relevant_rows)
