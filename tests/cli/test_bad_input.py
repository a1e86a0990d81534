"""Input a user can mend: exit code 2, one line on stderr that names the place and the fix, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import ONE_HOT, QUERY_MATCHING, distill, in_process, train_arguments
from conftest import make_teacher


@dataclass
class World:
    """Copies of the small world, to be spoiled; everything lies below `root`."""

    root: Path
    teacher: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def files(self) -> dict[str, bytes]:
        """Every file there is, hidden ones too, and what it holds."""
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}

    def encode(self, *more: Any) -> list[Any]:
        source = ["--source", "MsMarcoTsv", "--source.root", self.source]
        return ["encode", "--teacher", self.teacher, *source, "--precision", "fp32", "--out", self.out, *more]

    def train(self, *more: Any, losses: str = QUERY_MATCHING) -> list[Any]:
        return train_arguments(self.source, self.store, self.out, *more, losses=losses)

    def evaluate(self, *more: Any) -> list[Any]:
        return ["evaluate", self.run, "--source", "MsMarcoTsv", "--source.root", self.source, "--store", self.store, *more]

    def config(self, text: str) -> Path:
        path = self.root / "extra.yaml"
        path.write_text(text)
        return path


@pytest.fixture
def world(tmp_path: Path, source_root: Path, store_folder: Path, run_folder: Path, teacher_folder: Path) -> World:
    for name, folder in (("source", source_root), ("store", store_folder), ("run", run_folder)):
        shutil.copytree(folder, tmp_path / name)
    return World(tmp_path, teacher_folder)


@pytest.fixture
def refused(world: World, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., None]]:
    """Runs a verb that must refuse its input, saying all of the `words`."""

    def run(arguments: list[Any], *words: str) -> None:
        before = world.files()
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # they would be a second line
            code = distill(*arguments)
        lines = capfd.readouterr().err.splitlines()
        assert (code, len(lines)) == (2, 1), lines
        assert lines[0].startswith(f"distill {arguments[0]}: ")
        missing = [word for word in words if word not in lines[0]]
        assert not missing, lines[0]
        assert world.files() == before
        assert not world.out.exists() or any(str(world.out) in path for path in before)

    return run


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


TEXTS: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "missing": ("collection.tsv", Path.unlink, ["collection.tsv: no such file"]),
    "empty": ("queries.train.tsv", lambda path: path.write_text(""), ["queries.train.tsv: the file is empty", "id<TAB>text"]),
    "line without a tab": ("collection.tsv", lambda path: replace(path, "d2\t", "d2 "), ["collection.tsv: line 3", "id<TAB>text"]),
    "duplicate document": ("collection.tsv", lambda path: replace(path, "d7\t", "d3\t"), ["line 8", "'d3'", "line 4", "unique"]),
    "duplicate query": ("queries.dev.tsv", lambda path: replace(path, "dev5\t", "dev1\t"), ["queries.dev.tsv line 6", "'dev1'", "unique"]),
    "no usable line": ("queries.test.tsv", lambda path: path.write_text("\n\n \n"), ["queries.test.tsv", "line", "id<TAB>text"]),
    "empty query": ("queries.dev.tsv", lambda path: path.write_text("dev0\t \n"), ["queries.dev.tsv line 1", "'dev0'", "empty"]),
}


@pytest.mark.parametrize(("name", "spoil", "words"), TEXTS.values(), ids=TEXTS)
def test_text_files(world: World, refused: Callable, name: str, spoil: Callable[[Path], object], words: list[str]) -> None:
    spoil(world.source / name)
    refused(world.encode(), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["more.tsv: the file is empty", "id<TAB>text"]),
        ("\n\n", ["more.tsv", "no usable line", "id<TAB>text"]),
        ("q1 no tab here\n", ["more.tsv: line 1", "id<TAB>text"]),
    ],
)
def test_files_of_extra_queries(world: World, refused: Callable, content: str, words: list[str]) -> None:
    path = world.root / "more.tsv"
    path.write_text(content)
    refused(world.encode("--queries", f"[{path}]"), *words)
    refused(world.train("--data.queries", f"[{path}]"), *words)


def test_reports(world: World, refused: Callable) -> None:
    refused(["report", world.run], "no results.json", "run distill evaluate")
    refused(["report", world.root / "none"], "no run folder", "run distill train")
    refused(["report"], "required: runs")


def test_extra_queries_without_vectors(world: World, refused: Callable) -> None:
    path = world.root / "more.tsv"
    path.write_text("1\tthe old river\n")
    refused(world.train("--data.queries", f"[{path}]"), "'more'", "run distill encode", "train")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stranger\t0\td1\t1\n", ["'stranger'", "must belong together"]),
        ("dev0\t0\td1\tgood\n", ["line 2", "'good'", "whole number"]),
        ("dev0\n", ["line 2", "columns"]),
    ],
)
def test_judgments(world: World, refused: Callable, line: str, words: list[str]) -> None:
    (world.source / "qrels.dev.tsv").write_text("dev0\t0\td3\t1\n" + line)
    refused(world.train(), "qrels.dev.tsv", *words)
    refused(world.evaluate("--split", "dev"), "qrels.dev.tsv", *words)


STORES: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "truncated shard": ("00000.npy", lambda path: path.write_bytes(path.read_bytes()[:-5]), ["00000.npy", "delete the store"]),
    "flipped byte": ("00000.npy", flip_last_byte, ["00000.npy: its bytes changed", "distill encode"]),
    "flipped byte of an id": ("ids.npy", flip_last_byte, ["encode"]),
    "missing shard": ("00000.npy", Path.unlink, ["00000.npy", "missing", "distill encode"]),
    "unfinished": ("manifest.json", Path.unlink, ["unfinished", "run distill encode"]),
    "broken manifest": ("manifest.json", lambda path: path.write_text("{"), ["manifest.json", "not valid JSON"]),
}


@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize("vectors", ["documents", "queries"])
@pytest.mark.parametrize(("name", "spoil", "words"), STORES.values(), ids=STORES)
def test_stores(
    world: World, refused: Callable, verb: str, vectors: str, name: str, spoil: Callable[[Path], object], words: list[str]
) -> None:
    folder = {"documents": "documents", "queries": "queries-train" if verb == "train" else "queries-test"}[vectors]
    spoil(world.store / folder / name)
    refused(world.train() if verb == "train" else world.evaluate(), folder, *words)


def test_no_store(world: World, refused: Callable) -> None:
    shutil.rmtree(world.store)
    refused(world.train(), str(world.store), "no vector store", "run distill encode")
    refused(world.evaluate(), str(world.store), "no vector store", "run distill encode")


def test_store_of_other_queries(world: World, refused: Callable) -> None:
    replace(world.source / "queries.dev.tsv", "dev3\t", "dev3\tnew ")
    refused(world.train(), "queries-dev", "not of the queries", "encode again")
    refused(world.evaluate("--split", "dev"), "queries-dev", "not of the queries", "encode again")


def test_store_of_other_documents(world: World, refused: Callable) -> None:
    replace(world.source / "collection.tsv", "d3\t", "d3\tnew ")
    refused(world.evaluate(), "documents", "not of the documents", "encode again")
    run = world.run / "config.yaml"
    run.write_text(run.read_text().replace(str(_root_in(run)), str(world.source)))
    refused(["search", world.run, "river"], "documents", "not of the documents", "encode again")


def _root_in(config: Path) -> str:
    return next(line.split(": ")[1] for line in config.read_text().splitlines() if line.strip().startswith("root:"))


@pytest.fixture(scope="module")
def other_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("other") / "teacher", seed=1)


def test_store_by_two_teachers(world: World, refused: Callable, other_teacher: Path) -> None:
    other = World(world.root / "elsewhere", other_teacher)
    shutil.copytree(world.source, other.source)
    assert distill(*other.encode()) == 0
    for split in ("train", "test"):
        shutil.rmtree(world.store / f"queries-{split}")
        shutil.copytree(other.out / f"queries-{split}", world.store / f"queries-{split}")
    refused(world.train(), "queries-train", "another teacher", str(other_teacher))
    refused(world.evaluate(), "queries-test", "another teacher", str(other_teacher))


def test_teacher_that_changed_since_it_made_the_store(world: World, refused: Callable, other_teacher: Path) -> None:
    world.teacher = Path(shutil.copytree(world.teacher, world.root / "teacher"))
    world.encode()
    assert distill(*world.encode()) == 0
    world.store.rename(world.root / "unused")
    world.out.rename(world.store)
    shutil.copytree(other_teacher, world.teacher, dirs_exist_ok=True)
    refused(world.train(), str(world.teacher), "fingerprint differs", "encode again")


def test_widths_that_differ_need_a_projection(world: World, refused: Callable) -> None:
    narrow = make_teacher(world.root / "narrow", width=16, layers=1)
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", narrow]
    refused(world.train(*student), "teacher vectors are 32 wide", "student is 16", "set projection: linear")


def test_names_that_no_hub_gives(world: World, refused: Callable) -> None:
    world.teacher = Path("nobody/nothing")
    refused(world.encode(), "nobody/nothing", "no such folder", "pass a folder")
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", "nobody/nothing"]
    refused(world.train(*student), "nobody/nothing", "no such folder", "pass a folder")


LOSSES = {
    "scores without candidates": ('{"kl": {"class_path": "ScoreDistillation"}}', ["losses.kl: ScoreDistillation", "is 0: set 2"]),
    "labels without candidates": (ONE_HOT, ["losses.one_hot: OneHot", "data.candidates is 0", "set 1"]),
    "documents are inherited": ('{"d": {"class_path": "DocumentMatching"}}', ["losses.d", "inherits the teacher's documents", "remove it"]),
    "none": ("{}", ["model.losses", "at least one"]),
    "no such class": ('{"a": {"class_path": "Matching"}}', ["model.losses", "no class 'Matching'"]),
    "value outside the choices": (
        '{"a": {"class_path": "QueryMatching", "init_args": {"distance": "manhattan"}}}',
        ["model.losses: QueryMatching: distance", "'manhattan'", "l2, squared_l2, cosine"],
    ),
    "unknown key": (
        '{"a": {"class_path": "QueryMatching", "init_args": {"distanc": "l2"}}}',
        ["model.losses: QueryMatching", "'distanc'", "did you mean distance?"],
    ),
    "wrong type": ('{"a": {"class_path": "QueryMatching", "init_args": {"weight": "much"}}}', ["weight", "'much' is not a number"]),
    "no mapping": ("[1, 2]", ["model.losses", "'[1, 2]' is not a mapping"]),
}


@pytest.mark.parametrize(("losses", "words"), LOSSES.values(), ids=LOSSES)
def test_losses(world: World, refused: Callable, losses: str, words: list[str]) -> None:
    refused(world.train(losses=losses), *words)
    given = world.config(f"model:\n  losses: {losses}\n")
    refused(
        ["train", *world.train()[7:], "--config", given, "--model.student", "StudentFromTeacher", "--model.student.layers", "[0]"], *words
    )


def test_labels_that_not_every_query_has(world: World, refused: Callable) -> None:
    (world.source / "qrels.train.tsv").write_text("train0\t0\td1\t1\n")
    refused(world.train("--data.candidates", 2, losses=ONE_HOT), "losses.one_hot: OneHot", "judged document")


OPTIONS = {
    "unknown": (["--data.batchsize", 3], ["--data.batchsize", "did you mean --data.batch_size?"]),
    "abbreviation": (["--trainer.max_epoch", 3], ["--trainer.max_epoch", "did you mean --trainer.max_epochs?"]),
    "unknown beside another error": (["--data.source", "Nope", "--data.bach_size", 3], ["did you mean --data.batch_size?"]),
    "unknown choice of class": (["--sorce", "Beir"], ["--sorce:", "did you mean --data.source?"]),
    "unknown choice of class, its option": (["--data.sorce.root", "x"], ["--data.sorce.root:", "did you mean --data.source.root?"]),
    "wrong type": (["--data.batch_size", "many"], ["data.batch_size", "'many' is not a whole number"]),
    "out of range": (["--data.batch_size", 0], ["batch_size 0", "at least 1"]),
    "too many candidates": (["--data.candidates", 61], ["data.candidates", "60 documents"]),
    "unknown split": (["--data.dev", "nope"], ["no split 'nope'", "dev, test, train"]),
    "unknown class": (["--data.source", "Nope"], ["data.source", "no class 'Nope'"]),
    "unknown key of a class": (["--data.source.rot", "x"], ["data.source: MsMarcoTsv", "rot", "did you mean root?"]),
    "no such source": (["--data.source.root", "/nowhere"], ["/nowhere/collection.tsv: no such file"]),
    "no such checkpoint": (["--ckpt_path", "/nowhere/last.ckpt"], ["/nowhere/last.ckpt: no such checkpoint"]),
    "no such layer": (["--model.student.layers", "[0, 4]"], ["layers", "from 0 to 3"]),
    "unknown accelerator": (["--trainer.accelerator", "abacus"], ["trainer", "abacus", "cpu"]),
    "value outside the choices": (["--trainer.precision", "17"], ["trainer.precision", "'17'", "32-true"]),
}


@pytest.mark.parametrize(("options", "words"), OPTIONS.values(), ids=OPTIONS)
def test_options(world: World, refused: Callable, options: list[Any], words: list[str]) -> None:
    refused(world.train(*options), *words)


CONFIGS = {
    "unknown group": ("modle:\n  warmup: 0.1\n", ["modle.warmup"]),
    "unknown key": ("model:\n  learning_rat: 1\n", ["model.learning_rat", "did you mean model.learning_rate?"]),
    "wrong type": ("model:\n  learning_rate: fast\n", ["extra.yaml", "model.learning_rate", "'fast' is not a number"]),
    "broken": ("model: {losses: [\n", ["extra.yaml", "line 2"]),
    "no keys": ("just words\n", ["extra.yaml", "Unexpected config"]),
    "empty": ("", ["extra.yaml", "Unexpected config"]),
}


@pytest.mark.parametrize(("text", "words"), CONFIGS.values(), ids=CONFIGS)
def test_config_files(world: World, refused: Callable, text: str, words: list[str]) -> None:
    refused([*world.train(), "--config", world.config(text)], *words)


def test_missing_config_file(world: World, refused: Callable) -> None:
    refused(["train", "--config", world.root / "none.yaml"], "config: ", "none.yaml", "not exist")
    refused(["train", "--data", "none.yaml"], "distill train: data: none.yaml: no such file: there are beir, ", "msmarco")


def test_a_file_of_a_group_is_named(world: World, refused: Callable) -> None:
    refused(["train", "--data", world.config("store: [1]\n")], "train: data: data.store: ", "'[1]' is not text")


@pytest.mark.parametrize(
    ("verb", "words"),
    [("train", ["data.source", "data.store", "out"]), ("encode", ["teacher", "source", "out"])]
    + [("import", ["vectors", "out"]), ("mine", ["store", "source", "out"])]
    + [(verb, ["run"]) for verb in ("evaluate", "search", "export")],
)
def test_what_is_required_is_named(refused: Callable, verb: str, words: list[str]) -> None:
    refused([verb], "run must be given" if verb == "evaluate" else "required: ", *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "fp8"], ["precision", "'fp8'", "auto, bf16, fp32"]),
        (["--precison", "fp32"], ["--precison", "did you mean --precision?"]),
        (["--prec", "fp32"], ["--prec:", "did you mean --precision?"]),
        (["--sorce", "Beir"], ["--sorce:", "did you mean --source?"]),
        (["--sorce.root", "x"], ["--sorce.root:", "did you mean --source.root?"]),
        (["-z"], ["unrecognized arguments: -z"]),
        (["--splits", "[nope]"], ["no split 'nope'", "dev, test, train"]),
        (["--source.root", "/nowhere"], ["/nowhere/collection.tsv: no such file"]),
        (["--pooling", "mean"], ["leave pooling and normalize out"]),
    ],
)
def test_options_of_encode(world: World, refused: Callable, arguments: list[str], words: list[str]) -> None:
    refused(world.encode(*arguments), *words)


def test_options_of_a_class_that_is_not_named(refused: Callable) -> None:
    refused(["encode", "--source.root", "x"], "encode: source: which one is not said: give --source NAME before its options")
    refused(["encode", "--source.root", "x", "--sorce", "Beir"], "no option --sorce: did you mean --source?")


def test_options_of_evaluate(world: World, refused: Callable) -> None:
    refused(world.evaluate("--split", "nope"), "no split 'nope'", "dev, test, train")
    refused(["evaluate", world.run, "--store", world.store], "source and store belong together")
    refused(["evaluate", world.run, "extra"], "unrecognized arguments: extra")
    baseline = world.root / "baseline.trec"
    baseline.write_text("test0 Q0 d1 1\n")
    refused(world.evaluate("--baselines", json.dumps({"bm25": str(baseline)})), "baseline.trec:1", "6")


@pytest.mark.parametrize(("arguments", "words"), [(["0"], ["k is 0"]), (["many"], ["k: 'many' is not a whole number"])])
def test_number_of_documents_to_search(world: World, refused: Callable, arguments: list[str], words: list[str]) -> None:
    refused(["search", world.run, "river", "--k", *arguments], *words)


@pytest.mark.parametrize("query", ["", "  "])
def test_nothing_to_search_for(world: World, refused: Callable, query: str) -> None:
    refused(["search", world.run, query], "query: an empty text", "give the words to search for")


def test_train_into_a_run_of_other_inputs(world: World, refused: Callable) -> None:
    assert distill(*world.train("--trainer.max_epochs", 1)) == 0
    refused(world.train(), str(world.out), "trainer.max_epochs was 1, now 2", "choose another --out")
    again = ["--trainer.max_epochs", 1]
    refused(world.train(*again, "--model.learning_rate", 0.1), str(world.out), "learning_rate was 0.005, now 0.1", "choose another --out")
    refused(world.train(*again, "--seed_everything", 7), str(world.out), "seed_everything was 0, now 7", "choose another --out")


def test_encode_into_a_store_of_other_inputs(world: World, refused: Callable, other_teacher: Path) -> None:
    world.store.rename(world.out)
    refused(world.encode("--precision", "bf16"), str(world.out), "made from other inputs", "choose another --out")
    replace(world.source / "collection.tsv", "d3\t", "d3\tnew ")
    refused(world.encode(), str(world.out), "made from other inputs", "choose another --out")
    world.teacher = other_teacher
    refused(world.encode(), str(world.out), "made from other inputs", str(other_teacher), "choose another --out")


def test_export_over_another_students(world: World, refused: Callable) -> None:
    assert distill("export", world.run, "--out", world.out) == 0
    (world.out / "export.json").write_text('{"student": "0", "teacher": "0"}')
    refused(["export", world.run, "--out", world.out], str(world.out), "another student", "choose another --out")


@pytest.mark.parametrize("verb", ["encode", "train", "export"])
def test_folders_that_hold_something_else(world: World, refused: Callable, verb: str) -> None:
    world.out.mkdir()
    (world.out / "thesis.txt").write_text("mine")
    arguments = {"encode": world.encode(), "train": world.train(), "export": ["export", world.run, "--out", world.out]}
    refused(arguments[verb], str(world.out), "not empty", "choose another --out")


@pytest.mark.parametrize("arguments", [["evaluate"], ["search", "river"], ["export"]], ids=lambda arguments: arguments[0])
def test_folders_that_are_no_finished_run(world: World, refused: Callable, arguments: list[str]) -> None:
    verb, *rest = arguments
    refused([verb, world.root / "nothing", *rest], "nothing", "no run folder", "run distill train")
    refused([verb, world.source, *rest], str(world.source), "no run folder", "run distill train")
    shutil.rmtree(world.run / "student")
    refused([verb, world.run, *rest], str(world.run), "no student in it yet", "distill train")


@pytest.mark.slow
def test_a_whole_process_prints_one_line_too(world: World) -> None:
    """What libraries log and warn goes past the capturing above."""
    found = in_process(*world.train("--data.dev", "nope"))
    assert found.returncode == 2
    assert found.stderr == f"distill train: {world.source}: no split 'nope': there are dev, test, train\n"
    assert not world.out.exists()
