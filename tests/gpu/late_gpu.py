"""A GPU's queues of work on a CPU, as late as events allow: what nobody waits for has not been done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

Work = Callable[[], object]


class Stream:
    """A queue of work, done in order when somebody waits for it."""

    def __init__(self, gpu: LateGpu):
        self.gpu, self.queue, self.done = gpu, list[Work](), 0

    def run_to(self, end: int) -> None:
        with self.gpu.lock:
            while self.done < end:
                self.done += 1
                self.queue[self.done - 1]()

    def finish(self) -> None:
        self.run_to(len(self.queue))

    def wait_event(self, event: Event) -> None:
        self.queue.append(event.finish_recorded())

    def wait_stream(self, other: Stream) -> None:
        end = len(other.queue)
        self.queue.append(lambda: other.run_to(end))


class Event:
    """A place in a stream's queue."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.end = 0

    def record(self, stream: Stream) -> None:
        self.stream, self.end = stream, len(stream.queue)

    def finish_recorded(self) -> Work:
        stream, end = self.stream, self.end
        return lambda: None if stream is None else stream.run_to(end)

    def synchronize(self) -> None:
        self.finish_recorded()()


class LateGpu:
    """Takes the place of torch.cuda's streams and events; copies that do not block become work of the current stream."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.lock, self.here = threading.RLock(), threading.local()
        self.main, self.copies = Stream(self), Stream(self)
        self.threads: list[tuple[str, torch.device]] = []  # that were told their device
        patch.setattr(torch.cuda, "Stream", lambda device: self.copies)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "current_stream", lambda device: self.current())
        patch.setattr(torch.cuda, "stream", self.enter)
        patch.setattr(torch.cuda, "set_device", lambda device: self.threads.append((threading.current_thread().name, device)))
        copy = Tensor.copy_

        def copy_late(into: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
            if non_blocking:
                self.current().queue.append(lambda: copy(into, source))
                return into
            self.current().finish()  # other work reads what is there after the work before it
            return copy(into, source)

        patch.setattr(Tensor, "copy_", copy_late)

    def current(self) -> Stream:
        return getattr(self.here, "stream", self.main)

    @contextlib.contextmanager
    def enter(self, stream: Stream) -> Iterator[None]:
        self.here.stream = stream
        yield
        del self.here.stream

    def read_late(self, chunks: Iterator[Tensor]) -> Any:
        """All rows, which the main stream reads once the host has asked for every chunk."""
        rows: list[Tensor] = []
        for chunk in chunks:
            self.main.queue.append(lambda chunk=chunk: rows.append(chunk.clone()))
        self.main.finish()
        return torch.cat(rows)
