"""Passages through the teacher: distill against sentence-transformers' encode with batch_size=32, the same real passages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from corpora import TEACHER, passages, teacher
from harness import Contender, arguments, figure, gemm_gflops, measure, report, threaded

from distill.encoders.batching import encode_token_ids
from distill.encoders.device_batches import TOKENS_PER_BATCH, length_batches
from distill.files.device import Precision
from distill.vectors.store_writer import ROWS_PER_SHARD

BATCHES = 30  # of a round
FLOP_PER_TOKEN = 21.3e6  # matrix products of six layers of 384, forward


def sample(lengths: np.ndarray, device: str) -> np.ndarray:
    """Rows of some batches of one shard, spread evenly over the lengths: they cost what a shard does on average."""
    batches = list(length_batches(lengths[:ROWS_PER_SHARD], TOKENS_PER_BATCH[device]))
    middles = ((np.arange(BATCHES) + 0.5) / BATCHES * len(batches)).astype(int)
    return np.concatenate([batches[middle] for middle in np.unique(middles)])


def main() -> None:
    given = arguments(__doc__, devices=("cpu", "cuda"))
    from sentence_transformers import SentenceTransformer

    texts, encoder, theirs = passages(given.data), teacher(), SentenceTransformer(TEACHER, device=given.device)
    encoder.prepare_for(torch.device(given.device))
    lengths = np.array([len(ids) for ids in encoder.token_ids(list(texts), "document")])
    rows = sample(lengths, given.device)
    chosen = texts.read(rows)
    vectors: dict[str, np.ndarray] = {}

    def ours(name: str, precision: Precision) -> Contender:
        def contender() -> int:
            vectors[name] = encode_token_ids(encoder, encoder.token_ids(chosen, "document"), precision)
            return len(chosen)

        return contender

    def peer() -> int:
        vectors["sentence-transformers"] = theirs.encode(chosen, batch_size=32)
        return len(chosen)

    contenders: dict[str, Callable[[], int]] = {
        "distill, auto": ours("auto", "auto"),
        "distill, fp32": ours("fp32", "fp32"),
        "sentence-transformers": peer,
    }
    table, fractions = [], []
    for _, setting in threaded(given):
        before = gemm_gflops(torch.bfloat16, given.device)
        found = measure(contenders, given, "passages", setting, peer="sentence-transformers")
        rate = (before + gemm_gflops(torch.bfloat16, given.device)) / 2
        tokens_a_second = found[0]["value"] * lengths[rows].mean()
        fractions.append(float(tokens_a_second * FLOP_PER_TOKEN / 1e9 / rate))
        table += found
        table.append(figure(f"distill, auto, {setting}", float(tokens_a_second), "tokens/wall s"))
        table += [
            figure(f"{name} matrix product, {setting}", gemm_gflops(dtype, given.device), "GFLOP/s")
            for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
        ]
    for name in ("auto", "fp32"):
        cosines = (vectors[name] * vectors["sentence-transformers"]).sum(1)
        table.append(figure(f"distill, {name}: least cosine to sentence-transformers", float(cosines.min()), ""))
    settings = {"passages": len(rows), "mean_tokens": float(lengths[rows].mean()), "max_length": encoder.settings.max_length}
    report("encode", given, settings, table, float(np.median(fractions)))


if __name__ == "__main__":
    main()
