"""`Encoder`: modules that run one after the other to turn texts into vectors; its folder has all that embedding a text needs.

The folder is a sentence-transformers folder, so `SentenceTransformer(folder)` embeds the same text to the same vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.batching import encode_with_progress, inner_products
from distill.encoders.device_batches import TokenBudget
from distill.encoders.identity import parameter_count, weights_digest
from distill.encoders.loading import code_fingerprint, is_remote
from distill.encoders.modules import Normalize, output_width, split_modules
from distill.encoders.modules_folder import save_modules
from distill.encoders.tokenizing import (
    Ids,
    Role,
    TextSettings,
    mark_prompts,
    pad_token_ids,
    tokenize,
    tokenizer_fingerprint,
    unmark_prompts,
)
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, Tokens


class Encoder(nn.Module):
    """Texts to vectors [B, D].

    Args:
        modules: in the order they run: a `Transformer` or a `TokenTable`, a `Pooling`, then any number of modules from vectors to vectors,
            such as `Dense`, `LayerNorm`, `Normalize` or a subclass of `EncoderModule` from another package.
        tokenizer: cuts texts into the tokens that the first module knows.
        settings: the longest text and the prompts.

    Raises BadInput where a module cannot follow the one before it.

        encoder = load_encoder("runs/mine/student")
        encoder.similarity(encoder.encode_query("how long does a cold last"), encoder.encode_document(documents))  # [1, N]
    """

    def __init__(self, modules: Sequence[nn.Module], tokenizer: PreTrainedTokenizerFast, settings: TextSettings):
        super().__init__()
        self.transformer, self.pooling, head = split_modules(modules)
        self.head = nn.Sequential(*head)
        self.width = output_width(self.transformer, self.pooling, head)  # of the vectors this encoder writes
        self.tokenizer = tokenizer
        self.settings = settings
        self.budget = TokenBudget()
        self.register_state_dict_post_hook(to_checkpoint_names)
        self.register_load_state_dict_pre_hook(from_checkpoint_names)

    @property
    def module_list(self) -> list[nn.Module]:
        """The modules that it was made of, in the order they run."""
        return [self.transformer, self.pooling, *self.head]

    @property
    def backbone(self) -> PreTrainedModel:
        """The model of the transformers library; raises BadInput where a `TokenTable` is in its place."""
        return self.transformer.backbone

    @property
    def normalizes(self) -> bool:
        """Whether its vectors have length 1."""
        return len(self.head) > 0 and isinstance(self.head[-1], Normalize)

    @property
    def runs_remote_code(self) -> bool:
        """Whether Python code of the folder that it was loaded from embeds its texts."""
        return self.transformer.runs_remote_code or is_remote(self.tokenizer)

    @property
    def word_table(self) -> nn.Embedding:
        return self.transformer.word_table

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    def prepare_for(self, device: torch.device) -> Encoder:
        """Moves the encoder to `device` and chooses the attention that is fastest there."""
        self.transformer.use_fastest_attention(device, self.settings.max_length)
        return self.to(device)

    def limit_length(self, max_length: int | None) -> Encoder:
        """Cuts texts to `max_length` tokens from now on, special tokens included; None leaves it as it is."""
        if max_length is not None:
            if not 3 <= max_length <= self.settings.max_length:
                raise BadInput(f"max_length: {max_length}: must be from 3 to {self.settings.max_length}, where the model's texts are cut")
            self.settings = replace(self.settings, max_length=max_length)
        return self

    def set_query_prompt(self, prompt: str) -> Encoder:
        """Puts `prompt` before each query from now on."""
        self.settings = replace(self.settings, prompts={**self.settings.prompts, "query": prompt})
        return self

    def forward(self, tokens: Tokens) -> Tensor:
        """Vectors [B, D] of tokens [B, L]."""
        if self.pooling.include_prompt:
            return self.embed_states(self.states(tokens), tokens.attention_mask)
        tokens, is_prompt = unmark_prompts(tokens)
        return self.embed_states(self.states(tokens), tokens.attention_mask * ~is_prompt)

    def states(self, tokens: Tokens) -> Tensor:
        """The state of each token [B, L, D], out of the first module."""
        return self.transformer(tokens)

    def embed_states(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, D] out of states [B, L, D]; `mask` [B, L] is 1 on real tokens."""
        return self.head(self.pooling(states, mask))

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Token ids of each text with the prompt of its role, special tokens added, cut to `max_length`.

        Where the pooling leaves the prompt out, its tokens are marked: `~id` stands for `id`.
        """
        ids = tokenize(self.tokenizer, texts, self.settings, role)
        return ids if self.pooling.include_prompt else mark_prompts(ids, self.tokenizer, self.settings, role)

    def pad(self, token_ids: Sequence[Ids]) -> Tokens:
        """One batch, padded on the right to its longest text."""
        return pad_token_ids(token_ids, self.tokenizer.pad_token_id)

    @torch.inference_mode()
    def encode(self, texts: str | Sequence[str], role: Role) -> Tensor:
        """Vectors [N, D] float32 of a handful of texts, in one batch, or the vector [D] of a single text."""
        batch = [texts] if isinstance(texts, str) else texts
        vectors = self(self.pad(self.token_ids(batch, role)).to(self.device)).float()
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Sequence[str]) -> np.ndarray:
        """Vectors of queries, each with the prompt of queries before it.

        Args:
            texts: any number of queries, or a single one.

        Returns:
            [N, D] float32; of a single query [D].
        """
        return encode_with_progress(self, texts, "query")

    def encode_document(self, texts: str | Sequence[str]) -> np.ndarray:
        """As `encode_query`, of documents."""
        return encode_with_progress(self, texts, "document")

    def similarity(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Inner products [N, M] of vectors [N, D] and [M, D]; a single vector [D] counts as one row."""
        return inner_products(queries, documents)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a folder that `load_encoder` reads, and sentence-transformers where it has every module; whole or not at all."""
        save_modules(self.module_list, self.tokenizer, self.settings, Path(folder))

    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and settings: two encoders that agree write the same vectors."""
        settings = {"pooling": self.pooling.mode, **asdict(self.settings)}
        head = [str(module) for module in self.head]
        parts = [weights_digest(self), self.transformer.architecture(), tokenizer_fingerprint(self.tokenizer), settings, head]
        code = code_fingerprint(self.transformer, self.tokenizer)
        return fingerprint(*parts) if code is None else fingerprint(*parts, code)

    def tokens_fingerprint(self, role: Role) -> str:
        """16 hex digits that change when `token_ids` would return other ids."""
        marks = [] if self.pooling.include_prompt else ["marked prompt"]
        return fingerprint(tokenizer_fingerprint(self.tokenizer), self.settings.max_length, self.settings.prompts.get(role, ""), *marks)

    def parameter_count(self) -> int:
        return parameter_count(self)


# The weights of the first module are called `backbone...` (or `table...`) in checkpoints and in the fingerprints of stores, as in release
# 0.1, but `transformer.backbone...` in this class. Those of other modules have one name: `head.0...` is the first module behind pooling.
def to_checkpoint_names(encoder: Encoder, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Renames the first module's weights in the state dict that an encoder returns."""
    own = f"{prefix}transformer."
    for name in [name for name in state if name.startswith(own)]:
        state[prefix + name.removeprefix(own)] = state.pop(name)


def from_checkpoint_names(encoder: Encoder, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Renames the first module's weights in a state dict that an encoder is about to load."""
    for part in dict(encoder.transformer.named_children()):
        for name in [name for name in state if name.startswith(f"{prefix}{part}.")]:
            state[f"{prefix}transformer." + name.removeprefix(prefix)] = state.pop(name)
