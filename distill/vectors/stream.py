"""Documents on their way to a GPU: a chunk is read and sent while the one before it is searched."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

BUFFERS = 2  # one is searched while the other is filled


class StoredRows(Protocol):
    """Vectors [N, D] in files: a store, or some of its rows."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def identity(self) -> str:
        """The same where the files hold the same."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...

    def read(self, start: int, into: np.ndarray) -> None:
        """Fills `into` [n, D] with the rows from `start` on."""


Vectors = np.ndarray | Tensor | StoredRows


class ChunkBuffer:
    """Memory for one chunk on its way, pinned on the host and on the GPU; the GPU copies from one to the other beside its other work.

    Two events keep the order, because the host runs ahead of the GPU: `copied`, before which the host's memory may not be filled again nor
    the GPU's be read, and `used`, before which the GPU's may not be filled again.

    Args:
        rows: most documents of a chunk.
        documents: the documents, of which it takes the width and the number format.
        stream: the GPU's queue of copies.
        device: the GPU.
    """

    def __init__(self, rows: int, documents: Vectors, stream: Any, device: torch.device):
        shape, dtype = (rows, documents.shape[1]), stored_dtype(documents)
        with torch.inference_mode(False):  # a tensor of a trainer's inference mode could not be filled in another thread
            self._host = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
            self._gpu = torch.empty(shape, dtype=dtype, device=device)
        self._stream = stream
        self._copied, self._used = torch.cuda.Event(), torch.cuda.Event()

    @torch.no_grad()
    def fill(self, documents: Vectors, start: int) -> None:
        """Reads documents from row `start` on, and has them copied to the GPU."""
        self.count = min(len(self._host), len(documents) - start)
        self._copied.synchronize()
        read_rows(documents, start, self._host[: self.count])
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used)
            self._gpu[: self.count].copy_(self._host[: self.count], non_blocking=True)
            self._copied.record(self._stream)

    def receive(self) -> Tensor:
        """Returns the documents [C, D] on the GPU, whose further work is done after the copy."""
        torch.cuda.current_stream(self._gpu.device).wait_event(self._copied)
        return self._gpu[: self.count]

    def release(self) -> None:
        """Lets the next documents take the place of these, once the work that the GPU has so far is done."""
        self._used.record(torch.cuda.current_stream(self._gpu.device))


def stream_chunks(documents: Vectors, size: int, device: torch.device) -> Iterator[Tensor]:
    """Yields all documents in the GPU's memory, in turn and as they are stored, `size` at a time; each chunk until the next is asked for.

    Args:
        documents: [N, D] on disk or in the host's memory.
        size: documents of a chunk.
        device: the GPU.
    """
    main, copies = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    starts = range(0, len(documents), size)
    buffers = [ChunkBuffer(min(size, len(documents)), documents, copies, device) for _ in starts[:BUFFERS]]
    copies.wait_stream(main)  # earlier work may still use memory that the buffers were given
    choose_gpu = partial(torch.cuda.set_device, device)  # else the thread would take memory of the first GPU, another process's
    try:
        with ThreadPoolExecutor(1, "read documents", choose_gpu) as reader:
            fillings = [reader.submit(buffer.fill, documents, start) for buffer, start in zip(buffers, starts, strict=False)]
            for number in range(len(starts)):
                buffer = buffers[number % BUFFERS]
                fillings[number].result()
                yield buffer.receive()
                buffer.release()
                if number + BUFFERS < len(starts):
                    fillings.append(reader.submit(buffer.fill, documents, starts[number + BUFFERS]))
    finally:
        main.wait_stream(copies)  # so that nothing takes the buffers' memory before the last copy into it


def read_rows(documents: Vectors, start: int, into: Tensor) -> None:
    """Fills `into` [n, D], of the documents' number format and in the host's memory, with the rows from `start` on."""
    if isinstance(documents, Tensor):
        into.copy_(documents[start : start + len(into)])
    elif isinstance(documents, np.ndarray):
        np.copyto(into.numpy(), documents[start : start + len(into)])
    else:
        documents.read(start, into.numpy())


def stored_dtype(documents: Vectors) -> torch.dtype:
    """The number format in which documents are stored."""
    return documents.dtype if isinstance(documents, Tensor) else torch.from_numpy(np.empty(0, documents[:0].dtype)).dtype
