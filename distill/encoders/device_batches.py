"""Runs a model, without gradients, over many inputs in batches that fit the device, which gets smaller ones where its memory runs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.files.progress import log
from distill.records import BadInput, TensorRecord

# padded tokens at once, by the type of the device; a GPU that holds fewer is given fewer
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}  # through a model that embeds: on a CPU the states should stay in its caches
TOKENS_PER_CHUNK = {"cpu": 16_384, "cuda": 65_536}  # of documents through a model in training, where smaller ones save no memory
TOKENS_PER_WRITING = {"cpu": 4096, "cuda": 131_072}  # through a model that writes


def tokens_for(device: torch.device, tokens: Mapping[str, int]) -> int:
    """The number of tokens for a device, in a table by the type of the device.

    >>> tokens_for(torch.device("cpu"), {"cpu": 2048, "cuda": 65_536})
    2048
    """
    return tokens.get(device.type, tokens["cuda"])


class TokenBudget:
    """How many tokens, padding included, go through a model at once; less from then on where the device's memory runs out.

    Args:
        tokens: by the type of the device.
        fix: what the user can do where a single text does not fit.

    >>> budget = TokenBudget()
    >>> budget.limit = 1000  # as the user says
    >>> budget.tokens(torch.device("cpu"))
    1000
    """

    def __init__(self, tokens: Mapping[str, int] = TOKENS_PER_BATCH, fix: str = "cut texts at fewer tokens with --max_length"):
        self.limit: int | None = None  # in place of the table's number
        self._tokens, self._fix = tokens, fix
        self._is_unsaid = False  # whether a smaller limit has not been logged yet

    def tokens(self, device: torch.device) -> int:
        """The most tokens of a batch on that device."""
        return tokens_for(device, self._tokens) if self.limit is None else self.limit

    def halve(self, count: int, length: int, device: torch.device) -> None:
        """Halves the batches from now on, after one of `count` texts of up to `length` tokens did not fit.

        Raises BadInput where that was a single text.
        """
        if count == 1:
            raise BadInput(f"a text of {length:,} tokens does not fit into the memory of {device}, even alone: {self._fix}")
        self.limit, self._is_unsaid = count * length // 2, True

    def log_change(self, device: torch.device) -> None:
        """Says that batches are smaller now, once a smaller one has fitted."""
        if self._is_unsaid:
            log.warning(f"the memory of {device} ran out: goes on with {self.limit:,} tokens a batch")
            self._is_unsaid = False


def run_in_batches(
    lengths: Sequence[int],
    budget: TokenBudget,
    device: torch.device,
    make_batch: Callable[[np.ndarray], Any],
    compute: Callable[[Any], Tensor],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows [n] of each batch and what `compute` returns for it, the longest inputs first.

    On a GPU a thread makes the next batch, and a result is waited for only when the next batch is under way. A batch that does not fit
    is divided and computed again.

    Args:
        lengths: number of tokens of each of N inputs.
        budget: how many tokens a batch may have.
        device: where `compute` computes.
        make_batch: makes a batch of the inputs in rows [n], in memory of the host.
        compute: returns values [n, ...] on the device.

    >>> double = run_in_batches([3, 9, 4], TokenBudget(), torch.device("cpu"), torch.from_numpy, lambda batch: 2 * batch)
    >>> [(rows.tolist(), values.tolist()) for rows, values in double]
    [([1, 2, 0], [2, 4, 0])]

    Raises:
        BadInput: a single input does not fit into the memory of the device.
    """
    is_gpu = device.type == "cuda"
    batches = _Batches(lengths, device, make_batch)
    computed: deque[tuple[np.ndarray, HostCopy]] = deque()
    try:
        while len(batches.left) or computed:
            if len(batches.left):
                rows, batch = batches.make_next(budget.tokens(device))
                values = compute_if_it_fits(compute, batch)
                if values is None:
                    budget.halve(len(rows), max(1, lengths[rows[0]]), device)
                    continue
                budget.log_change(device)
                batches.drop(len(rows))
                computed.append((rows, HostCopy(values)))
            if len(computed) > is_gpu or not len(batches.left):
                rows, copy = computed.popleft()
                yield rows, copy.wait()
    finally:
        batches.close()


def compute_if_it_fits(compute: Callable[[Any], Tensor], batch: Any) -> Tensor | None:
    """What `compute` returns for a batch; None where the memory of its device ran out."""
    try:
        return compute(batch)
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()  # behind the block, as the error holds what the batch took
    return None


class HostCopy:
    """A result on its way to the host, which the host waits for no earlier than it needs it.

    >>> HostCopy(torch.tensor([1.0, 2.0])).wait().tolist()
    [1.0, 2.0]
    """

    def __init__(self, values: Tensor):
        self._arrival = None
        if values.is_cuda:
            self._values = values.to("cpu", non_blocking=True)  # into pinned memory
            self._arrival = torch.cuda.Event()
            self._arrival.record(torch.cuda.current_stream(values.device))
        else:
            self._values = values.cpu()

    def wait(self) -> np.ndarray:
        """The values, which a later copy may overwrite once nothing refers to this one."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._values.numpy()


class _Batches:
    """The batches that are still to be computed; where a GPU computes, a thread makes the next one ahead."""

    def __init__(self, lengths: Sequence[int], device: torch.device, make_batch: Callable[[np.ndarray], Any]):
        self.lengths, self.make_batch = lengths, make_batch
        self.left = sort_by_length(lengths)  # rows of inputs without a value
        self.thread: ThreadPoolExecutor | None = None
        if device.type == "cuda":  # a thread begins on the first GPU, which may be that of another process
            self.thread = ThreadPoolExecutor(1, initializer=partial(torch.cuda.set_device, device))
        self.made: dict[tuple[int, int], Future[Any]] = {}  # by the first row of a batch and the number of its rows

    def make_next(self, tokens: int) -> tuple[np.ndarray, Any]:
        """The rows of the next batch of so many tokens, and the batch."""
        rows = first_batch(self.left, self.lengths, tokens)
        if self.thread is None:
            return rows, self.make_batch(rows)
        batch = self._make_in_thread(rows)
        self.made = {}  # those of another size are of no use any more
        following = first_batch(self.left[len(rows) :], self.lengths, tokens)
        if len(following):
            self.made[following[0], len(following)] = self._make_in_thread(following)
        return rows, batch.result()

    def drop(self, count: int) -> None:
        """Takes out the first rows, whose values are computed."""
        self.left = self.left[count:]

    def close(self) -> None:
        """Ends the thread."""
        if self.thread is not None:
            self.thread.shutdown(wait=False, cancel_futures=True)

    def _make_in_thread(self, rows: np.ndarray) -> Future[Any]:
        assert self.thread is not None, "only where there is one"
        return self.made.get((rows[0], len(rows))) or self.thread.submit(self._make_pinned, rows)

    def _make_pinned(self, rows: np.ndarray) -> Any:
        """Makes a batch in memory from which a GPU copies while the host goes on."""
        batch = self.make_batch(rows)
        return batch.pin_memory() if isinstance(batch, TensorRecord) else batch


def length_batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Yields the rows of each batch of texts of near-equal length, the longest first: if memory is too small, that shows at once.

    >>> [rows.tolist() for rows in length_batches([3, 9, 4], tokens_per_batch=9)]
    [[1], [2, 0]]
    """
    left = sort_by_length(lengths)
    while len(left):
        rows = first_batch(left, lengths, tokens_per_batch)
        yield rows
        left = left[len(rows) :]


def sort_by_length(lengths: Sequence[int]) -> np.ndarray:
    """The rows of texts, the longest first."""
    return np.argsort(lengths, kind="stable")[::-1].copy()  # in a form that torch takes


def first_batch(rows: np.ndarray, lengths: Sequence[int], tokens: int) -> np.ndarray:
    """The first of `rows`, which are sorted by length: one, or as many as have so many tokens, padding included."""
    if not len(rows):
        return rows
    return rows[: max(1, tokens // max(1, lengths[rows[0]]))]
