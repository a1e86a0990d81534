"""A decoder of random weights as the teacher, in bf16: its passages a second against those of its matrix products alone, and its memory."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from corpora import TEACHER, passages
from harness import Contender, alone, arguments, figure, measure, peak_mb, report, threaded
from torch import nn
from transformers import AutoModel, AutoTokenizer, Qwen3Config

from distill.encoders.batching import encode_token_ids
from distill.encoders.device_batches import TOKENS_PER_BATCH, length_batches
from distill.encoders.encoder import Encoder
from distill.encoders.model_options import ModelOptions
from distill.teachers.local import LocalTeacher, load_local_teacher

PASSAGES = 96
# of Qwen3-Embedding-0.6B but for its words, and of a decoder of a fifth of it
SHAPES = {
    "0.5B": {"hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072, "num_attention_heads": 16, "head_dim": 128},
    "0.1B": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2304, "num_attention_heads": 12, "head_dim": 64},
}


def write_decoder(folder: Path, shape: dict[str, int]) -> str:
    """A plain folder of random weights in bf16, with the words of all-MiniLM-L6-v2."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id, "bos_token_id": None}
    config = Qwen3Config(**shape, **ids, vocab_size=len(tokenizer), num_key_value_heads=shape["num_attention_heads"] // 2)
    AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return str(folder)


def load(folder: str, compiled: bool = False) -> LocalTeacher:
    return load_local_teacher(folder, "bf16", ModelOptions("lasttoken", True, weights="bf16"), compiled)


def products(encoder: Encoder, batches: list[tuple[int, int]]) -> None:
    """The matrix products of every batch of `count` texts of `length` tokens, and nothing between them."""
    config = encoder.backbone.config
    layers = [[part for part in layer.modules() if isinstance(part, nn.Linear)] for layer in encoder.backbone.layers]
    for count, length in batches:
        states = {part.in_features: torch.ones(count, length, part.in_features, dtype=torch.bfloat16) for part in layers[0]}
        heads = torch.ones(count, config.num_attention_heads, length, config.head_dim, dtype=torch.bfloat16)
        for parts in layers:
            for part in parts:
                F.linear(states[part.in_features], part.weight)
            scores = heads @ heads.transpose(2, 3)
            scores @ heads


def encode(folder: str, texts: list[str]) -> tuple[float, float]:
    """Memory that was announced and that was taken, in MB; called in a process of its own."""
    teacher = load(folder)
    announced = re.search(r"([\d.]+) GiB", teacher.where)
    teacher.embed(teacher.prepare(texts, "document"), "document", lambda done: None)
    return 1024 * float(announced[1]), peak_mb()  # type: ignore[index]


def main() -> None:
    given, table = arguments(__doc__, rounds=3), []
    logging.disable(logging.WARNING)
    texts = passages(given.data)
    chosen = texts.read(np.linspace(0, len(texts) - 1, PASSAGES).astype(int))
    with tempfile.TemporaryDirectory() as root:
        for name, shape in SHAPES.items():
            folder = write_decoder(Path(root, name), shape)
            encoder = load(folder).towers.document
            ids = encoder.token_ids(chosen, "document")
            lengths = [len(row) for row in ids]
            sizes = [(len(rows), max(lengths[row] for row in rows)) for rows in length_batches(lengths, TOKENS_PER_BATCH["cpu"])]

            def ours(encoder: Encoder = encoder, ids: list[list[int]] = ids) -> int:
                encode_token_ids(encoder, ids, "bf16")
                return len(ids)

            @torch.inference_mode()
            def bare(encoder: Encoder = encoder, sizes: list[tuple[int, int]] = sizes) -> int:
                products(encoder, sizes)
                return PASSAGES

            compiled = load(folder, compiled=True).towers.document
            contenders: dict[str, Contender] = {
                f"{name}: distill": ours,
                f"{name}: distill, compiled": lambda compiled=compiled: ours(compiled),
                f"{name}: its products alone": bare,
            }
            for _, setting in threaded(given):
                table += measure(contenders, given, "passages", setting, peer=None, bare=f"{name}: its products alone")
            announced, taken = alone(encode, folder, chosen)
            table += [figure(f"{name}: memory announced", announced, "MB"), figure(f"{name}: memory taken", taken, "MB", announced)]
    report("decoder", given, {"passages": PASSAGES, "mean_tokens": float(np.mean(lengths))}, table)


if __name__ == "__main__":
    main()
