"""Folders of two towers by the names that sentence-transformers gave them: a Router, and an Asym of releases before 5."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import distill
from families import make_dense, make_encoder

from distill.encoders.cross_folder import is_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.towers import Towers, load_towers
from distill.records import BadInput
from distill.vectors.store import TeacherStore

TEXTS = ["what is the best river", "garden", "how to find a large old engine near the market"]
OLD = "sentence_transformers.models"


def rewrite(path: Path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def make_asym(folder: Path, document: str = "doc") -> Towers:
    """Two whole towers, as release 2 wrote them: `config.json`, types that are the path of a module, no default route."""
    towers = Towers(make_encoder("bert", head=[]), make_encoder("bert", head=[], seed=1))
    towers.save_pretrained(folder)

    def change(router: dict) -> dict:
        structure = {"query": router["structure"]["query"], document: router["structure"]["document"]}
        types = {part: f"{OLD}.{name.rsplit('.', 1)[-1]}" for part, name in router["types"].items()}
        return {"types": types, "structure": structure, "parameters": {"allow_empty_key": True}}

    rewrite(folder / "router_config.json", change)
    (folder / "router_config.json").rename(folder / "config.json")
    rewrite(folder / "modules.json", lambda entries: [{**entry, "type": f"{OLD}.Asym"} for entry in entries])
    return towers


def make_asym_behind(folder: Path) -> Towers:
    """One transformer, and behind it a dense layer for each role, as the documentation of release 2 has it."""
    encoders = [make_encoder("bert", head=[make_dense(16, 8, seed=seed)]) for seed in (1, 2)]
    encoders[0].save_pretrained(folder)
    encoders[1].save_pretrained(folder.parent / "second")
    for source, part in ((folder, "11_Dense"), (folder.parent / "second", "22_Dense")):
        shutil.copytree(source / "2_Dense", folder / "2_Asym" / part)
    settings = {"types": dict.fromkeys(["11_Dense", "22_Dense"], f"{OLD}.Dense"), "structure": {"query": ["11_Dense"], "doc": ["22_Dense"]}}
    (folder / "2_Asym" / "config.json").write_text(json.dumps(settings | {"parameters": {"allow_empty_key": True}}))
    shutil.rmtree(folder / "2_Dense")
    entry = {"idx": 2, "name": "2", "path": "2_Asym", "type": f"{OLD}.Asym"}
    rewrite(folder / "modules.json", lambda entries: [*entries[:2], entry])
    return Towers(*encoders)


@pytest.mark.parametrize("make", [make_asym, make_asym_behind])
def test_an_asym_is_two_towers(make, tmp_path):
    towers = make(tmp_path / "model")
    loaded = load_towers(str(tmp_path / "model"))
    for role in ("query", "document"):
        assert torch.equal(loaded.encode(TEXTS, role), towers.encode(TEXTS, role))
    assert loaded.fingerprint() == towers.fingerprint() and not is_cross_encoder(tmp_path / "model")
    assert not torch.allclose(loaded.encode(TEXTS, "query"), loaded.encode(TEXTS, "document"), atol=1e-2)
    loaded.save_pretrained(tmp_path / "again")  # as a Router
    assert load_towers(str(tmp_path / "again")).fingerprint() == towers.fingerprint()


@pytest.mark.parametrize("make", [make_asym, make_asym_behind])
def test_its_vectors_are_those_of_sentence_transformers(make, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    make(tmp_path / "model")
    loaded, model = load_towers(str(tmp_path / "model")), theirs.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    for role, route in (("query", "query"), ("document", "doc")):
        np.testing.assert_allclose(loaded.encode(TEXTS, role), model.encode(TEXTS, task=route), atol=1e-5)


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_documents_may_have_any_of_their_names(name, tmp_path):
    towers = make_asym(tmp_path / "model", name)
    assert load_towers(str(tmp_path / "model")).fingerprint() == towers.fingerprint()


@pytest.mark.parametrize("names", [["query"], ["query", "image"], ["a", "b"], ["query", "doc", "passage"], ["doc", "passage"]], ids=str)
def test_routes_that_are_not_the_two_roles_are_refused(names, tmp_path):
    make_asym(tmp_path / "model")
    rewrite(tmp_path / "model" / "config.json", lambda old: {**old, "structure": dict.fromkeys(names, old["structure"]["query"])})
    with pytest.raises(
        BadInput, match=f"a router of {', '.join(names)}: it needs the routes query and document, which may be called doc, "
    ):
        load_towers(str(tmp_path / "model"))


def test_an_asym_encodes_and_a_student_is_cut_from_its_query_tower(source_root, tmp_path):
    make_asym_behind(tmp_path / "teacher")
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    encode = ["encode", "--teacher", tmp_path / "teacher", *source, "--precision", "fp32"]
    assert distill(*encode, "--out", tmp_path / "store") == 0
    store, towers = TeacherStore(tmp_path / "store"), load_towers(str(tmp_path / "teacher"))
    assert store.maker.is_loadable and store.maker.fingerprint == towers.fingerprint()
    line = (source_root / "collection.tsv").read_text().splitlines()[0].partition("\t")
    np.testing.assert_allclose(store.documents[:1], towers.encode([line[2]], "document"), atol=2e-3)
    cut = ["--model.student", "StudentFromTeacher", "--model.student.layers", "[0,1,2,3]", "--model.losses", "QueryMatching"]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source_root, "--data.store", tmp_path / "store"]
    # with all layers and a rate that hardly moves it the student is the query tower, and not that of documents
    trainer = ["--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--model.learning_rate", 1e-12]
    assert distill("train", *cut, *data, *trainer, "--out", tmp_path / "run") == 0
    student = load_encoder(str(tmp_path / "run" / "student"))
    torch.testing.assert_close(student.encode(TEXTS, "query"), towers.encode(TEXTS, "query"), atol=1e-5, rtol=0)


def test_texts_are_cut_at_as_many_tokens_as_asked_or_as_a_tower_reads(tmp_path):
    """Also at more than the folder would cut them at."""
    towers = Towers(make_encoder("bert", head=[], max_length=8), make_encoder("bert", head=[], seed=1, max_length=16))
    towers.save_pretrained(tmp_path / "router")
    own, longer = load_towers(str(tmp_path / "router")), load_towers(str(tmp_path / "router"), max_length=12)
    assert [tower.settings.max_length for tower in (own.query, own.document)] == [8, 16]
    assert [tower.settings.max_length for tower in (longer.query, longer.document)] == [12, 12]
    with pytest.raises(BadInput, match="max_length: 100000: must be from 3 to"):
        load_towers(str(tmp_path / "router"), max_length=100_000)
