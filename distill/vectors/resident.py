"""Corpora that stay in a GPU's memory from one search to the next, where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from distill.files.device import free_memory
from distill.vectors.stream import Vectors, stored_dtype, stream_chunks

SHARE_OF_FREE_MEMORY = 0.5  # that a corpus may take: the rest is for searching it, and for a training's larger batches


class ResidentDocuments:
    """Documents [N, D] in a GPU's memory, as they are stored; the first search brings them there.

    Args:
        documents: on disk.
        device: the GPU.
    """

    def __init__(self, documents: Vectors, device: torch.device):
        self._documents = documents
        with torch.inference_mode(False):  # it outlives a trainer's inference mode
            self._memory = torch.empty(documents.shape, dtype=stored_dtype(documents), device=device)
        self._is_filled = False

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yields all documents in turn, `size` at a time."""
        if self._is_filled:
            yield from (self._memory[start : start + size] for start in range(0, len(self._memory), size))
            return
        start = 0
        for part in stream_chunks(self._documents, size, self._memory.device):
            self._memory[start : start + len(part)].copy_(part)
            yield part
            start += len(part)
        self._is_filled = True


class ResidentCorpora:
    """The corpora that this process keeps, each once, by what the files of its store hold and by rows.

    Attributes:
        blocks: how many `keep_corpora` are open.
        documents: the documents by `identity` of their store and device.
    """

    def __init__(self) -> None:
        self.blocks = 0
        self.documents: dict[tuple[str, torch.device], ResidentDocuments] = {}

    def find(self, documents: Vectors, device: torch.device) -> ResidentDocuments | None:
        """Returns a store's documents that stay on the GPU; None where they do not fit, or no block lets them stay."""
        if self.blocks == 0 or isinstance(documents, np.ndarray | Tensor):
            return None
        key = documents.identity, device
        if key not in self.documents and fits(documents, device):
            with suppress(torch.OutOfMemoryError):  # what is free lies in pieces, or another process took it
                self.documents[key] = ResidentDocuments(documents, device)
        return self.documents.get(key)

    def release(self) -> None:
        """Gives the memory of all back to the GPU, where faiss and other processes find it too."""
        if self.documents:
            self.documents.clear()
            torch.cuda.empty_cache()


CORPORA = ResidentCorpora()


@contextmanager
def keep_corpora() -> Iterator[None]:
    """Within the block, stores that are searched on a GPU stay in its memory, where SHARE_OF_FREE_MEMORY holds them.

    Blocks may be nested: the memory is freed at the end of the outermost. On a CPU nothing is kept.
    """
    CORPORA.blocks += 1
    try:
        yield
    finally:
        CORPORA.blocks -= 1
        if CORPORA.blocks == 0:
            CORPORA.release()


def fits(documents: Vectors, device: torch.device) -> bool:
    """Whether so much memory is free that documents may stay in it."""
    free = free_memory(device)
    rows, width = documents.shape
    return free is not None and rows * width * stored_dtype(documents).itemsize <= SHARE_OF_FREE_MEMORY * free


def read_chunks(documents: Vectors, size: int, device: torch.device) -> Iterator[np.ndarray | Tensor]:
    """Yields all documents in turn, `size` at a time, as they are stored; for a GPU in its memory.

    Args:
        documents: [N, D] anywhere.
        size: documents of a chunk.
        device: where they are searched.
    """
    if device.type == "cpu" or (isinstance(documents, Tensor) and documents.device == device):
        return (documents[start : start + size] for start in range(0, len(documents), size))
    resident = CORPORA.find(documents, device)
    return stream_chunks(documents, size, device) if resident is None else resident.chunks(size)
