"""How often the host waits for the card in a training step, by place."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from card.device import Card
from card.report import WAITS, Report, name_training
from card.teach import teach
from card.training import Stopwatch, train
from card.world import World

QUIET = {"log_every_n_steps": 1000}  # a line of the log reads its numbers from the card


class WaitCounter(Stopwatch):
    """Counts the waits of the steps that a stopwatch would time."""

    def __init__(self, card: Card, warm_up: int, steps: int):
        super().__init__(warm_up, steps)
        self.card, self.steps = card, steps
        self.waits: Counter[str] = Counter()
        self._counting = ExitStack()

    def begin(self) -> None:
        self.waits = self._counting.enter_context(self.card.counted_waits())

    def end(self) -> None:
        self._counting.close()

    def report(self, report: Report, row: str) -> None:
        places = {place: round(count / self.steps, 3) for place, count in self.waits.most_common()}
        report.add("waits", row, "waits", sum(self.waits.values()) / self.steps, "a step", most=WAITS, places=places)


def measure(card: Card, world: World, report: Report) -> None:
    sizes = world.sizes
    steps, batch_size, layers = min(10, sizes.least_steps), sizes.batches[0], sizes.student_layers[0]
    rows = [(name_training(layers, candidates), candidates, QUIET) for candidates in sizes.candidates]
    rows.append((f"{name_training(layers, 0)}, clipped", 0, {**QUIET, "gradient_clip_val": 1.0}))
    for row, candidates, options in rows:
        counter = WaitCounter(card, sizes.warm_up, steps)
        train(world, f"waits {row}", layers, batch_size, candidates, counter, **options)
        counter.report(report, row)
    counter = WaitCounter(card, sizes.warm_up, steps)
    teach(world, "DualTeacher", world.teacher, counter, **QUIET)
    counter.report(report, "DualTeacher")
