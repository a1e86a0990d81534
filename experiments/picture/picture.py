"""Draws the picture of the README: what students keep of their teacher's quality against how long they take.

python experiments/picture/picture.py collect runs/picture/layers-*   # results.json of each run -> points.json
python experiments/picture/picture.py draw                            # points.json -> retention.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
POINTS, PICTURE = HERE / "points.json", HERE / "retention.svg"
METRIC, HEADING = "ndcg@10", "nDCG@10"
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 40, 60  # margins
KEPT_PROVENANCE = ("commit", "processor", "time")  # the part that a reader of the picture asks for
LATENCY = "one query at a time, one core"  # what evaluate measures


@dataclass(frozen=True)
class Point:
    """A model: milliseconds a query, and the share of the teacher's quality that it keeps, with the ends of its interval."""

    name: str
    milliseconds: float
    kept: float
    low: float
    high: float


@dataclass(frozen=True)
class Scale:
    """Maps a value to a place in the picture."""

    first: float
    last: float
    start: float  # place of `first`
    end: float  # place of `last`

    def place(self, value: float) -> float:
        return self.start + (value - self.first) / (self.last - self.first) * (self.end - self.start)


def collect(runs: Sequence[Path]) -> dict[str, Any]:
    """Reads the points of runs that `distill evaluate` has measured on the same queries: the teacher, then a student a run.

    The teacher's latency is its median over the runs. A student is named by the layers that its config.yaml keeps.
    """
    results = [json.loads((run / "results.json").read_text(encoding="utf-8")) for run in runs]
    datasets = {result["dataset"] for result in results}
    if len(datasets) != 1:
        raise SystemExit(f"the runs were measured on {', '.join(sorted(datasets))}: name runs of one data set")
    latencies = sorted(result["systems"]["teacher"]["query_latency_ms_p50"] for result in results)
    points = [Point("teacher", latencies[len(latencies) // 2], 1.0, 1.0, 1.0)]
    for run, result in zip(runs, results, strict=True):
        kept = result["retention"][METRIC]
        points.append(Point(name_student(run), result["systems"]["student"]["query_latency_ms_p50"], kept["value"], *kept["ci95"]))
    provenance = {key: results[0]["provenance"][key] for key in KEPT_PROVENANCE if key in results[0]["provenance"]}
    sources = [f"{run.name}/results.json" for run in runs]
    return {
        "dataset": datasets.pop(),
        "queries": results[0]["queries"],
        "latency": LATENCY,
        "provenance": {**provenance, "from": sources},
        "points": [asdict(point) for point in points],
    }


def name_student(run: Path) -> str:
    """Names a run's student by its number of layers: `2 layers`; by the name of the run where it has none."""
    config = run / "student" / "config.json"
    layers = json.loads(config.read_text(encoding="utf-8")).get("num_hidden_layers") if config.exists() else None
    if layers is None:
        return run.name
    return f"{layers} layer" if layers == 1 else f"{layers} layers"


def draw(data: dict[str, Any]) -> str:
    """Draws the SVG; it has no background, and text and lines that are readable on a light page and on a dark one."""
    points = [Point(**point) for point in data["points"]]
    x = Scale(0, nice_end(max(point.milliseconds for point in points)), LEFT, WIDTH - RIGHT)
    lowest = 5 * math.floor(20 * min(point.low for point in points))  # percent, a multiple of 5
    highest = 5 * math.ceil(20 * max(point.high for point in points))
    y = Scale(lowest / 100, highest / 100, HEIGHT - BOTTOM, TOP)
    parts = [*draw_grid(x, y, lowest, highest), *(part for point in points for part in draw_point(point, x, y))]
    title = f"Kept of the teacher's {HEADING} on {data['dataset']}, {data['queries']} queries, with 95% intervals"
    names = f"<title>{escape(title)}</title>" + f'<text class="dim" x="{LEFT}" y="20">{escape(title)}</text>'
    middle, label = (LEFT + WIDTH - RIGHT) / 2, escape(f"milliseconds a query ({data['latency']})")
    axis = f'<text class="dim" x="{middle:g}" y="{HEIGHT - 12}" text-anchor="middle">{label}</text>'
    return (
        "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">', STYLE, names, *parts, axis, "</svg>"]) + "\n"
    )


STYLE = """<style>
text { font: 14px system-ui, sans-serif; fill: #1f2328 } .dim { font-size: 12px; fill: #59636e }
.grid { stroke: #59636e; stroke-opacity: 0.25 } .whole { stroke: #59636e; stroke-dasharray: 4 4 }
.student { stroke: #d1521b; fill: #d1521b } .teacher { stroke: #0969da; fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid, .whole { stroke: #9198a1 }
.student { stroke: #ff8a52; fill: #ff8a52 } .teacher { stroke: #58a6ff; fill: #58a6ff } }
</style>"""


def nice_end(largest: float) -> float:
    """The end of an axis that begins at 0: `largest` rounded up to a half of its first digit.

    >>> nice_end(9.53), nice_end(41)
    (10.0, 45.0)
    """
    step = 10 ** math.floor(math.log10(largest)) / 2
    return math.ceil(largest / step) * step


def draw_grid(x: Scale, y: Scale, lowest: int, highest: int) -> list[str]:
    """Lines and labels of both axes; the teacher's 100% is a line of its own."""
    parts = []
    for percent in range(lowest, highest + 1, 5):
        place = y.place(percent / 100)
        kind = "whole" if percent == 100 else "grid"
        parts.append(f'<path class="{kind}" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="dim" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{percent}%</text>')
    for number in range(6):
        value = x.last * number / 5
        parts.append(f'<text class="dim" x="{x.place(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value:g}</text>')
    return parts


def draw_point(point: Point, x: Scale, y: Scale) -> list[str]:
    """A dot, the interval as a vertical line, and below it the name."""
    across, up = x.place(point.milliseconds), y.place(point.kept)
    kind = "teacher" if point.name == "teacher" else "student"
    lines = [point.name] if kind == "teacher" else [point.name, f"{point.kept:.1%}"]
    bottom = y.place(point.low) + 22
    texts = [
        f'<text x="{across:.1f}" y="{bottom + 17 * row:.1f}" text-anchor="middle">{escape(line)}</text>' for row, line in enumerate(lines)
    ]
    return [
        f'<path class="{kind}" stroke-width="2" d="M{across:.1f} {y.place(point.low):.1f}V{y.place(point.high):.1f}"/>',
        f'<circle class="{kind}" cx="{across:.1f}" cy="{up:.1f}" r="6"/>',
        *texts,
    ]


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["collect"] and len(arguments) > 1:
        POINTS.write_text(json.dumps(collect([Path(run) for run in arguments[1:]]), indent=2) + "\n", encoding="utf-8")
    elif list(arguments) == ["draw"]:
        PICTURE.write_text(draw(json.loads(POINTS.read_text(encoding="utf-8"))), encoding="utf-8")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
