"""What a training logged, by name: losses, metrics on dev, speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distill.callbacks.run_log import read_lines
from distill.records import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Curve(NamedTuple):
    """The values of one name and the steps at which they were logged; the first step is 0."""

    steps: list[int]
    values: list[float]


class History:
    """The logged values of a run by name, such as `train/loss` or `dev/overlap@10`.

    Args:
        lines: a mapping for each logged step: `step`, and the values by name.

    Raises:
        BadInput: where a name is asked for that was not logged.

    >>> history = History([{"step": 0, "train/loss": 0.5}, {"step": 9, "train/loss": 0.2, "dev/overlap@10": 0.7}])
    >>> history["train/loss"].values
    [0.5, 0.2]
    >>> history["dev/overlap@10"]
    Curve(steps=[9], values=[0.7])
    >>> history
    History(2 steps: train/loss, dev/overlap@10)
    """

    def __init__(self, lines: list[dict[str, Any]]):
        self.lines = lines
        self._names = dict.fromkeys(name for line in lines for name in line if name != "step")

    @classmethod
    def read(cls, path: str | Path) -> History:
        """Reads a metrics.jsonl; a run that has not logged yet has no names."""
        return cls(read_lines(Path(path)) if Path(path).exists() else [])

    def __getitem__(self, name: str) -> Curve:
        if name not in self._names:
            raise BadInput(f"history: {name!r} was not logged: there are {', '.join(self._names) or 'no names yet'}")
        points = [(line["step"], line[name]) for line in self.lines if name in line]
        return Curve([step for step, _ in points], [value for _, value in points])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __repr__(self) -> str:
        return f"History({len(self.lines)} steps: {', '.join(self._names)})"

    def plot(self, *names: str) -> Axes:
        """Draws curves over the steps.

        Args:
            names: e.g. "dev/overlap@10"; several are drawn into one picture.

        Returns:
            The axes of matplotlib, to change or to save: `run.history.plot("train/loss").figure.savefig("loss.png")`.

        Raises:
            BadInput: where matplotlib is not installed, or a name was not logged.
        """
        if not names:
            raise BadInput(f"history.plot: name what to draw: there are {', '.join(self._names) or 'no names yet'}")
        curves = {name: self[name] for name in names}
        try:
            from matplotlib import pyplot
        except ImportError:
            raise BadInput("history.plot: matplotlib is not installed: pip install matplotlib, or use to_frame()") from None
        _, axes = pyplot.subplots()
        for name, curve in curves.items():
            axes.plot(curve.steps, curve.values, marker="." if len(curve.steps) < 50 else None, label=name)
        axes.set_xlabel("step")
        axes.legend()
        return axes

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame: a row a step, a column a name; NaN where a name was not logged at that step."""
        try:
            import pandas
        except ImportError:
            raise BadInput("history.to_frame: pandas is not installed: pip install pandas, or use history[name]") from None
        return pandas.DataFrame(self.lines, columns=["step", *self._names]).set_index("step")
