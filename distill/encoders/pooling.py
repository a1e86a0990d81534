"""Pooling: from the states of all tokens of a text to one vector."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor, nn

from distill.records import UnknownKind

PoolingMode = Literal["cls", "mean"]
OLD_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}  # as sentence-transformers named them before release 6
KEYS = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}


class Pooling(nn.Module):
    """Token states [B, L, D] to vectors [B, D].

    Args:
        mode: cls takes the state of the first token, mean the mean of the states of all real tokens.

    >>> import torch
    >>> states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])  # [1, 3, 2]
    >>> Pooling("mean")(states, torch.tensor([[1, 1, 0]])).tolist()
    [[2.0, 3.0]]
    """

    def __init__(self, mode: PoolingMode):
        super().__init__()
        if mode not in get_args(PoolingMode):
            raise UnknownKind(f"pooling {mode!r} is not supported: only {' or '.join(get_args(PoolingMode))}, prompt tokens included")
        self.mode = mode

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, D] of states [B, L, D]; `mask` [B, L] is 1 on real tokens."""
        if self.mode == "cls":
            return states[:, 0] * mask[:, :1].to(states.dtype)  # a text without tokens begins with padding
        assert self.mode == "mean"  # a new mode needs a line of its own here
        return mean_pool(states, mask)

    def extra_repr(self) -> str:
        return repr(self.mode)

    def config(self, width: int) -> dict[str, Any]:
        """What sentence-transformers writes into a pooling module's config.json, in the form that every release of it reads."""
        return {"word_embedding_dimension": width} | {key: self.mode == mode for key, mode in OLD_MODES.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pooling:
        """The pooling that a config.json of any release of sentence-transformers describes."""
        chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        # several modes at once are joined by "+", which no mode is: __init__ refuses them
        mode: Any = config["pooling_mode"] if "pooling_mode" in config else "+".join(OLD_MODES.get(key, key) for key in chosen)
        if isinstance(mode, list) and len(mode) == 1:
            mode = mode[0]
        if not config.get("include_prompt", True):
            raise UnknownKind(f"pooling {mode!r} without the prompt's tokens is not supported: only cls or mean, prompt tokens included")
        unknown = [key for key in config if key not in KEYS and not key.startswith("pooling_mode_")]
        if unknown:
            raise UnknownKind(f"{unknown[0]}: no setting of a pooling that this release knows: only cls or mean, prompt tokens included")
        return cls(mode)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Means [B, D] of the states [B, L, D] where `mask` [B, L] is 1; of a text without tokens it is 0."""
    weights = mask.unsqueeze(-1).to(states.dtype)  # [B, L, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
