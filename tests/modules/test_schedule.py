"""The learning rate by step, and that what is configured now wins over what a checkpoint brings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import rates
import torch
from commands import distill, train_arguments

from distill.modules.schedule import ScheduledModule, linear_schedule
from distill.records import BadInput


def test_it_rises_then_falls_to_0() -> None:
    factor = linear_schedule(warmup_steps=3, total_steps=8)
    assert [factor(step) for step in range(9)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_without_warmup_it_begins_at_the_top_and_never_goes_below_0() -> None:
    factor = linear_schedule(warmup_steps=0, total_steps=4)
    assert [factor(step) for step in (0, 2, 4, 9)] == [1.0, 0.5, 0.0, 0.0]


def test_the_learning_rate_configured_now_wins_over_a_checkpoints(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Six of twelve steps at one rate, the rest at another."""
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "first", "--trainer.max_steps", 6)) == 0
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    more = ["--ckpt_path", checkpoint, "--model.learning_rate", 0.0025, "--trainer.callbacks", "rates.Rates"]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "second", *more)) == 0
    state = torch.load(tmp_path / "second" / "checkpoints" / "last.ckpt", weights_only=True)
    assert {group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]} == {0.0025}
    (schedule,) = state["lr_schedulers"]
    assert schedule["base_lrs"] == [0.0025, 0.0025] and schedule["last_epoch"] == 12
    assert rates.Rates.seen == pytest.approx([0.0025 * (12 - step) / 12 for step in range(6, 12)])


def test_on_other_ranks_the_schedule_goes_on_where_it_was() -> None:
    """Half of a training of 10 epochs of 100 steps; on twice the ranks an epoch has 50."""
    module = ScheduledModule(1e-3, 0.1)
    trainer = SimpleNamespace(max_steps=-1, num_training_batches=50, accumulate_grad_batches=1, estimated_stepping_batches=500)
    trainer.train_dataloader = SimpleNamespace(epoch=5, position=0)
    trainer.fit_loop = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=5, started=6)))
    module._trainer = trainer
    assert module._measure_offset(500) == -250
    before = linear_schedule(int(module.warmup * 1000), 1000)
    now = module._schedule(-250)
    assert now(500) == pytest.approx(before(500), abs=2e-3) and now(749) == pytest.approx(before(999), abs=3e-3)
    trainer.num_training_batches, trainer.train_dataloader.position = 100, 20
    assert module._measure_offset(520) == 0


def test_after_an_epoch_that_was_cut_short_the_schedule_goes_on_where_it_was(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Batches of other sizes stand for other numbers of ranks: two of the epoch's batches were taken, and two are again."""
    short = ["--trainer.limit_train_batches", 2]
    first = ["--data.batch_size", 4, "--trainer.max_epochs", 1]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "first", *short, *first)) == 0
    more = ["--ckpt_path", tmp_path / "first" / "checkpoints" / "last.ckpt", "--trainer.callbacks", "rates.Rates"]
    second = ["--data.batch_size", 2, "--trainer.max_epochs", 4, "--model.learning_rate", 0.0025]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "second", *short, *second, *more)) == 0
    assert rates.Rates.seen[-6:] == pytest.approx([0.0025 * (8 - step) / 8 for step in range(2, 8)])


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none(rate: float) -> None:
    with pytest.raises(BadInput, match=r"learning_rate .* must be above 0"):
        ScheduledModule(rate, 0.1)
