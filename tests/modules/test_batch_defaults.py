"""How large batches are where nobody says: as ever on a CPU, larger on a GPU, and those of the run where one goes on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import make_encoder

from distill.data.datamodule import RetrievalData
from distill.data.loaders import Draw
from distill.modules import batch_defaults
from distill.modules.batch_defaults import count_fitting, settle_batch
from distill.modules.student import StudentModule
from distill.texts.sources import MsMarcoTsv

CPU = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), world_size=1, is_global_zero=True)
GPU = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)), world_size=1, is_global_zero=True)


def draw_all(queries: int) -> Callable[[], list[Draw]]:
    return lambda: [Draw(2 * queries, queries // 2), Draw(queries // 2, queries // 2)]


def settled(source_root: Any, store_folder: Any, trainer: Any, queries: int = 10**6, before: Any = None, **given: Any) -> tuple[int, float]:
    """The numbers of a training of so many queries, after two calls."""
    rate = {"learning_rate": given.pop("learning_rate")} if "learning_rate" in given else {}
    documents = given.pop("documents", "inherited")
    data, module = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), **given), StudentModule(documents=documents, **rate)
    data.count_draws, module.encoder = draw_all(queries), None  # type: ignore[assignment, method-assign]
    for now in (before, None):
        settle_batch(module, data, trainer, now)
    return data.batch_size, round(module.learning_rate, 5)


@pytest.mark.parametrize(
    ("trainer", "given", "expected"),
    [
        (CPU, {}, (64, 0.001)),
        (GPU, {}, (512, 0.00283)),
        (GPU, {"queries": 150_000}, (256, 0.002)),  # 585 steps an epoch
        (GPU, {"queries": 96}, (64, 0.001)),
        (GPU, {"batch_size": 32}, (32, 0.001)),
        (GPU, {"learning_rate": 0.0005}, (64, 0.0005)),  # it was chosen for the batches that are documented
        (GPU, {"documents": "shared", "candidates": 4}, (64, 0.001)),  # its documents pass through it too
        (GPU, {"before": {"data": {"batch_size": 128}, "model": {"learning_rate": 0.004}}}, (128, 0.004)),
        (CPU, {"before": {"data": {"batch_size": 512}, "model": {"learning_rate": 0.003}}}, (512, 0.003)),
        (GPU, {"before": {"data": {"batch_size": 128}, "model": {}}, "batch_size": 96}, (96, 0.001)),
    ],
)
def test_numbers(source_root, store_folder, trainer, given, expected, monkeypatch):
    monkeypatch.setattr(batch_defaults, "count_fitting", lambda *_: 512)
    assert settled(source_root, store_folder, trainer, **given) == expected


def test_a_gpus_numbers_are_said_once(source_root, store_folder, monkeypatch):
    monkeypatch.setattr(batch_defaults, "count_fitting", lambda *_: 512)
    data, module = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder)), StudentModule()
    data.count_draws, module.encoder = draw_all(10**6), None  # type: ignore[assignment, method-assign]
    numbers = "a GPU trains: batches of 512 queries and a learning rate of 0.00283"
    assert settle_batch(module, data, GPU) == f"{numbers}; data.batch_size and model.learning_rate set others"
    assert settle_batch(module, data, GPU) is None


def test_the_same_data_teaches_another_student_as_if_it_were_new(source_root, store_folder, monkeypatch):
    """Not in the batches that were chosen for the first one, at a learning rate for others."""
    monkeypatch.setattr(batch_defaults, "count_fitting", lambda *_: 512)
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.count_draws = draw_all(10**6)  # type: ignore[method-assign]
    numbers = []
    for trainer, rate in ((GPU, None), (GPU, None), (GPU, 0.0005), (CPU, None)):
        module = StudentModule(learning_rate=rate)
        module.encoder = None  # type: ignore[assignment]
        settle_batch(module, data, trainer)
        numbers.append((data.batch_size, round(module.learning_rate, 5)))
    assert numbers == [(512, 0.00283), (512, 0.00283), (64, 0.0005), (64, 0.001)]


def test_a_batch_fits_the_gpu(monkeypatch):
    """Four layers of 16 numbers keep 68 * 16 * 4 bytes for each of 16 tokens: 69,632 for a text."""
    for memory, fitting in ((2 * 69_632 * 100, 100), (2 * 69_632 * 100 - 1, 99)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, memory=memory: SimpleNamespace(total_memory=memory))
        assert count_fitting(make_encoder("bert"), torch.device("cuda", 0)) == fitting
