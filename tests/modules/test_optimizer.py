from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from distill.modules.optimizer import RowAdamW, choose_fused
from distill.modules.schedule import ScheduledModule


def model() -> tuple[nn.Embedding, nn.Linear]:
    torch.manual_seed(0)
    return nn.Embedding(6, 3), nn.Linear(3, 2)


def train(sparse: bool, batches: list[list[int]], optimizer_class: type) -> tuple[nn.Embedding, nn.Linear, torch.optim.Optimizer]:
    table, layer = model()
    table.sparse = sparse
    optimizer = optimizer_class([table.weight, *layer.parameters()], lr=0.1, weight_decay=0.0)
    for rows in batches:
        optimizer.zero_grad()
        layer(table(torch.tensor(rows))).square().sum().backward()
        optimizer.step()
    return table, layer, optimizer


def test_equals_adamw_when_every_batch_touches_every_row() -> None:
    batches = [[0, 1, 2, 3, 4, 5, 1], [5, 4, 3, 2, 1, 0, 0], [0, 1, 2, 3, 4, 5, 5]]
    rows, rows_layer, _ = train(True, batches, RowAdamW)
    dense, dense_layer, _ = train(False, batches, torch.optim.AdamW)
    torch.testing.assert_close(rows.weight, dense.weight)
    torch.testing.assert_close(rows_layer.weight, dense_layer.weight)


def test_equals_sparse_adam_on_any_rows() -> None:
    """torch's own rule for rows that come and go; it takes no dense parameters, so the layer stands still here."""
    results = []
    for optimizer_class in (RowAdamW, torch.optim.SparseAdam):
        table, layer = model()
        table.sparse = True
        optimizer = optimizer_class([table.weight], lr=0.1)
        for rows in ([0, 1], [1, 1, 2], [0], [5, 2]):
            optimizer.zero_grad()
            layer(table(torch.tensor(rows))).square().sum().backward()
            optimizer.step()
        results.append(table.weight.detach())
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)  # SparseAdam adds its epsilon before the bias correction


def test_untouched_rows_stand_still() -> None:
    before, _ = model()
    after, _, optimizer = train(True, [[0, 2], [2, 2]], RowAdamW)
    assert torch.equal(after.weight[[1, 3, 4, 5]], before.weight[[1, 3, 4, 5]])
    assert not torch.equal(after.weight[[0, 2]], before.weight[[0, 2]])
    assert optimizer.state[after.weight]["exp_avg"][[1, 3, 4, 5]].eq(0).all()


def test_a_saved_state_continues_exactly() -> None:
    batches = [[0, 1], [1, 2], [3, 0], [2, 2]]
    whole, _, _ = train(True, batches, RowAdamW)
    table, layer, optimizer = train(True, batches[:2], RowAdamW)
    table, layer, state = copy.deepcopy(table), copy.deepcopy(layer), copy.deepcopy(optimizer.state_dict())
    resumed = RowAdamW([table.weight, *layer.parameters()], lr=0.1, weight_decay=0.0)
    resumed.load_state_dict(state)
    for rows in batches[2:]:
        resumed.zero_grad()
        layer(table(torch.tensor(rows))).square().sum().backward()
        resumed.step()
    assert torch.equal(table.weight, whole.weight)


@pytest.mark.parametrize(
    ("device", "clip", "scaler", "fused"),
    [
        ("cpu", None, None, True),
        ("cpu", 1.0, None, None),
        ("cuda", None, None, True),
        ("cuda", 1.0, None, True),
        ("cuda", 1.0, "of fp16", None),
        ("cuda", None, "of fp16", True),
    ],
)
def test_steps_are_fused_but_where_fp16_is_clipped(device: str, clip: float | None, scaler: str | None, fused: bool | None) -> None:
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(gradient_clip_val=clip, scaler=scaler, strategy=strategy)
    assert choose_fused(trainer) is fused


@pytest.mark.parametrize(("algorithm", "clipped"), [("norm", [0.6, 0.8]), ("value", [1.0, 1.0]), (None, [0.6, 0.8])])
def test_a_fused_optimizer_is_clipped(algorithm: str | None, clipped: list[float]) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    module = ScheduledModule(learning_rate=0.1, warmup=0.0)
    module.configure_gradient_clipping(RowAdamW([weight], fused=True), 1.0, algorithm)
    torch.testing.assert_close(weight.grad, torch.tensor(clipped))
