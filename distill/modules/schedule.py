"""The base class of all modules: its learning rate rises, then falls linearly to 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from distill.files.configs import Configurable
from distill.records import BadInput


class ScheduledModule(Configurable, LightningModule):
    """A LightningModule with a schedule of the learning rate; a subclass computes the loss and makes the optimizer.

    Args:
        learning_rate: highest learning rate, at the end of the warm-up.
        warmup: share of all steps in which the learning rate rises.
    """

    def __init__(self, learning_rate: float, warmup: float):
        super().__init__()
        if not 0 < learning_rate < math.inf or not 0 <= warmup < 1:
            raise BadInput(f"model: learning_rate {learning_rate} must be above 0, warmup {warmup} a share of the steps, 0 to below 1")
        self.learning_rate = learning_rate
        self.warmup = warmup
        self._has_loss = False  # whether a GPU's loss was logged, which callbacks may ask for from the first step on

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimizer of all trained parameters."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def log_losses(self, loss: Tensor, terms: Mapping[str, Tensor] | None = None) -> None:
        """Logs the loss of a step as `train/loss`, and each of its terms by name.

        Those of a GPU come to the host in one copy, at the first step, at those whose numbers are written, and at the end of an epoch: more
        often, the host would wait for the GPU. For the same reason Lightning's own progress bar, which shows each step, has no loss there.
        """
        values = {f"train/{name}": value.detach() for name, value in {**(terms or {}), "loss": loss}.items()}
        if loss.is_cuda:
            trainer: Any = self.trainer
            is_written = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
            if self._has_loss and not is_written and not trainer.is_last_batch:
                return
            self._has_loss = True
            values = dict(zip(values, torch.stack(list(values.values())).cpu(), strict=True))
        total = values.pop("train/loss")
        self.log_dict(values)
        self.log("train/loss", total, prog_bar=not loss.is_cuda)

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips the gradients before a step.

        Lightning refuses to where a fused optimizer trains under mixed precision. But only fp16 has gradients that such an optimizer scales
        back itself, and these have no fused optimizer here (see `make_adamw`).
        """
        if not (gradient_clip_val and getattr(optimizer, "is_fused", False)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_train_start(self) -> None:
        """Replaces the learning rate and schedule of a checkpoint by those that are configured now, unless a subclass has its own."""
        if type(self).configure_optimizers is not ScheduledModule.configure_optimizers:
            return
        scheduler: Any = self.lr_schedulers()
        groups, schedule = scheduler.optimizer.param_groups, self._schedule(self._measure_offset(scheduler.last_epoch))
        scheduler.base_lrs = [self.learning_rate] * len(groups)
        scheduler.lr_lambdas = [schedule] * len(groups)
        for group in groups:
            group["initial_lr"] = self.learning_rate
            group["lr"] = self.learning_rate * schedule(scheduler.last_epoch)

    def _measure_offset(self, steps: int) -> int:
        """What to add to `steps`, which other numbers of ranks took, to get the steps of these ranks: below 0 where there are more now."""
        trainer: Any = self.trainer
        loader = trainer.train_dataloader
        if trainer.max_steps != -1 or not hasattr(loader, "position"):
            return 0
        batches, epochs = trainer.accumulate_grad_batches, trainer.fit_loop.epoch_progress.current
        steps_per_epoch = math.ceil(trainer.num_training_batches / batches)
        if epochs.processed and epochs.processed == epochs.started:  # between two epochs; the last one may have been cut short
            return epochs.processed * steps_per_epoch - steps
        return loader.epoch * steps_per_epoch + math.ceil(loader.position / batches) - steps

    def _schedule(self, offset: int = 0) -> Callable[[int], float]:
        """The factor of the learning rate by the step that the trainer counts; `offset` is added to it first."""
        steps = int(self.trainer.estimated_stepping_batches)
        factor = linear_schedule(int(self.warmup * steps), steps)
        return lambda step: factor(step + offset)


def linear_schedule(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Returns a function from a step to the factor of the learning rate, which rises linearly to 1, then falls linearly to 0.

    Unlike the schedule of transformers it does not begin at 0, so that no step of a short training is lost.

    >>> factor = linear_schedule(warmup_steps=1, total_steps=5)
    >>> [factor(step) for step in range(6)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    return factor
