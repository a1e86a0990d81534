"""An encoder: backbone, pooling and head, with everything needed to embed text travelling in one folder.

The folder is a sentence-transformers folder, so `SentenceTransformer(folder)` embeds the same text to the same vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
import xxhash
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.pooling import Pooling, pool
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, Tokens

Role = Literal["query", "document"]


@dataclass(frozen=True)
class TextSettings:
    """How text becomes a vector, beyond the weights."""

    pooling: Pooling
    max_length: int  # tokens, special tokens included; the rest of a text is cut off
    prompts: dict[str, str] = field(default_factory=lambda: {"query": "", "document": ""})  # put before a text of that role


class Dense(nn.Linear):
    """A linear layer after pooling with its activation, as a sentence-transformers folder describes one."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, activation: str = "Identity"):
        super().__init__(in_features, out_features, bias)
        self.activation = getattr(nn, activation)()

    def forward(self, vectors: Tensor) -> Tensor:
        return self.activation(super().forward(vectors))


class Normalize(nn.Module):
    """Scales every vector to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)


class Encoder(nn.Module):
    """Texts to vectors [B, D]: transformer, pooling, then `head` (`Dense` and `Normalize` layers in order)."""

    def __init__(
        self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: TextSettings, head: Sequence[nn.Module] = ()
    ):
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.head = nn.Sequential(*head)

    @property
    def width(self) -> int:
        """Dimensions of the vectors this encoder writes."""
        widths = [layer.out_features for layer in self.head if isinstance(layer, Dense)]
        return widths[-1] if widths else self.backbone.config.hidden_size

    @property
    def normalizes(self) -> bool:
        """Whether its vectors have length 1."""
        return len(self.head) > 0 and isinstance(self.head[-1], Normalize)

    @property
    def word_table(self) -> nn.Embedding:
        table = self.backbone.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    def prepare_for(self, device: torch.device) -> Encoder:
        """Moves to `device` and takes the attention that is fastest there."""
        if device.type == "cpu" and self.settings.max_length <= 512:
            # plain matrix products; the fused kernel is slower at these lengths and its bf16 backward many times so
            self.backbone.set_attn_implementation("eager")
        return self.to(device)

    def limit_length(self, max_length: int | None) -> Encoder:
        """Cuts texts to `max_length` tokens from now on, special tokens included; None leaves it as it is."""
        if max_length is not None:
            if not 3 <= max_length <= self.settings.max_length:
                raise BadInput(f"max_length: {max_length}: must be from 3 to {self.settings.max_length}, what the model reads")
            self.settings = replace(self.settings, max_length=max_length)
        return self

    def forward(self, tokens: Tokens) -> Tensor:
        return self.head(pool(self.states(tokens), tokens.attention_mask, self.settings.pooling))

    def states(self, tokens: Tokens) -> Tensor:
        """What the transformer says of each token [B, L, D]."""
        mask = tokens.attention_mask if tokens.padded else None  # without one the backbone adds nothing to its attention scores
        return self.backbone(input_ids=tokens.input_ids, attention_mask=mask).last_hidden_state

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Token ids of each text with the prompt of its role, special tokens added, cut to `max_length`."""
        prompt = self.settings.prompts.get(role, "")
        if not texts:
            return []  # which a tokenizer does not take
        return self.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.settings.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], role: Role) -> Tensor:
        """Vectors [N, D] float32 of a handful of texts, in one batch; corpora go through `distill encode`."""
        return self(self.pad(self.token_ids(texts, role)).to(self.device)).float()

    def pad(self, token_ids: Sequence[Sequence[int]]) -> Tokens:
        """One batch, padded on the right to its longest text."""
        return pad_token_ids(token_ids, self.tokenizer.pad_token_id)

    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and settings: two encoders that agree write the same vectors."""
        layers = [str(layer) for layer in self.head]
        return fingerprint(
            weights_digest(self), architecture(self.backbone.config), tokenizer_core(self.tokenizer), asdict(self.settings), layers
        )

    def tokens_fingerprint(self, role: Role) -> str:
        """Changes when `token_ids` would: the same text would be cut into other tokens."""
        return fingerprint(tokenizer_core(self.tokenizer), self.settings.max_length, self.settings.prompts.get(role, ""))

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def pad_token_ids(token_ids: Sequence[Sequence[int]], pad_id: int) -> Tokens:
    """One batch [B, L], padded on the right to its longest text."""
    rows = [torch.as_tensor(row, dtype=torch.int64) for row in token_ids]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    return Tokens(ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long(), bool((lengths < ids.shape[1]).any()))


def weights_digest(module: nn.Module) -> str:
    """16 hex digits over every tensor of a module and its name."""
    digest = xxhash.xxh3_64()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """What the config says about the computation: weights of equal shape can be read with other heads or activations."""
    computed = ("attention_heads", "hidden_act", "activation", "eps", "position", "rope", "layer_types", "hidden_layers", "window")
    return {key: value for key, value in config.to_dict().items() if key[0] != "_" and any(word in key for word in computed)}


def tokenizer_core(tokenizer: PreTrainedTokenizerFast) -> str:
    """16 hex digits that change when the same text would be cut into other tokens."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    # the last call left its own there; ours are in the settings
    for leftover in ("truncation", "padding"):
        core.pop(leftover, None)
    return fingerprint(core, tokenizer.truncation_side)
