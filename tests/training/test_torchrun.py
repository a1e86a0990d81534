"""Ranks that torchrun starts, on one node and on two that meet on loopback, end where one process ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import distill, furthest, in_process, on_ranks, train_arguments
from conftest import make_source
from interruptions import is_running
from test_resume import contents, encode_arguments
from test_two_ranks import dev_lines

Launch = Callable[[str, list[Any], int, int], None]
TESTS = Path(__file__).parents[1]
QUERIES, DEV = 80, 13  # dev leaves 3 ranks with unlike shares
PLACES = [(2, 1), (3, 1), (1, 2)]  # ranks of a node, nodes
NAMES = ["2 ranks", "3 ranks", "2 nodes"]
RANKING = ("dev/mrr@10", "dev/ndcg@10", "dev/recall@100", "dev/overlap@10")


def torchrun(module: str, arguments: list[Any], ranks: int = 1, nodes: int = 1) -> None:
    """The verb on so many nodes of so many ranks, which torchrun starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--nnodes={nodes}"]
    launch += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    command = ["-m", module, *map(str, arguments)]
    # torchrun starts the interpreter beside it: what is on this one's path is on theirs
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), *sys.path])), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*launch, f"--node-rank={node}", *command], env=environment, stderr=subprocess.PIPE, text=True)
        for node in range(nodes)
    ]
    told = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * nodes, "\n".join(told)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("ranks")
    source = make_source(root / "texts", documents=120, train=QUERIES, dev=DEV, seed=5)
    assert distill(*encode_arguments(teacher_folder, source, root / "store")) == 0
    return source, root / "store"


def start(module: str, arguments: list[Any], ranks: int, nodes: int) -> None:
    """The same, started without it."""
    found = on_ranks(*arguments, ranks=ranks, nodes=nodes, module=module)
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("launch", "ranks", "nodes"), [(torchrun, 2, 1), (start, 3, 1), (start, 1, 2)], ids=NAMES)
def test_encoding_is_that_of_one_process(
    world: tuple[Path, Path],
    teacher_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    launch: Launch,
    ranks: int,
    nodes: int,
) -> None:
    monkeypatch.setattr("distill.vectors.store_writer.ROWS_PER_SHARD", 16)
    assert distill(*encode_arguments(teacher_folder, world[0], tmp_path / "one")) == 0
    launch("small_shards", encode_arguments(teacher_folder, world[0], tmp_path / "many"), ranks, nodes)
    assert len([name for name in contents(tmp_path / "many") if name.startswith("documents/000")]) == 8
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(("launch", "ranks", "nodes"), [(start, 3, 1), (torchrun, 1, 2)], ids=NAMES[1:])
def test_training_is_that_of_one_process(world: tuple[Path, Path], tmp_path: Path, launch: Launch, ranks: int, nodes: int) -> None:
    share = 12 // (ranks * nodes)
    assert distill(*train_arguments(*world, tmp_path / "one", "--data.batch_size", 12)) == 0
    more = ["--data.batch_size", share, "--trainer.devices", ranks, "--trainer.num_nodes", nodes, "--trainer.strategy", "ddp"]
    launch("distill", train_arguments(*world, tmp_path / "many", *more), ranks, nodes)
    one, many = (losses(tmp_path / name) for name in ("one", "many"))
    assert len(one) == len(many) == 2 * (QUERIES // 12)
    assert many == pytest.approx(one, abs=1e-4, rel=0)
    last = [tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "many")]
    assert furthest(*last, without="key.bias") < 1e-4


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.slow
def test_the_same_weights_measure_the_same_on_any_number_of_ranks(world: tuple[Path, Path], tmp_path: Path) -> None:
    still = ["--model.learning_rate", 1e-30, "--trainer.max_epochs", 1]
    assert distill(*train_arguments(*world, tmp_path / "1", *still)) == 0
    for ranks, nodes in PLACES:
        run = tmp_path / f"{ranks}x{nodes}"
        more = ["--trainer.devices", ranks, "--trainer.num_nodes", nodes, "--trainer.strategy", "ddp", "--data.batch_size", 4]
        start("distill", train_arguments(*world, run, *still, *more), ranks, nodes)
        (alone,), (together,) = dev_lines(tmp_path / "1"), dev_lines(run)
        assert {name: together[name] for name in RANKING} == pytest.approx({name: alone[name] for name in RANKING}, abs=1e-9, rel=0)
        assert together["dev/cosine"] == pytest.approx(alone["dev/cosine"], abs=1e-6)  # padding differs, and fp32 with it


def ends_soon(pid: int) -> bool:
    """Whether the process ends within five seconds; it is ended after that."""
    for _ in range(100):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_ranks_die_and_one_goes_on(world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is killed, the other waits for it in a collective and leaves no orphan.

    What they had learnt and saved does not come again in that epoch, and everything else does.
    """
    run, batch = tmp_path / "run", 8
    seen = {"class_path": "interruptions.Seen", "init_args": {"folder": str(tmp_path)}}
    dies = {"class_path": "interruptions.FirstRankDies", "init_args": {"folder": str(tmp_path), "step": 3}}
    arguments = train_arguments(*world, run, "--data.batch_size", batch, "--checkpoint_every_n_steps", 2)
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.callbacks", json.dumps([seen, dies])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))  # of the second rank, which Lightning starts
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = in_process(*arguments, *ranks)
    assert found.returncode == -signal.SIGKILL and (tmp_path / "keeper").exists(), found.stderr
    try:
        assert ends_soon(int((tmp_path / "waiting").read_text()))
    finally:
        os.kill(int((tmp_path / "keeper").read_text()), signal.SIGKILL)
    found = in_process(*arguments, "--trainer.callbacks", json.dumps([seen]))
    assert found.returncode == 0 and "at step 2" in found.stdout, found.stderr

    def rows(name: str, steps: range, epoch: int = 0) -> list[int]:
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        return [row for e, step, batch in lines if e == epoch and step in steps for row in batch]

    kept = rows("2-0.jsonl", range(1, 3)) + rows("2-1.jsonl", range(1, 3))  # of the two steps that were saved
    after = rows("1-0.jsonl", range(100))
    assert len(kept) == 2 * 2 * batch and len(after) == QUERIES - len(kept)
    assert sorted(kept + after) == list(range(QUERIES))
    assert sorted(rows("1-0.jsonl", range(100), epoch=1)) == list(range(QUERIES))
    assert [line["step"] for line in dev_lines(run)] == [2 + 6 - 1, 2 + 6 + 10 - 1]
