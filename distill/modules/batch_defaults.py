"""How many queries a batch has, and the learning rate beside it, where the user says neither: on a GPU batches of 64 leave it idle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Trainer

from distill.data.datamodule import BATCH_SIZE, RetrievalData
from distill.encoders.encoder import Encoder
from distill.files.configs import Configurable
from distill.files.ranks import max_over_ranks
from distill.records import BadInput

LEARNING_RATE = 1e-3  # for batches of BATCH_SIZE
LARGEST_ON_GPU = 512  # queries per rank and step
# that a layer keeps for each number of a token's state: twice what arXiv 2205.05198 counts in 16 bits, as autocast leaves sums in fp32
BYTES_PER_STATE = 68
STEPS_AT_LEAST = 500  # of an epoch: from the same texts, 2,000 steps of 64 queries teach more than 240 of 512 with a larger learning rate


def settle_batch(module: Any, data: RetrievalData, trainer: Trainer, before: Mapping[str, Any] | None = None) -> str | None:
    """Sets `data.batch_size` and `module.learning_rate` where the user gave none; a second call changes nothing.

    Args:
        module: a StudentModule, with its towers.
        data: its data, after their setup.
        trainer: the trainer, whose device and ranks count.
        before: configuration of `data` and `model` that an unfinished run was begun with, whose numbers are kept; None for a new run.

    Returns:
        A line about the numbers where a GPU's were chosen.
    """
    if module.has_numbers and before is None:
        return None
    has_no_size, has_no_rate = _is_open(data, "batch_size"), _is_open(module, "learning_rate")
    size = rate = message = None
    if before is not None:
        size, rate = before["data"].get("batch_size"), before["model"].get("learning_rate")
    elif has_no_size and has_no_rate and trainer.strategy.root_device.type == "cuda" and module.documents == "inherited":
        most = count_fitting(module.encoder, trainer.strategy.root_device)
        size = choose_batch_size(sum(draw.number for draw in data.count_draws()), trainer.world_size, most)
        rate = choose_learning_rate(size * trainer.world_size)
        numbers = f"batches of {size} queries and a learning rate of {rate:.3g}"
        message = f"a GPU trains: {numbers}; data.batch_size and model.learning_rate set others"
    if has_no_size:
        # the data may still have what was chosen for another student
        own = BATCH_SIZE if data.batch_size == data.chosen_size else data.batch_size
        data.batch_size = data.chosen_size = size or own
    if has_no_rate:
        module.learning_rate = rate or module.learning_rate
    module.has_numbers = True
    return message


def refuse_unequal_batches(size: int, device: torch.device) -> None:
    """Refuses on all ranks, each of which must call it, where their batches have different sizes: their GPUs may be of different kinds."""
    largest, smallest = max_over_ranks(size, device), -max_over_ranks(-size, device)
    if largest != smallest:
        raise BadInput(f"data.batch_size: the ranks chose {smallest} to {largest} queries, as their GPUs differ: set it")


def _is_open(part: Configurable, name: str) -> bool:
    """Whether an argument was left to its default, None."""
    return getattr(part, "init_args", {}).get(name, "unknown") is None


def count_fitting(student: Encoder, gpu: torch.device) -> int:
    """Counts the longest texts whose states, which the backward pass needs, take half of a GPU's memory."""
    if not student.transformer.has_layers:
        return LARGEST_ON_GPU
    config = student.backbone.config
    text = BYTES_PER_STATE * config.hidden_size * config.num_hidden_layers * student.settings.max_length
    return torch.cuda.get_device_properties(gpu).total_memory // 2 // text


def choose_batch_size(queries: int, ranks: int, most: int = LARGEST_ON_GPU) -> int:
    """The queries of a rank's batch on a GPU: 512, or half as many again and again, down to 64, until they fit and an epoch has steps.

    Args:
        queries: number of queries that an epoch draws.
        ranks: number of ranks.
        most: number of queries that fit into a GPU.

    >>> choose_batch_size(500_000, ranks=1), choose_batch_size(500_000, ranks=16), choose_batch_size(500_000, ranks=1, most=200)
    (512, 64, 128)
    """
    size = LARGEST_ON_GPU
    while size > BATCH_SIZE and (size > most or queries < STEPS_AT_LEAST * size * ranks):
        size //= 2
    return size


def choose_learning_rate(queries: int) -> float:
    """The learning rate for batches of so many queries, of all ranks together: it grows as the root of that, as AdamW's noise does.

    >>> choose_learning_rate(64), round(choose_learning_rate(256), 4), choose_learning_rate(512) == choose_learning_rate(4096)
    (0.001, 0.002, True)
    """
    return LEARNING_RATE * max(1.0, min(queries, LARGEST_ON_GPU) / BATCH_SIZE) ** 0.5
