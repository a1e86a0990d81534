"""Verbs as the command line runs them: in this process, or in one that may die."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

import torch
from forks import run_python, start_python, wait_for

from distill.cli.main import main

QUERY_MATCHING = '{"query_matching": {"class_path": "QueryMatching"}}'
ONE_HOT = '{"one_hot": {"class_path": "OneHot"}}'
# what a server needs of the packages that distill requires: docs/serving.md
OF_A_SERVER = {"numpy", "safetensors", "xxhash"}


def serve_alone(code: str) -> str:
    """What Python code prints that cannot import what distill requires beside OF_A_SERVER."""
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    required = setup["options"]["install_requires"].split()
    names = {re.split(r"[\[<>=,]", line)[0].replace("-", "_").replace("pyyaml", "yaml") for line in required} - OF_A_SERVER
    program = f"import sys; sys.modules.update(dict.fromkeys({sorted(names)}))\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def distill(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def in_process(*arguments: Any) -> CompletedProcess[str]:
    """The same in a process of its own."""
    return run_python(["-m", "distill", *map(str, arguments)])


def on_ranks(*arguments: Any, ranks: int = 2, nodes: int = 1, module: str = "distill") -> CompletedProcess[str]:
    """The verb on so many nodes of so many ranks, with what torchrun tells them; the code is the first rank's, the words are of all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": ranks * nodes, "LOCAL_WORLD_SIZE": ranks, "TORCHELASTIC_RUN_ID": 1}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with TemporaryDirectory() as scratch:
        logs = [Path(scratch) / str(rank) for rank in range(ranks * nodes)]
        started = []
        for rank, log in enumerate(logs):
            own = {"RANK": rank, "LOCAL_RANK": rank % ranks, "GROUP_RANK": rank // ranks}
            environment = {name: str(value) for name, value in (shared | own).items()}
            started.append(start_python(["-m", module, *map(str, arguments)], log, environment=environment))
        ended = [wait_for(process, log) for process, log in zip(started, logs, strict=True)]
    return CompletedProcess([], ended[0].returncode, "".join(end.stdout for end in ended), "".join(end.stderr for end in ended))


def train_arguments(source: Path, store: Path, out: Path, *more: Any, losses: str = QUERY_MATCHING) -> list[Any]:
    """Two epochs of 6 steps on the small world; options in `more` win."""
    student = ["--model.student", "StudentFromTeacher", "--model.student.layers", "[0, 3]", "--model.losses", losses]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source, "--data.store", store, "--data.batch_size", 16]
    trainer = ["--trainer.max_epochs", 2, "--trainer.precision", "32-true", "--trainer.log_every_n_steps", 1]
    return ["train", *student, "--model.learning_rate", 0.005, *data, *trainer, "--trainer.accelerator", "cpu", "--out", out, *more]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


def furthest(one: Path, other: Path, without: str = "nothing") -> float:
    """The largest difference between any two weights of two checkpoints; `without` leaves weights out by a part of their name."""
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left if without not in name)


def teach_arguments(source: Path, teacher: Path, out: Path, *more: Any, model: str = "DualTeacher") -> list[Any]:
    """Two epochs of 6 steps on every judged pair of 96; options in `more` win."""
    kind = ["--model", model, "--model.start_from", teacher, *(["--model.head", "dual_pooling"] if model == "CrossTeacher" else [])]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source, "--data.negatives", "RandomNegatives", "--data.batch_size", 16]
    trainer = ["--trainer.max_epochs", 2, "--trainer.precision", "32-true", "--trainer.log_every_n_steps", 1]
    steps = ["--trainer.limit_train_batches", 6, "--trainer.accelerator", "cpu"]
    return ["teach", *kind, "--model.learning_rate", 0.002, *data, *trainer, *steps, "--out", out, *more]
