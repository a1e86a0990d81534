"""The card that everything is measured on, or its simulation: seconds, rates, and what the host waits for."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import distill
from distill.files.device import has_fast_bf16

PACKAGE = str(Path(distill.__file__).parent)
TESTS = Path(__file__).parents[3] / "tests"
WAIT = "called a synchronizing CUDA operation"  # how torch's warning begins
ROUNDS = 3  # of a measurement, after one that warms up


class Card:
    """A GPU, or its simulation.

    Args:
        machine: the simulation, which counts waits by kind and place; None for a real card.
    """

    def __init__(self, machine: Any = None):
        self.machine = machine
        self.device = torch.device("cuda", 0)
        self.dtype = torch.bfloat16 if has_fast_bf16("cuda") else torch.float32  # of a training's products

    @property
    def simulated(self) -> bool:
        return self.machine is not None

    def seconds(self, work: Callable[[], object], most: float = 8.0) -> float:
        """Median seconds of a call after one that warms up; that one alone where others would take longer than `most` in all."""
        first = self.time(work)
        taken: list[float] = []
        while not self.simulated and len(taken) < ROUNDS and sum(taken) + first < most:
            taken.append(self.time(work))
        return statistics.median(taken or [first])

    def time(self, work: Callable[[], object]) -> float:
        """Seconds of a call, until the card has done all that it asks for."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def product_rate(self, rows: int, inner: int, columns: int, dtype: torch.dtype | None = None) -> float:
        """Floating-point operations a second of a product [rows, inner] @ [inner, columns] of random numbers."""
        dtype = dtype or self.dtype
        left, right = self.random(rows, inner).to(dtype), self.random(inner, columns).to(dtype)
        operations = 2.0 * rows * inner * columns
        calls = int(min(200, max(3, 2e13 / operations)))

        def multiply() -> None:
            for _ in range(calls):
                left @ right

        return calls * operations / self.seconds(multiply)

    def copy_rate(self, size: int = 1 << 30) -> float:
        """Bytes a second from pinned memory of the host to the card."""
        host = self.pin(torch.zeros(1 << 10 if self.simulated else size, dtype=torch.uint8))
        target = torch.empty(host.shape, dtype=host.dtype, device=self.device)
        return host.numel() / self.seconds(lambda: target.copy_(host, non_blocking=True))

    def random(self, *shape: int, seed: int = 0) -> Tensor:
        """Standard normal numbers on the card, float32."""
        torch.manual_seed(seed)
        return torch.randn(*shape, device=self.device)

    def pin(self, tensor: Tensor) -> Tensor:
        """The tensor of the host in pinned memory."""
        return tensor.pin_memory()

    @contextmanager
    def counted_waits(self) -> Iterator[Counter[str]]:
        """Counts by place what the host waits for within the block."""
        waits: Counter[str] = Counter()
        if self.machine is not None:
            before = Counter(self.machine.waits)
            yield waits
            for (kind, place), count in (Counter(self.machine.waits) - before).items():
                waits[f"{kind} at {place}"] += count
            return

        def count(message: Any, *_: Any, **__: Any) -> None:
            if WAIT in str(message):
                waits[find_place()] += 1

        with warnings.catch_warnings():
            torch.cuda.set_sync_debug_mode("warn")
            warnings.filterwarnings("always", message=WAIT)
            warnings.showwarning = count
            try:
                yield waits
            finally:
                torch.cuda.set_sync_debug_mode("default")


def find_place() -> str:
    """The innermost line that runs now, and the innermost one of distill that led to it."""
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.endswith(("card/device.py", "warnings.py"))]
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    places = ["/".join(Path(frame.filename).parts[-3:]) + f":{frame.lineno}" for frame in (frames[-1], *own[-1:])]
    return " from ".join(dict.fromkeys(places))


@contextmanager
def open_card(simulate: bool) -> Iterator[Card]:
    """Yields the card of this machine, or a simulated one, as the tests use it."""
    if not simulate:
        torch.cuda.init()
        yield Card()
        return
    sys.path[:0] = [str(TESTS / "gpu"), str(TESTS)]
    from cuda_stand_ins import simulated_gpu

    with simulated_gpu() as machine:
        yield Card(machine)
