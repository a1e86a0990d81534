"""What a person sees who watches, and that nothing moves where nobody does."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from commands import in_process, train_arguments


def on_a_terminal(arguments: list[str]) -> str:
    """What a verb writes to a terminal, without colours and cursor movements."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    command = [sys.executable, "-m", "distill", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65_536):
                written += part
        except OSError:  # how a terminal says that nobody writes to it any more
            pass
    os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_bar_and_table_on_a_terminal(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    seen = on_a_terminal([str(word) for word in train_arguments(source_root, store_folder, tmp_path / "run")])
    assert re.search(r"6/6.*it/s.*train/loss: \d\.\d+.*train/query_matching: \d\.\d+.*dev/retention_ndcg@10: \d\.\d+", seen)
    assert re.search(r"dev\s+┃ last\s+┃ best", seen) and re.search(r"overlap@10\s+│ \d\.\d+", seen)


def test_lines_alone_elsewhere(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    found = in_process(*train_arguments(source_root, store_folder, tmp_path / "run"))
    assert (found.returncode, found.stderr) == (0, "")
    starts = ["trains on", "epoch 1/2", "epoch 2/2", str(tmp_path / "run" / "student"), "next: distill evaluate"]
    assert [line.startswith(start) for line, start in zip(found.stdout.splitlines(), starts, strict=True)] == [True] * 5
