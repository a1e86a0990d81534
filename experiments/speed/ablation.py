"""What each part of the training step is worth: from the plain loop of a tutorial to distill's, one change at a time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from corpora import STUDENT_LAYERS, queries, random_store, student
from harness import arguments, figure, measure, report, threaded
from train import Batches, Steps

from distill.data.loaders import make_collate
from distill.files.device import autocast
from distill.losses.embedding import vector_distances
from distill.modules.optimizer import make_adamw
from distill.records import Batch
from distill.texts.tokens import TokenArrays, load_or_tokenize

BATCH = 64


class RandomSteps(Steps):
    """As many batches of queries drawn at random, padded to the longest of them."""

    def __init__(self, tokens: TokenArrays, batch_size: int):
        super().__init__(tokens, batch_size)
        self.rows = np.random.default_rng(0).permutation(len(tokens))[: self.rows.size].reshape(self.rows.shape)
        self.collate = make_collate(tokens, np.empty((len(tokens), 0), np.int64))


def loop(
    data: Batches,
    steps: Iterator[Batch] | Steps,
    bf16: bool = True,
    attention: str = "eager",
    sparse_rows: bool = True,
    frozen_table: bool = False,
    compiled: bool = False,
) -> Callable[[], int]:
    encoder = student()
    encoder.backbone.set_attn_implementation(attention)
    encoder.word_table.sparse = sparse_rows and not frozen_table
    optimizer = make_adamw(encoder, 1e-3)
    encoder.word_table.weight.requires_grad_(not frozen_table)
    forward = torch.compile(encoder, dynamic=True) if compiled else encoder

    def contender() -> int:
        for batch in steps:
            target = data.teacher(batch).query
            with autocast("auto" if bf16 else "fp32", torch.device("cpu")):
                vectors = forward(batch.queries)
            vector_distances(vectors.float(), target, "l2").mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return data.steps.rows.size

    return contender


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        texts = queries(given.data)
        tokens = load_or_tokenize(texts, student(), "query")
        random, bucketed = RandomSteps(tokens, BATCH), Steps(tokens, BATCH)
        data = Batches(bucketed, random_store(Path(folder, "store"), texts))
        rows = []
        for _, setting in threaded(given):
            plain = {"bf16": False, "attention": "sdpa", "sparse_rows": False}
            contenders = {
                "random batches, fp32, fused attention": loop(data, random, **plain),
                "+ bf16": loop(data, random, **plain | {"bf16": True}),
                "+ batches of one length": loop(data, bucketed, **plain | {"bf16": True}),
                "+ attention by matrix products": loop(data, bucketed, sparse_rows=False),
                "+ table updated in touched rows (distill)": loop(data, bucketed),
                "distill without bf16": loop(data, bucketed, bf16=False),
                "distill with the table frozen": loop(data, bucketed, frozen_table=True),
                "distill, torch.compile": loop(data, bucketed, sparse_rows=False, compiled=True),
            }
            start = time.perf_counter()
            contenders["distill, torch.compile"]()
            rows.append(figure(f"torch.compile, first {len(bucketed)} steps, {setting}", time.perf_counter() - start, "s"))
            rows += measure(contenders, given, "queries", setting, peer=None, bare=next(iter(contenders)))
    report("ablation", given, {"batch_size": BATCH, "layers": STUDENT_LAYERS, "steps": len(bucketed)}, rows)


if __name__ == "__main__":
    main()
