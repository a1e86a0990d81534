import time

import numpy as np
import pytest
import torch
from families import make_encoder

from distill.evaluation.latency import measure_query_latency, one_core, sample_queries, torch_threads
from distill.texts.texts import Texts


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


def test_queries_are_spread_over_the_split():
    few = Texts.from_lists(list("abc"), ["one", "two", "three"])
    assert sample_queries(few) == ["one", "two", "three"]
    many = Texts.from_lists([str(i) for i in range(127)], [f"query {i}" for i in range(127)])
    assert sample_queries(many) == [f"query {i}" for i in range(0, 127, 2)]


def test_one_core_and_all_as_before():
    encoder, plain = make_encoder("bert", layers=1), torch.nn.Linear(2, 2)
    encoder.backbone.set_attn_implementation("sdpa")
    before = torch.get_num_threads()
    with torch_threads(2):
        with one_core([encoder, plain, torch.nn.ReLU()]):
            assert torch.get_num_threads() == 1
            assert encoder.backbone.config._attn_implementation == "eager"  # the fastest on a CPU
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    assert encoder.backbone.config._attn_implementation == "sdpa"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_a_gpu_is_timed_on_the_cpu_and_goes_back():
    encoder = make_encoder("bert", layers=1).to("cuda")
    with one_core([encoder]):
        assert encoder.device.type == "cpu"
    assert encoder.device.type == "cuda"


def test_a_slow_model_is_measured_on_fewer_queries(monkeypatch):
    monkeypatch.setattr("distill.evaluation.latency.MOST_SECONDS", 0.0)
    asked = []
    found = measure_query_latency({"slow": lambda text: asked.append(text)}, ["a"], rounds=200, warm_up=2)
    assert len(asked) == 2 + 20 + 1  # until the least number is exceeded
    assert set(found["slow"]) == {"query_latency_ms_p50", "query_latency_ms_p95"}
