"""shrink from every kind of input: texts and a teacher in; a finished run, its verdict and its report out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_teacher
from embeddings_server import serving
from plain_folders import T5, USUAL, save_folder
from product_servers import Cohere, Tei, Voyage, expected
from shrink_world import MINUTES, make_texts
from transformers import AlbertConfig, BertConfig, T5Config

import distill
from distill.encoders.students import StudentFromBackbone
from distill.records import BadInput
from distill.shrinking.ladder import list_candidates
from distill.shrinking.request import Job, Request
from distill.shrinking.shrink import open_job_texts
from distill.shrinking.steps import finish_job, has_results
from distill.shrinking.texts import prepare_texts
from distill.shrinking.training import choose_student
from distill.shrinking.vectors import open_job_teacher, prepare_vectors
from distill.vectors.store import VectorStore


@pytest.fixture(scope="module")
def query_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("given") / "queries.txt"
    path.write_text("\n".join(make_texts(400, 9, seed=1)))
    return path


@pytest.fixture(scope="module")
def document_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("given") / "docs.jsonl"
    rows = [{"id": f"d{i}", "title": f"About {i}", "text": text} for i, text in enumerate(make_texts(20, 25, seed=2))]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory, teacher_folder, query_file, document_file) -> distill.Run:
    out = tmp_path_factory.mktemp("shrunk") / "run"
    return distill.shrink(str(teacher_folder), queries=str(query_file), documents=str(document_file), out=str(out), minutes=MINUTES)


def test_a_teacher_queries_and_documents_give_a_verdict(shrunk):
    assert shrunk.verdict.startswith("finds ") and "of the teacher's top 10" in shrunk.verdict
    assert shrunk.results.values["dataset"].endswith("/holdout")
    assert (shrunk.path / "report.html").exists() and (shrunk.path / "export" / "student").exists()
    hit = shrunk.search("what is the river", k=1)[0]
    assert hit.title.startswith("About") and hit.id.startswith("d")


def test_the_parts_of_the_queries_never_meet(shrunk):
    texts = open_job_texts(shrunk)
    parts = {name: set(texts.source.queries(name).words_hashes.tolist()) for name in ("train", "dev", "holdout")}
    total = sum(map(len, parts.values()))
    assert total == len(set.union(*parts.values()))
    assert len(parts["holdout"]) == total // 10 and len(parts["dev"]) == total // 20
    crops = distill.Texts.open(shrunk.path / "texts" / "crops.jsonl")
    assert not crops.leak_mask([texts.source.queries("dev"), texts.source.queries("holdout")]).any()


def test_the_layers_are_chosen_once_and_named_in_the_run(shrunk):
    chosen = json.loads((shrunk.path / "shrink.json").read_text())["decisions"]["layers"]
    assert shrunk.folder.settings()["model"]["student"]["init_args"]["layers"] == chosen[-1]
    assert [len(layers) for layers in chosen] == [1, 2]


def test_the_same_call_again_is_done_at_once(shrunk, teacher_folder, query_file, document_file):
    before = {path: path.stat().st_mtime_ns for path in shrunk.path.rglob("*.safetensors")}
    again = distill.shrink(
        str(teacher_folder), queries=str(query_file), documents=str(document_file), out=str(shrunk.path), minutes=MINUTES
    )
    assert again.results.values == shrunk.results.values
    assert {path: path.stat().st_mtime_ns for path in again.path.rglob("*.safetensors")} == before


def test_a_job_that_is_running_is_not_run_twice(tmp_path):
    running = Job(tmp_path / "run")
    with running.claim({"queries": "some"}):
        with pytest.raises(BadInput, match="another process is writing it"), Job(tmp_path / "run").claim({"queries": "some"}):
            pass
        assert running.read("epochs") is None  # its record is still there
    del running
    with pytest.raises(BadInput, match="refused"), Job(tmp_path / "run").claim({"queries": "some"}):
        raise BadInput("refused")
    assert not (tmp_path / "run").exists()


def test_other_inputs_are_refused_in_the_same_folder(shrunk, teacher_folder, document_file):
    with pytest.raises(BadInput, match="made from other inputs: queries was"):
        distill.shrink(str(teacher_folder), queries=make_texts(50, 9, seed=5), documents=str(document_file), out=str(shrunk.path))


def test_queries_alone_are_measured_among_themselves(tmp_path, teacher_folder):
    run = distill.shrink(str(teacher_folder), queries=make_texts(200, 9, seed=1), out=str(tmp_path / "run"), minutes=MINUTES)
    texts = open_job_texts(run)
    assert texts.summary["documents"] == "queries"
    store = distill.TeacherStore(run.path / "store")
    assert set(store.documents.ids) == set(texts.source.queries("train").ids)
    assert run.search("what is the river", k=1)[0].text in list(texts.source.queries("train"))


def test_documents_alone_are_cut_into_queries(tmp_path, teacher_folder, document_file):
    run = distill.shrink(str(teacher_folder), documents=str(document_file), out=str(tmp_path / "run"), minutes=MINUTES)
    assert open_job_texts(run).summary["queries"] == "crops"
    assert run.results.values["queries"] == open_job_texts(run).summary["holdout"] > 50


def test_a_folder_of_judged_queries_gives_a_verdict_on_them(tmp_path, teacher_folder, source_root):
    run = distill.shrink(str(teacher_folder), documents=str(source_root), out=str(tmp_path / "run"), minutes=MINUTES)
    assert run.results.values["dataset"] == "texts/test"
    assert "nDCG@10" in run.verdict
    assert open_job_texts(run).summary["documents"] == "source"


def test_judged_queries_of_a_file_are_measured_on(tmp_path, document_file):
    queries = make_texts(100, 9, seed=4)
    (tmp_path / "q.csv").write_text("number,words\n" + "".join(f"q{i},{text}\n" for i, text in enumerate(queries)))
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i % 20}\t1\n" for i in range(30)))
    texts = prepare_texts(
        Request(
            "a teacher",
            queries=str(tmp_path / "q.csv"),
            text_field="words",
            id_field="number",
            documents=str(document_file),
            judgments=str(tmp_path / "qrels.tsv"),
        ),
        tmp_path / "texts",
    )
    assert texts.summary["evaluated_on"] == "test" and set(texts.source.queries("test").ids) == {f"q{i}" for i in range(30)}
    assert texts.source.qrels("test").judgments["q29"] == {"d9": 1}
    assert not texts.source.queries("train").duplicate_mask([texts.source.queries("test")]).any()


def write_index(folder: Path, teacher: Path, documents: Path) -> tuple[Path, Path]:
    """The vectors of the documents as another program would have stored them."""
    rows = [json.loads(line) for line in documents.read_text().splitlines()]
    vectors = distill.load_encoder(str(teacher)).encode_document([f"{row['title']} {row['text']}" for row in rows])
    np.save(folder / "docs.npy", vectors)
    (folder / "ids.txt").write_text("\n".join(row["id"] for row in rows))
    return folder / "docs.npy", folder / "ids.txt"


def test_an_index_that_exists_and_its_model(tmp_path, teacher_folder, query_file, document_file):
    vectors, ids = write_index(tmp_path, teacher_folder, document_file)
    sample = tmp_path / "sample.jsonl"
    sample.write_text("".join(f"{line}\n" for line in document_file.read_text().splitlines()[::4]))
    run = distill.shrink(
        str(teacher_folder),
        queries=str(query_file),
        documents=str(sample),
        vectors=str(vectors),
        ids=str(ids),
        out=str(tmp_path / "run"),
        minutes=MINUTES,
    )
    store = distill.TeacherStore(run.path / "store")
    assert np.array_equal(store.documents[:], np.load(vectors).astype(np.float16))
    assert store.maker.is_loadable and "query_latency_ms_p50" in run.results.systems["teacher"]
    assert {hit.id for hit in run.search("what is the river", k=20)} == set(ids.read_text().split())


def test_an_index_with_prompts_that_no_folder_names_and_fewer_dimensions(tmp_path, teacher_folder, query_file, document_file):
    settings = {"prompts": {"query": "what is ", "document": "the "}, "dimensions": 16}
    encoder = distill.load_encoder(str(teacher_folder), **settings)
    rows = [json.loads(line) for line in document_file.read_text().splitlines()]
    index = distill.Index(encoder.encode_document([f"{row['title']} {row['text']}" for row in rows]), [row["id"] for row in rows])
    given = {"queries": str(query_file), "documents": str(document_file), "vectors": index, "out": str(tmp_path / "run")}
    with pytest.raises(BadInput, match="32"):
        distill.shrink(str(teacher_folder), **given, prompts=settings["prompts"])
    with pytest.raises(BadInput, match=r"not .*'s vectors of these texts"):
        distill.shrink(str(teacher_folder), **given, dimensions=16)
    run = distill.shrink(str(teacher_folder), **given, **settings, minutes=MINUTES)
    holdout = open_job_texts(run).source.queries("holdout")
    store = distill.TeacherStore(run.path / "store")
    known = store.queries("holdout", holdout.fingerprints("query"))[:]
    np.testing.assert_allclose(known, encoder.encode_query(list(holdout)), atol=1e-2)
    assert run.student.encode_query("river").shape == (16,) and run.student.settings.prompts["query"] == "what is "
    with pytest.raises(BadInput, match=r"prompts was .*choose another --out"):
        distill.shrink(str(teacher_folder), **given, dimensions=16)
    with pytest.raises(BadInput, match=r"prompts, dimensions, role_fields: those of .* are known, which is the teacher"):
        distill.shrink(str(run.path / "store"), queries=str(query_file), out=str(tmp_path / "other"), prompts=settings["prompts"])


def test_an_index_object_knows_its_teacher(tmp_path, teacher_folder, query_file, document_file):
    vectors, ids = write_index(tmp_path, teacher_folder, document_file)
    index = distill.Index(np.load(vectors), ids.read_text().split(), teacher=str(teacher_folder))
    run = distill.shrink(documents=index, queries=str(query_file), out=str(tmp_path / "run"), minutes=MINUTES)
    assert np.array_equal(distill.TeacherStore(run.path / "store").documents[:], np.load(vectors).astype(np.float16))
    assert run.search("what is the river", k=1)[0].id.startswith("d")


def test_vectors_of_another_model_are_refused(tmp_path, query_file, document_file, teacher_folder):
    vectors, ids = write_index(tmp_path, make_teacher(tmp_path / "other", seed=7), document_file)
    given = {"queries": str(query_file), "documents": str(document_file), "vectors": str(vectors), "ids": str(ids)}
    with pytest.raises(BadInput, match=r"not .*'s vectors of these texts"):
        distill.shrink(str(teacher_folder), **given, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_vectors_of_other_lengths_are_refused(tmp_path, query_file, document_file, teacher_folder):
    vectors, ids = write_index(tmp_path, teacher_folder, document_file)
    scale = np.random.default_rng(0).uniform(0.3, 3, (20, 1)).astype(np.float32)
    np.save(vectors, np.load(vectors) * scale)
    given = {"queries": str(query_file), "documents": str(document_file), "vectors": str(vectors), "ids": str(ids)}
    with pytest.raises(BadInput, match=r"it ranks by cosine, with vectors of length 1, these are .* long: divide each by its length"):
        distill.shrink(str(teacher_folder), **given, out=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        (
            "article",
            "",
            "none of them is among the vectors of .*: '0' is an id of a document, 'd0' of a vector: they have no ids and were num",
        ),
        ("id", "x", "none of them is among the vectors of .*: 'xd0' is an id .* give the same ids in both"),
        ("id", "d1", "1 of 20 have no vector in .*, 'd1d0' for one: give the same ids in both"),
    ],
)
def test_documents_of_other_ids_than_the_vectors_are_refused(tmp_path, query_file, document_file, teacher_folder, field, change, message):
    """The ids are in a field that nobody named; all are others; the first is another."""
    vectors, ids = write_index(tmp_path, teacher_folder, document_file)
    rows = [json.loads(line) for line in document_file.read_text().splitlines()]
    changed = rows[:1] if change == "d1" else rows
    for row in changed:
        row["id"] = change + row["id"]
    documents = tmp_path / "others.jsonl"
    documents.write_text("".join(f"{json.dumps({field: row['id'], 'text': row['text']})}\n" for row in rows))
    given = {"queries": str(query_file), "documents": str(documents), "vectors": str(vectors), "ids": str(ids)}
    with pytest.raises(BadInput, match=message):
        distill.shrink(str(teacher_folder), **given, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_figures_of_another_split_are_measured_again(shrunk, tmp_path, teacher_folder, query_file, document_file):
    copy = tmp_path / "run"
    shutil.copytree(shrunk.path, copy, symlinks=True)
    distill.Run(copy).evaluate("dev")
    given = {"queries": str(query_file), "documents": str(document_file), "minutes": MINUTES}
    again = distill.shrink(str(teacher_folder), out=str(copy), **given)
    assert again.results.values["dataset"].endswith("/holdout")
    assert again.results.agreement == shrunk.results.agreement


def test_a_store_is_used_where_it_lies(tmp_path, store_folder, source_root):
    request = Request(str(store_folder), documents=str(source_root))
    texts = prepare_texts(request, tmp_path / "texts")
    store = prepare_vectors(request, open_job_teacher(request), texts, tmp_path / "store")
    assert (tmp_path / "store" / "documents").is_symlink()
    assert np.array_equal(store.documents[:], distill.TeacherStore(store_folder).documents[:])
    assert set(store.query_sets()) == {"train", "dev", "holdout", "test", "crops", "pieces"}


def test_a_store_and_queries_alone_are_measured_among_its_documents(tmp_path, store_folder):
    run = distill.shrink(str(store_folder), queries=make_texts(200, 9, seed=1), out=str(tmp_path / "run"), minutes=MINUTES)
    assert open_job_texts(run).summary["documents"] == "vectors"
    assert {hit.id for hit in run.search("what is the river", k=60)} == set(distill.TeacherStore(store_folder).documents.ids)


def test_a_store_and_texts_of_some_of_its_documents(tmp_path, store_folder, source_root):
    lines = (source_root / "collection.tsv").read_text().splitlines()
    (tmp_path / "some.tsv").write_text("\n".join(lines[::2]))
    given = {"queries": make_texts(200, 9, seed=1), "documents": str(tmp_path / "some.tsv"), "minutes": MINUTES}
    run = distill.shrink(str(store_folder), **given, out=str(tmp_path / "run"))
    assert open_job_texts(run).summary["crops"] > 100
    ids = [line.split("\t")[0] for line in lines]
    texts = [line.split("\t")[1] for line in lines]
    (tmp_path / "some.tsv").write_text("\n".join(f"{id_}\t{text}" for id_, text in zip(ids, texts[1:] + texts[:1], strict=True)))
    with pytest.raises(BadInput, match="belong to other texts"):
        distill.shrink(str(store_folder), **given, out=str(tmp_path / "other"))


@pytest.mark.parametrize(("ids", "message"), [(range(100, 160), "60 of its ids"), (range(30), "no vector of 30 of the 60 documents")])
def test_an_index_of_other_documents_than_the_source_has(tmp_path, source_root, teacher_folder, ids, message):
    index = distill.Index(np.ones((len(ids), 32), np.float32), [f"d{i}" for i in ids], teacher=str(teacher_folder))
    with pytest.raises(BadInput, match=message):
        distill.shrink(vectors=index, documents=str(source_root), out=str(tmp_path / "run"), minutes=MINUTES)
    assert not (tmp_path / "run").exists()


def test_a_folder_whose_queries_changed_is_another_input(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"query": "one"}')
    before = Request("a teacher", queries=str(tmp_path)).describe()
    (tmp_path / "2.jsonl").write_text('{"query": "two"}')
    assert Request("a teacher", queries=str(tmp_path)).describe() != before


def test_queries_that_were_read_before_keep_their_ids(tmp_path):
    queries = distill.Texts.from_lists([f"u{i}" for i in range(60)], make_texts(60, 9, seed=1))
    rest, _ = queries.split(holdout=10)
    texts = prepare_texts(Request("a teacher", queries=rest), tmp_path / "texts")
    assert set(texts.source.queries("train").ids) < set(rest.ids)
    assert Request("a teacher", queries=rest).describe() != Request("a teacher", queries=queries).describe()


def test_a_server_needs_a_backbone(tmp_path, teacher_folder, query_file, document_file):
    with serving() as server:
        given = {"queries": str(query_file), "documents": str(document_file), "model": "served", "minutes": MINUTES}
        with pytest.raises(BadInput, match="cannot be cut: name a small encoder"):
            distill.shrink(server.address, **given, out=str(tmp_path / "none"))
        run = distill.shrink(server.address, **given, backbone=str(teacher_folder), out=str(tmp_path / "run"))
    assert run.student.encode_query("what is the river").shape == (8,)
    assert run.results.values["queries"] == 40


def test_a_server_is_told_what_each_role_is_and_the_next_month_tells_it_again(tmp_path, teacher_folder, query_file, document_file):
    settings = {"prompts": {"query": "ask: "}, "role_fields": {"query": {"input_type": "query"}}}
    given = {"model": "voyage-3", "minutes": MINUTES}
    with serving(handler=Voyage) as server:
        june = {"queries": str(query_file), "documents": str(document_file), "backbone": str(teacher_folder), "out": str(tmp_path / "june")}
        run = distill.shrink(server.address, **given, **june, **settings)
        july = {"queries": make_texts(100, 15, seed=11), "continue_from": str(run.path), "out": str(tmp_path / "july")}
        asked = len(server.requests)
        with pytest.raises(
            BadInput, match=r"continue: .* does not embed as for that job: give its prompts \{'query': 'ask: '\} and role_fields"
        ):
            distill.shrink(server.address, **given, **july, **{**settings, "prompts": {"query": "say: "}})
        assert len(server.requests) == asked and not (tmp_path / "july").exists()
        again = distill.shrink(server.address, **given, **july, **settings)
    queries = list(open_job_texts(again).source.queries("train"))
    stored = VectorStore(again.path / "store" / "queries-train")
    np.testing.assert_array_equal(stored[:], expected([f"ask: {text}" for text in queries], "query").astype(np.float16))


def test_a_plain_transformers_folder_is_a_backbone(tmp_path, teacher_folder, query_file):
    """Its pooling is the mean."""
    plain = save_folder(tmp_path / "plain", BertConfig(**USUAL))
    for path in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (plain / path).unlink()
    request = Request(str(teacher_folder), queries=str(query_file), backbone=str(plain), out=tmp_path / "run")
    student = choose_student(request, open_job_teacher(request))
    assert isinstance(student, StudentFromBackbone) and (student.pooling, student.projection) == ("mean", "linear")
    assert [candidate.name for candidate in list_candidates(request, open_job_teacher(request))][-1] == "2 layers"


def test_a_server_is_asked_as_its_address_says(tmp_path, teacher_folder, query_file, document_file):
    given = {"queries": str(query_file), "documents": str(document_file), "minutes": MINUTES, "backbone": str(teacher_folder)}
    with serving(handler=Cohere, path="/v2/embed") as server:
        run = distill.shrink(server.address, **given, model="embed-v4.0", out=str(tmp_path / "run"))
    source = open_job_texts(run).source
    for name, texts, seen_as in (
        ("documents", source.documents(), "search_document"),
        ("queries-train", source.queries("train"), "search_query"),
    ):
        stored = VectorStore(run.path / "store" / name)
        np.testing.assert_array_equal(stored[:], expected(list(texts), seen_as).astype(np.float16))
    with serving(handler=Tei, path="/embed") as server:  # which tells its model
        assert open_job_teacher(Request(server.address, queries=str(query_file))).maker.name.startswith("thenlper/gte-base@fca1453 at http")
    with pytest.raises(BadInput, match="a server needs --model"):
        open_job_teacher(Request("http://127.0.0.1:9/api/embed", queries=str(query_file)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to learn from"),
        ({"queries": ["one", "two"]}, "2 usable ones"),
        ({"queries": make_texts(50, 9, seed=1), "size": 5}, "size|layers"),
        ({"queries": make_texts(50, 9, seed=1), "minutes": 0}, "minutes: 0"),
        ({"queries": "missing.txt"}, "no such file"),
        ({"queries": make_texts(50, 9, seed=1), "ids": "ids.txt"}, "ids: they name the rows of --vectors"),
        ({"documents": [""]}, "no words in them"),
        ({"queries": make_texts(50, 9, seed=1), "documents": [{"id": "my file", "text": "the river"}]}, "the id 'my file' has"),
        ({"queries": [{"id": f"q {i}", "text": text} for i, text in enumerate(make_texts(50, 9, seed=1))]}, "the id 'q [0-9]+' has"),
        ({"queries": 2024}, "queries: 2024 of type int: give a file or a list"),
        ({"queries": iter(["one", "two"])}, "of type list_iterator: give a file or a list"),
        ({"documents": ""}, "documents: '' of type str: give a file or a list"),
    ],
)
def test_bad_input_is_one_line(tmp_path, teacher_folder, given, message):
    with pytest.raises(BadInput, match=message) as caught:
        distill.shrink(str(teacher_folder), out=str(tmp_path / "run"), **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (AlbertConfig(**USUAL, embedding_size=8), None, "albert: this architecture has no stack of 2 layers to cut: .*--backbone"),
        (T5Config(**T5), 1, "t5 cannot be cut so: Missing key.*: keep more layers, or begin from .*--backbone"),
    ],
    ids=["albert", "t5"],
)
def test_a_teacher_that_cannot_be_cut_is_refused_before_it_embeds_anything(config, size, message, tmp_path, query_file):
    folder = save_folder(tmp_path / "teacher", config)
    with pytest.raises(BadInput, match=message) as caught:
        distill.shrink(str(folder), queries=str(query_file), out=str(tmp_path / "run"), size=size, minutes=MINUTES)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_too_few_minutes_for_any_training_say_how_many_are_needed(tmp_path, teacher_folder, query_file):
    with pytest.raises(BadInput, match="too short, even a little training takes"):
        distill.shrink(str(teacher_folder), queries=str(query_file), out=str(tmp_path / "run"), minutes=1e-6)
    distill.shrink(str(teacher_folder), queries=str(query_file), out=str(tmp_path / "run"), minutes=MINUTES)  # nothing was lost


def test_results_of_other_queries_are_not_taken_for_the_jobs_own(shrunk, tmp_path):
    """Its user has evaluated it on another collection of that name since."""
    run = distill.Run(shutil.copytree(shrunk.path, tmp_path / "run", symlinks=True))
    texts = open_job_texts(run)
    assert has_results(run, texts, "holdout") and not has_results(run, texts, "dev")
    values = json.loads((run.path / "results.json").read_text())
    values["provenance"]["texts"] = "0123456789abcdef"
    (run.path / "results.json").write_text(json.dumps(values))
    assert not has_results(distill.Run(run.path), texts, "holdout")
    assert finish_job(distill.Run(run.path), texts).values["provenance"]["texts"] == texts.source.queries("holdout").content_fingerprint
