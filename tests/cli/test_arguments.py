"""What is typed for short: names of conf/, of classes in any case, losses by their class alone; and files come before options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import distill, train_arguments

from distill.cli import arguments as words
from distill.files.configs import with_current_class_paths
from distill.generate import Crop
from distill.records import BadInput
from distill.texts.sources import Beir, MsMarcoTsv

ROOT = Path(__file__).parents[2]
GROUPS = {"--model": "student", "--data": "data", "--trainer": "trainer"}


def test_files_come_first_in_their_own_order() -> None:
    given = ["--out", "x", "--data", "beir", "--data.batch_size", "3", "-c", "b.yaml", "--config=a.yaml", "--", "--config", "c"]
    expected = ["--data", "beir", "-c", "b.yaml", "--config=a.yaml", "--out", "x", "--data.batch_size", "3", "--", "--config", "c"]
    assert words.move_files_first(given, ("--config", "-c", "--data")) == expected
    assert words.move_files_first(["--k", "3", "--config"]) == ["--config", "--k", "3"]
    assert words.move_files_first(["--k", "3", "-ca.yaml"]) == ["-ca.yaml", "--k", "3"]


def test_every_name_in_conf_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option, group in {**GROUPS, "--other": "teacher"}.items():
        names = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        assert names
        for name in names:
            (path,) = words.replace_group_names([f"{option}={name}"], {option: group})
            assert Path(path.partition("=")[2]).samefile(ROOT / "conf" / group / f"{name}.yaml")


def test_a_file_here_goes_before_a_name_in_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").write_text("max_epochs: 1\n")
    assert words.replace_group_names(["--trainer", "cpu"], GROUPS) == ["--trainer", "cpu"]


@pytest.mark.parametrize("value", ["{max_epochs: 1}", "CrossTeacher", "mine.Teacher", "[1, 2]"])
def test_what_is_no_name_of_a_file_stays(value: str) -> None:
    assert words.find_group_file("--model", "teacher", value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("two_layer", "model: two_layer: neither a file nor a name in conf/student: did you mean two_layers?"),
        ("conf/two_layers.yaml", "model: conf/two_layers.yaml: no such file: did you mean two_layers?"),
        ("zzz.yaml", "model: zzz.yaml: no such file: there are four_layers, "),
    ],
)
def test_an_unknown_name_is_refused(value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as refusal:
        words.replace_group_names(["--model", value], GROUPS)
    assert str(refusal.value).startswith(message)


def test_classes_are_only_looked_up_where_a_class_may_be() -> None:
    given = ["--out", "crop", "--source", "beir", "--data.fresh=CROP", "--source.root", "Beir"]
    choices = {"source": [Beir.__name__, MsMarcoTsv.__name__], "data.fresh": [Crop.__name__]}
    expected = ["--out", "crop", "--source", "Beir", "--data.fresh=Crop", "--source.root", "Beir"]
    assert words.replace_class_names(given, lambda: choices) == expected


@pytest.mark.parametrize("losses", ["null", '{"a": {"class_path": "QueryMatching"}}', "losses/mine.yaml", "mine.yaml", "[QueryMatching]"])
def test_other_ways_to_name_losses_stay(losses: str) -> None:
    assert words.describe_losses(losses) == losses


def test_a_loss_of_ones_own_is_named_by_its_path() -> None:
    assert words.describe_losses("own_loss.Readout") == '{"readout": {"class_path": "own_loss.Readout"}}'


def config_of(run: Path) -> dict:
    return with_current_class_paths(yaml.safe_load((run / "config.yaml").read_text()))


def test_a_training_needs_texts_and_vectors_alone(source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Two layers of four and query matching; in another folder than the checkout, with names in small letters."""
    monkeypatch.chdir(tmp_path)
    texts = ["--data.source", "msmarcotsv", "--data.source.root", source_root, "--data.store", store_folder]
    assert distill("train", *texts, "--trainer.max_epochs", 1, "--trainer", "cpu", "--out", "plain") == 0
    named = ["--model", "two_layers", "--data", "msmarco", *texts[2:]]
    assert distill("train", *named, "--trainer.max_epochs", 1, "--trainer", "cpu", "--out", "named") == 0
    plain, named = config_of(tmp_path / "plain"), config_of(tmp_path / "named")
    assert plain["model"] == named["model"]
    assert plain["model"]["student"]["init_args"]["layers"] == 2
    assert plain["trainer"]["max_epochs"] == 1  # conf/trainer/cpu.yaml says 5
    layers = (tmp_path / "plain" / "student" / "config.json").read_text()
    assert '"num_hidden_layers": 2' in layers


def test_an_option_changes_a_part_of_the_defaults(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    texts = ["--data.source", "MsMarcoTsv", "--data.source.root", source_root, "--data.store", store_folder]
    given = ["--layers", 3, "--losses=similaritymatching", "--trainer.max_epochs", 1]
    assert distill("train", *texts, *given, "--out", tmp_path / "run") == 0
    model = config_of(tmp_path / "run")["model"]
    assert model["student"]["init_args"]["layers"] == 3
    assert {name: loss["class_path"].rpartition(".")[2] for name, loss in model["losses"].items()} == {
        "similarity_matching": "SimilarityMatching"
    }


def test_a_file_undoes_no_option_before_it(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("trainer:\n  max_epochs: 7\ndata:\n  batch_size: 48\n")
    verb, *given = train_arguments(source_root, store_folder, tmp_path / "run", "--trainer.max_epochs", 1)
    given = [word for word in given if word not in ("--data.batch_size", 16)]
    assert distill(verb, *given, "--config", file) == 0
    config = config_of(tmp_path / "run")
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (1, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "--source", "biir"], "encode: source: there is no class 'biir': did you mean Beir?"),
        (["train", "--model.losses", "querymatchin"], "train: model.losses: there is no class 'querymatchin': did you mean QueryMatching?"),
        (["search", "river"], "search: the following arguments are required: query: the run folder comes first: distill search runs/mine"),
        (
            ["train", "--layers", "true", "--data", "beir", "--out", "x"],
            "train: model.student: StudentFromTeacher: layers: 'True' is none of a",
        ),
        (["train", "--model", "nofile.yaml"], "train: model: nofile.yaml: no such file: there are four_layers, "),
    ],
)
def test_messages_of_a_first_user(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"distill {message}")


def test_an_unknown_class_in_a_file_is_suggested_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "losses.yaml"
    file.write_text("model:\n  losses:\n    a:\n      class_path: QueryMaching\n")
    assert distill("train", "--config", file) == 2
    assert "model.losses: there is no class 'QueryMaching': did you mean QueryMatching?" in capsys.readouterr().err
    file.write_text("losses:\n  a:\n    class_path: QueryMaching\n")
    assert distill("train", "--model", file) == 2
    assert f"{file}: there is no class 'QueryMaching': did you mean QueryMatching?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["StudentFromTeacher", "StudentFromBackbone"])
def test_help_of_a_class_names_types(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        distill("train", "--model.student.help", name)
    assert "Unvalidated" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_wheel_brings_the_files_of_conf(tmp_path: Path) -> None:
    """As `pip install .` builds it, without the network; the checkout is copied, because a build writes into it."""
    pytest.importorskip("setuptools")
    ignored = shutil.ignore_patterns(".*", "tests", "experiments", "docs", "build", "runs", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "there"), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    shipped = {path.relative_to(tmp_path / "there/distill").as_posix() for path in (tmp_path / "there/distill/conf").rglob("*.yaml")}
    assert shipped == {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
