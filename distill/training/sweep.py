"""Runs the trainings of a wandb sweep file one after the other on this machine, without a wandb account."""

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

from distill.callbacks.run_log import read_lines
from distill.files.atomic import refuse_unreadable, write_atomically
from distill.files.fingerprints import fingerprint
from distill.files.locks import lock_folder
from distill.files.progress import log
from distill.files.yaml_files import read_yaml
from distill.records import BadInput, one_line

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OUT, ARGS = "${envvar:WANDB_RUN_ID}", "${args}"  # placeholders in the command of a sweep file, which a wandb agent would fill in
DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values")  # of numbers between min and max
Choice = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    choice: Choice  # the values of the parameters
    run: Path  # the run folder
    value: float | None  # the best value of the metric; None if the training failed or logged none


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep, best first, and the file that lists them; its `repr` is a table."""

    metric: str
    trials: list[Trial]
    path: Path

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the table, beginning with the column names."""
        rows = [[self.metric, *self.trials[0].choice, "run"]]
        for trial in self.trials:
            value = "failed" if trial.value is None else f"{trial.value:.4f}"
            rows.append([value, *map(json.dumps, trial.choice.values()), trial.run.name])
        return rows

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = []
        for row in self.rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells))
        return "\n".join(lines)


def sweep(file: str, out: str, trials: int = 20, seed: int = 0) -> Sweep:
    """Trains once for every choice of parameters in a sweep file, and writes a table of the results.

    The same command continues a sweep that was stopped; finished trainings are not repeated.

    Args:
        file: YAML in the format of wandb's sweeps: command, method (grid or random), metric, parameters. Nothing is sent to wandb.
        out: folder of the runs and of `results.tsv`.
        trials: number of choices that a random sweep draws.
        seed: seed of a random sweep's choices.
    """
    plan = read_sweep(Path(file))
    if trials < 1:
        raise BadInput(f"trials: {trials}: must be at least 1")
    with refuse_unreadable("a sweep", file):
        choices = list_choices(plan, trials, seed)
    with lock_folder(Path(out)):  # two sweeps would take each other's trainings for failed ones
        return _run_trials(plan, choices, Path(out))


def _run_trials(plan: dict[str, Any], choices: list[Choice], out: Path) -> Sweep:
    metric, goal = plan["metric"]["name"], plan["metric"]["goal"]
    results = []
    for number, choice in enumerate(choices, start=1):
        run = out / fingerprint(choice)[:8]
        log.info(f"{number}/{len(choices)}: {json.dumps(choice)} in {run}")
        exit_code = run_trial([sys.executable, "-m", "distill", *make_trial_arguments(plan["command"], choice, run)])
        results.append(Trial(choice, run, None if exit_code else find_best_value(run, metric, goal)))
    sign = -1 if goal == "maximize" else 1
    results.sort(key=lambda trial: math.inf if trial.value is None else sign * trial.value)
    outcome = Sweep(metric, results, out / "results.tsv")
    with write_atomically(outcome.path) as temporary:
        temporary.write_text("".join("\t".join(row) + "\n" for row in outcome.rows), encoding="utf-8")
    return outcome


def list_choices(plan: dict[str, Any], trials: int, seed: int) -> list[Choice]:
    """Lists the choices of a grid or of a random sweep."""
    if plan["method"] == "grid":
        return list(list_grid(plan["parameters"]))
    return list(sample_choices(plan["parameters"], trials, seed))


def run_trial(command: list[str]) -> int:
    """Runs a training and returns its exit code. A signal ends the sweep, after the training has saved a checkpoint."""
    signals: list[int] = []
    trial = subprocess.Popen(command)

    def stop(number: int, _: object) -> None:
        signals.append(number)
        if number != signal.SIGINT:  # the terminal sends Ctrl-C to the trial too, and a second one would end it at once
            trial.send_signal(number)

    heeded = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP, for the trial too
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        code = trial.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    signals += [number for number in STOPS if code in (128 + number, -number)]  # after a checkpoint, or before the first
    if signals:
        raise SystemExit(128 + signals[0])
    return code


def read_sweep(path: Path) -> dict[str, Any]:
    """Reads a sweep file; refuses one in which something is missing that a local sweep needs."""
    try:
        plan = read_yaml(path)
    except OSError as error:
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
        if "min" in choice and choice.get("distribution", "uniform") not in DISTRIBUTIONS:
            given = choice["distribution"]
            raise BadInput(f"{path}: parameters.{name}: distribution: {given!r} is none of {', '.join(DISTRIBUTIONS)}: name one of these")
        if choice.get("distribution") == "int_uniform" and not all(isinstance(choice.get(end, 0), int) for end in ("min", "max")):
            raise BadInput(f"{path}: parameters.{name}: int_uniform draws whole numbers: write min and max as such")
        if "probabilities" in choice:
            raise BadInput(
                f"{path}: parameters.{name}: probabilities: each value is drawn as often here: leave them out, or name a value twice"
            )
        if plan["method"] == "grid" and "min" in choice:
            raise BadInput(f"{path}: parameters.{name}: a grid has no end between min and max: list values, or set method: random")
    return plan


def list_grid(parameters: dict[str, Any]) -> Iterator[Choice]:
    """Yields every combination of values, in the order of the file."""
    values = [choice["values"] if "values" in choice else [choice["value"]] for choice in parameters.values()]
    return (dict(zip(parameters, combination, strict=True)) for combination in itertools.product(*values))


def sample_choices(parameters: dict[str, Any], trials: int, seed: int) -> Iterator[Choice]:
    """Draws each parameter independently: one of its values, or a number between min and max.

    The number is an integer if min and max are, unless the distribution is `uniform`; `log_uniform_values` draws it on a log scale.
    """
    random = np.random.default_rng(seed)
    for _ in range(trials):
        yield {name: _draw(choice, random) for name, choice in parameters.items()}


def _draw(choice: dict[str, Any], random: np.random.Generator) -> Any:
    if "min" not in choice:
        values = choice.get("values", [choice.get("value")])
        return values[int(random.integers(len(values)))]
    low, high = choice["min"], choice["max"]
    if choice.get("distribution") == "log_uniform_values":
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    if choice.get("distribution") != "uniform" and isinstance(low, int) and isinstance(high, int):
        return int(random.integers(low, high + 1))
    return float(random.uniform(low, high))


def make_trial_arguments(command: list[str], choice: Choice, run: Path) -> list[str]:
    """Fills the placeholders in the command of one trial; returns it without the program's name, and with tracking switched off."""
    arguments = []
    for part in command[1:]:
        if part == ARGS:
            arguments += [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in choice.items()]
        else:
            arguments.append(str(run) if part == OUT else str(part))
    return [*arguments, "--tracking", "none"]


def find_best_value(run: Path, metric: str, goal: str) -> float | None:
    """Finds the best value of a metric in the log of a run; None if it logged none."""
    values = [line[metric] for line in read_lines(run / "metrics.jsonl") if metric in line and math.isfinite(line[metric])]
    return (max if goal == "maximize" else min)(values, default=None)
