"""metrics.jsonl: every logged number of a run, one line for each logged step."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from distill.files.atomic import write_atomically


class RunLog(Logger):
    """Writes `{"step": ..., "train/loss": ...}` lines; a resumed run first removes the lines from the step at which it resumes.

    Args:
        path: path of metrics.jsonl.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing, as config.yaml has the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Removes the lines from `step` on; the first step is 0."""
        if self.path.exists():
            write_lines(self.path, [line for line in read_lines(self.path) if line["step"] < step])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a metrics.jsonl; skips broken lines, such as a last line that a kill has cut off."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and type(values.get("step")) is int:
            lines.append(values)
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replaces the content of the file."""
    with write_atomically(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_csv(log: Path, path: Path) -> None:
    """Converts a metrics.jsonl to a CSV file with a column for every name."""
    lines = read_lines(log) if log.exists() else []
    names = list(dict.fromkeys(name for line in lines for name in line))
    with write_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
