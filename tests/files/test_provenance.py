import json
import subprocess
from pathlib import Path

import pytest

from distill.files.provenance import collect_provenance

ROOT = Path(__file__).parents[2]


def test_a_result_names_its_origin():
    found = collect_provenance()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"] and found["processor"] and found["threads"] >= 1 and found["time"].endswith("+00:00")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_commit_is_that_of_the_checkout():
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert commit and collect_provenance()["commit"].removesuffix("+changes") == commit
