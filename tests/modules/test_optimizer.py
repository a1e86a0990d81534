from __future__ import annotations

import copy

import torch
from torch import nn

from distill.modules.optimizer import RowAdamW


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
