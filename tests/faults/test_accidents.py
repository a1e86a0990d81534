"""Accidents other than a kill: one line on stderr, nothing lost, and the same artefacts once it is mended."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import train_arguments
from conftest import make_source, make_teacher
from faults.forked import Verb, ranks
from test_resume import assert_same, contents, encode_arguments

EVERY = ["--checkpoint_every_n_steps", 2, "--data.batch_size", 8]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_teacher(root / "teacher")
    make_source(root / "source", documents=60, train=40, dev=10)
    for name, arguments in {"store": encode(root, root / "store"), "run": train(root, root / "run")}.items():
        assert Verb(arguments, root / f"{name}.log").ends() == 0
    return root


def encode(world: Path, out: Path) -> list:
    return encode_arguments(world / "teacher", world / "source", out)


def train(world: Path, out: Path, store: Path | None = None) -> list:
    return train_arguments(world / "source", store or world / "store", out, *EVERY)


def generate(world: Path, out: Path) -> list:
    texts = ["--source", "MsMarcoTsv", "--source.root", world / "source"]
    return ["generate", "--generator", "Crop", *texts, "--count", 200, "--out", out]


def refused(verb: Verb, *words: str) -> None:
    """It ended by itself with one line that says `words`."""
    assert verb.ends() == 2, verb.said()
    errors = [line for line in verb.said().splitlines() if line.startswith("distill ")]
    assert len(errors) == 1 and "Traceback" not in verb.said(), verb.said()
    assert all(word in errors[0] for word in words), errors[0]


def done(verb: Verb) -> None:
    assert verb.ends() == 0, verb.said()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a file system takes rights that this user lacks")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.mark.parametrize("kilobytes", [8, 40])
def test_disk_full_while_encoding(world: Path, disk: Path, tmp_path: Path, kilobytes: int) -> None:
    remount(disk, f"size={kilobytes}k")
    refused(Verb(encode(world, disk / "store"), tmp_path / "full.log"), str(disk), "No space left on device")
    assert not list(disk.rglob("*.tmp"))
    remount(disk, "size=64m")
    done(Verb(encode(world, disk / "store"), tmp_path / "log"))
    assert contents(disk / "store") == contents(world / "store")


@pytest.mark.parametrize("kilobytes", [8, 40, 72])  # at the first shards, at later ones, at the whole file
def test_disk_full_while_generating(world: Path, disk: Path, tmp_path: Path, kilobytes: int) -> None:
    remount(disk, f"size={kilobytes}k")
    refused(Verb(generate(world, disk / "made"), tmp_path / "full.log"), str(disk), "No space left on device")
    assert not list(disk.rglob("*.tmp")) and not (disk / "made" / "manifest.json").exists()
    remount(disk, "size=64m")
    done(Verb(generate(world, disk / "made"), tmp_path / "log"))
    done(Verb(generate(world, tmp_path / "made"), tmp_path / "log"))
    assert (disk / "made" / "made.jsonl").read_bytes() == (tmp_path / "made" / "made.jsonl").read_bytes()


@pytest.mark.parametrize("kilobytes", [60, 350, 600, 800])
def test_disk_full_while_training(world: Path, disk: Path, tmp_path: Path, kilobytes: int) -> None:
    remount(disk, f"size={kilobytes}k")
    refused(Verb(train(world, disk / "run"), tmp_path / "full.log"), "No space left on device")
    assert not list(disk.rglob("*.tmp"))
    remount(disk, "size=64m")
    done(Verb(train(world, disk / "run"), tmp_path / "log"))
    assert_same(disk / "run", world / "run")


def test_a_store_on_a_read_only_disk(world: Path, disk: Path, tmp_path: Path) -> None:
    remount(disk, "size=64m")
    shutil.copytree(world / "store", disk / "store")
    shutil.rmtree(disk / "store" / "queries-test")
    remount(disk, "ro")
    done(Verb(train(world, tmp_path / "run", disk / "store"), tmp_path / "train.log"))
    assert_same(tmp_path / "run", world / "run")
    refused(Verb(encode(world, disk / "store"), tmp_path / "encode.log"), "queries-test", "Read-only file system")
    remount(disk, "rw")


def test_a_flipped_byte_in_a_shard(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    shard = tmp_path / "store" / "documents" / "00003.npy"
    flip(shard, -5)
    for name, verb in {
        "train": train(world, tmp_path / "run", tmp_path / "store"),
        "evaluate": [
            "evaluate", world / "run", "--source", "MsMarcoTsv", "--source.root", world / "source", "--store", tmp_path / "store",
            "--out", tmp_path / "results.json",
        ],
    }.items():  # fmt: skip
        refused(Verb(verb, tmp_path / f"{name}.log"), str(shard), "its bytes changed")
    assert not (tmp_path / "run").exists() and not (tmp_path / "results.json").exists()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_checkpoint(world: Path, tmp_path: Path, damage: str) -> None:
    """It is named, not trained from; without it the run begins anew."""
    run = tmp_path / "run"
    Verb(train(world, run), tmp_path / "killed.log", die_at=30).ends()
    checkpoint = run / "checkpoints" / "last.ckpt"
    size = checkpoint.stat().st_size
    if damage == "flipped":
        flip(checkpoint, size // 2)
    else:
        os.truncate(checkpoint, size // 2 if damage == "truncated" else 0)
    refused(Verb(train(world, run), tmp_path / "damaged.log"), str(checkpoint), "damaged")
    checkpoint.unlink()
    done(Verb(train(world, run), tmp_path / "log"))
    assert_same(run, world / "run")


class Clock:
    """A wall clock that goes back ten minutes each time it is read."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now -= 600
        return self.now


def turn_clock_back() -> None:
    time.time = Clock()
    time.time_ns = lambda: int(time.time() * 1e9)


@pytest.mark.parametrize("verb", ["encode", "train"])
def test_a_clock_that_goes_backwards(world: Path, tmp_path: Path, verb: str) -> None:
    """Nothing asks which file is newer: started in the future, killed, and finished by a clock running back."""
    out = tmp_path / "out"
    arguments = encode(world, out) if verb == "encode" else train(world, out)
    assert Verb(arguments, tmp_path / "killed.log", die_at=30).ends() == -signal.SIGKILL
    for path in out.rglob("*"):
        os.utime(path, (4e9, 4e9))
    done(Verb(arguments, tmp_path / "log", before=turn_clock_back))
    if verb == "encode":
        assert contents(out) == contents(world / "store")
    else:
        assert_same(out, world / "run")


def test_two_jobs_train_into_one_folder(world: Path, tmp_path: Path) -> None:
    jobs = [Verb(train(world, tmp_path / "run"), tmp_path / f"{job}.log") for job in range(2)]
    codes = [job.ends() for job in jobs]
    assert sorted(codes) == [0, 2], jobs[0].said() + jobs[1].said()
    refused(jobs[codes.index(2)], str(tmp_path / "run"), "another process is writing it")
    assert_same(tmp_path / "run", world / "run")


def test_two_jobs_encode_into_one_folder(world: Path, tmp_path: Path) -> None:
    """They do the same; where they would not, the later one is told."""
    same = [Verb(encode(world, tmp_path / "same"), tmp_path / f"same-{job}.log") for job in range(2)]
    for job in same:
        done(job)
    assert contents(tmp_path / "same") == contents(world / "store")
    unlike = [
        Verb([*encode(world, tmp_path / "unlike"), *more], tmp_path / f"{len(more)}.log") for more in ([], ["--prompts", "{query: what }"])
    ]
    codes = [job.ends() for job in unlike]
    assert sorted(codes) == [0, 2], unlike[0].said() + unlike[1].said()
    refused(unlike[codes.index(2)], "made from other inputs")


def test_two_jobs_generate_into_one_folder(world: Path, tmp_path: Path) -> None:
    arguments = generate(world, tmp_path / "made")
    leader, worker = ({"WORLD_SIZE": "2", "RANK": str(rank)} for rank in range(2))
    first = Verb(arguments, tmp_path / "first.log", leader)
    while not (tmp_path / "made" / "plan.json").exists():
        assert first.process.is_alive(), first.said()
        time.sleep(0.01)
    refused(Verb(arguments, tmp_path / "second.log"), str(tmp_path / "made"), "another process is writing it")
    done(Verb(arguments, tmp_path / "worker.log", worker))
    done(first)
    done(Verb(generate(world, tmp_path / "alone" / "made"), tmp_path / "log"))
    assert (tmp_path / "made" / "made.jsonl").read_bytes() == (tmp_path / "alone" / "made" / "made.jsonl").read_bytes()


def leave_little_memory() -> None:
    """24 MB more than there is now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20),) * 2)


@pytest.mark.parametrize("verb", ["encode", "train"])
def test_out_of_memory(world: Path, tmp_path: Path, verb: str) -> None:
    arguments = encode(world, tmp_path / "out") if verb == "encode" else train(world, tmp_path / "out")
    words = ["out of memory"] if verb == "encode" else []  # a library says it in its own words
    refused(Verb(arguments, tmp_path / "little.log", before=leave_little_memory), *words)
    done(Verb(arguments, tmp_path / "log"))
    if verb == "encode":
        assert contents(tmp_path / "out") == contents(world / "store")
    else:
        assert_same(tmp_path / "out", world / "run")


def test_every_rank_is_told_to_stop(world: Path, tmp_path: Path) -> None:
    """As before a preemption: a checkpoint, an exit code that is not 0, and the run goes on as if nothing had been."""
    more = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 4, "--trainer.max_epochs", 12]
    arguments = {name: [*train(world, tmp_path / name), *more] for name in ("whole", "run")}
    for rank in ranks(arguments["whole"], tmp_path / "whole.log", 2):
        done(rank)
    stopped = ranks(arguments["run"], tmp_path / "first.log", 2)
    while "epoch 2/" not in stopped[0].said():
        assert stopped[0].process.is_alive(), stopped[0].said()
        time.sleep(0.01)
    for rank in stopped:
        os.kill(rank.process.pid or 0, signal.SIGTERM)
    assert [rank.ends() for rank in stopped] == [128 + signal.SIGTERM] * 2, stopped[0].said()
    assert "the same command goes on" in stopped[0].said() and "Traceback" not in stopped[0].said()
    for rank in ranks(arguments["run"], tmp_path / "last.log", 2):
        done(rank)
    assert "continues from" in (tmp_path / "last.log-0").read_text()
    assert_same(tmp_path / "run", tmp_path / "whole")
