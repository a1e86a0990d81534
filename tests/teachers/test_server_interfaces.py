"""Each kind of server is asked in its own words, and what the user adds to the requests is part of the teacher."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill
from embeddings_server import WIDTH, serving
from product_servers import Cohere, OldTei, Ollama, OpenAi, Product, Tei, Voyage, expected

from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers import endpoint
from distill.teachers.options import TeacherOptions, check_options
from distill.teachers.server import ServerTeacher
from distill.teachers.server_interfaces import OPENAI, find_interface
from distill.vectors.store import VectorStore

pytestmark = pytest.mark.usefixtures("short_waits")
TEXTS = [f"text number {number}" for number in range(70)]


def serve(product: type[Product], trouble: Any = lambda handler, number: False) -> Any:
    path = product.path_of_texts.removesuffix("/embeddings")
    return serving(trouble, product, path)


def embed(teacher: ServerTeacher, texts: list[str], role: Any) -> np.ndarray:
    return teacher.embed(teacher.prepare(texts, role), role, lambda count: None)


@pytest.mark.parametrize(
    ("product", "model", "role_fields", "as_query", "as_document"),
    [
        (Tei, None, None, "", ""),
        (Tei, "gte", {"query": {"prompt_name": "query"}}, "query", ""),
        (Ollama, "nomic-embed-text", None, "", ""),
        (Cohere, "embed-v4.0", None, "search_query", "search_document"),
        (Voyage, "voyage-4", {"query": {"input_type": "query"}, "document": {"input_type": "document"}}, "query", "document"),
        (Voyage, "voyage-4", {"query": {"encoding_format": "base64"}}, "", ""),
        (OpenAi, "text-embedding-3-small", None, "", ""),
    ],
)
def test_each_server_is_asked_in_its_own_words(
    product: type[Product], model: str | None, role_fields: Any, as_query: str, as_document: str
) -> None:
    with serve(product) as server:
        teacher = ServerTeacher(server.address, model, role_fields=role_fields)
        np.testing.assert_array_equal(embed(teacher, TEXTS, "document"), expected(TEXTS, as_document))
        np.testing.assert_array_equal(embed(teacher, TEXTS[:3], "query"), expected(TEXTS[:3], as_query))
        assert server.answered == {"width": 1, **{text: 1 + (text in TEXTS[:3]) for text in TEXTS}}


@pytest.mark.parametrize(("product", "model"), [(Tei, None), (Ollama, "nomic-embed-text"), (Cohere, "m"), (OpenAi, "m")])
def test_dimensions_are_asked_for(product: type[Product], model: str | None) -> None:
    with serve(product) as server:
        teacher = ServerTeacher(server.address, model, dimensions=4)
        assert teacher.width == 4
        role = {"document": "search_document"} if product is Cohere else {"document": ""}
        np.testing.assert_array_equal(embed(teacher, TEXTS[:3], "document"), expected(TEXTS[:3], role["document"], width=4))


def test_dimensions_that_a_server_ignores_are_refused_with_both_numbers() -> None:
    with serve(OldTei) as server, pytest.raises(BadInput, match=f"answers with {WIDTH} numbers a text, 4 were asked for"):
        embed(ServerTeacher(server.address, dimensions=4), TEXTS[:2], "document")
    with pytest.raises(BadInput, match="dimensions: 0: must be at least 1"):
        ServerTeacher("http://127.0.0.1:9/v1", "m", dimensions=0)


def test_a_long_text_is_cut_by_the_server() -> None:
    with serve(Tei) as server:
        found = embed(ServerTeacher(server.address), ["long " * 100], "document")
    np.testing.assert_array_equal(found, expected(["long " * 20]))


def test_an_unknown_model_is_named() -> None:
    with serve(Ollama) as server, pytest.raises(BadInput, match=r"HTTP 404.*nomic.*not found, try pulling it first"):
        embed(ServerTeacher(server.address, "nomic"), TEXTS[:1], "document")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ((404, {"error": "no /info"}), "/info: HTTP 404: does not tell which model it serves: give its name as --model"),
        ((200, {"model_id": 7}), "gave up after 3 tries .no name of a model at /info: 7"),
        ((200, ["gte"]), "no name of a model at /info: TypeError"),
        ((200, {"model_id": ""}), "no name of a model at /info: ''"),
    ],
)
def test_a_server_of_one_model_tells_its_name(info: tuple[int, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Tei) as server:
        teacher = ServerTeacher(server.address)
        assert (teacher.model, teacher.maker.name) == ("thenlper/gte-base@fca1453", f"thenlper/gte-base@fca1453 at {server.address[:-6]}")
        monkeypatch.setattr(Tei, "info", (200, {"model_id": "thenlper/gte-base", "model_sha": None}))
        assert ServerTeacher(server.address).model == "thenlper/gte-base"
        monkeypatch.setattr(Tei, "info", info)
        with pytest.raises(BadInput, match=message):
            ServerTeacher(server.address)
        assert ServerTeacher(server.address, "gte").model == "gte"


def test_a_key_that_a_server_calls_its_model_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    monkeypatch.setattr(Tei, "info", (200, {"model_id": "sk-secret \x1b[31m"}))
    with serve(Tei) as server:
        assert ServerTeacher(server.address).model == "*** [31m"


@pytest.mark.parametrize("words", ["", "host/", "embed", "host/v1/embeddings", "host/embed/embeddings", "host/myembed", "host/embed/v1"])
def test_any_other_address_has_the_interface_of_openai(words: str) -> None:
    assert find_interface(f"http://{words}") is OPENAI


def test_settings_are_part_of_the_fingerprint_where_they_are_given() -> None:
    def find(address: str = "http://a/v1", **settings: Any) -> str:
        return ServerTeacher(address, "m", width=2, **settings).maker.fingerprint

    assert find() == find(concurrent=8) == find(role_fields={}) == find(role_fields={"query": {}}) == fingerprint("endpoint", "m", {})
    others = [
        find(dimensions=2),
        find(dimensions=3),
        find(role_fields={"query": {"task": "a"}}),
        find(role_fields={"document": {"task": "a"}}),
    ]
    others += [find(f"http://a/{path}") for path in ("embed", "api/embed", "v2/embed")]
    assert len({find(), *others}) == 8
    assert find("http://a/embed") == find("https://b:80/tei/embed/")


@pytest.mark.parametrize(
    ("address", "role_fields", "message"),
    [
        ("http://a/v1", {"queries": {"task": "a"}}, "role_fields: queries: texts are a query or a document"),
        ("http://a/v1", {"query": {"model": "m"}}, "role_fields: query: model: set without it in every request"),
        ("http://a/v1", {"document": {"input": [], "dimensions": 4}}, "document: dimensions, input: set without it"),
        ("http://a/v2/embed", {"query": {"input_type": "clustering"}}, "input_type: set without it"),
        ("http://a/v2/embed", {"query": {"output_dimension": 4}}, "output_dimension: set without it"),
        ("http://a/embed", {"query": {"inputs": []}}, "inputs: set without it"),
        ("http://a/v1", {"query": "search_query"}, "'search_query' is no mapping"),
        ("http://a/v1", "query", "role_fields: 'query' is no mapping"),
        ("http://a/v1", {"query": {"until": date(2025, 1, 1)}}, "cannot be sent as JSON"),
        ("http://a/v1", {"query": {"scale": float("nan")}}, "cannot be sent as JSON"),
    ],
)
def test_role_fields_that_are_none(address: str, role_fields: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ServerTeacher(address, "m", role_fields=role_fields)


def encode(address: str, source: Path, out: Path, *more: Any) -> int:
    return distill(
        "encode", "--teacher", address, "--source", "MsMarcoTsv", "--source.root", source, "--splits", "[dev]", "--out", out, *more
    )


def test_the_settings_of_the_command_line_reach_the_server(source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = [line.split("\t")[1] for line in (source_root / "queries.dev.tsv").read_text().splitlines()]
    fields = ["--role_fields", "{query: {input_type: query, output_dimension: 4}, document: {input_type: document, output_dimension: 4}}"]
    with serve(Voyage) as server:
        assert encode(server.address, source_root, tmp_path / "store", "--model", "m", "--concurrent", 2, *fields) == 0
        found = VectorStore(tmp_path / "store" / "queries-dev")[:]
        np.testing.assert_array_equal(found, expected(queries, "query", 4).astype(np.float16))
        assert encode(server.address, source_root, tmp_path / "store", "--model", "m") == 2
        assert "made from other inputs" in capsys.readouterr().err
    with serve(Tei) as server:
        assert encode(server.address, source_root, tmp_path / "tei", "--dimensions", 4) == 0
        manifest = json.loads((tmp_path / "tei" / "queries-dev" / "manifest.json").read_text())
        assert (manifest["width"], manifest["maker"]["name"].split(" at ")[0]) == (4, "thenlper/gte-base@fca1453")
        capsys.readouterr()
        for more in ([], ["--dimensions", 2]):
            assert encode(server.address, source_root, tmp_path / "tei", *more) == 2
            assert "made from other inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--teacher", "http://127.0.0.1:9/api/embed"], "a server needs --model"),
        (["--teacher", "http://127.0.0.1:9/embed", "--pooling", "mean"], "pooling: for a dual encoder as the teacher"),
        (["--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--concurrent", 0], "concurrent: 0: must be at least 1"),
        (["--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--dimensions", 0], "dimensions: 0: must be at least 1"),
        (["--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--role_fields", "{passage: {task: a}}"], "role_fields: passage"),
        (["--teacher", "nowhere", "--role_fields", "{query: {task: a}}", "--concurrent", 2], "concurrent, role_fields: only for a server"),
    ],
)
def test_settings_that_are_none(options: list[Any], words: str, source_root: Path, tmp_path: Path, capsys) -> None:
    assert distill("encode", *options, "--source", "MsMarcoTsv", "--source.root", source_root, "--out", tmp_path / "store") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "store").exists()


def test_a_function_has_a_width_of_its_own() -> None:
    with pytest.raises(BadInput, match="dimensions: for a dual encoder or a server as the teacher, this one is a function: leave out"):
        check_options(lambda texts: texts, TeacherOptions(name="mine", dimensions=4), None, None)
