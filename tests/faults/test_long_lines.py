"""Small files that unpack to hundreds of megabytes without a line break: refused in one line, in little memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 300
READ = {
    "texts.tsv.gz": "from distill.texts.texts import Texts; Texts.open(path)",
    "texts.jsonl": "from distill.texts.texts import Texts; Texts.open(path)",
    "log.csv.gz": "from distill.texts.tables import read_queries; read_queries(path)",
    "qrels.tsv": "from distill.texts.qrels import read_qrels; read_qrels(path)",
    "run.trec": "from pathlib import Path; from distill.metrics.trec_runs import read_trec; read_trec(Path(path))",
    "ids.txt": "from distill.vectors.vector_files import read_ids; read_ids('v', path)",
}
SCRIPT = """
import resource, sys
path = sys.argv[1]
from distill.records import BadInput
{imports}
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
try:
    {read}
except BadInput as error:
    print(peak() - before, error)
"""


@pytest.mark.parametrize("name", READ)
def test_a_line_of_hundreds_of_megabytes_takes_little_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    opener = gzip.open if name.endswith(".gz") else open
    with opener(tmp_path / name, "wb") as file:
        file.write(b"id,text\n1," if "csv" in name else b"1\t")
        for _ in range(MEGABYTES):
            file.write(b"x" * (1 << 20))
    *imports, read = READ[name].split("; ")
    script = SCRIPT.format(imports="\n".join(imports), read=read)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    megabytes, _, message = done.stdout.partition(" ")
    assert int(megabytes) < 250 and message.count("\n") == 1
    assert "longer than 64 MiB" in message or "expected an id" in message
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]
