"""Ranks that somebody started end together where one of them is refused, instead of waiting for it."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import train_arguments
from faults.forked import Verb, as_torchrun, ranks

from distill.files.locks import lock_folder


@pytest.fixture
def arguments(source_root: Path, store_folder: Path, tmp_path: Path) -> list[Any]:
    more = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8, "--trainer.max_epochs", 1]
    return train_arguments(source_root, store_folder, tmp_path / "run", *more)


def ends(started: list[Verb]) -> list[int]:
    return [rank.ends(60) for rank in started]


@pytest.mark.slow
def test_the_first_rank_is_refused(arguments: list[Any], tmp_path: Path) -> None:
    """Only it looks at the folder: another process writes it, then it is another run's; in the end it is done before."""
    with lock_folder(tmp_path / "run"):
        started = ranks(arguments, tmp_path / "locked.log", 2)
        assert ends(started) == [2, 2], started[0].said() + started[1].said()
    assert "another process is writing it" in started[0].said() and "another rank ended with an error" in started[1].said()
    started = ranks(arguments, tmp_path / "whole.log", 2)
    assert ends(started) == [0, 0], started[0].said() + started[1].said()
    started = ranks([*arguments, "--model.learning_rate", 0.1], tmp_path / "other.log", 2)
    assert ends(started) == [2, 2] and "made from other inputs" in started[0].said()
    assert "Traceback" not in started[0].said() + started[1].said()
    assert ends(ranks(arguments, tmp_path / "again.log", 2)) == [0, 0]


@pytest.mark.slow
def test_all_ranks_are_refused(arguments: list[Any], tmp_path: Path) -> None:
    started = ranks([*arguments, "--trainer.val_check_interval", 1000], tmp_path / "log", 2)
    assert ends(started) == [2, 2]
    assert all("an epoch has 6 batches" in rank.said() and "Traceback" not in rank.said() for rank in started)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_disk_refuses_the_first_rank(arguments: list[Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    started = ranks([*arguments, "--out", tmp_path / "file" / "run"], tmp_path / "log", 2)
    assert ends(started) == [2, 2]
    assert "file/run: Not a directory" in started[0].said() and "another rank ended with an error" in started[1].said()


@pytest.mark.slow
def test_a_checkpoint_that_is_on_one_machine_only(arguments: list[Any], run_folder: Path, tmp_path: Path) -> None:
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
    shutil.copy(run_folder / "checkpoints" / "last.ckpt", tmp_path / "0")
    more = [*arguments, "--trainer.max_epochs", 9, "--ckpt_path", "last.ckpt"]
    started = [
        Verb(more, tmp_path / f"log-{rank}", environment, before=partial(os.chdir, tmp_path / str(rank)))
        for rank, environment in enumerate(as_torchrun(2))
    ]
    assert ends(started) == [2, 2]
    assert "another rank ended with an error" in started[0].said() and "last.ckpt: no such checkpoint" in started[1].said()


def impatience() -> None:
    import distill.training.joined_ranks

    distill.training.joined_ranks.SECONDS_TO_TELL = 1.0


@pytest.mark.slow
def test_a_rank_that_is_alone_says_why_it_is_refused(arguments: list[Any], tmp_path: Path) -> None:
    rank = Verb([*arguments, "--trainer.val_check_interval", 1000], tmp_path / "log", as_torchrun(2)[0], before=impatience)
    assert rank.ends(60) == 2 and "an epoch has 6 batches" in rank.said()
