"""Batches that a thread makes ahead are the same, in the same order, and the thread ends with whoever reads them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, furthest, train_arguments

from distill.data.base import SplitDataModule
from distill.data.loaders import TrainingLoader
from distill.data.prefetch import prefetch
from distill.records import BadInput

LENGTHS = np.random.default_rng(3).integers(2, 30, 60)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def wait_until(done: Any) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not threads())


def loader(**options: Any) -> TrainingLoader:
    return TrainingLoader(lambda rows: rows.tolist(), LENGTHS, batch_size=8, **options)


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_all_come_in_their_order(ahead: int) -> None:
    assert list(prefetch(lambda number: number * number, range(5), ahead)) == [0, 1, 4, 9, 16]
    assert list(prefetch(str, [], ahead)) == []


def test_no_more_are_made_than_so_many_ahead() -> None:
    made: list[int] = []
    squares = prefetch(made.append, range(9), ahead=2)
    next(squares)
    wait_until(lambda: len(made) == 3)
    time.sleep(0.01)
    assert made == [0, 1, 2]
    next(squares)
    wait_until(lambda: made == [0, 1, 2, 3])
    squares.close()  # type: ignore[attr-defined]


def test_they_are_made_in_another_thread() -> None:
    assert set(prefetch(lambda _: threading.current_thread().name, range(3), ahead=2)) == {"batches_0"}
    assert set(prefetch(lambda _: threading.current_thread().name, range(3), ahead=0)) == {threading.current_thread().name}


def test_an_error_comes_in_its_place_in_its_own_words() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise BadInput("store/documents/000.npy: changed while it was read: encode again")
        return number

    made = prefetch(make, range(9), ahead=2)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(BadInput, match=r"000\.npy: changed while it was read: encode again"):
        next(made)


def test_the_thread_ends_when_nobody_reads_on() -> None:
    made: list[int] = []
    squares = prefetch(made.append, range(1000), ahead=2)
    next(squares)
    assert len(threads()) == 1
    del squares
    wait_until(lambda: not threads())
    assert len(made) <= 3


def test_the_thread_ends_with_the_program() -> None:
    """Though it was left in the middle of its work, in a variable that lives as long as the program."""
    program = """
import time
from distill.data.prefetch import prefetch
def make(number):
    time.sleep(0.02 * number)
    return number
made = prefetch(make, range(1000), 3)
print(next(made), next(made))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0 1\n", "")


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loader_has_the_same_batches(ranks: int) -> None:
    for rank in range(ranks):
        plain, ahead = (loader(rank=rank, world_size=ranks, batches_ahead=number) for number in (0, 2))
        for epoch in range(2):
            plain.set_epoch(epoch)
            ahead.set_epoch(epoch)
            assert list(plain) == list(ahead) != []


def test_batches_that_were_not_asked_for_do_not_count() -> None:
    whole = list(loader())
    stopped = loader(batches_ahead=2)
    batches = iter(stopped)
    assert [next(batches), next(batches)] == whole[:2]
    assert stopped.position == 2 and stopped.state_dict()["batches"] == [[8, 2]]
    resumed = loader(batches_ahead=2)
    resumed.load_state_dict(stopped.state_dict())
    assert list(resumed) == whole[2:]


def test_a_stopped_training_goes_on_exactly(source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, but for pinned memory."""
    whole, ahead = tmp_path / "whole", tmp_path / "ahead"
    more = ["--trainer.limit_val_batches", 0, "--data.candidates", 2, "--trainer.max_epochs", 1]
    assert distill(*train_arguments(source_root, store_folder, whole, *more)) == 0
    monkeypatch.setattr(SplitDataModule, "_prefetching", lambda *_: {"batches_ahead": 2})
    stop = {"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_end", "step": 3, "name": "SIGTERM"}}
    stopped = train_arguments(source_root, store_folder, ahead, *more, "--trainer.callbacks", json.dumps([stop]))
    with pytest.raises(SystemExit, match="143"):
        distill(*stopped)
    wait_until(lambda: not threads())
    assert distill(*train_arguments(source_root, store_folder, ahead, *more)) == 0
    assert furthest(whole / "checkpoints" / "last.ckpt", ahead / "checkpoints" / "last.ckpt") == 0
