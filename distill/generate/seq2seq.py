"""Queries that a BART or T5 writes: doc2query out of documents, perturb-and-decode out of real queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from distill.encoders.batching import length_batches
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import pad_token_ids
from distill.files.device import Precision, autocast, best_device
from distill.generate.generator import Generator, Material, Progress, check_setting

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 131_072}


@dataclass
class Seq2Seq(Generator):
    """Samples queries from a BART or T5.

    Of documents it is doc2query (arXiv 1904.08375). Of queries it is the perturb-and-decode of EmbedDistill (arXiv 2301.12005): the
    model reads a real query that is corrupted, or whose encoder states get isotropic Gaussian noise, and writes another.

    Args:
        model: folder or hub name of the model, e.g. what `distill teach --task query-generation` leaves.
        of: what it reads.
        mask: share of a text's tokens that the model reads a mask instead of, or does not read where it knows no mask.
        noise: standard deviation of the noise added to encoder states, as a share of their root mean square.
        top_k: samples from so many most likely tokens; 0 from all.
        top_p: and from the most likely ones that have this probability together.
        temperature: of sampling.
        prefix: put before every text; by default what the model's folder says.
        longest_text: tokens read; likewise.
        longest_query: tokens written; likewise.
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
    """

    queries_per_shard: ClassVar[int] = 1024
    anew: ClassVar[bool] = False

    model: str
    of: Literal["documents", "queries"] = "documents"
    mask: float = 0.0
    noise: float = 0.0
    top_k: int = 0
    top_p: float = 0.95
    temperature: float = 1.0
    prefix: str | None = None
    longest_text: int | None = None
    longest_query: int | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        check_setting("mask", 0 <= self.mask < 1, f"{self.mask}: a share from 0 to below 1")
        check_setting("noise", self.noise >= 0, f"{self.noise}: 0 or more")
        check_setting(
            "top_p", 0 < self.top_p <= 1 and self.top_k >= 0, f"{self.top_p}, top_k {self.top_k}: above 0 and at most 1, 0 or more"
        )
        check_setting("temperature", self.temperature > 0, f"{self.temperature}: above 0")
        given = {"prefix": self.prefix, "longest_text": self.longest_text, "longest_query": self.longest_query}
        self._writer = Seq2SeqModel.load(self.model, **given)

    @property
    def reads(self) -> Literal["documents", "queries"]:  # type: ignore[override]
        return self.of

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "model": self._writer.fingerprint()}  # it may have moved

    def prepare(self, material: Material) -> None:
        module: nn.Module = self._writer.model
        module.to(best_device())

    def write(self, texts: Sequence[str], counts: Sequence[int], draw: random.Random, progress: Progress) -> list[list[str]]:
        """A batch is of texts of near-equal length, each as often as it has queries to get; its states are computed once."""
        device = self._writer.model.device
        ids = [self._masked(row, draw) for row in self._writer.token_ids(texts, "document")]
        wanted = np.repeat(np.arange(len(texts)), counts)
        made: list[list[str]] = [[] for _ in texts]
        with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(self.precision, device):
            torch.manual_seed(draw.getrandbits(63))
            for batch in length_batches([len(ids[text]) for text in wanted], TOKENS_PER_BATCH[device.type]):
                owners, repeats = np.unique(wanted[batch], return_counts=True)
                queries = self._sampled([ids[owner] for owner in owners], torch.from_numpy(repeats).to(device))
                for owner, query in zip(np.repeat(owners, repeats), queries, strict=True):
                    made[owner].append(" ".join(query.split()))
                progress(len(batch))
        return made

    def _masked(self, ids: list[int], draw: random.Random) -> list[int]:
        tokenizer = self._writer.tokenizer
        special, mask = set(tokenizer.all_special_ids), tokenizer.mask_token_id
        hidden = [token not in special and draw.random() < self.mask for token in ids]
        return [mask if gone else token for token, gone in zip(ids, hidden, strict=True) if not gone or mask is not None] or ids

    @torch.inference_mode()
    def _sampled(self, ids: list[list[int]], repeats: Tensor) -> list[str]:
        """`repeats` [B] queries of each of B texts."""
        model, tokenizer = self._writer.model, self._writer.tokenizer
        read = pad_token_ids(ids, tokenizer.pad_token_id).to(model.device)
        states = self._writer.states(read).repeat_interleave(repeats, 0)  # [N, L, D]
        mask = read.attention_mask.repeat_interleave(repeats, 0)
        if self.noise:
            size = (states * mask[..., None]).square().sum() / (mask.sum() * states.shape[2])
            states = states + self.noise * size.sqrt() * torch.randn_like(states)
        written: Any = model.generate(  # type: ignore[operator]
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            do_sample=True,
            num_beams=1,
            top_k=self.top_k,
            top_p=self.top_p,
            temperature=self.temperature,
            max_new_tokens=self._writer.settings.longest_query,
        )
        return tokenizer.batch_decode(written, skip_special_tokens=True)
