"""Batches go to a GPU, and masks are made there, without a wait."""

from __future__ import annotations

import numpy as np
import torch
from simulated_gpu import GpuTensor, SimulatedGpu
from transformers.masking_utils import eager_mask, sdpa_mask

from distill.data.loaders import make_collate
from distill.encoders.attention_masks import without_looking
from distill.records import Batch
from distill.teachers.run_scores import RunScores
from distill.texts.tokens import TokenArrays

TOKENS = TokenArrays(np.arange(10, 16, dtype=np.int32), np.array([0, 1, 3, 6]), pad_id=0)
TEACHER = RunScores(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32), "file")


def make_batch() -> Batch:
    documents = TOKENS, np.array([[0, 1], [1, 2], [2, 0]])
    return make_collate(TOKENS, documents[1], documents, teachers=[TEACHER])(np.array([2, 0]))


def test_a_batch_moves_without_a_wait(gpu: SimulatedGpu) -> None:
    for batch in (make_batch(), make_batch().pin_memory()):
        gpu.waits.clear()
        moved = batch.to(gpu.device)
        assert gpu.waits == {}
        scores = TEACHER(moved).scores
        assert gpu.waits == {} and isinstance(scores, GpuTensor)
        assert scores.tolist() == [[5, 6], [1, 2]]
        assert isinstance(moved.queries.input_ids, GpuTensor) and isinstance(moved.documents.positions, GpuTensor)
        assert moved.document_rows.numpy().tolist() == [[2, 0], [0, 1]]  # rows stay where files are


def test_rows_of_a_pinned_batch_are_pinned() -> None:
    from cuda_stand_ins import simulated_gpu

    with simulated_gpu() as gpu:
        assert gpu.is_pinned(make_batch().pin_memory().document_rows)


def test_a_mask_is_used_without_a_look(gpu: SimulatedGpu) -> None:
    sizes = {"batch_size": 1, "q_length": 2, "kv_length": 2, "allow_is_bidirectional_skip": True, "allow_is_causal_skip": False}
    for make_mask in (sdpa_mask, eager_mask):
        make = without_looking(make_mask)
        whole, padded = torch.tensor([[True, True]]), torch.tensor([[True, False]])
        assert make(attention_mask=whole, mask_function=attend_to_all, **sizes) is None  # on a CPU a look is cheap
        for mask in (whole, padded):
            on_gpu = mask.to("cuda")
            gpu.waits.clear()
            made = make(attention_mask=on_gpu, mask_function=attend_to_all, device="cuda", **sizes)
            assert gpu.waits == {} and isinstance(made, GpuTensor)
            expected = make_mask(attention_mask=mask, mask_function=attend_to_all, **{**sizes, "allow_is_bidirectional_skip": False})
            assert made.tolist() == expected.tolist()


def attend_to_all(*places: torch.Tensor) -> torch.Tensor:
    return places[0] >= 0
