"""Queries written by a T5 of T5-small's shape: `Seq2Seq`, and transformers' own `generate` over one batch of the same documents."""

from __future__ import annotations

import random

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from card.device import Card
from card.report import Report
from card.world import World
from distill.generate.material import Material
from distill.generate.seq2seq import Seq2Seq


def measure(card: Card, world: World, report: Report) -> None:
    sizes = world.sizes
    texts = world.passages(sizes.written_from)
    generator = Seq2Seq(str(world.writer), longest_query=sizes.written_tokens)
    generator.prepare(Material(world.source(), "train"))
    written = len(texts)
    ours = written / card.seconds(lambda: generator.write(texts, [1] * written, random.Random(0), lambda done: None))
    model = AutoModelForSeq2SeqLM.from_pretrained(world.writer).to(card.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(world.writer)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt", return_token_type_ids=False).to(card.device)

    @torch.inference_mode()
    def generate() -> None:
        with torch.autocast("cuda", card.dtype, enabled=card.dtype == torch.bfloat16):
            model.generate(**tokens, do_sample=True, top_p=0.95, top_k=0, max_new_tokens=sizes.written_tokens)

    bare = written / card.seconds(generate)
    report.add("generate", "transformers' generate", "from documents", bare, "queries/s")
    report.add("generate", "Seq2Seq", "from documents", ours, "queries/s", bound=bare, bound_is="transformers' generate, all in one batch")
