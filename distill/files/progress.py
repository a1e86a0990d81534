"""How long work tells where it is: a progress bar on a terminal, elsewhere a line now and then, and a log of what was done."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} gone, about {remaining} left, {rate_fmt}"

# The library says what it did here and never prints: the command line shows it, a notebook sees warnings alone unless it asks for more.
log = logging.getLogger("distill")


def show_log() -> None:
    """Prints what the library logs from now on: lines of `log.info` as they are, those of `log.warning` after the word "warning"."""
    if not any(isinstance(handler, _Printer) for handler in log.handlers):
        log.addHandler(_Printer())
    log.setLevel(logging.INFO)
    log.propagate = False


class _Printer(logging.Handler):
    """Prints to whatever standard output is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        print(prefix + record.getMessage(), flush=True)


class _Lines(io.TextIOBase):
    """Writes each redrawing of a bar to stderr as a line of its own."""

    def write(self, text: str) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)


def progress_bar(iterable: Iterable[Any] | None = None, *, total: int, desc: str, unit: str, shown: bool = True) -> tqdm:
    """Returns tqdm's bar; where stderr is a file (nohup, SLURM, CI), one that writes a line every 30 seconds instead."""
    if not shown or sys.stderr.isatty():
        return tqdm(iterable, total=total, desc=desc, unit=unit, disable=not shown)
    seldom: dict[str, Any] = dict.fromkeys(("delay", "mininterval", "maxinterval"), SECONDS_BETWEEN_LINES)
    return tqdm(iterable, total=total, desc=desc, unit=unit, file=_Lines(), bar_format=LINE, leave=False, **seldom)
