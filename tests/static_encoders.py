"""Small encoders that are a table of random rows, with the tokenizers of the folders of real models."""

from __future__ import annotations

import torch
from family_tokenizers import TOKENIZERS
from tokenizers import Tokenizer

from distill.encoders.encoder import Encoder
from distill.encoders.modules import Normalize
from distill.encoders.pooling import Pooling
from distill.encoders.static_folder import make_plain_tokenizer
from distill.encoders.token_table import TokenTable
from distill.encoders.tokenizing import TextSettings
from distill.encoders.transformer_folder import UNLIMITED

WIDTH = 16
PROMPTS = {"query": "river: ", "document": ""}


def count_rows(core: Tokenizer) -> int:
    return 1 + max(core.get_vocab(with_added_tokens=True).values())


def make_rows(core: Tokenizer, seed: int = 0) -> torch.Tensor:
    return torch.randn(count_rows(core), WIDTH, generator=torch.Generator().manual_seed(seed))


def make_static(family: str = "BERT", head: tuple | None = None, prompts=PROMPTS, max_length: int = UNLIMITED) -> Encoder:
    core = TOKENIZERS[family]().backend_tokenizer
    tokenizer, settings = make_plain_tokenizer(core), TextSettings(max_length, dict(prompts))
    return Encoder([TokenTable(make_rows(core)), Pooling("mean"), *((Normalize(),) if head is None else head)], tokenizer, settings).eval()
