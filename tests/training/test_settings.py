"""The number format of a training: what the device multiplies natively and without loss of range."""

from __future__ import annotations

import logging

import pytest
import torch

from distill.records import BadInput
from distill.training import settings
from distill.training.settings import default_precision, make_trainer_settings


@pytest.mark.parametrize(
    ("accelerator", "has_bf16", "precision"),
    [("gpu", True, "bf16-mixed"), ("cuda", False, "32-true"), ("cpu", True, "bf16-mixed"), ("cpu", False, "32-true")],
)
def test_bf16_where_it_is_native(
    accelerator: str, has_bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "has_fast_bf16", lambda _: has_bf16)
    with caplog.at_level(logging.INFO, logger="distill"):
        assert default_precision(accelerator) == precision
    assert bool(caplog.messages) == (accelerator != "cpu" and not has_bf16)


def test_a_gpu_that_is_not_there_is_refused_with_the_driver_in_the_way(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(settings, "describe_idle_gpu", lambda: "the NVIDIA driver 550.54.15 is too old")
    options = {"accelerator": "gpu", "precision": None}
    with pytest.raises(BadInput, match=r"trainer.accelerator: gpu: the NVIDIA driver 550.54.15 is too old"):
        make_trainer_settings(tmp_path, options, 1, None)
