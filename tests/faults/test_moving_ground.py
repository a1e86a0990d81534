"""A store that changes under a training that reads it, and a disk that fills up: one line, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import train_arguments
from conftest import make_source, make_teacher
from faults.forked import Verb
from test_resume import encode_arguments

ENDLESS = ["--trainer.max_epochs", 5000, "--data.batch_size", 8, "--checkpoint_every_n_steps", 1_000_000]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_teacher(root / "teacher")
    make_source(root / "source", documents=60, train=40, dev=10)
    assert Verb(encode_arguments(root / "teacher", root / "source", root / "store"), root / "store.log").ends() == 0
    return root


def wait_for_epochs(verb: Verb) -> None:
    while "epoch 2/" not in verb.said():
        assert verb.process.is_alive(), verb.said()
        time.sleep(0.01)


def refused(verb: Verb, *words: str) -> None:
    assert verb.ends(60) == 2, verb.said()
    errors = [line for line in verb.said().splitlines() if line.startswith("distill ")]
    assert len(errors) == 1 and "Traceback" not in verb.said(), verb.said()
    assert all(word in errors[0] for word in words), errors[0]


def replace(path: Path) -> None:
    vectors = np.load(path)
    np.save(path.with_name("new.npy"), -vectors)
    os.replace(path.with_name("new.npy"), path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": replace,
    "rewritten": lambda path: path.write_bytes(path.read_bytes()[:-64] + b"\0" * 64),
    "cut": lambda path: os.truncate(path, 300),
    "emptied": lambda path: os.truncate(path, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("queries", ["documents", "queries-train", "queries-dev"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_changes_ends_the_training(world: Path, tmp_path: Path, change: str, queries: str) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    training = Verb(train_arguments(world / "source", tmp_path / "store", tmp_path / "run", *ENDLESS), tmp_path / "log")
    wait_for_epochs(training)
    shard = tmp_path / "store" / queries / "00000.npy"
    CHANGES[change](shard)
    refused(training, str(shard), "changed while it was read")
    assert not (tmp_path / "run" / "student").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a file system takes rights that this user lacks")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_the_disk_fills_up_while_events_are_written(world: Path, disk: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    more = [*ENDLESS, "--tracking", "tensorboard"]
    training = Verb(train_arguments(world / "source", world / "store", disk / "run", *more), tmp_path / "log")
    wait_for_epochs(training)
    with pytest.raises(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    refused(training, str(disk), "No space left on device")
