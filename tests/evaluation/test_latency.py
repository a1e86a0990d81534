import time

import numpy as np
import torch

from distill.evaluation.latency import measure_query_latency, torch_threads


def test_percentiles_of_each_path():
    """Seventeen quick answers and three slow ones after two to warm up: the median sees the quick, p95 the slow."""
    waits = iter([0.05] * 2 + [0.0] * 17 + [0.05] * 3)

    def uneven(text):
        time.sleep(next(waits))
        return np.zeros((1, 1))

    def steady(text):
        time.sleep(0.01)
        return np.zeros((1, 1))

    found = measure_query_latency({"uneven": uneven, "steady": steady}, ["a", "b"], rounds=20, warm_up=2)
    uneven, steady = ([times[f"query_latency_ms_{p}"] for p in ("p50", "p95")] for times in (found["uneven"], found["steady"]))
    assert uneven[0] < 50 <= uneven[1]
    assert 10 <= steady[0] <= steady[1]


def test_paths_take_turns_and_queries_come_round():
    asked = []
    paths = {name: lambda text, name=name: asked.append((name, text)) for name in ("one", "other")}
    measure_query_latency(paths, ["a", "b"], rounds=2, warm_up=1)
    assert asked == [("one", "a"), ("other", "a"), ("one", "b"), ("other", "b"), ("one", "a"), ("other", "a")]


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
