"""`distill teach` end to end: what it leaves, continues, begins from and refuses."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import distill, furthest, in_process, on_ranks, teach_arguments, weights
from conftest import make_source, make_teacher
from pytorch_lightning import Callback, LightningModule, Trainer

from distill.callbacks.finite_loss import FiniteLoss
from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.towers import load_towers
from distill.records import BadInput

TESTS = Path(__file__).parents[1]
KINDS = ["DualTeacher", "CrossTeacher"]
EVERY = ["--checkpoint_every_n_steps", 2]


@pytest.fixture(scope="module")
def arguments(source_root: Path, store_folder: Path, teacher_folder: Path):
    """Arguments of `teach` on the small world, for a kind of teacher and a run folder."""

    def made(kind: str, out: Path, *more: Any, start: Path = teacher_folder) -> list[Any]:
        first_stage = ["--data.first_stage", store_folder] if kind == "CrossTeacher" else []
        return teach_arguments(source_root, start, out, *first_stage, *more, model=kind)

    return made


@pytest.fixture(scope="module")
def runs(arguments, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("taught")
    for kind in KINDS:
        assert distill(*arguments(kind, root / kind, *EVERY)) == 0
    return {kind: root / kind for kind in KINDS}


def lines(run: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "dev/seconds"} for line in found]


def dev_lines(run: Path) -> list[dict[str, float]]:
    return [line for line in lines(run) if "dev/mrr@10" in line]


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_folder_is_whole_and_done(kind, runs, arguments, capsys):
    run = runs[kind]
    left = {path.name for path in run.iterdir() if path.name[0] != "."}
    assert left == {"config.yaml", "run.json", "metrics.jsonl", "checkpoints", "start", "teacher"}
    assert [line["step"] for line in lines(run) if "train/loss" in line] == list(range(12))
    assert [line["step"] for line in dev_lines(run)] == [5, 11]
    assert distill(*arguments(kind, run, *EVERY)) == 0
    assert capsys.readouterr().out == f"{run}/teacher: done before\n"
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    prefix = "towers.query." if kind == "DualTeacher" else "encoder."
    saved = load_encoder(str(run / "teacher")) if kind == "DualTeacher" else load_cross_encoder(str(run / "teacher"))
    assert all(torch.equal(tensor, best[prefix + name]) for name, tensor in saved.state_dict().items())


def test_it_learns(runs):
    """Chance would be log 4 for one of four documents, and log 64 for one of the batch's 64."""
    for kind, chance in (("DualTeacher", np.log(64)), ("CrossTeacher", np.log(4))):
        losses = [line["train/loss"] for line in lines(runs[kind]) if "train/loss" in line]
        assert np.mean(losses[-4:]) < np.mean(losses[:4]) and losses[-1] < chance * 1.1


def test_a_dual_teachers_folder_is_what_encode_takes(runs, source_root, tmp_path):
    texts = ["--source", "MsMarcoTsv", "--source.root", source_root, "--precision", "fp32"]
    assert distill("encode", "--teacher", runs["DualTeacher"] / "teacher", *texts, "--out", tmp_path / "store") == 0
    documents = np.load(tmp_path / "store" / "documents" / "00000.npy")
    first = (source_root / "collection.tsv").read_text().splitlines()[0].split("\t")[1]
    assert np.allclose(documents[0], load_encoder(str(runs["DualTeacher"] / "teacher")).encode([first], "document")[0], atol=1e-3)


@pytest.mark.slow
def test_two_towers_make_a_store_that_a_student_learns_from(arguments, source_root, tmp_path):
    from commands import train_arguments

    assert distill(*arguments("DualTeacher", tmp_path / "two", "--model.towers", "separate", "--trainer.max_epochs", 1)) == 0
    texts = ["--source", "MsMarcoTsv", "--source.root", source_root, "--precision", "fp32"]
    assert distill("encode", "--teacher", tmp_path / "two" / "teacher", *texts, "--out", tmp_path / "store") == 0
    assert distill(*train_arguments(source_root, tmp_path / "store", tmp_path / "run", "--trainer.max_epochs", 1)) == 0
    assert distill("evaluate", tmp_path / "run") == 0 == distill("export", tmp_path / "run", "--router")
    towers, router = load_towers(str(tmp_path / "two" / "teacher")), load_towers(str(tmp_path / "run" / "export" / "router"))
    assert not towers.shared and towers.document.fingerprint() == router.document.fingerprint()


def judged_dev(source: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (source / "qrels.dev.tsv").read_text().splitlines():
        query, _, document, _ = line.split()
        found.setdefault(query, set()).add(document)
    return found


def mean_reciprocal_rank(rankings: dict[str, list[str]], source: Path) -> float:
    judged = judged_dev(source)
    ranks = [next((i for i, d in enumerate(rankings[q][:10], 1) if d in judged[q]), None) for q in judged]
    return sum(1 / rank for rank in ranks if rank) / len(ranks)


def texts(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text().splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_dev_metrics_are_those_of_the_saved_teacher(kind, runs, source_root, store_folder):
    """The dual encoder over the whole corpus, the cross encoder over the store's top 20, each query and document by itself."""
    documents, queries = texts(source_root / "collection.tsv"), texts(source_root / "queries.dev.tsv")
    ids = list(documents)
    best = max(dev_lines(runs[kind]), key=lambda line: line["dev/ndcg@10"])
    rankings = {}
    if kind == "DualTeacher":
        encoder = load_encoder(str(runs[kind] / "teacher"))
        vectors = encoder.encode(list(documents.values()), "document")
        for query, text in queries.items():
            rankings[query] = [ids[row] for row in (vectors @ encoder.encode([text], "query")[0]).argsort(descending=True)]
    else:
        encoder = load_cross_encoder(str(runs[kind] / "teacher"))
        stored = [np.load(store_folder / name / "00000.npy").astype(np.float64) for name in ("documents", "queries-dev")]
        first = {query: np.argsort(-(stored[0] @ vector), kind="stable")[:20] for query, vector in zip(queries, stored[1], strict=True)}
        for query, text in queries.items():
            scores = torch.cat([encoder.score([text], [documents[ids[row]]]).scores for row in first[query]])
            rankings[query] = [ids[first[query][place]] for place in scores.argsort(descending=True, stable=True)]
        before = {query: [ids[row] for row in rows] for query, rows in first.items()}
        assert best["dev/first_stage_mrr@10"] == pytest.approx(mean_reciprocal_rank(before, source_root), abs=1e-6)
    assert best["dev/mrr@10"] == pytest.approx(mean_reciprocal_rank(rankings, source_root), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("hook", "step"), [("on_train_batch_end", 5), ("on_validation_start", 6)])
def test_a_killed_run_goes_on_exactly(kind, hook, step, runs, arguments, tmp_path):
    run = tmp_path / "run"
    callback = {"class_path": "interruptions.SignalAt", "init_args": {"hook": hook, "step": step, "name": "SIGKILL"}}
    found = in_process(*arguments(kind, run, *EVERY, "--trainer.callbacks", json.dumps([callback])))
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert not (run / "teacher").exists() and (run / "start").exists()
    left = Path(shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "left.ckpt"))
    assert distill(*arguments(kind, tmp_path / "other", *EVERY, "--ckpt_path", left)) == 0
    assert furthest(tmp_path / "other" / "checkpoints" / "last.ckpt", runs[kind] / "checkpoints" / "last.ckpt") == 0
    assert distill(*arguments(kind, run, *EVERY)) == 0
    for name in ("last", "best"):
        assert furthest(run / "checkpoints" / f"{name}.ckpt", runs[kind] / "checkpoints" / f"{name}.ckpt") == 0
    assert lines(run) == lines(runs[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_ckpt_path_goes_on_and_says_which_weights_win(kind, runs, arguments, tmp_path, capsys):
    half = tmp_path / "half"
    assert distill(*arguments(kind, half, "--trainer.max_epochs", 2, "--trainer.max_steps", 6)) == 0
    capsys.readouterr()
    # the rates differ from a run of twelve steps that was planned as such: that one is compared below
    assert distill(*arguments(kind, tmp_path / "on", "--ckpt_path", half / "checkpoints" / "last.ckpt")) == 0
    printed = capsys.readouterr().out
    assert "continues from" in printed and "win over model.start_from" in printed
    assert [line["step"] for line in lines(tmp_path / "on") if "train/loss" in line] == list(range(6, 12))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["teacher", "checkpoints/last.ckpt"])
def test_start_from_begins_a_new_run_from_weights(kind, what, runs, arguments, tmp_path, capsys):
    start = runs[kind] / what
    capsys.readouterr()
    assert distill(*arguments(kind, tmp_path / "run", "--trainer.max_epochs", 1, start=start)) == 0
    printed = capsys.readouterr().out
    assert f"begins from the weights of {start}: " in printed and "trains on 576 judged pairs an epoch, 6 steps" in printed
    assert [line["step"] for line in lines(tmp_path / "run") if "train/loss" in line] == list(range(6))
    began = load_encoder(str(tmp_path / "run" / "start")) if kind == "DualTeacher" else load_cross_encoder(str(tmp_path / "run" / "start"))
    prefix = "towers.query." if kind == "DualTeacher" else "encoder."
    expected = weights(runs[kind] / "checkpoints" / ("last.ckpt" if what.endswith("ckpt") else "best.ckpt"))
    assert all(torch.equal(tensor, expected[prefix + name]) for name, tensor in began.state_dict().items())


def test_a_run_goes_on_when_its_base_is_gone(arguments, teacher_folder, tmp_path, capsys):
    base = Path(shutil.copytree(teacher_folder, tmp_path / "base"))
    started = arguments("DualTeacher", tmp_path / "run", "--trainer.max_epochs", 1, start=base)
    assert distill(*started) == 0
    shutil.rmtree(tmp_path / "run" / "teacher")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    base.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert distill(*started) == 0
    assert f"begins from {tmp_path / 'run'}/start, its copy of" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("negatives", ["top", "mined"])
def test_hard_negatives(kind, negatives, arguments, source_root, store_folder, tmp_path):
    if negatives == "top":
        more = ["--data.negatives", "TopNegatives", "--data.negatives.store", store_folder, "--data.negatives.skip", 3]
    else:
        lines = [{"query": f"train{i}", "positive": f"d{i % 60}", "negatives": ["d1", "d2", "d3"]} for i in range(90)]
        (tmp_path / "mined.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        more = ["--data.negatives", "MinedNegatives", "--data.negatives.path", tmp_path / "mined.jsonl"]
    assert distill(*arguments(kind, tmp_path / "run", "--trainer.max_epochs", 1, *more)) == 0
    assert dev_lines(tmp_path / "run")


def test_a_first_stage_can_be_a_trec_run(arguments, source_root, tmp_path):
    queries = texts(source_root / "queries.dev.tsv")
    ranked = [(query, f"d{(3 * i + 7 * j) % 60}", j) for i, query in enumerate(queries) for j in range(1, 8)]
    (tmp_path / "first.trec").write_text("".join(f"{query} Q0 {document} {j} {9 - j} bm25\n" for query, document, j in ranked))
    more = ["--data.first_stage", tmp_path / "first.trec", "--data.rerank", 10, "--trainer.max_epochs", 1]
    assert distill(*arguments("CrossTeacher", tmp_path / "run", *more)) == 0
    before = {query: [document for q, document, _ in ranked if q == query] for query in queries}
    assert dev_lines(tmp_path / "run")[0]["dev/first_stage_mrr@10"] == pytest.approx(mean_reciprocal_rank(before, source_root), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one(kind, teacher_folder, tmp_path):
    source = make_source(
        tmp_path / "texts", documents=61, train=80, dev=13, seed=6
    )  # in which no two documents are so close that rounding orders them
    encode = ["--source", "MsMarcoTsv", "--source.root", source, "--precision", "fp32", "--out", tmp_path / "store"]
    assert distill("encode", "--teacher", teacher_folder, *encode) == 0
    more = ["--data.first_stage", tmp_path / "store"] if kind == "CrossTeacher" else []
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    assert distill(*teach_arguments(source, teacher_folder, tmp_path / "one", *more, model=kind)) == 0
    # recomputing small chunks is no other result either
    recompute = ["--model.recompute", "true", "--data.tokens_per_chunk", 100] if kind == "DualTeacher" else []
    found = on_ranks(*teach_arguments(source, teacher_folder, tmp_path / "two", *more, *ranks, *recompute, model=kind))
    assert found.returncode == 0, found.stderr
    # a softmax does not see its keys' bias: the gradient is rounding noise, which Adam scales up, and no vector depends on it
    last = [tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "two")]
    assert furthest(*last, without="key.bias") < 5e-4
    for ours, theirs in zip(dev_lines(tmp_path / "one"), dev_lines(tmp_path / "two"), strict=True):
        assert theirs == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("CrossTeacher", ["--model.head", "clss"], "model: CrossTeacher: head: 'clss' is none of dual_pooling, cls"),
        ("DualTeacher", ["--model.towers", "three"], "model: DualTeacher: towers: 'three' is none of shared, separate"),
        ("DualTeacher", ["--model", "NoTeacher"], "model: there is no class 'NoTeacher'"),
        ("DualTeacher", ["--model.start_fro", "x"], "did you mean start_from?"),
        ("DualTeacher", ["--data.train", "train+dev"], "data.dev: dev is trained on too"),
        ("DualTeacher", ["--data.negatives_per_query", 60], "data.negatives_per_query: 60, but the corpus has 60 documents"),
        ("DualTeacher", ["--data.batch_size", 0], "data.batch_size: 0: must be at least 1"),
        ("DualTeacher", ["--trainer.max_epochs", -1], "max_epochs"),
        ("CrossTeacher", ["--data.first_stage", "no.trec"], "no.trec: not a readable run file"),
        ("CrossTeacher", ["--model.start_from", "README.ckpt"], "README.ckpt: no such checkpoint"),
        ("CrossTeacher", ["--ckpt_path", "nothing.ckpt"], "nothing.ckpt: no such checkpoint"),
        ("CrossTeacher", ["--model.max_length", 1000], "max_length 1000: it reads at most 64 tokens"),
        ("DualTeacher", ["--model.max_length", 1000], "max_length: 1000: must be from 3 to 64"),
        ("DualTeacher", ["--model.max_length", 4, "--model.prompts", '{"query": "the old river"}'], "the prompt of a query fills all 4"),
        ("DualTeacher", ["--trainer.log_every_n_steps", 0], "trainer.log_every_n_steps: 0: must be at least 1"),
        ("DualTeacher", ["--trainer.precision", "bf16-true"], "trainer.precision: bf16-true: weights stay in fp32: set bf16-mixed"),
        ("DualTeacher", ["--trainer.accelerator", "mps"], "trainer.accelerator: mps: only cpu and NVIDIA's gpu are supported: set cpu"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_one_line(kind, more, words, arguments, tmp_path, capsys):
    assert distill(*arguments(kind, tmp_path / "run", *more)) == 2
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


class Spoils(Callback):
    """Makes weights of the model no numbers after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("more", [[], ["--trainer.limit_val_batches", 0]], ids=["with dev", "without"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_ends_the_training(kind, more, arguments, tmp_path, capsys):
    spoils = json.dumps([{"class_path": "test_teach.Spoils", "init_args": {"step": 2}}])
    assert distill(*arguments(kind, tmp_path / "run", "--trainer.callbacks", spoils, *more)) == 2
    assert "step 3: the loss is no number: lower model.learning_rate" in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_cross_encoder_without_numbers_is_not_measured_by_its_first_stage(arguments, tmp_path, capsys):
    spoils = json.dumps([{"class_path": "test_teach.Spoils", "init_args": {"step": 12}}])  # the last one: no loss comes after it
    assert distill(*arguments("CrossTeacher", tmp_path / "run", "--trainer.callbacks", spoils)) == 2
    assert "step 12: what the teacher gives for a dev query is no number" in capsys.readouterr().err


def test_a_figure_on_dev_that_is_no_number_ends_the_training():
    trainer = SimpleNamespace(callback_metrics={"dev/log_likelihood": torch.tensor(torch.nan)}, is_global_zero=True, global_step=3)
    with pytest.raises(BadInput, match=r"step 3: dev/log_likelihood is nan: lower model.learning_rate"):
        FiniteLoss().on_validation_end(trainer, None)


def test_a_cross_encoder_needs_a_first_stage(source_root, teacher_folder, tmp_path, capsys):
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", model="CrossTeacher")) == 2
    assert "data.first_stage: a cross encoder re-ranks" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_another_configuration_or_start_is_refused(kind, runs, arguments, tmp_path, capsys):
    assert distill(*arguments(kind, runs[kind], *EVERY, "--model.learning_rate", 0.5)) == 2
    assert "made from other inputs: model.init_args.learning_rate was 0.002, now 0.5" in capsys.readouterr().err
    other = make_teacher(tmp_path / "other", seed=4)
    assert distill(*arguments(kind, runs[kind], *EVERY, start=other)) == 2
    assert "made from other inputs: model.init_args.start_from" in capsys.readouterr().err


def test_a_split_without_labels_is_refused(source_root, teacher_folder, tmp_path, capsys):
    unlabelled = Path(shutil.copytree(source_root, tmp_path / "texts"))
    (unlabelled / "qrels.dev.tsv").unlink()
    assert distill(*teach_arguments(unlabelled, teacher_folder, tmp_path / "run")) == 2
    assert "the split 'dev' has no judgments" in capsys.readouterr().err


def test_the_configuration_can_be_run_again(runs, tmp_path):
    """config.yaml holds everything: with another --out it is the same run."""
    for kind in KINDS:
        config = yaml.safe_load((runs[kind] / "config.yaml").read_text())
        assert config["model"]["class_path"].endswith(kind)
        assert distill("teach", "-c", runs[kind] / "config.yaml", "--out", tmp_path / kind) == 0
        assert furthest(tmp_path / kind / "checkpoints" / "last.ckpt", runs[kind] / "checkpoints" / "last.ckpt") == 0


def test_numbers_as_a_table(source_root, teacher_folder, tmp_path):
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", "--tracking", "csv")) == 0
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert (
        "train/loss" in rows[0]
        and "dev/ndcg@10" in rows[0]
        and len(rows) == 1 + len((tmp_path / "run/metrics.jsonl").read_text().splitlines())
    )


def test_a_task_in_a_file_comes_too_late(source_root, teacher_folder, tmp_path, capsys):
    (tmp_path / "task.yaml").write_text("task: query-generation\n")
    given = teach_arguments(source_root, teacher_folder, tmp_path / "run")
    assert distill(*given, "--config", tmp_path / "task.yaml") == 2
    assert "task: query-generation" in capsys.readouterr().err and not (tmp_path / "run").exists()
