"""What a training logged, by name."""

from __future__ import annotations

import sys

import pytest

from distill.records import BadInput
from distill.training.history import Curve, History

LINES = '{"step": 0, "train/loss": 2.0}\n{"step": 4, "train/loss": 1.0, "dev/overlap@10": 0.5}\n{"step": 9, "dev/overlap@10": 0.75}\n'


@pytest.fixture
def history(tmp_path) -> History:
    (tmp_path / "metrics.jsonl").write_text(LINES + '{"step": 12, "train/lo')  # cut off by a kill
    return History.read(tmp_path / "metrics.jsonl")


def test_values_by_name(history):
    assert list(history) == ["train/loss", "dev/overlap@10"]
    assert history["train/loss"] == Curve([0, 4], [2.0, 1.0])
    assert history["dev/overlap@10"] == ([4, 9], [0.5, 0.75])
    assert "train/loss" in history and "loss" not in history
    assert repr(history) == "History(3 steps: train/loss, dev/overlap@10)"


def test_a_name_that_was_not_logged_is_refused_with_those_that_were(history, tmp_path):
    with pytest.raises(BadInput, match=r"history: 'loss' was not logged: there are train/loss, dev/overlap@10"):
        history["loss"]
    with pytest.raises(BadInput, match=r"'loss' was not logged: there are no names yet"):
        History.read(tmp_path / "none.jsonl")["loss"]
    with pytest.raises(BadInput, match=r"history\.plot: name what to draw: there are train/loss"):
        history.plot()


def test_a_frame_has_a_row_a_step(history):
    pytest.importorskip("pandas")
    frame = history.to_frame()
    assert frame.index.tolist() == [0, 4, 9] and list(frame.columns) == ["train/loss", "dev/overlap@10"]
    assert frame.loc[4].tolist() == [1.0, 0.5]
    assert frame["train/loss"].isna().tolist() == [False, False, True]


def test_a_picture_has_the_logged_points(history):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = history.plot("train/loss", "dev/overlap@10")
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 2], [4, 1]], [[4, 0.5], [9, 0.75]]]
    assert [line.get_label() for line in axes.lines] == ["train/loss", "dev/overlap@10"]
    assert axes.get_xlabel() == "step"


def test_without_matplotlib_it_says_how_to_install_it(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match="matplotlib is not installed: pip install matplotlib, or use to_frame"):
        history.plot("train/loss")
