"""Folders of sentence-transformers with random settings: its vectors, or a refusal, and nothing else."""

import pytest
from generated_folders import UNREAD, try_seed

SEEDS = [*range(55), 119, 199, 299, 635, 759]  # the last ones differed once; tests/faults has more


@pytest.mark.filterwarnings("ignore")
def test_vectors_are_those_of_sentence_transformers_or_refused(tmp_path):
    pytest.importorskip("sentence_transformers", minversion="6")
    outcomes = [try_seed(tmp_path / "model", seed) for seed in SEEDS]
    wrong = [f"{changed}: {outcome}" for changed, outcome in outcomes if outcome not in ("same", "refused") and UNREAD not in outcome]
    assert not wrong, "\n".join(wrong)
    assert sum(outcome == "same" for _, outcome in outcomes) >= len(SEEDS) // 3  # it is no test where all are refused
