"""Arrays of the cache: written in parts, computed once, computed again when their bytes changed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from distill.files.cache import load_or_compute

ROWS = np.arange(22, dtype=np.int32).reshape(11, 2)


def parts() -> Iterator[np.ndarray]:
    return (ROWS[start : start + 4] for start in range(0, 11, 4))


def never() -> list[np.ndarray]:
    pytest.fail("computed again")


@pytest.mark.parametrize("compute", [parts, lambda: [ROWS], lambda: [ROWS[:0], ROWS]])
def test_parts_are_one_array_of_a_file(compute, tmp_path):
    found = load_or_compute(tmp_path / "deep" / "a.npy", compute)
    np.testing.assert_array_equal(found, ROWS)
    assert found.dtype == np.int32 and isinstance(found, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "a.npy"), ROWS)
    np.testing.assert_array_equal(load_or_compute(tmp_path / "deep" / "a.npy", never), ROWS)


def test_an_array_may_be_empty(tmp_path):
    assert load_or_compute(tmp_path / "a.npy", lambda: [ROWS[:0]]).shape == (0, 2)


@pytest.mark.parametrize("name", ["a.npy", "a.xxh3"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_what_changed_is_computed_again(name, damage, tmp_path):
    load_or_compute(tmp_path / "a.npy", parts)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-3])
    if damage == "gone":
        path.unlink()
    np.testing.assert_array_equal(load_or_compute(tmp_path / "a.npy", parts), ROWS)
    np.testing.assert_array_equal(load_or_compute(tmp_path / "a.npy", never), ROWS)


def compute_slowly(folder: Path) -> None:
    def compute() -> list[np.ndarray]:
        with open(folder / "computed", "a") as file:
            file.write("once\n")
        time.sleep(0.3)
        return [ROWS]

    load_or_compute(folder / "a.npy", compute)


def test_of_two_processes_one_computes_it(tmp_path):
    both = [multiprocessing.get_context("fork").Process(target=compute_slowly, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    assert (tmp_path / "computed").read_text() == "once\n"


def die_while_computing(folder: Path) -> None:
    def compute() -> Iterator[np.ndarray]:
        yield ROWS
        os.kill(os.getpid(), signal.SIGKILL)

    load_or_compute(folder / "of other inputs.npy", compute)


def test_what_a_killed_process_left_is_swept(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=die_while_computing, args=(tmp_path,))
    process.start()
    process.join(30)
    assert len(list(tmp_path.glob(".of other inputs.npy.*.tmp"))) == 1
    load_or_compute(tmp_path / "a.npy", parts)
    assert list(tmp_path.glob("*.tmp")) == []
