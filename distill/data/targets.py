"""What a student can be fitted to before its training: tokens of the training queries, and the teacher's vectors of them."""

from __future__ import annotations

import numpy as np

from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.files.sampling import evenly_spaced_rows
from distill.texts.tokens import concatenate_tokens, load_or_tokenize


def read_targets(data: RetrievalData, encoder: Encoder, most: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The tokens of N training queries as `encoder` cuts them, and the stored vectors [N, D] float32 of these queries.

    Args:
        data: the data, after `data.setup`.
        encoder: has the tokenizer.
        most: of more training queries an even sample is read.
    """
    rows = evenly_spaced_rows(len(data.training_queries), most)
    tokens = concatenate_tokens([load_or_tokenize(texts, encoder, "query") for texts, _ in data.train_sets])
    return [tokens.ids(row) for row in rows.tolist()], data.teacher.queries.take(rows).astype(np.float32)
