"""`distill generate` end to end: what it leaves, what it never writes, stopped and started again, on two ranks, into training."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, in_process, train_arguments
from conftest import TOPICS
from embeddings_server import Handler, serving
from writers import make_writer

from distill.files.atomic import read_json
from distill.files.configs import from_config, to_config
from distill.files.fingerprints import file_fingerprint
from distill.files.line_shards import LineShardWriter
from distill.generate import Crop, Generator, Noise, Seq2Seq
from distill.generate.filters import sort_words, split_words
from distill.generate.generate import generate
from distill.texts.sources import MsMarcoTsv

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "queries_per_shard", 64)


def arguments(source: Path, out: Path, *more: Any, generator: str = "Crop", count: int = 300) -> list[Any]:
    texts = ["--source", "MsMarcoTsv", "--source.root", source]
    return ["generate", "--generator", generator, *texts, "--count", count, "--out", out, *more]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{folder.name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("generator", ["Crop", "Noise"])
def test_what_it_leaves(generator, source_root, tmp_path, capsys):
    out = tmp_path / "made"
    assert distill(*arguments(source_root, out, generator=generator)) == 0
    found, manifest = lines(out), read_json(out / "manifest.json", "manifest")
    assert sorted(path.name for path in out.glob("[!.]*")) == ["made.jsonl", "manifest.json", "plan.json"]
    assert manifest["lines"] == len(found) > 200
    assert manifest["lines"] + sum(manifest["dropped"].values()) == 300
    assert manifest["checksum"] == file_fingerprint(out / "made.jsonl")
    assert set(found[0]) == {"id", "text", "generator", "source", "seed"}
    assert {line["generator"] for line in found} == {generator.lower()}
    source = MsMarcoTsv(str(source_root))
    texts = source.documents() if generator == "Crop" else source.queries("train")
    assert {line["source"] for line in found} <= set(texts.ids)
    assert len({line["id"] for line in found}) == len(found) == len({" ".join(split_words(line["text"])) for line in found})
    assert 0 < manifest["diversity"]["generated"]["distinct_word_pairs"] <= 1
    before = (out / "made.jsonl").stat().st_mtime_ns
    capsys.readouterr()
    assert distill(*arguments(source_root, out, generator=generator)) == 0
    assert "done before" in capsys.readouterr().out and (out / "made.jsonl").stat().st_mtime_ns == before


def test_what_it_returns(source_root, tmp_path, capsys):
    source = MsMarcoTsv(str(source_root))
    made = generate(Crop(), source, str(tmp_path / "made"), 300)
    assert made is not None and made.path == tmp_path / "made" / "made.jsonl" and not made.existed
    assert made.count == len(lines(tmp_path / "made")) and made.count + sum(made.dropped.values()) == 300
    assert 0 < made.diversity["real"]["distinct_word_pairs"] <= 1
    assert generate(Crop(), source, str(tmp_path / "made"), 300) == dataclasses.replace(made, existed=True)
    assert "dropped" not in capsys.readouterr().out  # printing is the command line's


def test_a_generator_is_made_again_from_its_configuration():
    for generator in (Crop({"titles": 1.0}), Noise(rate=0.3)):
        again = from_config(to_config(generator))
        assert type(again) is type(generator) and again.settings() == generator.settings()


def test_every_text_gets_its_share(source_root, tmp_path):
    assert distill(*arguments(source_root, tmp_path / "few", count=30, generator="Crop")) == 0
    # 30 queries of 60 documents: every other one
    assert {int(line["source"][1:]) % 2 for line in lines(tmp_path / "few")} == {0}


def planted(source: Path, folder: Path) -> tuple[Path, list[str]]:
    """The small world, whose documents and train queries hold what dev and the holdout ask."""
    shutil.copytree(source, folder)
    asked = [line.split("\t")[1] for line in (folder / "queries.dev.tsv").read_text().splitlines()]
    (folder / "collection.tsv").write_text("".join(f"p{i}\t{query.title()}!\n" for i, query in enumerate(asked)))
    with open(folder / "queries.train.tsv", "a") as file:
        file.writelines(f"t{i}\t{query} moon\n" for i, query in enumerate(asked))  # a deletion is all that is between
    return folder, asked


@pytest.mark.parametrize("generator", ["Crop", "Noise"])
def test_no_evaluation_query_is_written(generator, source_root, tmp_path):
    source, asked = planted(source_root, tmp_path / "texts")
    holdout = ["--source.holdout", 8]
    assert distill(*arguments(source, tmp_path / "made", *holdout, generator=generator, count=4000)) == 0
    texts = MsMarcoTsv(str(source), holdout=8)
    forbidden = {sort_words(split_words(text)) for split in ("dev", "test", "holdout") for text in texts.queries(split)}
    assert {sort_words(split_words(query)) for query in asked} <= forbidden
    assert not [line for line in lines(tmp_path / "made") if sort_words(split_words(line["text"])) in forbidden]
    assert read_json(tmp_path / "made" / "manifest.json", "manifest")["dropped"]["evaluation query"] > 5


def test_a_file_with_an_evaluation_query_is_not_left(source_root, tmp_path, monkeypatch, capsys):
    """However it came among the rest."""
    leak = (source_root / "queries.test.tsv").read_text().splitlines()[3].split("\t")[1]
    read = LineShardWriter.read_shards

    def planted(self: LineShardWriter) -> Iterator[tuple[int, Iterator[str]]]:
        for shard, made in read(self):
            those = list(made)
            those[5] = json.dumps({**json.loads(those[5]), "text": " ".join(reversed(leak.upper().split()))}) + "\n"
            yield shard, iter(those)

    monkeypatch.setattr(LineShardWriter, "read_shards", planted)
    assert distill(*arguments(source_root, tmp_path / "made")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is a query of an evaluation split" in error
    assert not (tmp_path / "made" / "made.jsonl").exists() and not (tmp_path / "made" / "manifest.json").exists()


def disguised(text: str, number: int) -> str:
    """The same words to whoever reads them."""
    words = text.split()
    ways = [
        f"{text.upper()}!!",
        " ".join(reversed(words)),
        ", ".join(words).title(),
        "-".join(words),
        f"«{'  '.join(words)}»?",
        "_".join(words),
    ]
    return ways[number % len(ways)]


@pytest.mark.parametrize("generator", ["Crop", "Noise", "Seq2Seq", "Llm"])
def test_evaluation_queries_that_a_generator_writes_are_dropped(generator, source_root, tmp_path, monkeypatch):
    """Whoever writes them, in whatever disguise: DL19, DL20 and those that are held out."""
    shutil.copytree(source_root, tmp_path / "texts")
    for split in ("dl19", "dl20"):
        lines_of = (f"{split}-{i}\thow small is the {split} moon {topic}\n" for i, topic in enumerate(TOPICS))
        (tmp_path / "texts" / f"queries.{split}.tsv").write_text("".join(lines_of))
    source = MsMarcoTsv(str(tmp_path / "texts"), holdout=8)
    asked = [text for split in ("dl19", "dl20", "holdout") for text in source.queries(split)]
    plants = [disguised(text, i) for i in range(6) for text in asked]
    next_plant, holdout, more = cycle(plants), ["--source.holdout", 8], []
    kind: Any = {"Crop": Crop, "Noise": Noise, "Seq2Seq": Seq2Seq}.get(generator)
    if generator == "Seq2Seq":
        more = ["--generator.model", make_writer(tmp_path / "writer", "bart"), "--generator.longest_query", 4]
    if kind:
        write = kind.write

        def plants_some(self: Generator, texts: list[str], counts: list[int], *others: Any) -> list[list[str]]:
            """Every other query."""
            made = write(self, texts, counts, *others)
            return [[next(next_plant) if i % 2 else q for i, q in enumerate(those)] for those in made]

        monkeypatch.setattr(kind, "write", plants_some)
        assert distill(*arguments(source.root, tmp_path / "made", *holdout, *more, generator=generator, count=600)) == 0
    else:

        def says(handler: Handler, number: int) -> bool:
            handler.say(json.dumps({"queries": [plants[number % len(plants)], f"clean query {number}"]}))
            return True

        with serving(says) as server:
            more = ["--generator.address", server.address, "--generator.model", "m"]
            assert distill(*arguments(source.root, tmp_path / "made", *holdout, *more, generator="Llm", count=120)) == 0
    letters = {"".join(sorted("".join(split_words(text)))) for text in asked}
    found = [line["text"] for line in lines(tmp_path / "made")]
    assert found and not [text for text in found if "".join(sorted("".join(split_words(text)))) in letters]
    manifest = read_json(tmp_path / "made" / "manifest.json", "manifest")
    assert manifest["dropped"]["evaluation query"] >= 60
    assert manifest["lines"] + sum(manifest["dropped"].values()) == (120 if generator == "Llm" else 600)


def test_a_rank_that_died_is_not_waited_for_for_ever(source_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("distill.generate.generate.LONGEST_SILENCE", 0.1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert distill(*arguments(source_root, tmp_path / "made")) == 2
    assert "shards of other ranks are missing, none came for 0 minutes: run it again" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert distill(*arguments(source_root, tmp_path / "made")) == 0
    monkeypatch.setenv("RANK", "0")
    assert distill(*arguments(source_root, tmp_path / "made")) == 0


@pytest.mark.parametrize("damaged", ["00001.part", "00001.part.npz"])
def test_a_shard_that_changed_is_named_and_made_again(damaged, source_root, tmp_path, monkeypatch, capsys):
    assert distill(*arguments(source_root, tmp_path / "one" / "made")) == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    out = tmp_path / "two" / "made"
    assert distill(*arguments(source_root, out)) == 0
    content = bytearray((out / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (out / damaged).write_bytes(content)
    monkeypatch.setenv("RANK", "0")
    capsys.readouterr()
    assert distill(*arguments(source_root, out)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{out / '00001.part'}: it, or what lies beside it, changed" in error
    (out / "00001.part").unlink()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distill(*arguments(source_root, out)) == 0
    assert (tmp_path / "one/made/made.jsonl").read_bytes() == (out / "made.jsonl").read_bytes()


DIE = """
import json, os, signal, sys
import interruptions
from distill.generate import Generator

Generator.queries_per_shard = 64
for command in json.loads(sys.argv[1]):  # imported once, killed twice
    if not os.fork():
        interruptions.killed_at_fsync(6, 64, command)
    assert os.wait()[1] == signal.SIGKILL
"""


def test_killed_and_resumed_it_leaves_the_same_bytes(source_root, tmp_path):
    """In processes whose sets and dictionaries are ordered otherwise."""

    def command(folder: str, generator: str) -> list[str]:
        more = arguments(source_root, tmp_path / folder / generator, "--filters.near_duplicates", 0.9, generator=generator, count=2000)
        return [str(part) for part in more]

    generators = ("Crop", "Noise")
    commands = json.dumps([command("again", generator) for generator in generators])
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", DIE, commands], cwd=TESTS, capture_output=True, env=environment, check=True)
    for generator in generators:
        again, whole = tmp_path / "again" / generator, tmp_path / "whole" / generator
        assert len(list(again.glob("0*.part"))) == 2  # a plan, then a shard and what lies beside it
        assert distill(*command("again", generator)) == distill(*command("whole", generator)) == 0
        assert (again / f"{generator}.jsonl").read_bytes() == (whole / f"{generator}.jsonl").read_bytes()
        dropped = [read_json(folder / "manifest.json", "manifest")["dropped"] for folder in (again, whole)]
        assert dropped[0] == dropped[1] and dropped[0]["near duplicate"] > 0


def test_ranks_share_the_shards(source_root, tmp_path, monkeypatch):
    assert distill(*arguments(source_root, tmp_path / "one" / "made")) == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert distill(*arguments(source_root, tmp_path / "two" / "made")) == 0
    assert sorted(path.stem for path in (tmp_path / "two" / "made").glob("0*.part")) == ["00001", "00003"]
    monkeypatch.setenv("RANK", "0")
    assert distill(*arguments(source_root, tmp_path / "two" / "made")) == 0
    assert (tmp_path / "one/made/made.jsonl").read_bytes() == (tmp_path / "two/made/made.jsonl").read_bytes()


def test_another_seed_makes_other_queries(source_root, tmp_path):
    for seed in (0, 1):
        assert distill(*arguments(source_root, tmp_path / str(seed), "--seed", seed)) == 0
    one, other = ({line["text"] for line in lines(tmp_path / str(seed))} for seed in (0, 1))
    assert len(one & other) < 0.8 * len(one)


def test_round_trip_keeps_what_the_teacher_finds(source_root, store_folder, tmp_path):
    """Against the plain ranking of every kept and dropped query."""
    import torch

    from distill.encoders.towers import load_maker
    from distill.vectors.store import TeacherStore

    more = ["--store", store_folder, "--filters.round_trip", 3]
    assert distill(*arguments(source_root, tmp_path / "all")) == 0
    assert distill(*arguments(source_root, tmp_path / "kept", *more)) == 0
    store = TeacherStore(store_folder)
    encoder, ids = load_maker(store.maker).query, list(store.documents.ids)
    vectors = torch.from_numpy(store.documents[:].astype(np.float32))
    expected = []
    for line in lines(tmp_path / "all"):
        top = (vectors @ encoder.encode([line["text"]], "query")[0]).topk(3).indices
        if line["source"] in [ids[row] for row in top]:
            expected.append(line["id"])
    kept = [line["id"] for line in lines(tmp_path / "kept")]
    assert len(set(expected) ^ set(kept)) <= 4 and 10 < len(kept) < 200  # bf16 may swap what is almost alike
    manifest = read_json(tmp_path / "kept" / "manifest.json", "manifest")
    assert manifest["dropped"]["round trip"] > 100
    for those in manifest["diversity"].values():
        assert 0 < those["nearest_real_cosine"] <= 1


def test_a_student_trains_on_the_mix_and_resumes_within_an_epoch(source_root, store_folder, teacher_folder, tmp_path):
    """From generate through encode into train: drawn anew each epoch, killed mid-epoch, the weights of an uninterrupted run."""
    from commands import furthest

    shutil.copytree(store_folder, tmp_path / "store")
    made = tmp_path / "crops" / "crops.jsonl"
    assert distill(*arguments(source_root, made.parent)) == 0
    texts = ["--source", "MsMarcoTsv", "--source.root", source_root]
    to = ["--queries", f"[{made}]", "--precision", "fp32", "--out", tmp_path / "store"]
    assert distill("encode", "--teacher", teacher_folder, *texts, *to) == 0
    mix = ["--data.queries", f"{{{made}: 0.5}}", "--checkpoint_every_n_steps", 2]
    whole, again = (train_arguments(source_root, tmp_path / "store", tmp_path / name, *mix) for name in ("whole", "again"))
    assert distill(*whole) == 0
    kill = {"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_start", "step": 5}}
    killed = in_process(*again, "--trainer.callbacks", json.dumps([kill]))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert distill(*again) == 0
    assert furthest(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("whole", "again"))) == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--count", 0], "count: 0"),
        (["--split", "nope"], "no split 'nope'"),
        (["--generator.kinds", "{poems: 1}"], "there are spans"),
        (["--generator", "Rewrite"], "there is no class 'Rewrite'"),
        (["--filters.round_trip", 5], "give --store"),
        (["--filters.least_words", 0], "least_words 0"),
        (["--store", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_asked(more, words, source_root, tmp_path, capsys):
    assert distill(*arguments(source_root, tmp_path / "made", *more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("generator", ["Crop", "Noise"])
def test_a_split_without_queries_of_its_own_is_refused(generator, source_root, tmp_path, capsys):
    shutil.copytree(source_root, tmp_path / "texts")
    asked = (source_root / "queries.dev.tsv").read_text().replace("dev", "again")
    (tmp_path / "texts" / "queries.again.tsv").write_text(asked.upper().replace("AGAIN", "again"))
    assert distill(*arguments(tmp_path / "texts", tmp_path / "made", "--split", "again", generator=generator)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "every query of again is in another split too" in error and not (tmp_path / "made").exists()


def test_a_filter_that_leaves_nothing_is_refused(source_root, tmp_path, capsys):
    assert distill(*arguments(source_root, tmp_path / "made", "--filters.least_words", 60)) == 2
    assert "nothing is left of 300 queries: length 300" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["seed", "generator", "evaluation_queries", "texts"])
def test_other_inputs_are_refused(change, source_root, tmp_path, capsys):
    source, out = tmp_path / "texts", tmp_path / "made"
    shutil.copytree(source_root, source)
    assert distill(*arguments(source, out)) == 0
    more = {"seed": ["--seed", 1], "generator": ["--generator.kinds", "{spans: 1}"]}.get(change, [])
    if change in ("evaluation_queries", "texts"):
        with open(source / {"evaluation_queries": "queries.dev.tsv", "texts": "collection.tsv"}[change], "a") as file:
            file.write("new\tsomething new\n")
    assert distill(*arguments(source, out, *more)) == 2
    assert f"made from other inputs ({change} was" in capsys.readouterr().err


def test_noise_of_other_documents_is_another_file(source_root, tmp_path, capsys):
    source = tmp_path / "texts"
    shutil.copytree(source_root, source)
    assert distill(*arguments(source, tmp_path / "made", generator="Noise")) == 0
    with open(source / "collection.tsv", "a") as file:
        file.write("new\tsomething new\n")
    assert distill(*arguments(source, tmp_path / "made", generator="Noise")) == 2
    assert "made from other inputs (documents was" in capsys.readouterr().err


def test_settings_are_those_of_the_command_line(source_root, tmp_path):
    more = ["--generator.rate", 0.3, "--generator.kinds", "{typo: 1}"]
    assert distill(*arguments(source_root, tmp_path / "made", *more, generator="Noise")) == 0
    plan = read_json(tmp_path / "made" / "plan.json", "plan")
    assert plan["generator"] == Noise(kinds={"typo": 1.0}, rate=0.3).settings()
    assert Crop().settings()["kinds"]["spans"] == 0.5
