"""Many folders of sentence-transformers with random settings: FAULT_FOLDERS says how many; make faults has 500."""

import os

import pytest
from generated_folders import UNREAD, try_seed

FOLDERS = int(os.environ.get("FAULT_FOLDERS", "500" if "FAULT_KILLS" in os.environ else "10"))
FIRST = 1000  # seeds below are those of tests/encoders


@pytest.mark.filterwarnings("ignore")
def test_vectors_are_those_of_sentence_transformers_or_refused(tmp_path):
    pytest.importorskip("sentence_transformers", minversion="6")
    counts = {"same": 0, "refused": 0, UNREAD: 0}
    wrong = []
    for seed in range(FIRST, FIRST + FOLDERS):
        changed, outcome = try_seed(tmp_path / "model", seed)
        known = UNREAD if UNREAD in outcome else outcome
        if known in counts:
            counts[known] += 1
        else:
            wrong.append(f"{changed}: {outcome}")
    assert not wrong, "\n".join(wrong)
    assert counts["same"] >= FOLDERS // 4, counts
