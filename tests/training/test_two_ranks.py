"""Two processes with half the batch each end where one process with all of it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import ONE_HOT, QUERY_MATCHING, distill, furthest, in_process, on_ranks, train_arguments
from conftest import make_source

RANKS = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> tuple[Path, Path]:
    """Source and store; 13 dev queries, so that one rank has 7 of them and the other 6."""
    root = tmp_path_factory.mktemp("ranks")
    source = make_source(root / "texts", documents=120, train=80, dev=13, seed=5)
    texts = ["--source", "MsMarcoTsv", "--source.root", source]
    assert distill("encode", "--teacher", teacher_folder, *texts, "--precision", "fp32", "--out", root / "store") == 0
    return source, root / "store"


def dev_lines(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "dev/seconds"} for line in lines if "dev/cosine" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("losses", "more"), [(QUERY_MATCHING, []), (ONE_HOT, ["--data.candidates", 3])], ids=["query matching", "one-hot"])
def test_two_ranks_equal_one(world: tuple[Path, Path], tmp_path: Path, losses: str, more: list[Any]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert distill(*train_arguments(*world, one, *more, losses=losses)) == 0
    start = on_ranks if more else in_process  # once with the processes that Lightning starts
    found = start(*train_arguments(*world, two, *more, *RANKS, losses=losses))
    assert found.returncode == 0 and "sync_dist" not in found.stderr, found.stderr
    for name in ("last", "best"):
        # a softmax does not see its keys' bias: the gradient is rounding noise, which Adam scales up, and no vector depends on it
        assert furthest(one / "checkpoints" / f"{name}.ckpt", two / "checkpoints" / f"{name}.ckpt", without="key.bias") < 5e-5
    assert [line["step"] for line in dev_lines(two)] == [4, 9]
    for ours, theirs in zip(dev_lines(one), dev_lines(two), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-6)  # logged in float32, from weights up to 5e-5 apart, of a way of 1e-2

    # each dev query is counted once: one process over all of them measures the same student
    assert distill("evaluate", two, "--split", "dev") == 0
    results = json.loads((two / "results.json").read_text())
    assert results["queries"] == 13
    kept_by = "dev/ndcg@10" if losses == ONE_HOT else "dev/overlap@10"
    best = max(dev_lines(two), key=lambda line: line[kept_by])
    for name in ("mrr@10", "ndcg@10", "recall@100"):
        assert best[f"dev/{name}"] == pytest.approx(results["systems"]["student"][name], abs=1e-6)
        assert best[f"dev/retention_{name}"] == pytest.approx(results["retention"][name]["value"], abs=1e-6)
    assert best["dev/overlap@10"] == pytest.approx(results["agreement"]["overlap@10"], abs=1e-6)
    assert best["dev/cosine"] == pytest.approx(results["agreement"]["cosine"], abs=1e-6)


def test_what_is_turned_off_in_lightning_is_there() -> None:
    """Its ranks would tell each other of signals before every batch."""
    from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)
