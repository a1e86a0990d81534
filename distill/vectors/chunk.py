"""`Chunk`: documents read from disk once, in fp32 and rounded to bf16; all chunks of a search use the same memory in turn."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from distill.files.device import has_fast_bf16
from distill.records import BadInput

ROWS_PER_WORD = 8  # the memory of a chunk is a multiple of 8 rows, as distill.vectors.rounding reads 8 bytes at once


class Chunk:
    """C consecutive documents of a corpus in fp32 and, where the device multiplies bf16 natively, also rounded to bf16.

    The memory is allocated once, as fresh memory of that size costs more than filling it. Up to 7 rows after the documents are padding.

    Args:
        size: largest C.
        width: D.
        device: where the products are computed.
    """

    start: int  # row of the first document in the corpus
    count: int  # C
    longest: Tensor  # length of the longest document; NaN where one has NaN or infinity, so that no score counts as high enough

    def __init__(self, size: int, width: int, device: torch.device):
        rows = _round_up(size, ROWS_PER_WORD)
        self._exact = torch.zeros((rows, width), device=device)
        self._rounded = torch.zeros((rows if has_fast_bf16(device.type) else 0, width), dtype=torch.bfloat16, device=device)
        self._longest_of_all = torch.zeros((), device=device)

    def load(self, documents: np.ndarray | Tensor, start: int) -> None:
        """Copies `documents` [C, D] of any float type, which begin at row `start` of the corpus."""
        self.start, self.count = start, len(documents)
        tensor = documents if isinstance(documents, Tensor) else array_to_tensor(documents)
        self.documents.copy_(tensor)
        if len(self._rounded):
            self._rounded[: self.count].copy_(self.documents)
        longest = self.documents.norm(dim=1).amax()
        self.longest = longest + 0 * longest  # 0 times infinity is NaN
        self._longest_of_all = torch.maximum(self._longest_of_all, self.longest)

    def all_finite(self) -> bool:
        """Whether the documents of all chunks so far are without NaN and infinity; the host waits for the device to answer."""
        return bool(self._longest_of_all.isfinite())

    @property
    def documents(self) -> Tensor:
        """[C, D] float32."""
        return self._exact[: self.count]

    @property
    def padded_documents(self) -> Tensor:
        """[C and up to 7 more, D] float32: the documents, then padding."""
        return self._exact[: _round_up(self.count, ROWS_PER_WORD)]

    @property
    def rounded_documents(self) -> Tensor:
        """[C and up to 7 more, D] bfloat16: the rounded documents, then padding."""
        return self._rounded[: _round_up(self.count, ROWS_PER_WORD)]


def array_to_tensor(array: np.ndarray) -> Tensor:
    """Returns a tensor over the array's memory where that is safe, else over a copy: torch could write into a read-only memory map."""
    plain = array.flags.writeable and array.flags.c_contiguous
    return torch.from_numpy(array if plain else array.copy())


def finite_lengths(vectors: Tensor, what: str, start: int = 0) -> Tensor:
    """Returns the length [N] of each of `vectors` [N, D].

    Args:
        vectors: float32.
        what: what the message calls the vectors.
        start: row that the message gives the first of them.

    Raises:
        BadInput: a vector holds NaN or infinity, or is too long for float32.
    """
    lengths = vectors.norm(dim=1)  # NaN and infinity survive in it
    bad_rows = (~lengths.isfinite()).nonzero()
    if len(bad_rows):
        row = start + int(bad_rows[0])
        raise BadInput(f"{what}: row {row} has NaN or infinite values, or a length that is infinite in fp32: encode it again")
    return lengths


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
