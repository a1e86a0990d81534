"""Queries that a BART or T5 writes: doc2query out of documents, perturb-and-decode out of real queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from distill.encoders.batching import length_batches
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import pad_token_ids
from distill.files.device import Precision, autocast, best_device
from distill.generate.generator import Generator, Progress, check_setting
from distill.generate.material import Material

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 131_072}


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
    is_cheap: ClassVar[bool] = False

    def __init__(
        self,
        model: str,
        of: Literal["documents", "queries"] = "documents",
        mask: float = 0.0,
        noise: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        temperature: float = 1.0,
        prefix: str | None = None,
        longest_text: int | None = None,
        longest_query: int | None = None,
        precision: Precision = "auto",
    ):
        check_setting("mask", 0 <= mask < 1, f"{mask}: a share from 0 to below 1")
        check_setting("noise", noise >= 0, f"{noise}: 0 or more")
        check_setting("top_p", 0 < top_p <= 1 and top_k >= 0, f"{top_p}, top_k {top_k}: above 0 and at most 1, 0 or more")
        check_setting("temperature", temperature > 0, f"{temperature}: above 0")
        self.reads = of  # type: ignore[misc]
        self.mask, self.noise, self.precision = mask, noise, precision
        self._sampling = {"do_sample": True, "num_beams": 1, "top_k": top_k, "top_p": top_p, "temperature": temperature}
        self._writer = Seq2SeqModel.load(model, prefix=prefix, longest_text=longest_text, longest_query=longest_query)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "model": self._writer.fingerprint()}  # its folder may have moved

    def prepare(self, material: Material) -> None:
        module: nn.Module = self._writer.model
        module.to(best_device())

    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        """Makes queries in batches of texts of near-equal length; each text is read once however many queries it gets."""
        device = self._writer.model.device
        token_ids = [self._mask_tokens(ids, rng) for ids in self._writer.token_ids(texts, "document")]
        text_of_query = np.repeat(np.arange(len(texts)), counts)  # [n]
        lengths = [len(token_ids[text]) for text in text_of_query]
        queries: list[list[str]] = [[] for _ in texts]
        with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(self.precision, device):
            torch.manual_seed(rng.getrandbits(63))
            for batch in length_batches(lengths, TOKENS_PER_BATCH[device.type]):
                rows, repeats = np.unique(text_of_query[batch], return_counts=True)
                sampled = self._sample([token_ids[row] for row in rows], torch.from_numpy(repeats).to(device))
                for row, query in zip(np.repeat(rows, repeats), sampled, strict=True):
                    queries[row].append(" ".join(query.split()))
                progress(len(batch))
        return queries

    def _mask_tokens(self, token_ids: list[int], rng: random.Random) -> list[int]:
        """Masks a share of a text's tokens, special ones aside; a tokenizer without a mask leaves them out, but never all."""
        tokenizer = self._writer.tokenizer
        special = set(tokenizer.all_special_ids)
        is_masked = [token not in special and rng.random() < self.mask for token in token_ids]
        if tokenizer.mask_token_id is None:
            return [token for token, masked in zip(token_ids, is_masked, strict=True) if not masked] or token_ids
        return [tokenizer.mask_token_id if masked else token for token, masked in zip(token_ids, is_masked, strict=True)]

    @torch.inference_mode()
    def _sample(self, token_ids: list[list[int]], repeats: Tensor) -> list[str]:
        """Samples `repeats` [B] queries of each of B texts, one text after the other."""
        model, tokenizer = self._writer.model, self._writer.tokenizer
        tokens = pad_token_ids(token_ids, tokenizer.pad_token_id).to(model.device)
        states = self._writer.states(tokens).repeat_interleave(repeats, 0)  # [N, L, D]
        mask = tokens.attention_mask.repeat_interleave(repeats, 0)  # [N, L]
        if self.noise:
            states = self._add_noise(states, mask)
        written: Any = model.generate(  # type: ignore[operator]
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            max_new_tokens=self._writer.settings.longest_query,
            **self._sampling,
        )
        return tokenizer.batch_decode(written, skip_special_tokens=True)

    def _add_noise(self, states: Tensor, mask: Tensor) -> Tensor:
        """Adds isotropic Gaussian noise to states [N, L, D], its size a share of that of the states where `mask` [N, L] is 1."""
        mean_square = (states * mask[..., None]).square().sum() / (mask.sum() * states.shape[2])
        return states + self.noise * mean_square.sqrt() * torch.randn_like(states)
