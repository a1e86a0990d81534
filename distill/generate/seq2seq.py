"""Samples queries from a BART or T5: doc2query from documents, or perturb-and-decode from real queries."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from distill.encoders.device_batches import run_in_batches
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import pad_token_ids
from distill.files.device import Precision, autocast, best_device
from distill.generate.generator import Generator, Progress, check_setting
from distill.generate.material import Material


class Seq2Seq(Generator):
    """Samples queries from a BART or T5.

    From documents this is doc2query (arXiv 1904.08375). From queries it is the perturb-and-decode of EmbedDistill (arXiv 2301.12005): the
    model reads a real query, with masked tokens or with Gaussian noise added to its encoder states, and writes a new query.

    Args:
        model: folder or hub name of the model, e.g. the teacher folder of `distill teach --task query-generation`.
        of: whether the model reads documents or queries.
        mask: share of a text's tokens that are masked, or removed if the tokenizer has no mask token.
        noise: standard deviation of the noise added to encoder states, relative to their root mean square.
        top_k: number of most likely tokens to sample from; 0 samples from all.
        top_p: sum of the probabilities of the most likely tokens to sample from.
        temperature: temperature of sampling.
        prefix: text put before every text; by default that of the model's folder.
        longest_text: most tokens to read; by default that of the model's folder.
        longest_query: most tokens to write; by default that of the model's folder.
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
        """Makes queries in batches of texts of similar length. Within a batch the encoder reads each text once."""
        device = self._writer.model.device
        token_ids = [self._mask_tokens(ids, rng) for ids in self._writer.token_ids(texts, "document")]
        text_of_query = np.repeat(np.arange(len(texts)), counts)  # [n]
        # what is written takes memory too; on a CPU, where batches are small for its caches' sake, the writing has other sizes
        written = self._writer.settings.longest_query if device.type == "cuda" else 0
        lengths = [len(token_ids[text]) + written for text in text_of_query]
        queries: list[list[str]] = [[] for _ in texts]

        def sample(batch: np.ndarray) -> Tensor:
            rows, repeats = np.unique(text_of_query[batch], return_counts=True)
            with rewind_on_error(device):
                return self._sample([token_ids[row] for row in rows], torch.from_numpy(repeats).to(device))

        with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(self.precision, device):
            torch.manual_seed(rng.getrandbits(63))
            for batch, query_ids in run_in_batches(lengths, self._writer.budget, device, lambda batch: batch, sample):
                sampled = self._writer.tokenizer.batch_decode(query_ids, skip_special_tokens=True)
                for row, query in zip(np.sort(text_of_query[batch]), sampled, strict=True):
                    queries[row].append(" ".join(query.split()))
                progress(len(batch))
        return queries

    def _mask_tokens(self, token_ids: list[int], rng: random.Random) -> list[int]:
        """Masks a share of a text's tokens, except special tokens. Without a mask token they are removed, unless none would be left."""
        tokenizer = self._writer.tokenizer
        special = set(tokenizer.all_special_ids)
        is_masked = [token not in special and rng.random() < self.mask for token in token_ids]
        flagged = list(zip(token_ids, is_masked, strict=True))
        if tokenizer.mask_token_id is None:
            return [token for token, masked in flagged if not masked] or token_ids
        return [tokenizer.mask_token_id if masked else token for token, masked in flagged]

    @torch.inference_mode()
    def _sample(self, token_ids: list[list[int]], repeats: Tensor) -> Tensor:
        """Samples `repeats` [B] queries for each of B texts, as token ids [n, L]; the queries of the first text come first."""
        model, tokenizer = self._writer.model, self._writer.tokenizer
        tokens = pad_token_ids(token_ids, tokenizer.pad_token_id).to(model.device)
        states = self._writer.states(tokens).repeat_interleave(repeats, 0)  # [N, L, D]
        mask = tokens.attention_mask.repeat_interleave(repeats, 0)  # [N, L]
        if self.noise:
            states = self._add_noise(states, mask)
        return model.generate(  # type: ignore[operator]
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            max_new_tokens=self._writer.settings.longest_query,
            **self._sampling,
        )

    def _add_noise(self, states: Tensor, mask: Tensor) -> Tensor:
        """Adds Gaussian noise to states [N, L, D], scaled by the root mean square of the states where `mask` [N, L] is 1."""
        mean_square = (states * mask[..., None]).square().sum() / (mask.sum() * states.shape[2])
        return states + self.noise * mean_square.sqrt() * torch.randn_like(states)


@contextmanager
def rewind_on_error(device: torch.device) -> Iterator[None]:
    """Puts random numbers back to where they were where the block ends with an error, so that it can be tried again."""
    on_host, on_gpu = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    except Exception:
        torch.set_rng_state(on_host)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
        raise
