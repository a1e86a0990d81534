"""The table of a plan: times, bytes and what each step does, in words for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from distill.planning.steps import Step

UNKNOWN = "?"
UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))  # seconds of each, largest first
SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
HEADINGS = ("", "time", "disk", "memory", "GPU", "")


def format_seconds(seconds: float | None) -> str:
    """Writes a time in the largest unit of which there are two or more.

    >>> [format_seconds(seconds) for seconds in (0.05, 100, 121, 62_000, 180_000, None)]
    ['0.05 s', '100 s', '2.0 min', '17 h', '2.1 days', '?']
    """
    if seconds is None:
        return UNKNOWN
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 2 * size), UNITS[-1])
    return f"{format_digits(seconds / size)} {unit}"


def format_bytes(count: int | None) -> str:
    """Writes a number of bytes; "" for none.

    >>> [format_bytes(count) for count in (None, 0, 512, 19_112_960, 6_790_520_064)]
    ['', '0', '512 B', '19 MB', '6.8 GB']
    """
    if not count:
        return "" if count is None else "0"
    size, unit = next(((size, unit) for size, unit in SIZES if count >= size), (1, "B"))
    return f"{format_digits(count / size)} {unit}"


def format_digits(number: float) -> str:
    """Writes a number with two digits that say something, or all before the point.

    >>> [format_digits(number) for number in (0.0512, 2.04, 19.1, 640.7)]
    ['0.051', '2.0', '19', '641']
    """
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def format_table(steps: Sequence[Step], total: Step, has_gpus: bool) -> list[str]:
    """Writes a line for each step and one for all of them."""
    rows = [HEADINGS, *(_list_cells(step) for step in [*steps, total])]
    if not has_gpus:
        rows = [(*row[:4], row[5]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_join_cells(row, widths) for row in rows]


def _list_cells(step: Step) -> tuple[str, ...]:
    sizes = (format_bytes(step.disk), format_bytes(step.memory), format_bytes(step.gpu_memory))
    return step.name, format_seconds(step.seconds), *sizes, step.about


def _join_cells(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, about = row
    cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))]
    return "  ".join([*cells, about]).rstrip()
