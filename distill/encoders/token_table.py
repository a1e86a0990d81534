"""`TokenTable`: a vector for each token, at the beginning of an encoder without a transformer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from distill.encoders.pooling import PoolingMode
from distill.records import BadInput, Tokens


class TokenTable(nn.Module):
    """A row for each token of the vocabulary: tokens [B, L] to their rows [B, L, D], which no other token changes.

    It stands where other encoders have a `Transformer`. A mean of its rows is the module StaticEmbedding of sentence-transformers.

    Args:
        rows: [V, D], the row of each token id.

    >>> table = TokenTable(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    >>> table(Tokens(torch.tensor([[1, 0]]), torch.tensor([[1, 0]]))).tolist()
    [[[3.0, 4.0], [0.0, 0.0]]]
    """

    has_layers = False
    poolings: tuple[PoolingMode, ...] = ("mean",)  # its folder can name no other
    positions = None  # it reads texts of any length
    runs_remote_code = False

    def __init__(self, rows: Tensor):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(rows, freeze=False)

    @property
    def backbone(self) -> NoReturn:
        fix = "choose a model with layers, or leave out what cuts it (layers, keep_layers, vocabulary, table_width)"
        raise BadInput(f"the encoder is a table of tokens, without layers: {fix}")

    @property
    def width(self) -> int:
        """Dimensions of a row."""
        return self.table.embedding_dim

    @property
    def word_table(self) -> nn.Embedding:
        """The rows, as the table of words that other encoders have below their layers."""
        return self.table

    @property
    def device(self) -> torch.device:
        return self.table.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its rows."""
        return self.table.weight.dtype

    @property
    def numbers_per_token(self) -> int:
        """How many numbers it keeps at once for each token of a batch: its row, and the masked one."""
        return 2 * self.width

    def architecture(self) -> dict[str, Any]:
        """What changes its states while its weights keep their shapes: nothing."""
        return {}

    def forward(self, tokens: Tokens) -> Tensor:
        rows = self.table(tokens.input_ids)
        return rows.float() if rows.dtype == torch.bfloat16 else rows  # sums and lengths are computed in fp32

    def use_fastest_attention(self, device: torch.device, max_length: int) -> None:
        """Does nothing: it has no attention."""

    def fastest_attention(self, device: torch.device, max_length: int) -> AbstractContextManager[None]:
        """Does nothing: it has no attention."""
        return nullcontext()

    def compile_layers(self) -> NoReturn:
        raise BadInput("compile: the model is a table of tokens, without layers: leave it out")
