"""Makes the batches of a training ahead of it, in a thread, so that a GPU does not wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

BATCHES_AHEAD = 2

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], ahead: int, device: torch.device | None = None) -> Iterator[Made]:
    """Yields `make(item)` of all items in their order, up to `ahead` of them made before they are asked for.

    One thread makes them one after the other. An error of `make` is raised where its item would have come. The thread ends when the
    iterator does or is dropped, and at the end of the program: it finishes the item that it is making, and begins no other.

    Args:
        make: is called in the thread; what it reads must not change meanwhile.
        items: is read in the thread of the caller.
        ahead: most items that are made and not asked for yet; with 0 there is no thread.
        device: the GPU that the thread allocates pinned memory for.

    >>> list(prefetch(str, [1, 2, 3], ahead=2))
    ['1', '2', '3']
    """
    if not ahead:
        yield from map(make, items)
        return
    rest = iter(items)
    # it has one thread, which ends with the program though the iterator may still be somewhere
    thread = ThreadPoolExecutor(1, "batches", _choose_gpu, (device,))
    try:
        waiting: deque[Future[Made]] = deque(thread.submit(make, item) for item in islice(rest, ahead))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(thread.submit(make, item) for item in islice(rest, 1))
            yield made
    finally:
        thread.shutdown(wait=False, cancel_futures=True)  # not to wait: the iterator may be dropped in the thread itself


def _choose_gpu(device: torch.device | None) -> None:
    """Lets this thread allocate its pinned memory through `device`; else every rank would take memory of the first GPU."""
    if device is not None:
        import torch  # here, as there is a thread without a GPU too

        torch.cuda.set_device(device)
