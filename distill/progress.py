"""How far long work is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} gone, about {remaining} left, {rate_fmt}"


class _Lines(io.TextIOBase):
    """What redraws a bar on a terminal, as lines of their own on stderr."""

    def write(self, text: str) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)


def progress_bar(iterable: Iterable[Any] | None = None, *, total: int, desc: str, unit: str, shown: bool = True) -> tqdm:
    """tqdm's bar; where stderr is a file (nohup, SLURM, CI), a line every half minute of work that takes longer."""
    if not shown or sys.stderr.isatty():
        return tqdm(iterable, total=total, desc=desc, unit=unit, disable=not shown)
    seldom: dict[str, Any] = dict.fromkeys(("delay", "mininterval", "maxinterval"), SECONDS_BETWEEN_LINES)
    return tqdm(iterable, total=total, desc=desc, unit=unit, file=_Lines(), bar_format=LINE, leave=False, **seldom)
