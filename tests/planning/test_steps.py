"""The arithmetic of a plan, by hand, and its bytes on disk beside those of a store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.planning import sizes
from distill.planning.amounts import Amount, measure_texts
from distill.planning.rates import UnitTimes
from distill.planning.steps import Work, count_steps, list_steps, plan_encoding
from distill.records import BadInput
from distill.teachers.embedder import encode_set
from distill.teachers.local import load_local_teacher
from distill.texts.texts import Texts

TIMES = UnitTimes("here", document=0.5, query=0.25, step=2.0, evaluation=1.0, pair=0.001, scan=0.01, byte=1e-6, latency=0.1, load=3.0)
FEW = ("one river",)


@pytest.fixture(scope="module")
def teacher(teacher_folder):
    """Width 32."""
    return load_local_teacher(str(teacher_folder), "fp32")


@pytest.fixture(scope="module")
def work(teacher):
    """1,000 documents; 640 training queries, 20 of dev, 50 held out."""
    counts = {"queries-train": 640, "queries-dev": 20, "queries-holdout": 50}
    return Work(
        documents=Amount("documents", 1000, 3, FEW),
        queries=[Amount(name, count, 12, FEW) for name, count in counts.items()],
        maker=teacher.maker,
        teacher=teacher.towers.document,
        student=teacher.towers.query,
        tokens=(20.0, 5.0),
        gpus=None,
        epochs=3,
        minutes=10.0,
        candidates=0,
        batch_size=64,
        index=None,
    )


def seconds_of(steps):
    return {step.name: step.seconds for step in steps}


def test_times_on_one_device(work):
    """A search takes 1000 x 0.01 s, and 1000 x 0.001 s a query: 30 s of dev's 20, 60 s of the 50 held out."""
    seconds = seconds_of(list_steps(work, TIMES, memory=0))
    assert seconds["encode documents"] == 500
    assert seconds["encode queries"] == 710 * 0.25
    assert seconds["train"] == 3 * 10 * 2
    assert seconds["dev"] == pytest.approx(3 * 1 + 4 * 30)  # the teacher once, the student after each epoch
    assert seconds["evaluate"] == pytest.approx(3 + 50 / 3 / 64 * 2 + 2 * 60 + 74 * 0.1)


def test_gpus_share_what_ranks_share(work):
    """Five GPUs: a fifth of the texts each, two steps of 320 queries an epoch, a fifth of the documents each on dev; one measures."""
    seconds = seconds_of(list_steps(replace(work, gpus=5), TIMES, memory=0))
    assert (seconds["encode documents"], seconds["train"]) == (100, 3 * 2 * 2)
    assert seconds["dev"] == pytest.approx(3 * 1 + 4 * 6)
    assert seconds["evaluate"] == pytest.approx(3 + 50 / 3 / 64 * 2 + 2 * 60 + 74 * 0.1)


def test_tokens_are_cut_beside_the_gpu_and_before_the_cpu(work):
    times = replace(TIMES, document_tokens=0.75, query_tokens=0.0)
    assert plan_encoding(work, times, 0, "", "document", [work.documents]).seconds == 1000 * (0.5 + 0.75)
    assert plan_encoding(replace(work, gpus=2), times, 0, "", "document", [work.documents]).seconds == 500 * 0.75


def test_a_slow_disk_takes_longer_than_the_teacher(work):
    step = plan_encoding(work, replace(TIMES, byte=1.0), 0, "encode documents", "document", [work.documents])
    assert step.seconds == step.disk > 64_000


def test_candidates_are_searched_for_once(work):
    found = next(step for step in list_steps(replace(work, candidates=4), TIMES, memory=0) if step.name == "find candidates")
    assert found.seconds == pytest.approx(1000 * 0.01 + 1000 * 640 * 0.001)
    assert found.disk == 640 * 4 * 8


def test_what_is_not_measured_is_unknown(work):
    steps = list_steps(replace(work, gpus=8), UnitTimes("elsewhere", document=0.5), memory=0)
    assert {name for name, seconds in seconds_of(steps).items() if seconds is not None} == {"encode documents", "export"}
    assert all(step.gpu_memory for step in steps if step.name != "export")


def test_epochs_fit_into_the_minutes(work):
    """An epoch takes 10 x 2 s, and 1 + 30 s of evaluation: 5.9 of them fit into five minutes."""
    assert count_steps(replace(work, epochs=None, minutes=5.0), TIMES) == (5, 10)
    assert count_steps(replace(work, epochs=None), UnitTimes("elsewhere")) == (None, 10)
    with pytest.raises(BadInput, match=r"minutes: 0\.1: too short"):
        count_steps(replace(work, epochs=None, minutes=0.1), TIMES)


@pytest.mark.parametrize("count", [1, 60, 300])
def test_disk_is_what_a_store_takes(teacher, work, tmp_path, count, monkeypatch):
    """To the byte, in several shards too."""
    monkeypatch.setattr("distill.vectors.store_writer.ROWS_PER_SHARD", 64)
    monkeypatch.setattr("distill.planning.sizes.ROWS_PER_SHARD", 64)
    texts = Texts.from_lists([f"é{number}" for number in range(count)], ["river"] * count)
    encode_set(teacher, texts, "document", tmp_path / "documents")
    planned = plan_encoding(work, TIMES, 0, "encode documents", "document", [measure_texts("documents", texts)])
    assert planned.disk == sum(path.stat().st_size for path in (tmp_path / "documents").iterdir() if path.is_file())


def test_bytes_of_indexes(work):
    documents = work.documents  # 1,000 of 32 numbers; ids.txt has 4 bytes a line
    assert sizes.index_bytes("flat", documents, 32) == 1000 * 32 * 4 + 4000
    assert sizes.index_bytes("ivf", documents, 32) == 1000 * (32 * 2 + 8) + 25 * 32 * 4 + 4000
    export = list_steps(replace(work, index="flat"), TIMES, memory=0)[-1]
    assert export.disk == sizes.export_bytes(work.student) + 132_000
    assert export.seconds == pytest.approx(9 + 0.132)
    assert list_steps(replace(work, index="hnsw"), TIMES, memory=0)[-1].seconds is None
    table = work.student.word_table.weight.numel()
    assert sizes.export_bytes(work.student) == 9 * work.weights + 3 * table


def test_memory_grows_with_the_texts(work):
    """17 bytes, the place in the order of ids and the id for each text, and three shards of vectors in fp32; a slow teacher's have 64."""
    steps = [list_steps(work, replace(TIMES, document=seconds), memory=10**9)[0] for seconds in (0.5, 0.001)]
    assert steps[0].memory == 10**9 + 1000 * (17 + 8 + 3) + 3 * 64 * 32 * 4
    assert steps[1].memory == 10**9 + 1000 * (17 + 8 + 3) + 3 * 1000 * 32 * 4
