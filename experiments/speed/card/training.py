"""Training steps of students, by `distill.train`, and of a loop without a framework over the same batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor

import distill
from card.device import Card
from card.report import OPERATIONS, TRAINING, Report, name_training
from card.sizes import Shape
from card.world import World

TEMPERATURE = 0.05


class Stopwatch(Callback):
    """Times `steps` steps of a training after `warm_up` ones, from the start of a step to the start of another.

    Attributes:
        batches: those of the steps, on the card.
        seconds: what the steps took; 0 where the training was too short.
    """

    def __init__(self, warm_up: int, steps: int):
        self.first, self.last = warm_up, warm_up + steps
        self.batches: list[Any] = []
        self.seconds, self._seen, self._begin = 0.0, 0, 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if self._seen == self.first:
            self.begin()
        elif self._seen == self.last:
            self.end()
        if self.first <= self._seen < self.last:
            self.batches.append(batch)
        self._seen += 1

    def begin(self) -> None:
        torch.cuda.synchronize()
        self._begin = time.perf_counter()

    def end(self) -> None:
        torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._begin

    @property
    def needed(self) -> int:
        """Steps that the training has to take."""
        return self.last + 1


def token_shapes(batch: Any) -> list[tuple[int, int]]:
    """(texts, tokens of each, padding included) of every part of a batch that goes through a model."""
    ids = getattr(batch, "input_ids", None)
    if isinstance(ids, Tensor):
        return [(ids.shape[0], ids.shape[1])]
    if isinstance(batch, list):
        return [shape for part in batch for shape in token_shapes(part)]
    fields = [field.name for field in dataclasses.fields(batch)] if dataclasses.is_dataclass(batch) else []
    return [shape for name in fields for shape in token_shapes(getattr(batch, name))]


def bound_steps(card: Card, shape: Shape, layers: int, batches: list[Any]) -> float:
    """Steps a second if a step were nothing but its matrix products, at the rate that the card reaches with as many tokens."""
    shapes = [part for batch in batches for part in token_shapes(batch)]
    tokens = sum(count * length for count, length in shapes) // len(shapes)  # of a part
    rate = card.product_rate(tokens, shape.width, shape.inner)
    return len(batches) * rate / count_products(shape, layers, batches)


def count_products(shape: Shape, layers: int, batches: list[Any]) -> float:
    """Operations of the matrix products of steps; the backward pass has twice those of the forward pass."""
    return 3 * shape.forward_products([part for batch in batches for part in token_shapes(batch)], layers)


def train(
    world: World, name: str, layers: int, batch_size: int, candidates: int, watch: Stopwatch, **options: Any
) -> tuple[distill.StudentModule, distill.Run]:
    """Trains as many steps as the stopwatch needs, as a user does."""
    losses: dict[str, distill.Loss] = {"matching": distill.QueryMatching()}
    if candidates:
        losses["scores"] = distill.ScoreDistillation(weight=0.1)
    module = distill.StudentModule(distill.StudentFromTeacher(layers), losses)
    data = distill.RetrievalData(world.source(), str(world.store), candidates=candidates, batch_size=batch_size)
    settings = {"accelerator": "gpu", "devices": 1, "max_epochs": -1, "max_steps": watch.needed, "limit_val_batches": 0}
    folder = world.folder / "runs" / name.replace(" ", "-").replace(",", "")
    run = distill.train(module, data, folder, callbacks=[watch], **{**settings, **options})
    return module, run


def make_bare_loop(card: Card, module: distill.StudentModule, batches: list[Any], candidates: int) -> Callable[[], None]:
    """The mathematics of the same steps: no loader, no look-ups, no framework."""
    encoder = module.encoder.prepare_for(card.device)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)
    size = len(batches[0].queries.input_ids)
    targets = F.normalize(card.random(size, encoder.width), dim=1)
    documents = F.normalize(card.random(size, candidates, encoder.width, seed=1), dim=2) if candidates else None

    def loop() -> None:
        for batch in batches:
            with torch.autocast("cuda", card.dtype, enabled=card.dtype == torch.bfloat16):
                vectors = encoder(batch.queries)
            loss = (vectors.float() - targets).norm(dim=1).mean()
            if documents is not None:
                scores = [torch.einsum("bd,bkd->bk", side, documents) / TEMPERATURE for side in (vectors.float(), targets)]
                loss = loss + F.kl_div(scores[0].log_softmax(1), scores[1].softmax(1), reduction="batchmean")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return loop


def measure(card: Card, world: World, report: Report) -> None:
    sizes = world.sizes
    for batch_size in sizes.batches:
        for layers in sizes.student_layers:
            for candidates in sizes.candidates:
                name, column, steps = name_training(layers, candidates), f"batch {batch_size:,}", sizes.steps(batch_size)
                watch = Stopwatch(sizes.warm_up, steps)
                module, _ = train(world, f"{name} {batch_size}", layers, batch_size, candidates, watch)
                bound = batch_size * bound_steps(card, sizes.teacher, layers, watch.batches)
                rate = batch_size * steps / watch.seconds
                note = {"bound": bound, "bound_is": "products of the step's own shape", "dtype": str(card.dtype), "steps": steps}
                note[OPERATIONS] = count_products(sizes.teacher, layers, watch.batches) / watch.seconds
                report.add("training", name, column, rate, "queries/s", least_share=TRAINING, **note)
                loop = make_bare_loop(card, module, watch.batches, candidates)
                bare = batch_size * steps / card.seconds(loop)
                report.add("training", f"{name}: bare loop", column, bare, "queries/s", bound=bound, distill_to_bare=rate / bare)
