"""Python programs in processes of their own, forked from one that has imported what they need: a start costs no seconds."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

FORKS = get_context("forkserver")
VERBS = ["distill.cli.parser", "distill.cli.train", "distill.teachers.encode", "distill.evaluation.evaluate", "distill.generate.generate"]
FORKS.set_forkserver_preload([*VERBS, "transformers.models.bert.modeling_bert"])


def start_python(words: Sequence[str], log: Path, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Starts what `python WORDS` would run, `-m MODULE ...` or `FILE ...`.

    Args:
        log: takes what it prints; errors go to the file of that name with `.err` behind.
        folder: where it works; this process's by default.
        environment: more than what this process has.
    """
    given = (list(words), str(log), str(folder or Path.cwd()), {**os.environ, **(environment or {})})
    process = FORKS.Process(target=_run, args=given)
    process.start()
    return process


def wait_for(process: BaseProcess, log: Path, seconds: float = 300) -> CompletedProcess[str]:
    """How a started program ended; a signal that ended it is a negative code.

    Raises:
        TimeoutError: it had to be killed after so many seconds.
    """
    process.join(seconds)
    hangs = process.exitcode is None
    if hangs:
        process.kill()
    process.join()
    stdout, stderr = (path.read_text(errors="replace") if path.exists() else "" for path in (log, error_log(log)))
    if hangs:
        raise TimeoutError(f"killed after {seconds:.0f} seconds\n{stdout}\n{stderr}")
    return CompletedProcess([], int(process.exitcode or 0), stdout, stderr)


def run_python(words: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """The same, to its end."""
    with TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        return wait_for(start_python(words, log, folder, environment), log)


def error_log(log: Path) -> Path:
    return log.with_name(f"{log.name}.err")


def _run(words: list[str], log: str, folder: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in ((1, log), (2, str(error_log(Path(log))))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    code: object = 1
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)  # what a test left open elsewhere is not this process's to close
