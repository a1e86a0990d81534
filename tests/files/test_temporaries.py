"""What killed processes leave is removed by those who come after them, and nothing else is."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from distill.files import temporaries
from distill.files.atomic import write_atomically, write_json
from distill.files.line_shards import LineShardWriter
from distill.files.locks import lock_folder
from distill.files.process_lock import ProcessLock
from distill.files.temporaries import sweep_temporaries
from distill.records import BadInput

FORK = multiprocessing.get_context("fork")


def die_while_writing(path: Path, is_folder: bool) -> None:
    with write_atomically(path) as temporary:
        if is_folder:
            (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "weights" if is_folder else temporary).write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def die_between_two_renames(path: Path) -> None:
    replace = os.replace

    def replace_once(source: Path, target: Path) -> None:
        if source != path:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_once
    with write_atomically(path) as temporary:
        temporary.mkdir()


def killed(function, *arguments) -> None:
    process = FORK.Process(target=function, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_names_are_random_and_say_nothing_of_the_machine(tmp_path):
    with write_atomically(tmp_path / "a") as first, write_atomically(tmp_path / "a") as second:
        assert first != second
        assert all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.tmp", path.name) for path in (first, second))
        first.write_text("1"), second.write_text("2")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_next_writer_of_the_same_name_sweeps(tmp_path, is_folder):
    for _ in range(2):
        killed(die_while_writing, tmp_path / "a", is_folder)
    assert len(names(tmp_path)) == 2  # of the second one: it swept what the first one had left
    write_json(tmp_path / "b", 1)
    assert len(names(tmp_path)) == 3
    write_json(tmp_path / "a", 1)
    assert names(tmp_path) == ["a", "b"]


def test_who_locks_a_folder_sweeps_all_of_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    killed(die_while_writing, tmp_path / "checkpoints" / "last.ckpt", False)
    killed(die_while_writing, tmp_path / "student", True)
    with lock_folder(tmp_path):
        assert names(tmp_path) == [".lock", "checkpoints"] and names(tmp_path / "checkpoints") == []
    killed(die_while_writing, tmp_path / "00001.part", False)
    writer = LineShardWriter(tmp_path / "made", "made", {"of": 1}, 1, "things")
    with writer.claim():
        pass
    killed(die_while_writing, tmp_path / "made" / "00000.part", False)
    with writer.claim():
        assert names(tmp_path / "made") == [".lock", "plan.json"]


def test_what_is_being_written_stays(tmp_path):
    with write_atomically(tmp_path / "a") as temporary:
        temporary.write_text("whole")
        sweep_temporaries(tmp_path)
        process = FORK.Process(target=write_json, args=(tmp_path / "a", 1))
        process.start()
        process.join(30)
        assert process.exitcode == 0 and temporary.exists()
    assert (tmp_path / "a").read_text() == "whole"


def test_a_folder_that_was_moved_away_gets_its_name_back(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    killed(die_between_two_renames, tmp_path / "a")
    assert "a" not in names(tmp_path)
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]


def test_an_old_folder_stays_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a") as temporary:
        temporary.mkdir()
        monkeypatch.setattr("distill.files.atomic._let_others_read", lambda path: path.rmdir())
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]


def test_what_only_looks_alike_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    theirs = [".notes.tmp", ".a.1234.tmp", f".a.{'0' * 16}.tmp", f"a.{'0' * 16}.writing", f".a.{socket.gethostname()}.1.tmp"]
    for name in theirs:
        (tmp_path / name).write_text("theirs")
    (tmp_path / f".a.{'1' * 16}.writing").symlink_to(tmp_path / "mine")
    sweep_temporaries(tmp_path)
    write_json(tmp_path / "a", 1)
    assert names(tmp_path) == sorted(["a", "mine", f".a.{'1' * 16}.writing", *theirs])
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_earlier_releases_left_is_swept(tmp_path):
    dead = FORK.Process(target=int)
    dead.start()
    dead.join()
    (tmp_path / f".a.{socket.gethostname()}.{dead.pid}.tmp").mkdir()
    (tmp_path / f".a.{socket.gethostname()}.{os.getpid()}.old").write_text("ours")
    (tmp_path / f".a.another-machine.{dead.pid}.tmp").write_text("may live there")
    write_json(tmp_path / "a", 1)
    assert names(tmp_path) == [f".a.another-machine.{dead.pid}.tmp", "a"]


def test_what_another_machine_writes_stays(tmp_path, monkeypatch):
    """A lock on a shared disk may hold on one machine only. Who has the lock of the folder sweeps, and after a day everybody does."""
    for name in ("a", "b"):
        killed(die_while_writing, tmp_path / name, False)
    monkeypatch.setattr(temporaries, "_machine", lambda: "none")
    theirs = names(tmp_path)
    assert len(theirs) == 4
    write_json(tmp_path / "a", 1)
    assert names(tmp_path) == sorted([*theirs, "a"])
    for lock in tmp_path.glob(".a.*.writing"):
        os.utime(lock, (0, 0))
    sweep_temporaries(tmp_path)
    assert len(names(tmp_path)) == 3
    with lock_folder(tmp_path):
        assert names(tmp_path) == [".lock", "a"]


def test_a_name_swept_right_after_it_was_made_is_made_again(tmp_path, monkeypatch):
    acquire, swept = ProcessLock.acquire, []

    def acquire_late(lock: ProcessLock) -> bool:
        if not swept:
            swept.append(lock.path)
            lock.path.unlink()
        return acquire(lock)

    monkeypatch.setattr(ProcessLock, "acquire", acquire_late)
    with temporaries.temporary_names(tmp_path / "a") as (temporary, _):
        assert len(swept) == 1 and swept[0].stem != temporary.stem
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_lock_leads_nowhere(tmp_path, kind):
    (tmp_path / "diary").write_text("dear diary")
    if kind == "pipe":
        os.mkfifo(tmp_path / ".lock")
    else:
        (tmp_path / ".lock").symlink_to(tmp_path / ("diary" if kind == "link" else "new"))
    with pytest.raises(BadInput, match=r"\.lock: .*: delete it"):
        lock_folder(tmp_path)
    assert (tmp_path / "diary").read_text() == "dear diary" and not (tmp_path / "new").exists()


def test_a_lock_changes_nothing_in_its_file(tmp_path):
    (tmp_path / "diary").write_text("dear diary")
    os.link(tmp_path / "diary", tmp_path / ".lock")
    with lock_folder(tmp_path):
        pass
    assert (tmp_path / "diary").read_text() == "dear diary"
