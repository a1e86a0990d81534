"""Verbs in processes that may be killed. They are forked from one that has imported everything: a start costs no seconds."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from forks import FORKS

ROWS_PER_SHARD = 8
QUERIES_PER_SHARD = 32
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}  # and files opened to write


class Verb:
    """One verb under way in a process of its own; `before` is called there first."""

    def __init__(
        self,
        arguments: list[Any],
        log: Path,
        environment: dict[str, str] | None = None,
        die_at: int | str | None = None,
        before: Callable[[], object] | None = None,
    ):
        self.arguments, self.environment = arguments, environment
        inherited = {name: os.environ[name] for name in ("DISTILL_CACHE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")}
        self.log = log
        given = (list(map(str, arguments)), str(log), {**inherited, **(environment or {})}, die_at, before)
        self.process = FORKS.Process(target=_run, args=given)
        self.process.start()

    def ends(self, seconds: float = 120) -> int:
        """Its exit code; a signal that ended it is negative."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"still running after {seconds} s: {self.said()[-2000:]}")
        return code

    def killed_after(self, seconds: float) -> int:
        """Its exit code, -9 unless it was done before."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        return int(self.process.exitcode or 0)

    def again(self) -> Verb:
        """The same, to its end."""
        return Verb(self.arguments, self.log, self.environment)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def ranks(arguments: list[Any], log: Path, world: int, die_at: Mapping[int, int | str] | None = None) -> list[Verb]:
    """The verb on `world` ranks as torchrun starts them; rank r dies at its die_at[r]-th change of a file, or the first of that name."""
    return [
        Verb(arguments, log.with_name(f"{log.name}-{rank}"), environment, (die_at or {}).get(rank))
        for rank, environment in enumerate(as_torchrun(world))
    ]


def as_torchrun(world: int) -> list[dict[str, str]]:
    """What torchrun tells each of `world` ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": 0}
    each = [{**shared, "RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": 1} for rank in range(world)]
    return [{name: str(value) for name, value in rank.items()} for rank in each]


def _run(
    arguments: list[str], log: str, environment: dict[str, str], die_at: int | str | None, before: Callable[[], object] | None
) -> None:
    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import distill.vectors.store_writer
    from distill.cli.main import main
    from distill.generate import Generator

    distill.vectors.store_writer.ROWS_PER_SHARD = ROWS_PER_SHARD
    Generator.queries_per_shard = QUERIES_PER_SHARD
    if before:
        before()
    if die_at:
        sys.addaudithook(_dies_at(die_at, Path(log).parent))
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what a test left open elsewhere is not this process's to close


def _dies_at(place: int | str, folder: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """Kills this process right before its `place`-th change of a file below `folder`, or the first change of a file of that name."""
    count = 0

    def hook(event: str, what: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in CHANGES or (event == "open" and isinstance(what[1], str) and set(what[1]) & set("wax+"))
        if changes and isinstance(what[0], str | Path) and str(what[0]).startswith(str(folder)):
            count += 1
            if place in (count, Path(what[event == "os.rename"]).name):
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
