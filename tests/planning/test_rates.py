"""Rates of a GPU, read from the file of the script that measures them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from distill.encoders.folder import load_encoder
from distill.planning.operations import count_operations
from distill.planning.rates import Rates, UnitTimes, derive_times, read_rates
from distill.records import BadInput


@pytest.fixture(scope="module")
def encoder(teacher_folder):
    """Width 32, 64 within, 4 layers."""
    return load_encoder(str(teacher_folder))


def test_operations(encoder):
    """A layer has four products of 32 x 32 and two of 32 x 64: 8,192 weights, two operations each for a token."""
    weights = 4 * (4 * 32 * 32 + 2 * 32 * 64)
    assert count_operations(encoder, np.array([3, 5])) == 2 * weights * 8 + 4 * 32 * 4 * (9 + 25)


def test_times_follow_from_rates(encoder):
    rates = Rates("GPU", encode=1e6, train=2e6, step=1e-9, search=64e6, copy=128e6)
    times = derive_times(rates, encoder, encoder, np.array([4, 4]), np.array([2]), batch_size=8, here=UnitTimes("here", latency=0.5))
    document, query = count_operations(encoder, np.array([4])), count_operations(encoder, np.array([2]))
    assert times.document == pytest.approx(document / 1e6) and times.query == pytest.approx(query / 1e6)
    assert times.step == pytest.approx(3 * 8 * query / 2e6)
    assert times.pair == pytest.approx(2 * 32 / 64e6) and times.scan == pytest.approx(2 * 32 / 128e6)
    assert (times.byte, times.latency, times.evaluation) == (None, 0.5, 0.0)


def test_what_was_not_measured_stays_unknown(encoder):
    times = derive_times(Rates(search=1.0), encoder, encoder, np.array([4]), np.array([2]), 8, UnitTimes("here"))
    assert times.pair == 64 and (times.document, times.query, times.step, times.scan, times.byte) == (None,) * 5


def test_a_step_takes_some_time_however_small(encoder):
    lengths, here = np.array([2]), UnitTimes("here")
    assert derive_times(Rates(train=1e15, step=0.01), encoder, encoder, lengths, lengths, 8, here).step == 0.01
    assert derive_times(Rates(train=1e15), encoder, encoder, lengths, lengths, 8, here).step is None


def test_reading(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"parts": 3, "rates": {"device": "H200", "encode": 2e14, "train": None, "of_next_year": 1}}))
    assert read_rates(path) == Rates("H200", encode=2e14)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no rates in it: give a file that experiments/speed/gpu.py wrote"),
        ({"simulated": True}, "made on a simulated GPU, whose figures mean nothing"),
        ({"rates": [1]}, "no rates in it"),
        ({"rates": {"encode": 0}}, "rates.encode is 0: give a number above 0"),
        ({"rates": {"encode": "fast"}}, "rates.encode is 'fast': give a number"),
        ({"rates": {"encode": True}}, "rates.encode is True: give a number"),
        ({"rates": {"device": "H200"}}, "none of its rates is known: there are copy, device, encode"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, message):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput) as refused:
        read_rates(path)
    assert str(refused.value).startswith(f"{path}: {message}")
