"""A dual encoder's opinion of a batch: inner products of query and document vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.records import Encoded


def dual(query: Tensor, document: Tensor, document_rows: Tensor) -> Encoded:
    """`query` [B, D] against its own candidates `document` [B, K, D]; the scores are inner products."""
    return Encoded(query, document, torch.einsum("bd,bkd->bk", query, document), document_rows)
