"""The paper's experiments and the cluster's job script run as they are shipped; small models lie where the hub's names point."""

from __future__ import annotations

import json
import os
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import distill, train_arguments
from conftest import make_source, make_teacher
from forks import run_python

ROOT = Path(__file__).parents[2]
LOSSES = {  # of each row of the paper's table
    "direct": ["one_hot"],
    "symmetric": ["one_hot", "score"],
    "scores": ["one_hot", "score"],
    "matching": ["one_hot", "score", "query_matching"],
    "generation": ["query_matching"],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the configuration, with texts, a python to start and small models under the names of the real ones."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("conf", "experiments"):
        shutil.copytree(ROOT / folder, root / folder)
    for teacher in ("msmarco-bert-base-dot-v5", "nq-distilbert-base-v1"):
        make_teacher(root / "sentence-transformers" / teacher)
    compares_by_dot = root / "sentence-transformers" / "msmarco-bert-base-dot-v5" / "modules.json"
    compares_by_dot.write_text(json.dumps([entry for entry in json.loads(compares_by_dot.read_text()) if "Normalize" not in entry["type"]]))
    for name, width in {"distilbert/distilbert-base-uncased": 32, "google/bert_uncased_L-4_H-256_A-4": 16}.items():
        folder = make_teacher(root / name, width=width, layers=2)
        (folder / "modules.json").unlink()  # a plain transformers folder
    make_source(root / "texts", train=64)
    asks = "printf '%s\\0' \"$@\" $'\\n' > asked; cat answered; exit $(cat code)"  # see run_forked
    starts = f'PYTHONPATH={shlex.quote(os.pathsep.join(sys.path))} exec {sys.executable} "$@"'
    script(root / ".venv" / "bin" / "python", f"if [ -p asked ]; then {asks}; else {starts}; fi")
    script(root / ".venv" / "bin" / "torchrun", 'exec python -m torch.distributed.run "$@"')
    source = {"class_path": "distill.texts.sources.MsMarcoTsv", "init_args": {"root": str(root / "texts")}}
    (root / "texts.yaml").write_text(yaml.safe_dump({"source": source}))
    cpu = {"accelerator": "cpu", "precision": "32-true", "devices": 1}
    for name in ("cpu", "slurm"):
        given = yaml.safe_load((root / "conf" / "trainer" / f"{name}.yaml").read_text())
        (root / f"{name}.yaml").write_text(yaml.safe_dump({**given, **cpu}))
    return root


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def started(checkout: Path, command: list[str], **environment: str) -> subprocess.Popen[str]:
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{checkout}/.venv/bin:{os.environ['PATH']}", **environment}
    return subprocess.Popen(command, cwd=checkout, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run_forked(checkout: Path, command: list[str], environment: dict[str, str]) -> str:
    """Runs a script to its end and returns what it prints; what it starts with `python` is forked here, which saves seconds of imports."""
    for pipe in ("asked", "answered"):
        os.mkfifo(checkout / pipe)
    asked, words = os.open(checkout / "asked", os.O_RDWR), b""
    log = checkout / "log"
    with (
        open(log, "w") as file,
        subprocess.Popen(command, cwd=checkout, env={**os.environ, **environment}, stdout=file, stderr=file) as script,
    ):
        while script.poll() is None:
            if select.select([asked], [], [], 0.05)[0]:
                words += os.read(asked, 1 << 16)
            if words.endswith(b"\0\n\0"):
                done = run_python(words.decode().split("\0")[:-2], checkout, environment)
                (checkout / "code").write_text(str(done.returncode))
                (checkout / "answered").write_text(done.stdout + done.stderr)
                words = b""
    os.close(asked)
    for pipe in ("asked", "answered"):
        (checkout / pipe).unlink()
    assert script.returncode == 0, log.read_text()
    return log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "rows"),
    [("msmarco", ["direct", "generation", "matching", "scores", "symmetric"]), ("nq", ["direct", "matching", "scores", "symmetric"])],
)
def test_experiments_run(checkout: Path, experiment: str, rows: list[str]) -> None:
    more = [checkout / "more.tsv"] if experiment == "msmarco" else []
    for path in more:
        path.write_text("".join(f"g{i}\tfind the old river near {letter}\n" for i, letter in enumerate("abcdefgh")))
    environment = {"LAUNCH": "python -m distill", "TRAINER": str(checkout / "cpu.yaml"), "STUDENTS": "67m", "HOLDOUT": "10"}
    said = run_forked(checkout, [f"experiments/{experiment}/run.sh", "texts.yaml", *map(str, more)], environment)
    folder = checkout / "runs" / experiment
    student = "67m" if experiment == "msmarco" else "11m"
    assert sorted(path.name for path in folder.iterdir() if path.name != "teacher") == [f"{student}-{row}" for row in rows]
    for row in rows:
        results = json.loads((folder / f"{student}-{row}" / "results.json").read_text())
        assert results["dataset"] == ("texts/dev" if experiment == "msmarco" else "texts/test")
        model = yaml.safe_load((folder / f"{student}-{row}" / "config.yaml").read_text())["model"]
        assert list(model["losses"]) == LOSSES[row]
        assert model["documents"] == ("shared" if row in ("direct", "symmetric") else "inherited")
    if experiment == "nq":
        assert [line.split()[1] for line in said.splitlines()[-8:]] == ["student", "teacher"] * 4


def test_r_at_k_by_hand(checkout: Path, tmp_path: Path) -> None:
    namespace: dict = {"__name__": "recall"}
    exec(compile((ROOT / "experiments/nq/recall.py").read_text(), "recall.py", "exec"), namespace)
    (tmp_path / "queries.test.tsv").write_text("a\tone\nb\ttwo\nc\tthree\n")
    (tmp_path / "qrels.test.tsv").write_text("a 0 d3 1\na 0 d9 1\nb 0 d7 2\nc 0 d1 1\nc 0 d2 0\n")
    lines = [("a", document, rank) for rank, document in enumerate(["d1", "d2", "d3"], 1)]
    lines += [("b", f"d{100 + rank}", rank) for rank in range(1, 20)] + [("b", "d7", 20), ("c", "d2", 1)]
    run = tmp_path / "run.trec"
    run.write_text("".join(f"{query} Q0 {document} {rank} {-rank} x\n" for query, document, rank in lines))
    source = namespace["from_config"]({"class_path": "distill.texts.sources.MsMarcoTsv", "init_args": {"root": str(tmp_path)}})
    assert namespace["recalls"](source, run) == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def start_until_it_trains(checkout: Path, metrics: Path, **environment: str) -> subprocess.Popen[str]:
    """Starts the job, and again where another process took the port that torchrun had found free, and waits for its first epoch."""
    for _ in range(3):
        job = started(checkout, ["bash", "experiments/msmarco/job.sbatch"], **environment)
        while job.poll() is None and not (metrics.exists() and "dev/" in metrics.read_text()):
            time.sleep(0.05)
        if job.poll() is None:
            return job
        said, _ = job.communicate()
        assert "address already in use" in said.lower(), said
    raise AssertionError(said)


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_is_queued_again(checkout: Path) -> None:
    """job.sbatch on two nodes of one process, with stand-ins for what a cluster has."""
    stands_in = checkout / "slurm"
    script(stands_in / "scontrol", f'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> {stands_in}/told; fi')
    # as srun: options, then what to run on each node; a signal is passed on, and the end is waited for
    script(
        stands_in / "srun",
        'while [[ "$1" = -* ]]; do shift; done; trap : TERM; failed=$(mktemp -d)\n'
        'for node in 0 1; do { "$@" || touch $failed/$node; } & done; wait; wait; rmdir $failed',
    )
    texts, store, out = checkout / "texts", checkout / "runs" / "stopped" / "teacher", checkout / "runs" / "stopped" / "run"
    teacher = checkout / "sentence-transformers" / "msmarco-bert-base-dot-v5"
    assert distill("encode", "--teacher", teacher, "--source", "MsMarcoTsv", "--source.root", texts, "--out", store) == 0
    train = train_arguments(texts, store, out, "--trainer", checkout / "slurm.yaml", "--data.batch_size", 4, "--trainer.max_epochs", 10)
    script(checkout / "experiments" / "msmarco" / "run.sh", f"set -e\n$LAUNCH {shlex.join(map(str, train))}")
    job = str(random.randrange(10_000))  # its port follows
    cluster = {"SLURM_JOB_ID": job, "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "here", "SLURM_GPUS_ON_NODE": "1"}
    path = {"PATH": f"{stands_in}:{checkout}/.venv/bin:{os.environ['PATH']}"}

    first = start_until_it_trains(checkout, out / "metrics.jsonl", **cluster, **path)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode != 0 and (stands_in / "told").read_text() == f"requeue {job}\n", said
    assert not (out / "student").exists()

    for _ in range(3):  # another process may have taken its port
        again = started(checkout, ["bash", "experiments/msmarco/job.sbatch"], SLURM_RESTART_COUNT="1", **cluster, **path)
        said, _ = again.communicate(timeout=240)
        if "address already in use" not in said.lower():
            break
    assert again.returncode == 0 and "continues from" in said, said
    assert (out / "student").exists() and (stands_in / "told").read_text() == f"requeue {job}\n"
