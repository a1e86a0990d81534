"""Python code of a model's folder runs where the user says so and nowhere else; nobody is asked on the terminal."""

import io
import json
import sys

import pytest
import torch
from commands import distill
from families import make_cross, make_folder

from distill.encoders.cross_folder import load_cross_encoder, new_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, TeacherSpace
from distill.encoders.towers import is_available, load_maker
from distill.evaluation.systems import open_system
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.texts.sources import Beir
from distill.vectors.store import TeacherStore

TEXTS = ["old river", "how to find a garden", "bread " * 30]
# the states are doubled, and a file says that the code ran
CODE = """
from pathlib import Path
from transformers import BertModel

Path(RAN).write_text("")

class Doubled(BertModel):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 2
        return output
"""


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tmp_path):
    """A BERT whose folder brings its own class, beside one that transformers has."""
    folder = make_folder(tmp_path / "model", "bert", head=[])
    (folder / "modeling_doubled.py").write_text(CODE.replace("RAN", repr(str(tmp_path / "ran"))))
    rewrite(folder / "config.json", auto_map={"AutoModel": "modeling_doubled.Doubled"})
    return folder


@pytest.fixture
def world(tmp_path):
    root = tmp_path / "beir"
    (root / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(["old river", "a garden", "red bread"])]
    (root / "corpus.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    (root / "queries.jsonl").write_text("".join(json.dumps({"_id": f"q{i}", "text": f"find {i}"}) + "\n" for i in range(2)))
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n")
    return root


@pytest.fixture(autouse=True)
def answers_yes(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))


def test_code_is_refused_in_one_line(folder, tmp_path):
    with pytest.raises(BadInput, match=r"config\.json: its auto_map names code, modeling_doubled\.Doubled, which runs only") as error:
        load_encoder(str(folder))
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="auto_map"):  # and no other library reads it without its code
        open_system(str(folder))
    assert not (tmp_path / "ran").exists()
    assert sys.stdin.read() == "y\n" * 9


def test_trusted_code_writes_the_vectors_of_sentence_transformers(folder):
    theirs = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(str(folder), trust_remote_code=True)
    model = theirs.SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    torch.testing.assert_close(encoder.encode(TEXTS, "query"), torch.from_numpy(model.encode_query(TEXTS)), atol=1e-5, rtol=0)
    rewrite(folder / "config.json", auto_map={})
    plain = load_encoder(str(folder))
    torch.testing.assert_close(encoder.encode(TEXTS, "query"), 2 * plain.encode(TEXTS, "query"))
    assert encoder.fingerprint() != plain.fingerprint()  # though all weights are equal


def test_the_fingerprint_is_that_of_the_code(folder, tmp_path):
    before = load_encoder(str(folder), trust_remote_code=True).fingerprint()
    moved = folder.rename(tmp_path / "moved")
    assert load_encoder(str(moved), trust_remote_code=True).fingerprint() == before
    code = moved / "modeling_doubled.py"
    code.write_text(code.read_text().replace("* 2", "* 3"))
    other = moved.rename(tmp_path / "other")
    assert load_encoder(str(other), trust_remote_code=True).fingerprint() != before


@pytest.mark.parametrize("named", [{"AutoConfig": "configuration_own.Own"}, {"AutoModel": "someone/else--modeling.Own"}])
def test_any_code_that_loading_would_run_is_refused(named, folder):
    rewrite(folder / "config.json", auto_map=named)
    with pytest.raises(BadInput, match="auto_map"):
        load_encoder(str(folder))


@pytest.mark.parametrize("named", [{"AutoTokenizer": ["tokenization_own.Own", None]}, ["tokenization_own.Own", None]])
def test_a_tokenizer_of_its_own_is_refused(named, folder):
    rewrite(folder / "config.json", auto_map={})
    rewrite(folder / "tokenizer_config.json", auto_map=named)
    with pytest.raises(BadInput, match=r"tokenizer_config\.json: its auto_map"):
        load_encoder(str(folder))


def test_code_for_what_is_not_loaded_is_left_alone(folder):
    rewrite(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    assert load_encoder(str(folder)).encode(TEXTS, "query").shape == (3, 16)


def test_an_unknown_architecture_asks_nobody(folder, tmp_path):
    rewrite(folder / "config.json", model_type="bert_flash", auto_map={"AutoConfig": "modeling_doubled.Doubled"})
    with pytest.raises(BadInput, match="auto_map"):
        load_encoder(str(folder))
    rewrite(folder / "config.json", auto_map={})
    with pytest.raises(BadInput, match="bert_flash"):
        load_encoder(str(folder))
    assert not (tmp_path / "ran").exists()


def test_cross_encoders_generators_and_students_run_no_code(folder, tmp_path):
    make_cross("bert", "cls").save_pretrained(tmp_path / "cross")
    rewrite(tmp_path / "cross" / "config.json", auto_map={"AutoModelForSequenceClassification": "modeling_own.Own"})
    space = TeacherSpace(Maker("teacher", "1f"), 16, False)
    attempts = [
        lambda: load_cross_encoder(str(tmp_path / "cross")),
        lambda: new_cross_encoder(str(folder), "dual_pooling"),
        lambda: Seq2SeqModel.load(str(_with_code(tmp_path / "cross", "AutoModelForSeq2SeqLM"))),
        lambda: StudentFromBackbone(str(folder)).make_student(space),
        lambda: StudentFromTeacher(2, teacher=str(folder)).make_student(space),
    ]
    for attempt in attempts:
        with pytest.raises(BadInput, match="auto_map"):
            attempt()
    assert not (tmp_path / "ran").exists()


def _with_code(folder, auto_class):
    rewrite(folder / "config.json", auto_map={auto_class: "modeling_own.Own"})
    return folder


def test_kernels_to_be_downloaded_adapters_and_quantised_weights_are_refused(folder):
    rewrite(folder / "config.json", auto_map=None, attn_implementation="someone/kernel")
    with pytest.raises(BadInput, match="attn_implementation: 'someone/kernel' is code to be downloaded"):
        open_system(str(folder))
    rewrite(folder / "config.json", attn_implementation=None, quantization_config={"quant_method": "gptq"})
    with pytest.raises(BadInput, match="quantised weights are not read"):
        load_encoder(str(folder))
    rewrite(folder / "config.json", quantization_config=None)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="the weights of an adapter are not read: merge it"):
        load_encoder(str(folder))


def test_encode_refuses_code_before_it_writes(folder, world, tmp_path, capsys):
    arguments = [
        "encode",
        "--teacher",
        folder,
        "--source",
        "Beir",
        "--source.root",
        world,
        "--precision",
        "fp32",
        "--out",
        tmp_path / "store",
    ]
    assert distill(*arguments) == 2
    assert "auto_map" in capsys.readouterr().err
    assert not (tmp_path / "store").exists() and not (tmp_path / "ran").exists()


def test_shrink_cuts_no_model_that_runs_code(folder, world, tmp_path, capsys):
    arguments = ["shrink", "--teacher", folder, "--documents", world / "corpus.jsonl", "--out", tmp_path / "out"]
    assert distill(*arguments) == 2
    assert "auto_map" in capsys.readouterr().err
    assert distill(*arguments, "--trust_remote_code", "true") == 2
    assert "runs Python code of its folder, which a student does not: name a small encoder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_store_says_that_code_made_it_and_does_not_run_it_again(folder, world, tmp_path, monkeypatch):
    store = encode(str(folder), Beir(str(world)), str(tmp_path / "store"), precision="fp32", trust_remote_code=True)
    maker = store.maker
    assert maker.trust_remote_code and maker.to_json()["trust_remote_code"]
    assert load_maker(maker).query.runs_remote_code  # it has run in this process already
    monkeypatch.setattr("distill.encoders.towers.trusted_folders", set())
    assert not is_available(maker) and is_available(maker, trust_remote_code=True)
    with pytest.raises(BadInput, match="runs Python code of its folder, a student does not"):
        load_maker(maker)
    with pytest.raises(BadInput, match="runs Python code of its folder, a student does not"):
        StudentFromTeacher(2).make_student(TeacherSpace(maker, 16, False))


def test_trusted_code_may_lie_in_a_folder_of_its_own(folder, world, tmp_path):
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [
        path for path in folder.iterdir() if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json")
    ]:
        path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "path": inner.name}, *modules[1:]]))
    encode(str(folder), Beir(str(world)), str(tmp_path / "store"), trust_remote_code=True)
    maker = TeacherStore(tmp_path / "store").maker
    assert is_available(maker) and load_maker(maker).fingerprint() == maker.fingerprint


def test_a_module_class_of_another_package_is_no_transformer(folder):
    rewrite(folder / "config.json", auto_map=None)
    modules = json.loads((folder / "modules.json").read_text())
    for kind in ("pylate.models.Transformer", "custom_st.Transformer"):
        modules[0]["type"] = kind
        (folder / "modules.json").write_text(json.dumps(modules))
        for load in (load_encoder, load_cross_encoder):
            with pytest.raises(BadInput, match=kind.replace(".", r"\.")):
                load(str(folder))
    assert "custom_st" not in sys.modules
