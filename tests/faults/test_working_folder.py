"""`python -m distill` in a folder of somebody else: nothing of it is imported by the verbs that read run folders."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VERBS = {"search": ["river"], "export": []}  # one without a folder of its own to write, one with most packages
SHADOWED = ("faiss", "yaml", "onnx", "pandas", "torch", "strange_notes")  # installed, missing, and named in the run


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_of_the_working_folder_is_imported(verb: str, run_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'code-ran')!r}, 'a').write({name!r})\n")
    command = [sys.executable, "-m", "distill", verb, "run", *VERBS[verb]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert not (tmp_path / "code-ran").exists(), (tmp_path / "code-ran").read_text()
    assert done.returncode == 0, done.stderr
    config = run / "config.yaml"
    config.write_text(re.sub(r"distill\.[\w.]*MsMarcoTsv", "strange_notes.Notes", config.read_text()))
    if verb == "search":
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "no class of that path" in done.stderr or "--trust" in done.stderr
        assert not (tmp_path / "code-ran").exists()
