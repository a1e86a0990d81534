"""The kinds of charts that the page's script draws, as plain values under the names that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from distill.metrics.retention import Interval

Chart = dict[str, Any]
Series = dict[str, Any]  # a name, and points or values
Point = dict[str, Any]  # x, y and maybe a label


def make_point(x: float, y: float, label: str | None = None) -> Point:
    """A point of a curve or cloud; its label is shown where somebody points at it."""
    point: Point = {"x": x, "y": y}
    return point if label is None else {**point, "label": label}


def bar_chart(title: str, x: str, y: str, bars: Sequence[tuple[str, float]], name: str, note: str = "") -> Chart:
    """A bar for each label; `name` is what the bars count."""
    labels, values = [label for label, _ in bars], [value for _, value in bars]
    series = [{"name": name, "values": values}]
    return {"title": title, "note": note, "kind": "bars", "x": x, "y": y, "labels": labels, "series": series}


def interval_chart(title: str, x: str, groups: Sequence[tuple[str, Interval]]) -> Chart:
    """A share with its 95% interval for each label."""
    labels = [label for label, _ in groups]
    values = [interval.value for _, interval in groups]
    ends = [[interval.low, interval.high] for _, interval in groups]
    return {
        "title": title, "note": "", "kind": "intervals", "share": True, "x": x, "y": "",
        "labels": labels, "values": values, "intervals": ends,
    }  # fmt: skip


def line_chart(title: str, x: str, series: list[Series], share: bool) -> Chart:
    """Curves; where `share` is set the script writes values as percent."""
    return {"title": title, "note": "", "kind": "lines", "x": x, "y": "", "share": share, "series": series}


def scatter_chart(title: str, x: str, y: str, series: list[Series], **options: Any) -> Chart:
    """Clouds of points; `options` are note, share, or diagonal for a line where x is y."""
    return {"title": title, "note": "", "kind": "scatter", "x": x, "y": y, "series": series, **options}


def number_charts(charts: Iterable[Chart]) -> list[Chart]:
    """Gives each chart the id by which the page knows its place."""
    return [{"id": f"chart{number}", **chart} for number, chart in enumerate(charts)]
