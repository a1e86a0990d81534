"""Batches on a GPU: the host launches the next one before it waits for a result, and goes on where memory runs out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from families import make_encoder
from simulated_gpu import SimulatedGpu

from distill.callbacks.diagnosis import find_wrong_vectors
from distill.data.datamodule import RetrievalData
from distill.encoders.batching import encode_texts
from distill.encoders.device_batches import HostCopy
from distill.encoders.modules import Transformer
from distill.records import Tokens
from distill.texts.sources import MsMarcoTsv

TEXTS = ["the best old river", "bread", "how to find a red engine near the market", "a slow letter", "what is music"] * 4


def test_a_result_is_waited_for_when_the_next_batch_is_under_way(gpu: SimulatedGpu, monkeypatch) -> None:
    on_host, encoder = make_encoder("bert"), make_encoder("bert").prepare_for(gpu.device)
    for model in (on_host, encoder):
        model.budget.limit = 55  # five texts of up to eleven tokens
    expected = encode_texts(on_host, TEXTS, "query")
    order: list[str] = []
    encoder.register_forward_hook(lambda *_: order.append("launch"))
    wait = HostCopy.wait
    monkeypatch.setattr(HostCopy, "wait", lambda copy: (order.append("wait"), wait(copy))[1])
    gpu.waits.clear()
    vectors = encode_texts(encoder, TEXTS, "query")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    launches = order.count("launch")
    assert launches > 2
    assert order == ["launch", *["launch", "wait"] * (launches - 1), "wait"]
    assert [wait.kind for wait in gpu.waits.elements()] == ["synchronize"] * launches
    assert all("device_batches" in wait.place for wait in gpu.waits)


def test_a_gpu_that_is_too_small(gpu: SimulatedGpu, caplog) -> None:
    on_host, encoder = make_encoder("bert"), make_encoder("bert").prepare_for(gpu.device)
    refused: list[int] = []

    def refuse_large(_, inputs) -> None:
        count = inputs[0].input_ids.numel()
        if count > 80:
            refused.append(count)
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder.register_forward_pre_hook(refuse_large)
    np.testing.assert_allclose(encode_texts(encoder, TEXTS, "query"), encode_texts(on_host, TEXTS, "query"), atol=1e-5)
    assert refused == [220, 110]
    assert caplog.messages == ["the memory of cuda:0 ran out: goes on with 55 tokens a batch"]


def test_the_teacher_of_healths_sample_is_read_on_the_gpu(source_root: Path, store_folder: Path, gpu: SimulatedGpu, monkeypatch) -> None:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    devices: set[torch.device] = set()
    forward = Transformer.forward

    def note(transformer: Transformer, tokens: Tokens) -> torch.Tensor:
        devices.add(tokens.input_ids.device)
        return forward(transformer, tokens)

    monkeypatch.setattr(Transformer, "forward", note)
    assert find_wrong_vectors(data, gpu.device) is None
    assert devices == {gpu.device}
    devices.clear()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (200_000, 200_000))  # room for its 156 kB, and for little more
    assert find_wrong_vectors(data, gpu.device) is None
    assert {device.type for device in devices} == {"cpu"}
