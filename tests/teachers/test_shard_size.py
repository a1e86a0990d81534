"""The texts of a shard follow the teacher's rate, which is measured on few of them."""

import time

import numpy as np
import pytest

from distill.encoders.maker import Maker
from distill.files.atomic import read_json
from distill.teachers import shard_size
from distill.teachers.embedder import encode_set
from distill.teachers.shard_size import choose_rows_per_shard
from distill.texts.texts import Texts


class Clock:
    """A teacher that embeds `rate` texts in a second, after `start` seconds of its first call, in a time of its own."""

    def __init__(self, rate, start=0.0):
        self.rate, self.start, self.now, self.calls = rate, start, 0.0, []

    def perf_counter(self):
        return self.now

    def embed(self, rows):
        self.now += len(rows) / self.rate + (0 if self.calls else self.start)
        self.calls.append(len(rows))
        return len(rows)


@pytest.mark.parametrize(
    ("rate", "count", "rows"),
    [
        (10_000, 1_000_000, 8192),
        (410, 1_000_000, 8192),
        (409, 1_000_000, 4096),  # 8180 in 20 seconds
        (150, 20_000, 512),  # 3000
        (10, 20_000, 64),  # 200
        (0.2, 20_000, 64),  # 4, but a shard has at least 64
        (11, 200, 8192),  # all of them in one shard
        (9, 200, 64),  # 180
        (0.2, 64, 8192),
        (0.2, 0, 8192),
    ],
)
def test_a_shard_takes_twenty_seconds_at_most(rate, count, rows, monkeypatch):
    clock = Clock(rate, start=40.0)  # loading kernels says nothing of the rate
    monkeypatch.setattr(shard_size, "time", clock)
    assert choose_rows_per_shard(clock.embed, count, 8192) == rows


@pytest.mark.parametrize(
    ("rate", "count", "calls"),
    [(10_000, 1_000_000, [2, 2, 8]), (100, 20_000, [2, 2, 8, 32, 128]), (0.2, 20_000, [2, 2]), (100, 1000, [2, 2, 8]), (1, 64, [])],
)
def test_few_texts_are_embedded_twice(rate, count, calls, monkeypatch):
    clock = Clock(rate)
    monkeypatch.setattr(shard_size, "time", clock)
    choose_rows_per_shard(clock.embed, count, 8192)
    assert clock.calls == calls


class Slow:
    """A teacher of two numbers a text, which really takes a hundredth of a second for each."""

    maker, width, where = Maker("slow", "s1"), 2, "slowly"

    def prepare(self, texts, role):
        return texts

    def embed(self, prepared, role, progress):
        time.sleep(0.01 * len(prepared))
        progress(len(prepared))
        return np.array([[len(text), 1] for text in prepared], np.float32)


def test_a_slow_teacher_writes_more_shards_and_a_store_keeps_its_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_size, "SECONDS_PER_SHARD", 1.5)  # at most 150 texts: 128, or 64 on a busy machine
    texts = Texts.from_lists([f"t{row}" for row in range(400)], ["a" * (row % 7) for row in range(400)])
    store = encode_set(Slow(), texts, "document", tmp_path / "store")
    plan = read_json(tmp_path / "store" / "plan.json", "plan")
    assert plan["rows_per_shard"] in (64, 128)
    np.testing.assert_array_equal(store[:][:, 0], [row % 7 for row in range(400)])
    (tmp_path / "store" / "00001.npy").unlink()
    (tmp_path / "store" / "manifest.json").unlink()
    monkeypatch.setattr(shard_size, "SECONDS_PER_SHARD", 1e9)  # another machine would choose another size
    again = encode_set(Slow(), texts, "document", tmp_path / "store")
    assert read_json(tmp_path / "store" / "plan.json", "plan") == plan
    np.testing.assert_array_equal(again[:], store[:])
