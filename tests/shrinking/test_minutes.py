"""The minutes of a job: a part of an epoch where no whole one fits, and no more cut texts than the teacher embeds in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from shrink_world import make_texts

import distill
from distill.shrinking.advice import list_advice, name_larger
from distill.shrinking.budget import Rate, choose_length, estimate_seconds
from distill.shrinking.crops import keep_what_fits
from distill.shrinking.request import Job, Request
from distill.shrinking.shrink import advise, open_job_texts
from distill.shrinking.texts import prepare_texts
from distill.teachers import shard_size
from distill.texts.texts import Texts


def number(name: str, count: int) -> Texts:
    return Texts.from_lists([f"{name}{i}" for i in range(count)], [f"{name} {i}" for i in range(count)], name=name)


class Clock:
    """A time of its own, in which a hundred texts are embedded in a second."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def embed(self, texts):
        self.now += 0.01 * len(texts)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(shard_size, "time", made)
    return made


def test_a_slow_teacher_keeps_what_it_embeds_in_time(caplog, clock):
    """100 texts a second, for 3 seconds: fewer than 500 of 600 fit, and 200 is the next count below."""
    caplog.set_level("INFO", logger="distill")
    kept = keep_what_fits(number("crops", 600), clock.embed, minutes=0.05)
    assert list(kept) == [f"crops {i}" for i in range(200)]
    assert "200 of 600 crops are kept, as the teacher embeds about" in caplog.text


@pytest.mark.parametrize("count", [0, 600])
def test_a_fast_teacher_keeps_all(count):
    assert len(keep_what_fits(number("crops", count), lambda texts: None, minutes=1)) == count


class SlowTeacher:
    """Embeds 100 texts a second."""

    def __init__(self, clock):
        self.clock = clock

    def prepare(self, texts, role):
        return texts

    def embed(self, texts, role, progress):
        self.clock.embed(texts)
        return np.zeros((len(texts), 4), np.float32)


def test_pieces_are_embedded_in_a_quarter_of_the_minutes_and_crops_in_the_rest(tmp_path, clock):
    """Of 19 seconds, 4.75 are for 475 of 1,200 pieces, that is 200, and 14.25 for 1,425 of about 2,800 crops, that is 1,000."""
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(f"{json.dumps({'id': f'd{i}', 'text': text})}\n" for i, text in enumerate(make_texts(60, 40, seed=2))))
    request = Request("teacher", queries=make_texts(300, 9, seed=1), documents=str(documents), minutes=19 / 60)
    summary = prepare_texts(request, tmp_path / "texts", SlowTeacher(clock)).summary
    assert (summary["pieces"], summary["crops"]) == (200, 1000)


def test_where_no_epoch_fits_a_part_of_one_is_trained(tmp_path, teacher_folder, monkeypatch, caplog):
    """37 seconds of training an epoch and one of evaluation, in 26 seconds: 20 of its 37 steps."""
    monkeypatch.setattr("distill.shrinking.training.measure_rate", lambda *_: Rate(texts=592, steps=37, training=37.0, evaluation=1.0))
    monkeypatch.setattr("distill.shrinking.budget.FEWEST_STEPS", 20)
    given = {"queries": make_texts(700, 9, seed=1), "out": str(tmp_path / "run"), "minutes": 26 / 60}
    run = distill.shrink(str(teacher_folder), **given)
    assert (Job(run.path).read("epochs"), Job(run.path).read("steps")) == (1, 20)
    assert run.folder.settings()["trainer"]["limit_train_batches"] == 20 and len(run.history["dev/overlap@10"].values) == 1
    texts = open_job_texts(run)
    advice = advise(run, texts)
    assert "it read its texts once at most: give more --minutes, in another --out" in advice
    assert any(line.startswith("few queries: ") for line in advice)
    improving = [0.2, 0.3, 0.4]
    assert "still improving after 3 epochs: give more --minutes, in another --out" in list_advice(texts, improving, run.results)
    longest = list_advice(texts, improving, run.results, is_longest=True)
    assert "still improving after 3 epochs: as many as --minutes buy: give more queries" in longest
    assert run.results.agreement["overlap@10"] < 0.6
    assert any(line.endswith("more layers help, e.g. --size 4") for line in longest)
    assert any(
        line.endswith("a larger --backbone helps")
        for line in list_advice(texts, improving, run.results, larger=name_larger(None, "small", False))
    )
    before = (run.path / "student" / "model.safetensors").stat().st_mtime_ns
    caplog.set_level("INFO", logger="distill")
    again = distill.shrink(str(teacher_folder), **given | {"minutes": 3})  # done before
    assert "the length of this training was chosen before: for other --minutes" in caplog.text
    assert (again.path / "student" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_an_epoch_is_estimated_by_the_lengths_of_its_batches(noise):
    """Few batches are of long texts, which cost more than in proportion, and there may be none among the first or many."""
    random = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        tokens = random.choice([8, 12, 20, 100, 250], p=[0.3, 0.3, 0.3, 0.07, 0.03], size=300)
        seconds = (0.02 + 0.002 * tokens + 0.00002 * tokens**2) * random.lognormal(-(noise**2) / 2, noise, 300)
        seconds[:5] *= 4  # the first ones are slower
        errors.append(estimate_seconds(seconds[:40], tokens) / seconds[5:].sum())
    assert np.median(errors) == pytest.approx(1, abs=0.1)
    assert np.quantile(np.abs(np.log(errors)), 0.8) < (0.1 if noise == 0 else 0.35)


def test_an_epoch_of_two_steps_is_estimated_too():
    assert estimate_seconds(np.array([0.5, 0.25]), np.array([9, 9])) == pytest.approx(0.5)


@pytest.mark.parametrize("minutes", [1e-6, 0.2])
def test_no_time_at_all_is_refused(minutes):
    """40 steps at least, and the evaluation: 41 seconds."""
    with pytest.raises(distill.BadInput, match=r"too short, even a little training takes 0\.7 minutes: the same command"):
        choose_length(Rate(texts=592, steps=37, training=37.0, evaluation=1.0), minutes)
    with pytest.raises(distill.BadInput, match=r"takes 0\.4 minutes: the same command"):  # of 20 steps and the evaluation
        choose_length(Rate(texts=320, steps=20, training=20.0, evaluation=1.0), minutes)
    assert choose_length(Rate(texts=320, steps=20, training=20.0, evaluation=1.0), 0.36) == (1, 20)
