"""A training whose batch does not fit says so in one line, and goes on from its checkpoint with smaller batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from commands import distill, train_arguments

from distill.encoders.encoder import Encoder
from distill.modules.start import read_checkpoint

FORWARD = Encoder.forward
EVERY = ["--checkpoint_every_n_steps", 2, "--trainer.max_epochs", 1, "--trainer.limit_val_batches", 0]


def hold(monkeypatch: Any, texts: int, steps: int) -> None:
    """From now on memory runs out in a forward pass with gradients of more than `texts` texts, after `steps` of them."""
    passes: list[int] = []

    def refuse_large(encoder: Encoder, tokens: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            passes.append(len(tokens.input_ids))
            if passes[-1] > texts and len(passes) > steps:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB")
        return FORWARD(encoder, tokens)

    monkeypatch.setattr(Encoder, "forward", refuse_large)


def test_a_batch_that_does_not_fit(source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    arguments = train_arguments(source_root, store_folder, tmp_path / "run", *EVERY)
    hold(monkeypatch, texts=8, steps=0)
    assert distill(*arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("distill train: step 0: a batch does not fit into the memory of cpu, of which ") and line.count("\n") == 1
    assert line.endswith("GiB were in use: halve data.batch_size, 16, and set trainer.accumulate_grad_batches to 2\n")
    assert not (tmp_path / "run" / "run.json").exists()  # nothing is lost, so the folder is free for a smaller batch
    hold(monkeypatch, texts=8, steps=3)
    assert distill(*arguments) == 2
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert capsys.readouterr().err.endswith(f"to 2, with another --out, where --ckpt_path {last} goes on\n")
    assert read_checkpoint(last)["global_step"] == 2
    more = ["--ckpt_path", last, "--data.batch_size", 8, "--trainer.accumulate_grad_batches", 2]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "halved", *EVERY, *more)) == 0
    assert read_checkpoint(tmp_path / "halved" / "checkpoints" / "last.ckpt")["global_step"] == 6
