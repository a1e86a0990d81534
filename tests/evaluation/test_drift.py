"""`distill drift`: the shares by hand, the false-alarm rate over many halves of one set, and queries of another kind that are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import distill
from conftest import WORDS

from distill.data.known_queries import KnownQueries, load_known_queries
from distill.encoders.towers import load_towers
from distill.evaluation.drift import compare_nearness, compare_samples, drift
from distill.records import BadInput
from distill.texts.tables import read_queries
from distill.training.run_folder import RunFolder

KNOWN = KnownQueries(longest=2, least=0.9, vectors=torch.eye(2))
ODD = [" ".join(np.random.default_rng(row).permutation(list("abcdefgh"))) for row in range(30)]  # single letters: no query has such words


def dev_texts(run: Path) -> list[str]:
    data = RunFolder(run).data()
    return list(data.source.queries(data.dev_split))


def test_shares_are_counted_by_hand() -> None:
    then, today = read_queries(["a", "b", "c c c", "d"]), read_queries(["near", "so far off", "far"])
    found = compare_samples(KNOWN, then, np.array([0.6, 0.8, 0.9, 0.9]), today, np.array([0.9, 0.2, 0.3]))
    assert found["low_nearness"] == pytest.approx(0.63)  # 15% of the way from the first to the second
    assert found["then"] == {"queries": 4, "nearness": pytest.approx(0.8), "low": 0.25, "longer": 0.25}
    assert found["today"] == {"queries": 3, "nearness": pytest.approx(1.4 / 3), "low": pytest.approx(2 / 3), "longer": pytest.approx(1 / 3)}
    assert found["worst"] == [
        {"query": "so far off", "nearness": 0.2},
        {"query": "far", "nearness": 0.3},
        {"query": "near", "nearness": 0.9},
    ]


def test_few_alarms_are_false_and_planted_drift_is_found() -> None:
    random = np.random.default_rng(0)
    nearness = random.beta(8, 2, 400)
    alarms = []
    for _ in range(400):
        halves = random.permutation(nearness).reshape(2, 200)
        alarms.append(compare_nearness(*halves) < 0.05)
    assert 0.01 < np.mean(alarms) < 0.08  # 5%, with what chance makes of 400 repeats
    mixed = np.concatenate([random.beta(8, 2, 160), random.beta(4, 4, 40)])  # one in five is of another kind
    assert compare_nearness(nearness, mixed) < 0.01


def test_nearer_queries_are_no_alarm() -> None:
    random = np.random.default_rng(1)
    nearness = random.beta(8, 2, 400)
    assert compare_nearness(nearness, np.ones(400)) == 1.0  # the same queries as in training


def test_a_run_knows_its_own_kind_and_not_another(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "today.txt").write_text("\n".join(ODD))
    own = drift(run_folder, dev_texts(run_folder))
    assert own.p == 1.0 and not own.alarm and own.values["split"] == "dev"
    assert own.values["then"] == own.values["today"]  # the very same queries
    odd = drift(run_folder, tmp_path / "today.txt", out=tmp_path / "drift.json")
    assert odd.alarm and odd.values["today"]["nearness"] < odd.values["then"]["nearness"]
    assert json.loads((tmp_path / "drift.json").read_text()) == odd.values


def test_nearness_is_the_cosine_of_the_students_vector_to_the_nearest_training_query(run_folder: Path) -> None:
    known = load_known_queries(RunFolder(run_folder).known_queries)
    assert known is not None
    vectors = load_towers(str(run_folder / "student")).encode(ODD[:3], "query")
    by_hand = sorted(max(float(vector @ other) for other in known.vectors) for vector in vectors)
    worst = drift(run_folder, ODD[:3]).values["worst"]
    assert [entry["nearness"] for entry in worst] == pytest.approx(by_hand, abs=1e-5)


def test_the_verb_prints_what_it_finds_and_ends_well(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text("time,words\n" + "".join(f"1,{query}\n" for query in [*ODD, "esc\x1b[2J"]))
    assert distill("drift", run_folder, "--queries", f"{tmp_path / 'log.csv'}:words") == 0
    printed = capsys.readouterr().out
    assert "31 queries of today, beside 12 that" in printed and "alarm: today's queries are less like" in printed
    assert "\x1b" not in printed  # a log of queries holds what strangers typed
    assert distill("drift", run_folder, "--queries", tmp_path / "log.csv") == 2
    assert "log.csv: which field is the text?" in capsys.readouterr().err
    assert distill("drift", run_folder) == 2
    assert "queries must be given" in capsys.readouterr().err


def test_what_it_cannot_compare_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="level: 5: a share of false alarms"):
        drift(run_folder, WORDS, level=5)
    with pytest.raises(BadInput, match="no query in it"):
        drift(run_folder, [" "])
    copy = shutil.copytree(run_folder, tmp_path / "run")
    settings = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(settings.replace("documents: inherited", "documents: shared"))
    with pytest.raises(BadInput, match="its student has a space of its own"):
        drift(copy, WORDS)
    (copy / "config.yaml").write_text(settings)
    (copy / "known_queries.npz").unlink()
    with pytest.raises(BadInput, match=r"known_queries\.npz: not there, .*: train again"):
        drift(copy, WORDS)
    shutil.rmtree(copy / "student")
    with pytest.raises(BadInput, match="no student in it yet"):
        drift(copy, WORDS)
