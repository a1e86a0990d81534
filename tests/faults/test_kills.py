"""Killed at random places and times, again and again, every artefact ends as that of a run nobody touched."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import distill, train_arguments
from conftest import make_source, make_teacher
from faults.forked import Verb, as_torchrun, ranks
from test_resume import assert_same, contents, encode_arguments

KILLS = int(os.environ.get("FAULT_KILLS", "12"))  # in all; make faults has 200
IN_A_ROW = 3  # of one run, before it is left alone
CHANGES = {"encode": 110, "generate": 120, "train": 45, "evaluate": 14}  # of files, about, in one run
EVERY = ["--checkpoint_every_n_steps", 2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, a teacher, and what each verb leaves when nobody kills it."""
    root = tmp_path_factory.mktemp("world")
    make_teacher(root / "teacher")
    make_source(root / "source", documents=60, train=40, dev=10)
    done = {
        "encode": encode_arguments(root / "teacher", root / "source", root / "encode"),
        "train": train_arguments(root / "source", root / "encode", root / "train", *EVERY, "--data.batch_size", 8),
        "generate": generate_arguments(root / "source", root / "whole" / "made"),
    }
    for name, arguments in done.items():
        assert Verb(arguments, root / f"{name}.log").ends() == 0
    assert distill("evaluate", root / "train", "--split", "dev", "--out", root / "evaluate" / "results.json") == 0
    return root


def generate_arguments(source: Path, out: Path) -> list[Any]:
    texts = ["--source", "MsMarcoTsv", "--source.root", source]
    return ["generate", "--generator", "Crop", *texts, "--count", 200, "--filters.near_duplicates", 0.9, "--out", out]


def same_store(world: Path, out: Path) -> None:
    assert contents(out) == contents(world / "encode")


def same_run(world: Path, out: Path) -> None:
    assert_same(out, world / "train")


def same_queries(world: Path, out: Path) -> None:
    """And nothing else: no shard is left."""
    found, whole = (contents(folder) for folder in (out, world / "whole" / "made"))
    manifests = [json.loads(those.pop("manifest.json")) for those in (found, whole)]
    assert found == whole and whole.keys() == {"made.jsonl", "plan.json"}
    for manifest in manifests:
        del manifest["provenance"]  # the time
    assert manifests[0] == manifests[1] and manifests[0]["lines"] == len(found["made.jsonl"].splitlines())


def same_results(world: Path, out: Path) -> None:
    found, expected = (results(path) for path in (out, world / "evaluate"))
    assert found == expected
    runs = [{path.name: path.read_bytes() for path in (folder / "runs" / "dev").glob("[!.]*")} for folder in (out, world / "evaluate")]
    assert runs[0] == runs[1] and len(runs[0]) == 2


def results(folder: Path) -> dict[str, Any]:
    """results.json without what is measured by the clock."""
    found = json.loads((folder / "results.json").read_text())
    del found["provenance"]
    for system in found["systems"].values():
        system.pop("query_latency_ms_p50", None), system.pop("query_latency_ms_p95", None)
    return found


def verbs(world: Path, out: Path) -> dict[str, tuple[list[Any], Callable[[Path, Path], None]]]:
    train = train_arguments(world / "source", world / "encode", out, *EVERY, "--data.batch_size", 8)
    evaluate = ["evaluate", world / "train", "--split", "dev", "--out", out / "results.json"]
    return {
        "encode": (encode_arguments(world / "teacher", world / "source", out), same_store),
        "generate": (generate_arguments(world / "source", out), same_queries),
        "train": (train, same_run),
        "evaluate": (evaluate, same_results),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "share"), [("encode", 0.4), ("generate", 0.25), ("train", 0.35), ("evaluate", 0.1)])
def test_killed_again_and_again(world: Path, tmp_path: Path, verb: str, share: float) -> None:
    schedule, kills, rounds = random.Random(f"{verb} 7"), 0, 0
    length = None  # seconds that a run left alone takes
    while kills < max(2, round(KILLS * share)):
        rounds += 1
        out = tmp_path / str(rounds) / "made"
        out.parent.mkdir()
        arguments, check = verbs(world, out)[verb]
        for kill in range(IN_A_ROW):
            by_place = length is None or schedule.random() < 0.5
            log = out.parent / f"{kill}.log"
            if by_place:
                code = Verb(arguments, log, die_at=schedule.randint(1, CHANGES[verb] // IN_A_ROW)).ends()
            else:
                code = Verb(arguments, log).killed_after(schedule.uniform(0.05, 1) * length)  # type: ignore[operator]
            assert code in (0, -9), log.read_text()
            kills += code == -9
            if code == 0:
                break
        last, start = Verb(arguments, out.parent / "last.log"), time.perf_counter()
        assert last.ends() == 0, last.said()
        length = length or time.perf_counter() - start
        check(world, out)
    print(f"{verb}: {kills} kills in {rounds} rounds")


@pytest.mark.slow
def test_a_rank_in_training_is_killed(world: Path, tmp_path: Path) -> None:
    """Two ranks of half the batch: when one dies, both are started again, as torchrun does."""
    schedule, kills, rounds = random.Random(7), 0, 0
    more = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 4]
    whole = tmp_path / "whole"
    for rank in ranks([*verbs(world, whole)["train"][0], *more], tmp_path / "whole.log", 2):
        assert rank.ends() == 0, rank.said()
    while kills < max(1, round(KILLS * 0.05)):
        rounds += 1
        out = tmp_path / str(rounds) / "out"
        out.parent.mkdir()
        arguments = [*verbs(world, out)["train"][0], *more]
        victim = schedule.randint(0, 1)
        started = ranks(arguments, out.parent / "first.log", 2, {0: schedule.randint(1, CHANGES["train"])} if not victim else None)
        code = started[0].ends() if not victim else started[1].killed_after(schedule.uniform(0.5, 4))
        kills += code == -9
        started[1 - victim].killed_after(5 if code == -9 else 60)
        for rank in ranks(arguments, out.parent / "last.log", 2):
            assert rank.ends() == 0, rank.said()
        assert_same(out, whole)
    print(f"ranks that train: {kills} kills in {rounds} rounds")


@pytest.mark.slow
def test_ranks_that_encode_die_and_join_again(world: Path, tmp_path: Path) -> None:
    """A rank dies, or the one that merges does; it joins again while the other works, alone or as one of three."""
    schedule, kills, rounds = random.Random(7), 0, 0
    while kills < max(2, round(KILLS * 0.1)):
        rounds += 1
        out = tmp_path / str(rounds) / "store"
        out.parent.mkdir()
        arguments = encode_arguments(world / "teacher", world / "source", out)
        started = ranks(
            arguments, out.parent / "first.log", 2, {rank: schedule.randint(1, 60) for rank in (0, 1) if schedule.random() < 0.7}
        )
        kills += sum(rank.ends() == -9 for rank in started)
        world_size = schedule.choice([1, 2, 3])
        for rank in ranks(arguments, out.parent / "again.log", world_size):
            assert rank.ends() == 0, rank.said()
        same_store(world, out)
    print(f"ranks that encode: {kills} kills in {rounds} rounds")


@pytest.mark.slow
def test_ranks_that_generate_die_and_join_again(world: Path, tmp_path: Path) -> None:
    """A worker dies and joins again while the leader waits for it, or the leader dies, also while it merges; then all start again."""
    schedule, kills = random.Random(7), 0
    while kills < max(2, round(KILLS * 0.05)):
        out = tmp_path / str(kills) / "made"
        out.parent.mkdir()
        arguments = generate_arguments(world / "source", out)
        victim = (kills + 1) % 2
        started = ranks(arguments, out.parent / "first.log", 2, {victim: schedule.randint(1, (90, 30)[victim])})
        assert started[victim].ends() == -9, started[victim].said()
        kills += 1
        if victim == 0:
            assert started[1].ends() == 0, started[1].said()
            started = ranks(arguments, out.parent / "again.log", schedule.choice([1, 2, 3]))
        else:
            assert started[0].process.exitcode is None and not (out / "manifest.json").exists()
            started[victim] = started[victim].again()
        for rank in started:
            assert rank.ends() == 0, rank.said()
        same_queries(world, out)
    print(f"ranks that generate: {kills} kills")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "name"),
    [
        *(("encode", name) for name in ("ids.npy", "order.npy", "manifest.json")),
        *(("generate", name) for name in ("made.jsonl", "manifest.json", "00001.part", "00003.part")),  # these two it removes, at last
    ],
)
def test_the_leader_is_killed_while_it_merges(world: Path, tmp_path: Path, verb: str, name: str) -> None:
    out = tmp_path / "made"
    arguments, check = verbs(world, out)[verb]
    if verb == "generate":
        leader, worker = ranks(arguments, tmp_path / "first.log", 2, {0: name})
        assert (leader.ends(), worker.ends()) == (-9, 0), leader.said()
        assert (out / "manifest.json").exists() == name.endswith("part")
    else:  # no rank waits for another; who comes last merges
        first, second = as_torchrun(2)
        assert Verb(arguments, tmp_path / "first.log-1", second).ends() == 0
        leader = Verb(arguments, tmp_path / "first.log-0", first, name)
        assert leader.ends() == -9, leader.said()
    for rank in ranks(arguments, tmp_path / "again.log", 2):
        assert rank.ends() == 0, rank.said()
    check(world, out)
