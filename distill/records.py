"""Types that all parts of this package share: tokens, a batch, its encoding by a teacher or a student, a ranking, an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
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


def printable_on(stream: Any, text: object) -> str:
    """As `printable`, with what the stream's encoding lacks written out too."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


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


# The words of Python, the operating system and torch; and those of oneDNN, which says no more when it has no room for compiled code.
NO_MEMORY = re.compile(r"out of memory|allocate memory|can't start new thread|could not create a (primitive|memory)$", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the host or of a GPU.

    >>> is_out_of_memory(RuntimeError("could not create a primitive")), is_out_of_memory(RuntimeError("sizes do not match"))
    (True, False)
    """
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))


def one_line(error: object, most: int = 200) -> str:
    """The first `most` characters of an error's message, without line breaks, for a message of one line.

    >>> one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(error).split())[:most]


def send(part: Any, device: torch.device) -> Any:
    """Copies a tensor, a record of tensors or a dictionary of these to a device; of a copy to a GPU nobody waits for the end.

    To a GPU a tensor goes through pinned memory, from which it is copied while the host does something else. Convert a tensor to another
    type after that: a conversion on the way would be the host's work.
    """
    if isinstance(part, dict):
        return {key: send(value, device) for key, value in part.items()}
    if hasattr(part, "is_pinned") and part.device.type == "cpu" and str(device).startswith("cuda"):  # a tensor
        return part.pin_memory().to(device, non_blocking=True)
    return part.to(device)


class TensorRecord:
    """Base of dataclasses of tensors that move to a device together.

    Fields called `..._rows` stay on the host, where they index memory-mapped files.
    """

    def to(self, device: torch.device) -> Self:
        """Returns the record on a device."""
        return replace(self, **{name: send(part, device) for name, part in self._parts().items() if not name.endswith("_rows")})  # type: ignore[type-var]

    def pin_memory(self) -> Self:
        """Returns the record with all its tensors in pinned memory, from which a GPU takes them without the host."""
        return replace(self, **{name: pin(part) for name, part in self._parts().items()})  # type: ignore[type-var]

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if isinstance(part, dict) or hasattr(part, "pin_memory")}


def pin(part: Any) -> Any:
    """Copies a tensor, a record of tensors or a dictionary of these to pinned memory."""
    if isinstance(part, dict):
        return {key: pin(value) for key, value in part.items()}
    return part.pin_memory()


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
    looked_up: dict[Any, TensorRecord] = field(default_factory=dict)  # by teacher, what it has on disk of these queries


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
