"""Students, stores, texts and splits that do not belong together are refused; what was not judged does not count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import distill, train_arguments
from conftest import make_teacher

from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.files.atomic import read_json, write_json
from distill.texts.ids import Ids
from distill.vectors import store_writer

ir_measures = pytest.importorskip("ir_measures")


@pytest.fixture()
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A finished run, to change at will."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory, source_root: Path) -> Path:
    """The same texts by another teacher of the same width."""
    root = tmp_path_factory.mktemp("other")
    teacher = make_teacher(root / "teacher", seed=9)
    assert distill("encode", "--teacher", teacher, "--source", "MsMarcoTsv", "--source.root", source_root, "--out", root / "store") == 0
    return root / "store"


def error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert distill(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def test_only_judged_queries_are_averaged(run: Path, source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """An official qrels file judges a part of the official queries; trec_eval averages over that part."""
    partly = Path(shutil.copytree(source_root, tmp_path / "texts"))
    lines = (partly / "qrels.test.tsv").read_text().splitlines()
    kept = [line for line in lines if line.split()[0] in ("test0", "test4", "test7")]
    (partly / "qrels.test.tsv").write_text("\n".join(kept) + "\n")
    source = ["--source", "MsMarcoTsv", "--source.root", partly, "--store", store_folder]
    assert distill("evaluate", run, *source, "--out", tmp_path / "results.json") == 0
    results = read_json(tmp_path / "results.json", "results")
    assert (results["queries"], results["judged_queries"]) == (12, 3)
    qrels = [ir_measures.Qrel(query, document, int(grade)) for query, _, document, grade in map(str.split, kept)]
    for name in ("teacher", "student"):
        found = ir_measures.read_trec_run(str(tmp_path / "runs" / "test" / f"{name}.trec"))
        expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.R @ 100], qrels, found)
        assert results["systems"][name]["ndcg@10"] == pytest.approx(expected[ir_measures.nDCG @ 10], abs=1e-6)
        assert results["systems"][name]["recall@100"] == pytest.approx(expected[ir_measures.R @ 100], abs=1e-6)


@pytest.mark.parametrize("verb", ["evaluate", "search", "export"])
def test_a_student_is_not_used_on_another_teachers_store(
    verb: str, run: Path, other_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (run / "config.yaml").read_text().splitlines()
    (run / "config.yaml").write_text("\n".join(f"  store: {other_store}" if line.startswith("  store:") else line for line in config))
    query = ["red river"] if verb == "search" else []
    assert "another teacher than the one" in error(capsys, verb, run, *query)


def test_a_run_does_not_go_on_with_other_vectors(
    run: Path, source_root: Path, store_folder: Path, other_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(shutil.copytree(store_folder, tmp_path / "store"))
    assert distill(*train_arguments(source_root, store, tmp_path / "new")) == 0
    shutil.rmtree(store)
    shutil.copytree(other_store, store)
    assert "made from other inputs: vectors." in error(capsys, *train_arguments(source_root, store, tmp_path / "new"))


def test_training_reads_vectors_of_these_documents(
    source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(source_root, tmp_path / "texts"))
    (changed / "collection.tsv").write_text((changed / "collection.tsv").read_text().replace("river", "ocean"))
    assert "not of the documents of" in error(capsys, *train_arguments(changed, store_folder, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_dev_is_not_trained_on(source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = train_arguments(source_root, store_folder, tmp_path / "run", "--data.train", "train+dev")
    assert "data.dev: dev is trained on too" in error(capsys, *arguments)


def test_a_config_of_other_heads_is_another_encoder(teacher_folder: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))
    config = json.loads((changed / "config.json").read_text())
    write_json(changed / "config.json", {**config, "num_attention_heads": 8})
    assert load_encoder(str(changed)).fingerprint() != load_encoder(str(teacher_folder)).fingerprint()


@pytest.mark.parametrize("name", ["teacher", "student", "../x", "two words"])
def test_a_baseline_has_a_name_of_its_own(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "baselines:" in error(capsys, "evaluate", run, "--baselines", json.dumps({name: "x.trec"}))
    assert not (run / "runs").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.gradient_clip_val", 1.0, "--trainer.precision", "bf16-mixed"],
        ["--trainer.callbacks", "LearningRateMonitor"],
        ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "csv"],
        ["--trainer.num_sanity_val_steps", 2],
    ],
    ids=["clipping in bf16", "one more callback", "one more logger", "sanity check"],
)
def test_lightnings_own_options_work(
    options: list[object], source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", "--trainer.max_epochs", 1, *options)) == 0
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.fast_dev_run", "true"], "fast_dev_run"),
        (["--trainer.max_epochs", -1], "max_epochs"),
        (["--checkpoint_every_n_steps", 0], "checkpoint_every_n_steps"),
        (["--model.learning_rate", -1], "learning_rate"),
        (["--ckpt_path", "README.md"], "not a checkpoint"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused(
    options: list[object],
    words: str,
    source_root: Path,
    store_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert words in error(capsys, *train_arguments(source_root, store_folder, tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


def test_a_large_store_has_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each open shard holds a file descriptor."""
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 1)
    monkeypatch.setattr(store_writer, "MOST_SHARDS", 4)
    writer = store_writer.StoreWriter(tmp_path / "store", Ids.of(map(str, range(10))), 2, Maker("x", "y"), None)
    assert [len(rows) for _, rows in writer.missing_shards()] == [3, 3, 3, 1]


def test_a_teacher_that_moved_is_found_again(teacher_folder: Path, source_root: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(teacher_folder, tmp_path / "first"))
    encode = ["--source", "MsMarcoTsv", "--source.root", source_root, "--precision", "fp32", "--out", tmp_path / "store"]
    assert distill("encode", "--teacher", first, *encode) == 0
    first.rename(tmp_path / "second")
    assert distill("encode", "--teacher", tmp_path / "second", *encode) == 0
    assert distill(*train_arguments(source_root, tmp_path / "store", tmp_path / "run")) == 0


def test_a_students_prompts_are_its_teachers(teacher_folder: Path, source_root: Path, tmp_path: Path) -> None:
    prompts = '{"query": "find the ", "document": ""}'
    texts = ["--source", "MsMarcoTsv", "--source.root", source_root]
    assert distill("encode", "--teacher", teacher_folder, *texts, "--prompts", prompts, "--out", tmp_path / "store") == 0
    assert distill(*train_arguments(source_root, tmp_path / "store", tmp_path / "run")) == 0
    assert load_encoder(str(tmp_path / "run" / "student")).settings.prompts["query"] == "find the "
    assert distill("evaluate", tmp_path / "run") == 0 == distill("export", tmp_path / "run")


def test_a_run_on_other_judgments_is_another(
    source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same queries, judged anew: what was learnt from the old labels is not done before."""
    source = Path(shutil.copytree(source_root, tmp_path / source_root.name))
    arguments = train_arguments(source, store_folder, tmp_path / "run", "--trainer.max_epochs", 1)
    assert distill(*arguments) == 0
    qrels = source / "qrels.dev.tsv"
    lines = qrels.read_text().splitlines()
    qrels.write_text("\n".join([*lines[:-1], lines[-1].replace("\t1", "\t2")]) + "\n")
    assert "judgments of dev" in error(capsys, *arguments)
