"""Two processes exclude each other; a lock ends with its owner, and nothing that the owner started keeps it."""

import errno
import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from distill.files import locks
from distill.files.locks import lock_folder, wait_for_lock
from distill.records import BadInput

FORK = multiprocessing.get_context("fork")


def is_locked(folder: Path) -> bool:
    """Whether another process is kept out."""
    code = "import sys; from pathlib import Path; from distill.files.locks import lock_folder; lock_folder(Path(sys.argv[1]))"
    found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    if found.returncode:
        assert f"{folder}: another process is writing it: wait until it ends, or choose another --out" in found.stderr
    return found.returncode != 0


def test_another_process_is_refused_until_the_block_ends(tmp_path):
    folder = tmp_path / "new" / "folder"
    with lock_folder(folder):
        assert is_locked(folder)
        with pytest.raises(BadInput, match="another process is writing it"):
            lock_folder(folder)
    assert not is_locked(folder)
    with lock_folder(folder):
        pass


def test_a_lock_ends_with_the_function_that_has_it(tmp_path):
    def work():
        _lock = lock_folder(tmp_path)
        assert is_locked(tmp_path)

    work()
    gc.collect()
    assert not is_locked(tmp_path)


def test_a_lock_survives_what_its_process_starts(tmp_path):
    with lock_folder(tmp_path):
        process = FORK.Process(target=os.getpid)
        process.start()
        process.join()
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert is_locked(tmp_path)


def lock_and_fork(folder: Path, connection) -> None:
    _lock = lock_folder(folder)
    worker = FORK.Process(target=time.sleep, args=(60,))
    worker.start()
    connection.send(worker.pid)
    time.sleep(60)


def test_a_killed_process_keeps_no_lock_though_its_workers_live(tmp_path):
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=lock_and_fork, args=(tmp_path, theirs))
    process.start()
    worker = ours.recv()
    try:
        assert is_locked(tmp_path)
        process.kill()
        process.join()
        os.kill(worker, 0)  # it lives
        assert not is_locked(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def append_slowly(folder: Path, letter: str) -> None:
    with wait_for_lock(folder / "file"):
        for _ in range(5):
            with open(folder / "log", "a") as log:
                log.write(letter)
            time.sleep(0.05)


def test_those_that_wait_come_one_after_the_other(tmp_path):
    processes = [FORK.Process(target=append_slowly, args=(tmp_path, letter)) for letter in "ab"]
    threads = [threading.Thread(target=append_slowly, args=(tmp_path, letter)) for letter in "cd"]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join(30)
    log = (tmp_path / "log").read_text()
    assert sorted(log[start : start + 5] for start in range(0, 20, 5)) == ["aaaaa", "bbbbb", "ccccc", "ddddd"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_locks_nothing(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_folder(tmp_path / "folder"), lock_folder(tmp_path / "folder"), wait_for_lock(tmp_path / "file"):
        assert {path.name for path in tmp_path.rglob("*")} <= {"folder", ".lock", ".file.lock"}


def test_a_folder_that_cannot_be_written():
    with TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        try:
            if user == 0:
                os.seteuid(65534)  # root writes everywhere
        except OSError as error:
            pytest.skip(f"root that cannot be another user: {error}")
        try:
            with wait_for_lock(folder / "file"):  # a cache to be read only
                pass
            with pytest.raises(PermissionError):
                lock_folder(folder)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_lock_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match=r"\.lock"):
        lock_folder(tmp_path)
    (tmp_path / ".file.lock").mkdir()
    with wait_for_lock(tmp_path / "file"):
        pass


def test_who_waits_says_so_after_a_while(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "distill")
    monkeypatch.setattr(logging.getLogger("distill"), "propagate", True)
    monkeypatch.setattr(locks, "SECONDS_IN_SILENCE", 0.05)
    with wait_for_lock(tmp_path / "file"):
        waiting = threading.Thread(target=append_slowly, args=(tmp_path, "a"))
        waiting.start()
        time.sleep(0.3)
    waiting.join()
    said = f"{tmp_path / 'file'}: another process writes it: waiting until it is done or ends"
    assert [record.getMessage() for record in caplog.records] == [said]
    assert (tmp_path / "log").read_text() == "aaaaa"
