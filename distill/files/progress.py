"""Progress of long work, a bar on a terminal and lines elsewhere, and the log of what the library did."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from distill.records import printable, printable_on

SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} gone, about {remaining} left, {rate_fmt}"

# The library logs here and never prints. The command line shows every line, a notebook only warnings unless it sets the level.
log = logging.getLogger("distill")


def show_log() -> None:
    """Prints what the library logs from now on: lines of `log.info` as they are, those of `log.warning` after "warning: "."""
    if not any(isinstance(handler, _PrintHandler) for handler in log.handlers):
        log.addHandler(_PrintHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


class _PrintHandler(logging.Handler):
    """Prints each line to the current standard output, which may have been replaced since the start."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        print(printable_on(sys.stdout, prefix + record.getMessage()), flush=True)


class _LineStream(io.TextIOBase):
    """Writes each redrawing of a bar to stderr as a line of its own."""

    def write(self, text: str) -> int:
        line = text.strip()
        if line:
            print(printable_on(sys.stderr, line), file=sys.stderr, flush=True)
        return len(text)


def progress_bar(iterable: Iterable[Any] | None = None, *, total: int, desc: str, unit: str, shown: bool = True) -> tqdm:
    """Makes a tqdm bar; where stderr is no terminal (nohup, SLURM, CI), it writes a line every 30 seconds instead.

    Args:
        iterable: the items to loop over; None where the caller counts by `bar.update(n)`.
        total: number of items.
        desc: what is being done.
        unit: what the items are, after a space: " texts".
        shown: False makes a bar that shows nothing.
    """
    desc = printable(desc, breaks=False)
    if not shown or sys.stderr is None or sys.stderr.isatty():  # None: closed by who started this
        return tqdm(iterable, total=total, desc=desc, unit=unit, disable=not shown)
    intervals: dict[str, Any] = dict.fromkeys(("delay", "mininterval", "maxinterval"), SECONDS_BETWEEN_LINES)
    return tqdm(iterable, total=total, desc=desc, unit=unit, file=_LineStream(), bar_format=LINE, leave=False, **intervals)
