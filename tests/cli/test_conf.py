"""Every shipped YAML runs, in miniature: a random teacher stands in for the one from the hub."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shlex
import shutil
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from conftest import small_jobs
from snippets import ROOT, load_module, make_world

from distill.cli.main import main
from distill.encoders.cross_folder import new_cross_encoder
from distill.encoders.folder import load_encoder
from distill.records import BadInput
from distill.training.run_folder import from_config
from distill.training.sweep import list_grid, make_trial_arguments, read_sweep

YAMLS = sorted(str(path.relative_to(ROOT)) for folder in ("conf", "experiments") for path in (ROOT / folder).rglob("*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture()
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    return world


def run(*trial_arguments: str) -> None:
    assert main(list(trial_arguments)) == 0, f"distill {shlex.join(trial_arguments)}"


@pytest.fixture(scope="module")
def beir_store(world: Path) -> str:
    store = str(world / "runs" / "beir" / "teacher")
    run("encode", "--teacher", str(world / "teacher"), "--source", "Beir", "--source.root", str(world / "data" / "beir"), "--out", store)
    return store


@pytest.mark.parametrize("student", [path for path in YAMLS if path.startswith("conf/student")])
def test_students_train(student: str, here: Path, beir_store: str, tmp_path: Path) -> None:
    extra = ["--model.student.init_args.name", str(here / "backbone")] if "own_backbone" in student else []
    extra += ["--data.candidates", "4"] if "with_scores" in student or "symmetric" in student else []
    if "cross" in student:  # one that learnt nothing will do
        new_cross_encoder(str(here / "teacher"), "dual_pooling").save_pretrained(tmp_path / "cross")
        read = ["--splits", "[train]", "--candidates", beir_store, "--out", str(tmp_path / "pairs")]
        run("encode", "--teacher", str(tmp_path / "cross"), "--source", "Beir", "--source.root", "data/beir", *read)
        extra += ["--data.teachers", f"{{cross: {tmp_path / 'pairs'}}}", "--data.candidates", "4"]
    group = ["--model", student, "--data", "conf/data/beir.yaml", "--trainer", "conf/trainer/cpu.yaml", "--trainer.max_epochs", "1"]
    run("train", *group, *extra, "--out", str(tmp_path / "run"))
    assert (tmp_path / "run" / "student" / "modules.json").exists()


@pytest.mark.parametrize("teacher", [path for path in YAMLS if path.startswith("conf/teacher")])
def test_teachers_are_taught(teacher: str, here: Path, beir_store: str, tmp_path: Path) -> None:
    group = ["--model", teacher, "--data", "conf/data/labels.yaml", "--trainer", "conf/trainer/cpu.yaml", "--trainer.max_epochs", "1"]
    more = ["--trainer.limit_train_batches", "2", "--data.first_stage", beir_store]
    small = {  # the small teacher reads 64 tokens
        "dual.yaml": ["--model.start_from", "teacher"],
        "query_generator.yaml": ["--model.start_from", "writer", "--model.longest_text", "32", "--data.negatives_per_query", "0"],
    }.get(Path(teacher).name, ["--model.start_from", "teacher", "--model.max_length", "32"])
    run("teach", *group, *more, *small, "--out", str(tmp_path / "run"))
    given = yaml.safe_load((ROOT / teacher).read_text())
    used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    assert used["class_path"] == given["class_path"]
    for key, value in given["init_args"].items():
        assert key in ("start_from", "max_length", "longest_text") or used["init_args"][key] == value
    assert (tmp_path / "run" / "teacher" / "config.json").exists()


def test_sweep_names_what_there_is(here: Path, beir_store: str, tmp_path: Path) -> None:
    plan = read_sweep(Path("conf/sweep/learning_rate.yaml"))
    choice = next(list_grid(plan["parameters"]))
    run(*make_trial_arguments(plan["command"], choice, tmp_path / "run"), "--trainer.max_epochs", "1")
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert plan["metric"]["name"] in logged[-1]


def test_msmarco_group_trains(here: Path, tmp_path: Path) -> None:
    source = yaml.safe_load((here / "conf/data/msmarco.yaml").read_text())
    run("encode", "--teacher", "teacher", "--source", "MsMarcoTsv", "--source.root", "data/msmarco", "--out", source["store"])
    group = ["--model", "conf/student/two_layers.yaml", "--data", "conf/data/msmarco.yaml", "--trainer", "conf/trainer/cpu.yaml"]
    run("train", *group, "--trainer.max_epochs", "1", "--out", str(tmp_path / "run"))


def test_fresh_crops_group_adds_to_another(here: Path, beir_store: str, tmp_path: Path) -> None:
    group = ["--model", "conf/student/two_layers.yaml", "--data", "conf/data/beir.yaml", "--data", "conf/data/fresh_crops.yaml"]
    run("train", *group, "--trainer", "conf/trainer/cpu.yaml", "--trainer.max_epochs", "1", "--out", str(tmp_path / "run"))
    data = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert data["fresh"]["class_path"].endswith("Crop") and data["source"]["init_args"]["root"] == str(here / "data" / "beir")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_group_trains(here: Path, beir_store: str, tmp_path: Path) -> None:
    group = ["--model", "conf/student/two_layers.yaml", "--data", "conf/data/beir.yaml", "--trainer", "conf/trainer/gpu.yaml"]
    run("train", *group, "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("trainer", ["8gpu", "slurm"])
def test_trainer_groups_of_many_gpus(trainer: str, here: Path, beir_store: str, tmp_path: Path) -> None:
    """As far as one CPU can: all that they say but where to run."""
    group = ["--model", "conf/student/two_layers.yaml", "--data", "conf/data/beir.yaml", "--trainer", f"conf/trainer/{trainer}.yaml"]
    one = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.num_nodes", "1", "--trainer.strategy", "auto"]
    run("train", *group, *one, "--trainer.max_epochs", "1", "--out", str(tmp_path / "run"))
    assert yaml.safe_load((ROOT / "conf" / "trainer" / f"{trainer}.yaml").read_text())["devices"] == "auto"


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "data").glob("hub_*.yaml")), ids=lambda path: path.stem)
def test_hub_groups_name_what_there_is(path: Path) -> None:
    """Every id is in ir_datasets' registry, and the source takes its arguments; tests/texts/test_hubs.py reads from such sources."""
    hub = pytest.importorskip("ir_datasets")
    group = yaml.safe_load(path.read_text())
    source = from_config(group["source"])
    if path.stem == "hub_beir":
        assert len(source.revision) == 40 and group["dev"] in source.judged_splits
    else:
        assert group["dev"] in source.splits() and hub.load(source.corpus).has_docs()
        assert all(hub.load(name).has_queries() for name in source.ids.values())


def read_command(path: Path, end: str) -> list[str]:
    """The arguments of the first `distill` in a shell script, up to the argument `end`."""
    script = path.read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(next(line for line in script.splitlines() if line.strip().startswith("distill ")))[1:]
    return words[: words.index(end)]


def test_python_docs_group_names_the_corpus_that_the_quickstart_makes() -> None:
    group = yaml.safe_load((ROOT / "conf/data/python_docs.yaml").read_text())["source"]["init_args"]
    command = read_command(ROOT / "experiments/quickstart/run.sh", "--minutes")
    quickstart = {word.removeprefix("--source."): value for word, value in pairwise(command) if word.startswith("--source.")}
    assert {name: str(value) for name, value in group.items()} == quickstart
    for experiment in ("quickstart", "picture"):
        words = read_command(ROOT / "experiments" / experiment / "run.sh", "--out")
        assert [word for word in words if "source" in word] == [word for word in command if "source" in word]


def test_quickstart_on_a_small_package_tree(here: Path, tmp_path: Path) -> None:
    """The quickstart's own command; the docstrings are those of one package instead of all."""
    packages = f"['{Path(yaml.__file__).parents[1]}/yaml', '{Path(json.__file__).parents[0]}', '{Path(torch.__file__).parent}/optim']"
    words = read_command(ROOT / "experiments/quickstart/run.sh", "--minutes")
    words[words.index("$teacher")] = "teacher"
    words[words.index("runs/python_docs/corpus")] = str(tmp_path / "corpus")
    with small_jobs():
        run(*words, "--source.packages", packages, "--minutes", "60", "--out", str(tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["dataset"].endswith("/test") and results["retention"]["ndcg@10"]["ci95"]


def test_msmarco_dl_on_small_texts(here: Path, tmp_path: Path) -> None:
    config = ROOT / "experiments" / "msmarco_dl"
    store, out, spans = str(tmp_path / "store"), str(tmp_path / "run"), f"{tmp_path}/spans/spans.jsonl"
    texts, holdout = ["source.init_args.root", "data/msmarco-dl"], ["source.init_args.holdout", "10"]
    run("generate", "-c", f"{config}/generate.yaml", f"--{texts[0]}", texts[1], f"--{holdout[0]}", holdout[1], "--count", "200",
        "--out", str(tmp_path / "spans"))  # fmt: skip
    run("encode", "-c", f"{config}/encode.yaml", "--teacher", "teacher", f"--{texts[0]}", texts[1], f"--{holdout[0]}", holdout[1],
        "--queries", f"[{spans}]", "--out", store)  # fmt: skip
    run("train", "-c", f"{config}/train.yaml", f"--data.{texts[0]}", texts[1], f"--data.{holdout[0]}", holdout[1],
        "--data.queries", f"{{{spans}: 1.0}}", "--data.store", store, "--trainer.max_epochs", "1", "--out", out)  # fmt: skip
    run("evaluate", out, "--split", "dl19")


def test_medquad_on_small_texts(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment's YAMLs and its two programs, one system of each kind."""
    config, root = ROOT / "experiments" / "medquad", tmp_path / "medquad"
    monkeypatch.syspath_prepend(config)
    splits, results = importlib.import_module("splits"), importlib.import_module("results")
    sizes = {"teach": ("train", 40), "student": ("train", 40), "dev": ("dev", 12)}
    monkeypatch.setattr(splits, "SIZES", {**sizes, "test": ("missing", 12)})
    with pytest.raises(BadInput, match="missing"):
        splits.split(here / "data" / "beir", root / "data")
    assert not list(root.iterdir())  # what stopped in the middle leaves nothing
    monkeypatch.setattr(splits, "SIZES", {**sizes, "test": ("test", 12)})
    splits.split(here / "data" / "beir", root / "data")
    texts, store, data = (
        ["--source", "Beir", "--source.root", f"{root}/data"],
        f"{root}/teacher",
        ["--data.source.init_args.root", f"{root}/data"],
    )
    run("encode", "--teacher", "teacher", *texts, "--out", store)
    for split in ("teach", "student"):
        run("mine", "--store", store, *texts, "--split", split, "--margin", "-2", "--out", f"{root}/negatives-{split}")
    taught = ["--model.init_args.start_from", "teacher", *data, "--model.init_args.max_length", "32"]
    mined = ["--data.negatives", "MinedNegatives", "--data.negatives.init_args.path", f"{root}/negatives-teach/negatives.jsonl"]
    run("teach", "-c", f"{config}/cross.yaml", *taught, *mined, "--data.first_stage", store, "--out", f"{root}/ce_dual-0")
    run("rerank", "--teacher", f"{root}/ce_dual-0/teacher", *texts, "--first_stage", store, "--out", f"{root}/rerank/ce_dual-0")
    for name, negatives in (("de_labels", mined), ("de_labels_random", ["--data.negatives", "RandomNegatives"])):
        run("teach", "-c", f"{config}/dual.yaml", *taught, *negatives, "--out", f"{root}/{name}-0")
        run("encode", "--teacher", f"{root}/{name}-0/teacher", *texts, "--splits", "[dev,test]", "--out", f"{root}/vectors/{name}-0")
    pairs = f"{root}/pairs/ce_dual-0"
    candidates = ["--splits", "[student]", "--candidates", f"{root}/negatives-student"]
    run("encode", "--teacher", f"{root}/ce_dual-0/teacher", *texts, *candidates, "--out", pairs)
    options = ["--data.store", store, "--data.teachers", json.dumps({"ce": pairs}), "--model.student.init_args.max_length", "32"]
    run("train", "-c", f"{config}/student.yaml", *data, *options, "--out", f"{root}/student_labels-0")
    run("evaluate", f"{root}/student_labels-0")
    results.main(root)
    found = json.loads((root / "results.json").read_text())
    assert set(found["systems"]) == {"de_teacher", "de_labels", "de_labels_random", "ce_dual", "student_labels"}
    assert set(found["dev"]["systems"]) == {"de_teacher", "de_labels", "de_labels_random", "student_labels"}
    # what the verbs measured of the same runs
    reranked = json.loads((root / "rerank/ce_dual-0/results.json").read_text())["systems"]
    assert found["systems"]["ce_dual"]["reranking"]["mrr@10"] == pytest.approx(reranked["reranked"]["mrr@10"], abs=1e-9)
    assert found["systems"]["de_teacher"]["reranking"]["mrr@10"] == pytest.approx(reranked["first_stage"]["mrr@10"], abs=1e-9)
    evaluated = json.loads((root / "student_labels-0/results.json").read_text())["systems"]
    for name, system in (("de_teacher", "teacher"), ("student_labels", "student")):
        assert found["systems"][name]["full_corpus"]["mrr@10"] == pytest.approx(evaluated[system]["mrr@10"], abs=1e-9)
    # a run that lacks a document is of another first stage
    ranked = root / "rerank/ce_dual-0/runs/test/reranked.trec"
    ranked.write_text("".join(ranked.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(BadInput, match="not the first 20 documents"):
        results.main(root)


@pytest.mark.slow
def test_generation_on_small_texts(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every YAML and script of the ablation in the order of its run.sh, with few steps and few queries."""
    config = tmp_path / "experiments" / "generation"
    shutil.copytree(ROOT / "experiments" / "generation", config)
    smaller = [
        ("1600", "4"),
        ("200", "2"),
        (r"count: \d+", "count: 150"),
        (": (12|8|6)}", ": 1}"),
        ("max_epochs: 4", "max_epochs: 1"),
        (r"dl19\+dl20", "dl19"),
    ]
    smaller += [("longest_text: 128", "longest_text: 32"), ("longest_query: 32", "longest_query: 8")]
    for path in config.glob("*.yaml"):
        text = path.read_text()
        for pattern, value in smaller:
            text = re.sub(pattern, value, text)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    world = runpy.run_path(str(config / "texts.py"))
    world["PARTS"].update(holdout=10, dev=10, real_1k=20, more_5k=20)
    world["main"](here / "data" / "msmarco-dl", tmp_path / "runs" / "generation" / "texts")
    made = Path("runs/generation")
    shutil.copytree(here / "data" / "beir", made / "medquad")
    for name in ("crop", "snippets"):
        run("generate", "-c", f"{config}/{name}.yaml")
    for size, split in (("1k", "real_1k"), ("5k", "real_1k+more_5k"), ("all", "real_1k+more_5k+more_all")):
        run("generate", "-c", f"{config}/noise.yaml", "--split", split, "--out", f"{made}/noise_{size}")
    files = [f"{made}/{name}/{name}.jsonl" for name in ("crop", "snippets", "noise_1k", "noise_5k", "noise_all")]
    run("encode", "-c", f"{config}/encode.yaml", "--teacher", f"{here}/teacher", "--queries", f"[{','.join(files)}]")
    runpy.run_path(str(config / "writer.py"))["main"](f"{here}/teacher", made / "writer_start")
    run("teach", "-c", f"{config}/teach.yaml")
    run("generate", "-c", f"{config}/seq2seq.yaml")
    file = f"[{made}/medquad_seq2seq/medquad_seq2seq.jsonl]"
    texts = ["--source", "Beir", "--source.root", f"{made}/medquad"]
    run("encode", "--teacher", f"{here}/teacher", *texts, "--queries", file, "--out", f"{made}/medquad_teacher")
    runpy.run_path(str(config / "round_trip.py"))["main"]()
    assert set(json.loads((made / "round_trip.json").read_text())) == {"fine-tuned", "untrained", "spans of equal length", "real"}
    ablation = runpy.run_path(str(config / "ablation.py"))["main"]
    rows = ["real_1k", "real_1k_crop", "real_1k_noise_fresh", "medquad", "medquad_seq2seq"]
    ablation(rows)
    results = json.loads((made / "results.json").read_text())
    assert set(results["systems"]) == {*rows, "real_1k_best", "medquad_best"}
    difference = results["differences_to_real"]["real_1k_crop"]["overlap@10"]
    crop, real = (results["systems"][name]["agreement"]["overlap@10"] for name in ("real_1k_crop", "real_1k"))
    assert difference["value"] == pytest.approx(crop - real) and difference["ci95"][0] <= difference["value"] <= difference["ci95"][1]
    before = (made / "rows" / "real_1k" / "student" / "model.safetensors").stat().st_mtime_ns
    ablation(["real_1k"])  # done before
    assert (made / "rows" / "real_1k" / "student" / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads((made / "results.json").read_text())["systems"] == results["systems"]


def test_abroad_on_small_texts(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of packages, pieces of them, and a student that is watched and measured on collections of other domains."""
    config = tmp_path / "experiments" / "abroad"
    shutil.copytree(ROOT / "experiments" / "abroad", config)
    (config / "packages.tsv").write_text(
        "registry\tpackage\tversion\tthousand words at most\npypi\tsmall-texts\t1.0\t9\nnpm\tnot.there\t1\t9\n"
    )
    write_small_package(tmp_path / "packages" / "small_texts-1.0-py3-none-any.whl")
    monkeypatch.syspath_prepend(config)
    texts = runpy.run_path(str(config / "texts.py"))
    texts["main"](tmp_path / "packages", here / "data" / "msmarco-dl" / "queries.train.tsv", tmp_path / "texts")
    corpus = [json.loads(line)["text"] for line in (tmp_path / "texts" / "corpus.jsonl").read_text().splitlines()]
    assert sorted(text.split()[0] for text in corpus) == ["Abstracts", "Pages", "Strings", "Terms", "Text"]
    assert not any("\u2028" in text or "<p>" in text or "``" in text for text in corpus)

    root, holdout = ["source.init_args.root", "data/msmarco-dl"], ["source.init_args.holdout", "10"]
    pieces, store, out = tmp_path / "pieces", tmp_path / "store", tmp_path / "run"
    run("generate", "-c", f"{config}/pieces.yaml", "--source.init_args.root", f"{tmp_path}/texts", "--count", "60", "--out", str(pieces))
    run("encode", "-c", f"{config}/encode.yaml", "--teacher", "teacher", f"--{root[0]}", root[1], f"--{holdout[0]}", holdout[1],
        "--queries", f"[{pieces}/pieces.jsonl]", "--out", str(store))  # fmt: skip
    run("train", "-c", f"{config}/train.yaml", f"--data.{root[0]}", root[1], f"--data.{holdout[0]}", holdout[1],
        "--data.dev_suite", f"[{here}/data/others]", "--data.queries", f"{{{pieces}/pieces.jsonl: 1.0}}", "--data.store", str(store),
        "--trainer.max_epochs", "1", "--out", str(out))  # fmt: skip
    run("evaluate", str(out), "--split", "dl19", "--suite", f"{here}/data/others")
    assert "one" in json.loads((out / "results.json").read_text())["suite"]["collections"]


def test_ablation_of_abroad_on_small_texts(here: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Rows of equal time, from what run.sh leaves: texts of each kind, and one store of the vectors of all."""
    data, runs = tmp_path / "data", tmp_path / "runs"
    shutil.copytree(here / "data" / "msmarco-dl", data / "msmarco-dl")
    for path in (data / "msmarco-dl").glob("*.dl20.tsv"):  # else both splits have the same queries
        path.write_text(path.read_text().replace("dev", "dl"))
    for name in ("cisi", "datafinder", "climatefever-ev"):
        shutil.copytree(here / "data" / "others" / "one", data / "zeroshot" / name)
    words = (data / "msmarco-dl" / "collection.tsv").read_text().split()
    sets = {"abroad_pieces": range(3, 160, 2), "abroad_spans": range(3, 40)}
    for name, lengths in sets.items():
        path = runs / name / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{json.dumps({'_id': f'{n}', 'text': ' '.join(words[n : 2 * n])})}\n" for n in lengths))
    (data / "questions").mkdir()
    (data / "questions" / "queries.tsv").write_text("".join(f"q{n}\twho is {' '.join(words[n : n + 3])}\n" for n in range(100)))
    files = f"[{','.join([*(f'{runs}/{name}/{name}.jsonl' for name in sets), f'{data}/questions/queries.tsv'])}]"
    source = ["--source.init_args.root", f"{data}/msmarco-dl", "--source.init_args.holdout", "10"]
    encode = ["encode", "-c", f"{ROOT}/experiments/abroad/encode.yaml", "--teacher", "teacher", *source]
    run(*encode, "--queries", files, "--out", f"{runs}/abroad_teacher")
    script = load_module(ROOT / "experiments/abroad/ablation.py")
    monkeypatch.setattr(script, "HOLDOUT", 10)
    monkeypatch.setattr(script, "BATCH_SIZE", 8)
    monkeypatch.setattr(script, "ROWS", {name: script.ROWS[name] for name in ("questions alone", "all", "long pieces")})
    monkeypatch.chdir(tmp_path)
    script.main(data, 1.0, [])
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in table[-3:]] == ["| questions alone", "| all", "| long pieces"]
    lengths = json.loads((runs / "abroad_rows" / "lengths-1s.json").read_text())
    steps = [epochs * batches for epochs, batches in (lengths[name] for name in script.ROWS)]
    assert [line.split(" | ")[1] for line in table[-3:]] == [f"{count:,}" for count in steps]
    # 86 queries of train; in `all` 1 + 2 + 4.9 + 20 + 2 texts for each of them
    assert lengths["all"][1] <= round(86 * 29.9) // 8 and lengths["questions alone"][1] <= 100 // 8


def test_mpnet_on_small_texts(here: Path, tmp_path: Path) -> None:
    """The students that run.sh names, of a teacher with six layers in place of twelve."""
    config, root = ROOT / "experiments" / "mpnet", ["source.init_args.root", "data/msmarco-dl"]
    holdout, store = ["source.init_args.holdout", "10"], str(tmp_path / "store")
    run("encode", "-c", f"{config}/encode.yaml", "--teacher", "teacher", f"--{root[0]}", root[1], f"--{holdout[0]}", holdout[1],
        "--out", store)  # fmt: skip
    students = [line.split(" ", 2)[1:] for line in (config / "run.sh").read_text().splitlines() if line.startswith("train ")]
    layers = {}
    for name, options in students:
        out, words = tmp_path / name, shlex.split(options.replace("$small", str(here / "teacher")).replace("11]", "5]").replace("160", "8"))
        run("train", "-c", f"{config}/train.yaml", f"--data.{root[0]}", root[1], f"--data.{holdout[0]}", holdout[1],
            "--data.store", store, *words, "--trainer.max_epochs", "1", "--out", str(out))  # fmt: skip
        run("evaluate", str(out), "--split", "holdout", "--out", str(out / "holdout.json"))
        layers[name] = load_encoder(str(out / "student")).backbone.config.num_hidden_layers
    assert layers == {"small": 6, "small_two_layers": 2, "small_three_layers": 3, "own_two_layers": 2}


def test_small_students_on_small_texts(here: Path, tmp_path: Path) -> None:
    """The students that run.sh names; some of the tokens of a teacher that has 83."""
    config, root, holdout = ROOT / "experiments" / "msmarco_dl", "data/msmarco-dl", ["--data.source.init_args.holdout", "10"]
    store = str(tmp_path / "store")
    run("encode", "-c", f"{config}/encode.yaml", "--teacher", "teacher", "--source.init_args.root", root,
        "--source.init_args.holdout", "10", "--out", store)  # fmt: skip
    script = (ROOT / "experiments/small/run.sh").read_text().replace("\\\n", " ").replace("15261", "75")
    students = [line.split(" ", 2)[1:] for line in script.splitlines() if line.startswith("train ")]
    parameters = {}
    for name, options in students:
        run("train", "-c", f"{config}/train.yaml", "--data.source.init_args.root", root, *holdout, "--data.store", store,
            *shlex.split(options.replace("5]", "3]")), "--trainer.max_epochs", "1", "--out", str(tmp_path / name))  # fmt: skip
        run("evaluate", str(tmp_path / name), "--split", "dl19")
        parameters[name] = load_encoder(str(tmp_path / name / "student")).parameter_count()
    assert parameters["static"] == parameters["static_documents"] < parameters["half"] < parameters["whole"]


def write_small_package(path: Path) -> None:
    """A wheel with a file of every kind that the texts of packages are read from."""
    path.parent.mkdir()
    rest = "are read as they are, and the words of it go on for a while"
    article = (
        "<PubmedArticleSet><PubmedArticle><Article><ArticleTitle>Abstracts {rest}.</ArticleTitle><Language>eng</Language><Abstract>"
        "<AbstractText>One of the parts of it.</AbstractText></Abstract><PubDate><Year>2021</Year></PubDate></Article></PubmedArticle>"
        "<PubmedArticle><Article><ArticleTitle>Older {rest}.</ArticleTitle><Language>eng</Language><PubDate><Year>1999</Year></PubDate>"
        "</Article></PubmedArticle></PubmedArticleSet>"
    )
    files = {
        "docs/page.html": f"<nav>not this</nav><p>Pages {rest} <pre>no code</pre></p>",
        "docs/text.rst": f"Text\n====\n\nText {rest} in ``code`` words.\n\n.. note:: a\n\nToo short.\n",
        "docs/same.md": f"Text {rest} in `code` words.\n",
        "small/module.py": f'def f():\n    """Strings {rest}.\n\n    >>> f()\n    """\n',
        "small/broken.py": "def f(:\n",
        "small/terms.obo": f'def: "Terms {rest}." [x]\n',
        "data/pubmed21n1.xml": article.format(rest=rest),
        "data/numbers.json": "[1]",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_every_yaml_is_run_above() -> None:
    tested = {"student": 7, "teacher": 4, "data": 9, "trainer": 4, "sweep": 1}
    tested |= {"msmarco_dl": 3, "generation": 8, "medquad": 3, "abroad": 3, "mpnet": 2}
    tested |= {"msmarco": 8, "nq": 1}  # in test_launch
    found = {folder: sum(Path(path).parent.name == folder for path in YAMLS) for folder in tested}
    assert found == tested and sum(tested.values()) == len(YAMLS), "a new YAML needs a test here"
