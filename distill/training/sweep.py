"""The trainings of a wandb sweep file, run here one after the other, without an account."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from distill.callbacks.run_log import read_lines
from distill.files.atomic import refuse_unreadable, write_atomically
from distill.files.fingerprints import fingerprint
from distill.files.progress import log
from distill.records import BadInput, one_line

STOPS = (signal.SIGINT, signal.SIGTERM)
OUT, ARGS = "${envvar:WANDB_RUN_ID}", "${args}"  # as wandb writes what an agent fills in
Choice = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep: what was chosen, where it is, and the best value it logged; None where it failed or logged none."""

    choice: Choice
    run: Path
    value: float | None


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep, best first, and the file that lists them; `repr` is the table of a terminal."""

    metric: str
    trials: list[Trial]
    path: Path

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the table, heads first."""
        rows = [[self.metric, *self.trials[0].choice, "run"]]
        for trial in self.trials:
            value = "failed" if trial.value is None else f"{trial.value:.4f}"
            rows.append([value, *map(json.dumps, trial.choice.values()), trial.run.name])
        return rows

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in self.rows)


def sweep(file: str, out: str, trials: int = 20, seed: int = 0) -> Sweep:
    """Trains once for every choice of parameters in a sweep file, and leaves a table of what came out.

    The same command goes on with a sweep that was stopped: what is trained is not trained again.

    Args:
        file: YAML in the form of wandb's sweeps: command, method (grid or random), metric, parameters. Nothing is sent to wandb.
        out: folder of the runs and of `results.tsv`.
        trials: how many choices a random sweep draws.
        seed: of a random sweep's choices.
    """
    plan = read_sweep(Path(file))
    if trials < 1:
        raise BadInput(f"trials: {trials}: must be at least 1")
    with refuse_unreadable("a sweep", file):
        choices = list_choices(plan, trials, seed)
    metric, goal = plan["metric"]["name"], plan["metric"]["goal"]
    results = []
    for number, choice in enumerate(choices, start=1):
        run = Path(out) / fingerprint(choice)[:8]
        log.info(f"{number}/{len(choices)}: {json.dumps(choice)} in {run}")
        exit_code = run_trial([sys.executable, "-m", "distill", *trial_arguments(plan["command"], choice, run)])
        results.append(Trial(choice, run, None if exit_code else best_logged(run, metric, goal)))
    sign = -1 if goal == "maximize" else 1
    results.sort(key=lambda trial: math.inf if trial.value is None else sign * trial.value)
    outcome = Sweep(metric, results, Path(out) / "results.tsv")
    with write_atomically(outcome.path) as temporary:
        temporary.write_text("".join("\t".join(row) + "\n" for row in outcome.rows), encoding="utf-8")
    return outcome


def list_choices(plan: dict[str, Any], trials: int, seed: int) -> list[Choice]:
    """The choices of a grid, or of a random sweep."""
    if plan["method"] == "grid":
        return list(list_grid(plan["parameters"]))
    return list(sample_choices(plan["parameters"], trials, seed))


def run_trial(command: list[str]) -> int:
    """The exit code of a training. A signal ends the sweep, but leaves the training the time to save a checkpoint."""
    signals: list[int] = []
    trial = subprocess.Popen(command)

    def stop(number: int, _: object) -> None:
        signals.append(number)
        if number == signal.SIGTERM:  # Ctrl-C reaches the trial from the terminal: twice, and it would leave at once
            trial.terminate()

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        code = trial.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    signals += [number for number in STOPS if code in (128 + number, -number)]  # with a checkpoint, or before there was one
    if signals:
        raise SystemExit(128 + signals[0])
    return code


def read_sweep(path: Path) -> dict[str, Any]:
    """A sweep file with everything in it that a local sweep needs."""
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a readable YAML file ({one_line(error, 1000)})") from None
    keys = {"command": list, "method": str, "metric": dict, "parameters": dict}
    for key, kind in keys.items():
        if not isinstance(plan, dict) or not isinstance(plan.get(key), kind) or not plan[key]:
            raise BadInput(f"{path}: {key}: missing or not a {kind.__name__}: a sweep has {', '.join(keys)}")
    if plan["method"] not in ("grid", "random"):
        raise BadInput(f"{path}: method: {plan['method']!r} is none of grid, random; others run with wandb sweep")
    if plan["metric"].get("goal") not in ("maximize", "minimize") or "name" not in plan["metric"]:
        raise BadInput(f"{path}: metric: needs a name and a goal, maximize or minimize")
    if ARGS not in plan["command"] or OUT not in plan["command"]:
        raise BadInput(f"{path}: command: needs --out {OUT} and {ARGS}")
    for name, choice in plan["parameters"].items():
        if not isinstance(choice, dict) or not ({"value", "values"} & choice.keys() or {"min", "max"} <= choice.keys()):
            raise BadInput(f"{path}: parameters.{name}: needs value, values, or min and max")
        if not isinstance(choice.get("values", [0]), list) or not choice.get("values", [0]):
            raise BadInput(f"{path}: parameters.{name}: values: list one or more")
        if plan["method"] == "grid" and "min" in choice:
            raise BadInput(f"{path}: parameters.{name}: a grid has no end between min and max: list values, or set method: random")
    return plan


def list_grid(parameters: dict[str, Any]) -> Iterator[Choice]:
    """Every combination, in the file's order."""
    values = [choice["values"] if "values" in choice else [choice["value"]] for choice in parameters.values()]
    return (dict(zip(parameters, combination, strict=True)) for combination in itertools.product(*values))


def sample_choices(parameters: dict[str, Any], trials: int, seed: int) -> Iterator[Choice]:
    """Independent draws: of listed values, whole numbers between whole ends, or numbers, on a log scale where the file says so."""
    random = np.random.default_rng(seed)
    for _ in range(trials):
        yield {name: _draw(choice, random) for name, choice in parameters.items()}


def _draw(choice: dict[str, Any], random: np.random.Generator) -> Any:
    if "min" not in choice:
        listed = choice.get("values", [choice.get("value")])
        return listed[int(random.integers(len(listed)))]
    low, high = choice["min"], choice["max"]
    if choice.get("distribution") == "log_uniform_values":
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    return int(random.integers(low, high + 1)) if isinstance(low, int) and isinstance(high, int) else float(random.uniform(low, high))


def trial_arguments(command: list[str], choice: Choice, run: Path) -> list[str]:
    """The command of one trial without the program's name; what wandb would be told stays here."""
    chosen = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in choice.items()]
    words = [word for part in command[1:] for word in (chosen if part == ARGS else [str(run) if part == OUT else str(part)])]
    return [*words, "--tracking", "none"]


def best_logged(run: Path, metric: str, goal: str) -> float | None:
    """The best value of a metric that a run logged; None where it logged none."""
    values = [line[metric] for line in read_lines(run / "metrics.jsonl") if metric in line]
    return (max if goal == "maximize" else min)(values, default=None)
