"""Types that all parts of this package share: tokens, a batch, its encoding by a teacher or a student, a ranking, an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


# Control characters but tab and line break, marks that turn the direction of writing, and halves of surrogate pairs.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object, breaks: bool = True) -> str:
    r"""The text as it is safe for a terminal: control characters are written out, wherever the text comes from.

    Args:
        text: anything that `str` takes.
        breaks: whether line breaks stay; False writes them out too.

    >>> printable("a title\x1b]0;mine\x07"), printable("two\nlines", breaks=False)
    ('a title\\x1b]0;mine\\x07', 'two\\nlines')
    """
    shown = CONTROLS.sub(lambda match: ascii(match[0])[1:-1], str(text))
    return shown if breaks else shown.replace("\n", "\\n")


class BadInput(Exception):
    """An error the user can mend: one line that names the file, the line or key, and the fix. The command line exits with code 2."""

    def __init__(self, message: str):
        # Messages quote files, which may hold lines of any length.
        message = message if len(message) <= 2000 else f"{message[:1000]} ... {message[-900:]}"
        super().__init__(printable(message, breaks=False))


class NeedsTrust(BadInput):
    """A folder needs to run code, or to do more than read files: the user has to trust its author first."""


class UnknownKind(BadInput):
    """Input that is whole, but of a kind that this package does not know; another library may."""


def one_line(error: object, most: int = 200) -> str:
    """The first `most` characters of an error's message, without line breaks, for a message of one line.

    >>> one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(error).split())[:most]


class TensorRecord:
    """Base of dataclasses of tensors that move to a device together.

    Fields called `..._rows` stay on the host, where they index memory-mapped files.
    """

    def to(self, device: torch.device, **kwargs) -> Self:
        """The record on a device; `kwargs` are those of `torch.Tensor.to`."""
        movable = {name: part for name, part in vars(self).items() if hasattr(part, "to") and not name.endswith("_rows")}
        return replace(self, **{name: part.to(device, **kwargs) for name, part in movable.items()})  # type: ignore[type-var]

    def pin_memory(self) -> Self:
        """The record in memory of the host from which a GPU copies without a wait."""
        movable = {name: part for name, part in vars(self).items() if hasattr(part, "pin_memory") and not name.endswith("_rows")}
        return replace(self, **{name: part.pin_memory() for name, part in movable.items()})  # type: ignore[type-var]


@dataclass(frozen=True)
class Tokens(TensorRecord):
    """Token ids of a batch of texts and the mask of the real ones."""

    input_ids: Tensor  # [B, L] int64
    attention_mask: Tensor  # [B, L] int64, 1 on real tokens, 0 on padding
    padded: bool = True  # False where no text is padded; known on the host, as reading the mask would wait for the device


@dataclass(frozen=True)
class Batch(TensorRecord):
    """Queries of one training step and the candidates they are scored against."""

    queries: Tokens
    query_rows: Tensor  # [B] int64, number of each query among all queries of its loader
    document_rows: Tensor  # [B, K] int64, rows of the teacher's document store; K = 0 where there are queries alone
    documents: Any = None  # Chunks of Tokens [B * K], for a student that embeds documents itself
    relevant_rows: Tensor | None = None  # [B, J] int64, documents judged relevant to each query, padded with -1


@dataclass(frozen=True)
class Encoded:
    """Vectors and scores of a batch; teachers and students return the same type."""

    query: Tensor  # [B, D]       one vector per query; a cross encoder's [B, K, D], one for each candidate
    document: Tensor  # [B, K, D]    candidates, column 0 the positive where there is one; K = 0 where there are queries alone
    scores: Tensor  # [B, K]       each query against its own K candidates
    document_rows: Tensor  # [B, K]       corpus rows of the candidates, so that a duplicate in the batch is not taken for a negative
    relevant_rows: Tensor | None = None  # [B, J]  rows of all documents judged relevant, padded with -1: none of them is a negative


@dataclass(frozen=True)
class Ranking:
    """For each query the rows of its documents, best first."""

    query_ids: list[str]
    rows: np.ndarray  # [Q, k] int64, rows of the corpus; rows of -1 are padding where fewer than k documents exist
    scores: np.ndarray  # [Q, k] float32, descending along a row, equal ones allowed
    name: str = "run"
