"""Pooling: from the states of all tokens of a text to one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from distill.records import UnknownKind

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
# as sentence-transformers named them before release 6, in the order in which it joins the vectors of several
OLD_MODES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
PROMPTLESS: set[PoolingMode] = {"max", "mean", "mean_sqrt_len_tokens"}  # modes that can leave out the tokens of a prompt
KEYS = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt", *OLD_MODES}


class Pooling(nn.Module):
    """Token states [B, L, D] to vectors [B, D], or [B, N * D] of N modes, whose vectors are joined in their order.

    Args:
        modes: cls takes the state of the first token, lasttoken that of the last, max the largest value of each dimension, mean the mean of
            the states of all real tokens; mean_sqrt_len_tokens divides their sum by the square root of their number, weightedmean weighs
            each by its place, counted from 1.
        include_prompt: whether the tokens of the prompt before a text are pooled with it; False with max and the means alone.

    >>> states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])  # [1, 3, 2]
    >>> Pooling("mean")(states, torch.tensor([[1, 1, 0]])).tolist()
    [[2.0, 3.0]]
    >>> Pooling("cls", "lasttoken")(states, torch.tensor([[1, 1, 0]])).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """

    def __init__(self, *modes: PoolingMode, include_prompt: bool = True):
        super().__init__()
        for mode in modes or ("",):
            if mode not in MODES:
                raise UnknownKind(f"pooling {mode!r} is not supported: only {', '.join(MODES[:-1])} or {MODES[-1]}")
        if not include_prompt and not set(modes) <= PROMPTLESS:
            raise UnknownKind(
                f"include_prompt: false with pooling {'+'.join(modes)} is not supported: only with {', '.join(sorted(PROMPTLESS))}"
            )
        self.modes, self.include_prompt = modes, include_prompt

    @property
    def mode(self) -> str:
        """Its modes as one text: `mean`, `cls+mean`, `mean without prompt`."""
        return "+".join(self.modes) + ("" if self.include_prompt else " without prompt")

    def output_width(self, width: int) -> int:
        """Dimensions of its vectors where the states of tokens have `width`."""
        return len(self.modes) * width

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors of states [B, L, D]; `mask` [B, L] is 1 on real tokens, which padding follows."""
        vectors = [POOLERS[mode](states, mask) for mode in self.modes]
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)

    def extra_repr(self) -> str:
        return repr(self.mode)

    def config(self, width: int) -> dict[str, Any]:
        """What sentence-transformers writes into a pooling module's config.json, in a form that as many releases of it read as can."""
        settings: dict[str, Any] = {"word_embedding_dimension": width}
        if not self.include_prompt:
            settings["include_prompt"] = False
        if list(self.modes) == [mode for mode in MODES if mode in self.modes]:
            return settings | {key: mode in self.modes for key, mode in OLD_MODES.items()}
        return settings | {"pooling_mode": list(self.modes)}  # only release 6 knows another order

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pooling:
        """The pooling that a config.json of any release of sentence-transformers describes."""
        modes: Any = config.get("pooling_mode") or [mode for key, mode in OLD_MODES.items() if config.get(key)] or ["mean"]
        pooling = cls(*([modes] if isinstance(modes, str) else modes), include_prompt=bool(config.get("include_prompt", True)))
        unknown = [key for key in config if key not in KEYS]
        if unknown:
            raise UnknownKind(f"{unknown[0]}: no setting of a pooling that this release knows: only {', '.join(MODES)}")
        return pooling


def first_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The states [B, D] of the first tokens; of a text without tokens it is 0."""
    return states[:, 0] * mask[:, :1].to(states.dtype)  # a text without tokens begins with padding


def last_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The states [B, D] of the last real tokens; of a text without tokens it is 0."""
    places = (mask.sum(dim=1) - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])  # [B, 1, D]
    return states.gather(1, places)[:, 0] * mask[:, :1].to(states.dtype)


def max_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The largest values [B, D] of the states [B, L, D] where `mask` [B, L] is 1; of a text without tokens they are 0."""
    largest = states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)
    return largest.masked_fill(mask.sum(dim=1, keepdim=True) == 0, 0.0)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Means [B, D] of the states [B, L, D] where `mask` [B, L] is 1; of a text without tokens it is 0."""
    weights = mask.unsqueeze(-1).to(states.dtype)  # [B, L, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def root_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Sums [B, D] of the states where `mask` is 1, divided by the square root of their number."""
    weights = mask.unsqueeze(-1).to(states.dtype)  # [B, L, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9).sqrt()


def weighted_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Means [B, D] of the states where `mask` is 1, the first weighed once, the second twice, and so on."""
    weights = (mask * mask.cumsum(dim=1)).unsqueeze(-1).float()  # [B, L, 1]; halves hold no 257
    return ((states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)).to(states.dtype)


POOLERS: dict[PoolingMode, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": first_pool,
    "max": max_pool,
    "mean": mean_pool,
    "mean_sqrt_len_tokens": root_pool,
    "weightedmean": weighted_pool,
    "lasttoken": last_pool,
}
