"""Everything that makes training fast leaves what is learnt alone: the same losses, step by step, as a loop without any of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import distill, train_arguments
from torch.nn.functional import normalize, pad

from distill.data.loaders import epoch_batches
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore

LONGEST = 24  # every text of the plain loop is padded to it
STEPS, RATE, WARMUP = 12, 0.005, 0.05


def plain_losses(source: Path, store: TeacherStore) -> list[float]:
    """The backbone as transformers runs it, fused attention, much padding, torch's own optimizers and a schedule by hand."""
    texts = MsMarcoTsv(str(source)).queries("train")
    documents = store.documents
    encoder = StudentFromTeacher([0, 3]).build(TeacherSpace(documents.maker, documents.width, True))
    encoder.backbone.set_attn_implementation("sdpa")
    token_ids = encoder.token_ids(list(texts), "query")
    queries = store.queries("train", texts.fingerprints("query"))
    targets = torch.from_numpy(queries.take(queries.ids.rows(list(texts.ids)))).float()
    lengths = torch.tensor([len(ids) for ids in token_ids]).numpy()

    table = encoder.backbone.get_input_embeddings()
    table.sparse = True
    embeddings = {module.weight for module in encoder.modules() if isinstance(module, torch.nn.Embedding)}
    others = [p for p in encoder.parameters() if p is not table.weight]
    decayed = [p for p in others if p.ndim > 1 and p not in embeddings]
    kept = [p for p in others if p.ndim <= 1 or p in embeddings]
    dense = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}], foreach=False)
    sparse = torch.optim.SparseAdam([table.weight], eps=1e-8)

    losses: list[float] = []
    for epoch in range(2):
        for rows in epoch_batches(lengths, 16, seed=0, epoch=epoch):
            step, rising = len(losses), int(WARMUP * STEPS)
            for group in [*dense.param_groups, *sparse.param_groups]:
                group["lr"] = RATE * ((step + 1) / (rising + 1) if step < rising else (STEPS - step) / (STEPS - rising))
            ids = torch.stack([pad(torch.tensor(token_ids[row]), (0, LONGEST - len(token_ids[row]))) for row in rows])
            mask = torch.stack([(torch.arange(LONGEST) < len(token_ids[row])).long() for row in rows])
            states = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
            means = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            loss = (normalize(means, dim=1) - targets[rows]).norm(dim=1).mean()
            loss.backward()
            for optimizer in (dense, sparse):
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def test_same_losses_step_by_step(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    options = ["--seed_everything", 0]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options)) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    fast = [line["train/loss"] for line in log if "train/loss" in line]
    plain = plain_losses(source_root, TeacherStore(store_folder))
    assert len(fast) == STEPS and fast[-1] < 0.8 * fast[0]
    assert fast == pytest.approx(plain, rel=1e-4)
