"""A chat server as the generator: each document exactly once whatever the server does, and nothing asked twice that is written."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import distill
from embeddings_server import Handler, Server, queries, serving

from distill.files.atomic import read_json
from distill.generate import Llm
from distill.generate.chat_answers import UnreadableAnswer, parse_completion, parse_queries, parse_stream
from distill.generate.llm import UNREADABLE
from distill.teachers import endpoint
from distill.teachers.endpoint import TryAgain

KEY = "sk-this-is-secret"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(Llm, "queries_per_shard", 24)  # 8 documents
    monkeypatch.setenv(endpoint.KEY, KEY)


def generate(server: Server | str, source: Path, out: Path, *more: Any) -> int:
    address = server if isinstance(server, str) else server.address
    given = ["--generator", "Llm", "--generator.address", address, "--generator.model", "some-model"]
    return distill("generate", *given, "--source", "MsMarcoTsv", "--source.root", source, "--count", 180, "--out", out, *more)


def documents(source: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in (source / "collection.tsv").read_text().splitlines())


def assert_whole(source: Path, out: Path) -> None:
    """Every document's queries in its place, save for those that the documents before it gave too."""
    found = [json.loads(line) for line in (out / f"{out.name}.jsonl").read_text().splitlines()]
    expected = [(f"llm-{3 * i + j}", " ".join(text.split()), id_)
                for i, (id_, document) in enumerate(documents(source).items()) for j, text in enumerate(queries(document))]  # fmt: skip
    texts = Counter(text for _, text, _ in expected)
    assert [(line["id"], line["text"], line["source"]) for line in found] == [
        (id_, text, source_id) for i, (id_, text, source_id) in enumerate(expected) if text not in {before for _, before, _ in expected[:i]}
    ]
    assert len(found) == len(texts)


def stubborn(handler: Handler, number: int) -> bool:
    """Some requests fail, some are throttled, some break off, some are answered by a model that does not do what it is told."""
    chance = random.Random(number).random()
    if chance < 0.08:
        handler.answer(500, {"error": "sorry"})
    elif chance < 0.16:
        handler.answer(429, {"error": "slow down"}, {"Retry-After": "0.02"})
    elif chance < 0.24 and handler.asked["stream"]:
        handler.say('{"queries": ["cut off', done=False)
    elif chance < 0.24:
        handler.answer(200, {"choices": [{"message": {"content": '{"queries": ["cut off"]}'}}]}, cut=20)
    elif chance < 0.3:
        handler.say("Sure! Here are some queries for you.")
    return chance < 0.3


@pytest.mark.parametrize("queries_per_shard", [24, 25])  # of eight documents; a ninth's do not fit in whole
@pytest.mark.parametrize("stream", ["false", "true"])
def test_each_document_exactly_once(stream, queries_per_shard, source_root, tmp_path, monkeypatch):
    monkeypatch.setattr(Llm, "queries_per_shard", queries_per_shard)
    with serving(stubborn) as server:
        assert generate(server, source_root, tmp_path / "made", "--generator.stream", stream) == 0
        assert_whole(source_root, tmp_path / "made")
        assert server.answered == Counter(documents(source_root).values())
        asked = len(server.requests)
        assert asked > 60  # some of them again
        assert generate(server, source_root, tmp_path / "made", "--generator.stream", stream) == 0
        assert len(server.requests) == asked
    assert {key for _, key, _ in server.requests} == {f"Bearer {KEY}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_restart_asks_for_nothing_that_is_written(source_root, tmp_path, capsys):
    def breaks_down(handler: Handler, number: int) -> bool:
        if number < 20:
            return False
        handler.answer(400, {"error": "bad day"})
        return True

    with serving(breaks_down) as server:
        assert generate(server, source_root, tmp_path / "made") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bad day" in error and KEY not in error
    assert sorted(path.name for path in (tmp_path / "made").glob("0*.part")) == ["00000.part", "00001.part"]
    with serving() as server:  # elsewhere, and in pieces
        assert generate(server, source_root, tmp_path / "made", "--generator.stream", "true") == 0
        assert server.answered == Counter(list(documents(source_root).values())[16:])
    assert_whole(source_root, tmp_path / "made")


def test_a_model_that_never_does_what_it_is_told(source_root, tmp_path):
    """Its document has no queries, and the others have theirs."""
    lost = documents(source_root)["d7"]

    def mumbles(handler: Handler, number: int) -> bool:
        if handler.asked["messages"][-1]["content"] != lost:
            return False
        handler.say('{"queries": "one"}')
        return True

    with serving(mumbles) as server:
        assert generate(server, source_root, tmp_path / "made") == 0
        assert len(server.requests) == 59 + UNREADABLE
    found = [json.loads(line)["source"] for line in (tmp_path / "made" / "made.jsonl").read_text().splitlines()]
    assert "d7" not in found and {"d6", "d8"} <= set(found)
    manifest = read_json(tmp_path / "made" / "manifest.json", "manifest")
    assert manifest["dropped"]["not made"] == 3
    assert manifest["lines"] + sum(manifest["dropped"].values()) == 180


@pytest.mark.parametrize("stream", ["false", "true"])
def test_what_a_model_may_write(stream, source_root, tmp_path):
    """Signs at which some readers end a line, halves of signs, brackets without end: each document has its queries all the same."""
    odd = ['{"queries": ["next\u2028line \\u2028 %d"]}', '{"queries": ["half \\ud83d a sign %d"]}', "[{" * 100_000 + "%d"]

    def says(handler: Handler, number: int) -> bool:
        if number < 30:
            handler.say(odd[number % 3] % number, ascii_only=False)
        return number < 30

    with serving(says) as server:
        assert generate(server, source_root, tmp_path / "made", "--generator.stream", stream) == 0
    texts = [json.loads(line)["text"] for line in (tmp_path / "made" / "made.jsonl").read_text().splitlines()]
    assert sum(text.startswith("next line ") for text in texts) == sum(text.startswith("half ? a sign") for text in texts) == 10
    assert len({json.loads(line)["source"] for line in (tmp_path / "made" / "made.jsonl").read_text().splitlines()}) > 55


def test_what_it_is_told(source_root, tmp_path):
    """The prompt file, judged pairs, the document, a schema."""
    seen: list[dict[str, Any]] = []

    def listens(handler: Handler, number: int) -> bool:
        seen.append(handler.asked)
        return False

    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Write {count} questions as JSON.")
    more = ["--generator.prompt", prompt, "--generator.examples", 2, "--generator.longest_document", 20, "--count", 120]
    with serving(listens) as server:
        assert generate(server, source_root, tmp_path / "made", *more) == 0
    told = seen[0]["messages"]
    assert [turn["role"] for turn in told] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told[0]["content"] == "Write 2 questions as JSON."
    known = {line.split("\t")[1] for line in (source_root / "queries.train.tsv").read_text().splitlines()}
    assert {query for turn in (told[2], told[4]) for query in json.loads(turn["content"])["queries"]} <= known
    assert {asked["messages"][-1]["content"] for asked in seen} == {text[:20] for text in documents(source_root).values()}
    assert seen[0]["response_format"]["json_schema"]["schema"]["required"] == ["queries"]
    assert read_json(tmp_path / "made" / "plan.json", "plan")["generator"]["prompt"] == "Write {count} questions as JSON."


def test_without_labels_real_queries_are_the_example(tmp_path, source_root):
    (tmp_path / "texts").mkdir()
    for name in ("collection.tsv", "queries.train.tsv"):
        (tmp_path / "texts" / name).write_bytes((source_root / name).read_bytes())
    told: list[str] = []
    with serving(lambda handler, number: bool(told.append(handler.asked["messages"][0]["content"]))) as server:
        assert generate(server, tmp_path / "texts", tmp_path / "made", "--generator.structured", "false") == 0
    first = (source_root / "queries.train.tsv").read_text().splitlines()[0].split("\t")[1]
    assert f"\nPeople here ask like this:\n{first}\n" in told[0]


def test_what_it_may_cost_is_said_first(source_root, tmp_path, capsys, monkeypatch):
    price = ["--generator.price", 1000, "--generator.output_price", 100]
    with serving() as server:
        assert generate(server, source_root, tmp_path / "made", *price) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "60 requests" in error and "above 1" in error
        assert (server.requests, (tmp_path / "made").exists()) == ([], False)
        monkeypatch.setenv("WORLD_SIZE", "2")  # ranks do not each spend the budget
        monkeypatch.setenv("RANK", "1")
        assert generate(server, source_root, tmp_path / "made", *price) == 2
        assert "60 requests" in capsys.readouterr().err
        monkeypatch.delenv("WORLD_SIZE")
        monkeypatch.delenv("RANK")
        assert generate(server, source_root, tmp_path / "made", *price, "--generator.budget", 1000) == 0
        assert "60 requests" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--generator.prompt", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--generator.examples", -1], "examples: -1"),
        (["--generator.requests_per_minute", 0], "requests_per_minute: 0"),
        (["--generator.address", "http://me:secret@127.0.0.1:9/v1"], "put the key into the environment"),
    ],
)
def test_what_cannot_be_asked(more, words, source_root, tmp_path, capsys):
    assert generate("http://127.0.0.1:9/v1", source_root, tmp_path / "made", *more) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "made").exists()


def test_what_the_model_said():
    pieces = [{"choices": [{"delta": {"content": piece}}]} for piece in ('{"que', 'ries": ["a  b"]}', None)]
    body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
    assert parse_queries(parse_stream(f": ping\n\n{body}data: [DONE]\n\n".encode())) == ["a b"]
    assert parse_queries('Of course:\n```json\n{"queries": ["one", "two"]}\n```') == ["one", "two"]
    assert parse_queries('<think>in {braces}, {"a": 1}</think>{"queries": ["a"]} {"queries": ["b"]}') == ["a"]
    for broken in (body, "data: {}\n\ndata: [DONE]\n", ""):
        with pytest.raises(TryAgain):
            parse_stream(broken.encode())
    for broken in (b"{}", b"[]", b"oops", b'{"choices": []}'):
        with pytest.raises(TryAgain):
            parse_completion(broken)
    for said in ("", "no", '{"queries": "a"}', '{"queries": [1]}', '{"answers": []}', "} {"):
        with pytest.raises(UnreadableAnswer):
            parse_queries(said)
