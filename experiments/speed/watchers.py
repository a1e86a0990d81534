"""What watching a training costs: the same training with and without the watchers and a tracker, in turn.

    watchers.py --rounds 3 --json FILE -- OPTIONS OF distill train WITHOUT --out

Seconds are of the loop; what the watchers do once, before the first step, has a row of its own. The rows that include it are for a
training --times as long as the one that is run.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import figure, report
from pytorch_lightning import Callback

from distill.callbacks.dev_evaluation import DevWatcher
from distill.callbacks.examples import Examples
from distill.callbacks.health import Health
from distill.callbacks.meter import Meter
from distill.callbacks.theory import Theory
from distill.cli.main import main as distill
from distill.training import settings, train

START, STEP, EVALUATION = "before the first step", "in steps", "in evaluations"
WATCHERS = settings.list_watchers


def now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """Seconds [wall, CPU] of a training, and of the watchers' hooks within it by their kind; a hook called by another counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
        self._inside = False

    def timed(self, kind: str, call: Any) -> Any:
        @functools.wraps(call)
        def wrapped(*given: Any, **named: Any) -> Any:
            if self._inside and kind != "fit":
                return call(*given, **named)
            start, self._inside = now(), kind != "fit"
            try:
                return call(*given, **named)
            finally:
                self.seconds[kind] += now() - start
                self._inside = False

        return wrapped

    def watch(self) -> None:
        """Wraps every hook of the watchers' classes."""
        for kind in (DevWatcher, Health, Theory, Meter, Examples):
            for name in [name for name in vars(kind) if name.startswith("on_")]:
                setattr(kind, name, self.timed(choose_part(name), getattr(kind, name)))


def choose_part(hook: str) -> str:
    """When a hook of that name is called."""
    if hook in ("on_fit_start", "on_train_start"):
        return START
    return EVALUATION if "validation" in hook or hook == "on_dev" else STEP


def trained(clock: Clock, options: list[str], watched: bool, tracking: str) -> dict[str, np.ndarray]:
    """Seconds of one training: of all of it as `fit`, and within the watchers."""
    clock.seconds.clear()

    def alone(evaluation: Callback, out: Path) -> list[Callback]:
        return [evaluation]

    settings.list_watchers = WATCHERS if watched else alone
    with tempfile.TemporaryDirectory() as folder:
        code = distill(["train", *options, "--tracking", tracking if watched else "none", "--out", f"{folder}/run"])
    assert code == 0
    return dict(clock.seconds)


def figures(rounds: list[list[dict[str, np.ndarray]]], number: int, unit: str, times: float) -> list[dict[str, Any]]:
    """By one of the two clocks; medians over the rounds, of which each is a training without and one with."""
    bare = [pair[0]["fit"][number] for pair in rounds]
    own = {part: float(np.median([pair[1][part][number] for pair in rounds])) for part in (START, STEP, EVALUATION)}
    ours = [pair[1]["fit"][number] - pair[1][START][number] for pair in rounds]
    more = float(np.median(np.divide(ours, bare))) - 1
    loop = float(np.median(bare))
    start = own[START] / (times * loop)
    return [
        figure("the loop without watchers", loop, f"{unit} s"),
        figure("with them", float(np.median(ours)), f"{unit} s"),
        *(figure(f"watchers' own time {part}", seconds, f"{unit} s") for part, seconds in own.items()),
        figure("the loop takes longer by, with the tracker", 100 * more, f"% of {unit} s"),
        figure("watchers' own time, start included", 100 * ((own[STEP] + own[EVALUATION]) / loop + start), f"% of {unit} s"),
        figure("longer by, start included", 100 * (more + start), f"% of {unit} s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tracking", default="tensorboard", help="what the watched training is shown by")
    parser.add_argument("--times", type=float, default=1, help="how many times as long a whole training is")
    parser.add_argument("options", nargs="+", help="of distill train, after --")
    given = parser.parse_args()
    clock = Clock()
    clock.watch()
    train.fit_to_end = clock.timed("fit", train.fit_to_end)
    trained(clock, given.options, True, given.tracking)  # warm-up: caches, imports
    rounds = [[trained(clock, given.options, watched, given.tracking) for watched in (False, True)] for _ in range(given.rounds)]

    rows = [row for number, clock_name in enumerate(("wall", "CPU")) for row in figures(rounds, number, clock_name, given.times)]
    given.threads, given.device = [torch.get_num_threads()], "cpu"
    setting = {"options": given.options, "tracking": given.tracking, "rounds": given.rounds}
    report("watchers", given, setting, rows)


if __name__ == "__main__":
    main()
