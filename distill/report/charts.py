"""Makes the charts of a report as plain values, in the format that page.js reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from distill.metrics.retention import Interval

Chart = dict[str, Any]
Series = dict[str, Any]  # keys: name, and points or values
Point = dict[str, Any]  # keys: x, y and optionally label


def make_point(x: float, y: float, label: str | None = None) -> Point:
    """Makes a point of a curve or scatter chart; its label is shown under the mouse pointer."""
    point: Point = {"x": x, "y": y}
    return point if label is None else {**point, "label": label}


def bar_chart(title: str, x: str, y: str, bars: Sequence[tuple[str, float]], name: str, note: str = "") -> Chart:
    """Makes a chart with a bar for each label; `name` is the quantity that the bars show."""
    labels = [label for label, _ in bars]
    values = [value for _, value in bars]
    series = [{"name": name, "values": values}]
    return {"title": title, "note": note, "kind": "bars", "x": x, "y": y, "labels": labels, "series": series}


def interval_chart(title: str, x: str, groups: Sequence[tuple[str, Interval]]) -> Chart:
    """Makes a chart of a share with its 95% interval for each label."""
    labels = [label for label, _ in groups]
    values = [interval.value for _, interval in groups]
    ends = [[interval.low, interval.high] for _, interval in groups]
    return {
        "title": title, "note": "", "kind": "intervals", "share": True, "x": x, "y": "",
        "labels": labels, "values": values, "intervals": ends,
    }  # fmt: skip


def line_chart(title: str, x: str, series: list[Series], share: bool) -> Chart:
    """Makes a chart of curves; `share` formats the values as percent."""
    return {"title": title, "note": "", "kind": "lines", "x": x, "y": "", "share": share, "series": series}


def scatter_chart(title: str, x: str, y: str, series: list[Series], **options: Any) -> Chart:
    """Makes a chart of points; `options` are note, share, or diagonal, which draws the line x = y."""
    return {"title": title, "note": "", "kind": "scatter", "x": x, "y": y, "series": series, **options}


def number_charts(charts: Iterable[Chart]) -> list[Chart]:
    """Gives each chart the id of its element in the page."""
    return [{"id": f"chart{number}", **chart} for number, chart in enumerate(charts)]
