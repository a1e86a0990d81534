"""The masks of padding that transformers makes for its attention, on a GPU without a look at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from transformers import AttentionMaskInterface
from transformers.masking_utils import eager_mask, sdpa_mask

SKIPS = ("allow_is_bidirectional_skip", "allow_is_causal_skip")


@cache
def spare_looks_at_masks() -> None:
    """Lets transformers use the padding mask that it is given on a GPU, from now on in this process.

    Otherwise it looks in every forward pass whether the mask hides a token at all, and the host waits until the GPU has come so far. Here
    that is known on the host: `Transformer` gives no mask where no text is padded. Masks on a CPU are left alone.
    """
    for name, make_mask in (("sdpa", sdpa_mask), ("eager", eager_mask)):
        AttentionMaskInterface.register(name, without_looking(make_mask))


def without_looking(make_mask: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that makes the mask of `make_mask`, but leaves none out that it is given on a GPU."""

    @wraps(make_mask)
    def make(*arguments: Any, **options: Any) -> Any:
        mask = options.get("attention_mask")
        if mask is not None and mask.is_cuda:
            options |= dict.fromkeys(SKIPS, False)
        return make_mask(*arguments, **options)

    return make
