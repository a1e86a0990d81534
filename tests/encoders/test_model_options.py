"""What a user sets of a model beside its folder: length, dimensions, format of the weights, name of the prompt."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, make_dense, make_encoder, make_folder, make_tokenizer
from static_encoders import make_static
from teacher_families import write_teacher
from tokenizers.processors import TemplateProcessing

from distill.encoders import weights as memory
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Dense, Normalize, Truncate
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.encoders.towers import Towers, load_maker, load_towers
from distill.encoders.weights import choose_format, count_weights
from distill.files import device
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.teachers.local import load_local_teacher
from distill.teachers.options import ModelOptions, TeacherOptions, model_options
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore

TEXTS = ["old river", "how to find a garden", "bread " * 30, ""]


def theirs(folder: Path, **options):
    package = pytest.importorskip("sentence_transformers", minversion="6")
    return package.SentenceTransformer(str(folder), device="cpu", **options)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shorten(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Stores the weights of a folder in 16 bits."""
    load_encoder(str(folder)).backbone.to(dtype).save_pretrained(folder)
    return folder


# length


@pytest.mark.parametrize("length", [5, 16, 40])
def test_texts_are_cut_at_the_length_that_was_asked_for(length, tmp_path):
    """Also beyond that of the folder, 16, as long as the model has positions."""
    folder = make_folder(tmp_path / "model", "bert")
    model = theirs(folder)
    model.max_seq_length = length
    encoder = load_encoder(str(folder), max_length=length)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), model.encode(TEXTS), atol=1e-5)
    encoder.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(load_encoder(str(tmp_path / "again")).encode_query(TEXTS), encoder.encode_query(TEXTS))


@pytest.mark.parametrize("length", [41, 2, 0, -1, True])
def test_lengths_that_the_model_does_not_read_are_refused(length, tmp_path):
    with pytest.raises(BadInput, match=rf"max_length: {length}: must be from 3 to 40, the tokens that .*model reads"):
        load_encoder(str(make_folder(tmp_path / "model", "bert")), max_length=length)


def make_long_folder(folder: Path, positions: int) -> Path:
    """A plain folder of a model that computes its positions."""
    config = transformers.Qwen3Config(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16, head_dim=8
    )
    config.max_position_embeddings = positions
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer = make_tokenizer("mpnet")
    tokenizer.model_max_length = positions
    tokenizer.save_pretrained(folder)
    return folder


def test_a_limit_of_32k_is_not_taken_unasked(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "distill")
    folder = str(make_long_folder(tmp_path / "model", 32_768))
    plain = {"pooling": "lasttoken", "normalize": True}
    teacher = load_local_teacher(folder, "fp32", ModelOptions(**plain))
    assert teacher.towers.query.settings.max_length == teacher.maker.max_length == 8192
    assert "texts are cut at 8,192 tokens: max_length sets another number" in caplog.text
    caplog.clear()
    assert load_maker(teacher.maker).fingerprint() == teacher.maker.fingerprint
    assert load_local_teacher(folder, "fp32", ModelOptions(**plain, max_length=20_000)).towers.query.settings.max_length == 20_000
    assert load_local_teacher(str(make_long_folder(tmp_path / "shorter", 8192)), "fp32", ModelOptions(**plain)).maker.max_length is None
    whole = load_encoder(folder, **plain)  # what a store of before was made with
    assert (
        whole.settings.max_length == 32_768 and load_maker(Maker(folder, whole.fingerprint(), **plain)).query.settings.max_length == 32_768
    )
    assert not caplog.text


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path):
    folder = str(make_folder(tmp_path / "model", "bert", prompts={"query": "find the small planet letter of the river ", "document": ""}))
    assert load_encoder(folder, max_length=12).settings.max_length == 12
    with pytest.raises(BadInput, match="the prompt of a query fills all 11 tokens: give more max_length, or a shorter prompt"):
        load_encoder(folder, max_length=11)


# dimensions


@pytest.mark.parametrize("head", [None, (make_dense(16, 12, activation="Tanh"),), (make_dense(16, 12), Normalize())])
def test_vectors_are_cut_and_scaled_again_where_the_folder_scales(head, tmp_path):
    folder = make_folder(tmp_path / "model", "bert", head=head)
    raw = theirs(folder, truncate_dim=5).encode(TEXTS)
    encoder = load_encoder(str(folder), dimensions=5)
    assert encoder.width == 5
    scales = head is None or len(head) == 2
    np.testing.assert_allclose(encoder.encode_query(TEXTS), unit(raw) if scales else raw, atol=1e-5)
    encoder.save_pretrained(tmp_path / "again")
    again = load_encoder(str(tmp_path / "again"))
    assert again.fingerprint() == encoder.fingerprint() != load_encoder(str(folder)).fingerprint()
    np.testing.assert_array_equal(again.encode_query(TEXTS), encoder.encode_query(TEXTS))
    np.testing.assert_allclose(theirs(tmp_path / "again").encode(TEXTS), encoder.encode_query(TEXTS), atol=1e-5)


def test_all_dimensions_are_no_cut(tmp_path):
    folder = str(make_folder(tmp_path / "model", "bert"))
    assert load_encoder(folder, dimensions=16).fingerprint() == load_encoder(folder).fingerprint()


@pytest.mark.parametrize("dimensions", [0, -1, 17])
def test_dimensions_that_a_vector_does_not_have_are_refused(dimensions, tmp_path):
    with pytest.raises(BadInput, match=rf"dimensions: {dimensions}: must be from 1 to 16"):
        load_encoder(str(make_folder(tmp_path / "model", "bert")), dimensions=dimensions)


def test_a_plain_folder_and_a_router_are_cut_too(tmp_path):
    plain = make_folder(tmp_path / "plain", "bert")
    (plain / "modules.json").unlink()
    assert load_encoder(str(plain), "mean", True, dimensions=5).encode_query(TEXTS).shape == (4, 5)
    folders = [str(make_folder(tmp_path / str(seed), "bert", seed=seed)) for seed in (0, 1)]
    whole = Towers(*map(load_encoder, folders))
    whole.save_pretrained(tmp_path / "router")
    cut = load_towers(str(tmp_path / "router"), dimensions=5)
    for role in ("query", "document"):
        np.testing.assert_allclose(cut.encode(TEXTS, role), unit(whole.encode(TEXTS, role).numpy()[:, :5]), atol=1e-5)


def test_only_a_layer_that_does_nothing_else_is_read_as_a_cut():
    cut = Truncate(4, 2)
    plain, scaled, biased = Dense(4, 2, bias=False), Dense(4, 2, bias=False), Dense(4, 2)
    for layer in (plain, scaled, biased):
        layer.weight.data = cut.weight.data.clone()
    scaled.weight.data[0, 0] = 1.001
    assert isinstance(Truncate.from_dense(plain), Truncate) and str(Truncate.from_dense(plain)) == str(plain)  # fingerprints contain it
    assert Truncate.from_dense(scaled) is scaled and Truncate.from_dense(biased) is biased


# format of the weights


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_bf16_are_those_of_the_folder(family, tmp_path):
    folder = shorten(make_folder(tmp_path / "model", family))
    encoder, whole = load_encoder(str(folder), weights="bf16"), load_encoder(str(folder))
    assert encoder.backbone.dtype == torch.bfloat16 and whole.backbone.dtype == torch.float32
    for name, weight in whole.backbone.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[name].float(), weight.float()), name
    vectors = encoder.encode_query(TEXTS)
    assert vectors.dtype == np.float32 and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert ((vectors * whole.encode_query(TEXTS)).sum(axis=1) > 0.999).all()


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("fast", [True, False])
def test_auto_keeps_16_bits_where_the_machine_multiplies_them(stored, fast, tmp_path, monkeypatch):
    folder = shorten(make_folder(tmp_path / "model", "bert"), stored)
    monkeypatch.setattr(memory, "has_fast_bf16", lambda kind: fast)
    expected = torch.bfloat16 if fast and stored != torch.float32 else torch.float32
    assert choose_format(folder, "auto") == expected
    teacher = load_local_teacher(str(folder), "bf16", ModelOptions(weights="auto"))
    assert teacher.towers.query.backbone.dtype == expected
    assert teacher.maker.weights == ("bf16" if expected == torch.bfloat16 else None)
    assert load_local_teacher(str(folder), "fp32", ModelOptions(weights="auto")).maker.weights is None


@pytest.mark.parametrize("fast", [True, False])
def test_weights_in_bf16_are_multiplied_in_bf16_by_every_machine(fast, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.files.device.has_fast_bf16", lambda kind: fast)
    folder = str(make_folder(tmp_path / "model", "bert"))
    maker = load_local_teacher(folder, "auto", ModelOptions(weights="bf16")).maker
    assert (maker.precision, maker.weights) == ("bf16", "bf16")


def test_products_in_fp32_need_weights_in_fp32(tmp_path):
    folder = str(make_folder(tmp_path / "model", "bert"))
    with pytest.raises(BadInput, match="weights: bf16: products of such weights are bf16"):
        load_local_teacher(folder, "fp32", ModelOptions(weights="bf16"))


def test_weights_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "model", "bert")
    count = sum(parameter.numel() for parameter in load_encoder(str(folder)).backbone.parameters())
    assert count_weights(folder).total() == count
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("was read"))
    for free, dtype, fix in ((2 * count, "fp32", "weights: bf16 takes half"), (count, "bf16", "take a smaller model")):
        monkeypatch.setattr(memory, "free_memory", lambda _, free=free: free)
        with pytest.raises(BadInput, match=rf"its .* billion weights take .* GiB are free: {fix}"):
            load_encoder(str(folder), weights=dtype)


def test_weights_in_several_files_are_read_and_counted(tmp_path):
    folder = make_folder(tmp_path / "model", "bert")
    encoder, count = load_encoder(str(folder)), count_weights(folder).total()
    expected = encoder.encode_query(TEXTS)
    (folder / "model.safetensors").unlink()
    encoder.backbone.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1 and count_weights(folder).total() == count
    np.testing.assert_array_equal(load_encoder(str(folder)).encode_query(TEXTS), expected)


def test_weights_of_older_files_are_counted_too(tmp_path):
    """In the format that config.json names; their frame counts as weights too."""
    folder = make_folder(tmp_path / "model", "bert")
    encoder, count = load_encoder(str(folder)), count_weights(folder).total()
    (folder / "model.safetensors").unlink()
    torch.save(encoder.backbone.state_dict(), folder / "pytorch_model.bin")
    assert count <= count_weights(folder)["F32"] < 2 * count
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert 2 * count <= count_weights(folder)["F16"] < 4 * count


def test_only_the_files_of_the_model_are_counted(tmp_path):
    """Some folders have a second copy of the weights, and an index names the files where there are several."""
    folder = make_folder(tmp_path / "model", "bert")
    count = count_weights(folder).total()
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert count_weights(folder).total() == count
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}})
    )
    assert count_weights(folder).total() == count


def test_a_process_of_any_name_has_its_memory_read(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "PROCESS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tray::worker\nVmHWM:\t  2048 kB\n")
    assert device.used_memory(torch.device("cpu")) == 2**21
    (tmp_path / "status").write_text("Name:\tray::worker\n")
    assert device.used_memory(torch.device("cpu")) is None


def test_towers_of_two_formats_are_read_in_one(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "has_fast_bf16", lambda kind: True)
    folders = [make_folder(tmp_path / str(seed), "bert", seed=seed) for seed in (0, 1)]
    Towers(load_encoder(str(folders[0])), load_encoder(str(shorten(folders[1])), weights="bf16")).save_pretrained(tmp_path / "router")
    teacher = load_local_teacher(str(tmp_path / "router"), "bf16", ModelOptions(weights="auto"))
    assert {tower.backbone.dtype for tower in (teacher.towers.query, teacher.towers.document)} == {torch.float32}
    assert load_maker(teacher.maker).fingerprint() == teacher.maker.fingerprint


def test_a_store_goes_on_in_the_format_in_which_it_was_begun(source_root, tmp_path, monkeypatch):
    folder, source = str(shorten(make_folder(tmp_path / "model", "bert"))), MsMarcoTsv(str(source_root))
    monkeypatch.setattr(memory, "has_fast_bf16", lambda kind: True)
    encode(folder, source, str(tmp_path / "store"), ["dev"], precision="bf16", weights="fp32")
    assert encode(folder, source, str(tmp_path / "store"), precision="bf16").maker.weights is None
    assert encode(folder, source, str(tmp_path / "other"), precision="bf16").maker.weights == "bf16"


def test_a_store_goes_on_in_the_products_in_which_it_was_begun(source_root, tmp_path, monkeypatch):
    """A later release, or another machine, may choose another format."""
    folder, source = str(shorten(make_folder(tmp_path / "model", "bert"))), MsMarcoTsv(str(source_root))
    for fast, weights in ((True, None), (True, "bf16"), (False, None)):
        out = str(tmp_path / f"{fast}-{weights}")
        for module in (memory, device):
            monkeypatch.setattr(module, "has_fast_bf16", lambda kind, fast=fast: fast)
        options = {} if weights else {"weights": "fp32"}
        begun = encode(folder, source, out, ["dev"], **options).maker
        assert (begun.precision, begun.weights) == ("bf16" if fast else "fp32", weights)
        for module in (memory, device):
            monkeypatch.setattr(module, "has_fast_bf16", lambda kind, fast=fast: not fast)
        again = encode(folder, source, out)
        assert again.maker == begun and (again.folder / "queries-train").exists()


def test_memory_that_a_container_leaves(tmp_path, monkeypatch):
    free = device.free_memory(torch.device("cpu"))
    assert free > 10**8
    most, used = tmp_path / "most", tmp_path / "used"
    most.write_text("3000\n")
    used.write_text("1000\n")
    monkeypatch.setattr(device, "CONTAINER_LIMITS", ((most, used),))
    assert device.free_memory(torch.device("cpu")) == 2000
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_file 500\n")  # pages of files, which a process can have
    assert device.free_memory(torch.device("cpu")) == 2500
    most.write_text("max\n")
    assert device.free_memory(torch.device("cpu")) > 10**8


def test_memory_is_said_before_a_corpus_is_encoded(tmp_path):
    teacher = load_local_teacher(str(make_folder(tmp_path / "model", "bert")), "fp32")
    used = device.used_memory(torch.device("cpu")) / 2**30
    said = float(re.fullmatch(r"in fp32 on cpu, ([\d.]+) GiB of memory in all", teacher.where)[1])
    assert used < said < used + 1


def test_long_and_short_texts_have_the_attention_that_is_fastest(tmp_path):
    folder = str(make_long_folder(tmp_path / "model", 2048))
    encoder, plain = load_encoder(folder, "mean", True), load_encoder(folder, "mean", True)
    encoder.prepare_for(torch.device("cpu"))
    for words, attention in ((3, "eager"), (600, "sdpa"), (5, "eager")):
        vectors = encoder.encode(["old river " * words, "garden"], "query")
        assert encoder.backbone.config._attn_implementation == attention
        torch.testing.assert_close(vectors, plain.encode(["old river " * words, "garden"], "query"), atol=1e-5, rtol=0)
        encoder.prepare_for(torch.device("cpu"))  # again: it forgets nothing


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_teacher_writes_the_same_vectors(tmp_path):
    folder = str(make_folder(tmp_path / "model", "bert"))
    teachers = [load_local_teacher(folder, "fp32", compiled=compiled) for compiled in (False, True)]
    texts = [*TEXTS, "the small planet " * 4] * 3
    plain, compiled = (teacher.embed(teacher.prepare(texts, "document"), "document", lambda done: None) for teacher in teachers)
    np.testing.assert_allclose(compiled, plain, atol=1e-5)
    assert teachers[0].maker == teachers[1].maker


def test_a_model_that_cannot_be_compiled_is_refused(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no working C++ compiler\nand more lines")

    monkeypatch.setattr(torch, "compile", lambda forward, dynamic: fail)
    with pytest.raises(BadInput, match=r"^compile: no working C\+\+ compiler and more lines: leave it out, or install what is missing$"):
        load_local_teacher(str(make_folder(tmp_path / "model", "bert")), "fp32", compiled=True)


# prompts


def test_a_prompt_is_chosen_by_its_name(tmp_path):
    folder = make_folder(tmp_path / "model", "bert")
    path = folder / "config_sentence_transformers.json"
    rewrite(path, prompts={"query": "find ", "question": "river ", "document": "text "})
    choose = lambda **options: model_options(str(folder), TeacherOptions(**options)).prompts  # noqa: E731
    assert choose() is None
    assert choose(query_prompt_name="question") == {"query": "river ", "document": "text "}
    assert choose(query_prompt_name="question", prompts={"document": "a "}) == {"query": "river ", "document": "a "}
    with pytest.raises(BadInput, match=r"query_prompt_name: answer: no prompt of .*: query, question, document"):
        choose(query_prompt_name="answer")
    with pytest.raises(BadInput, match="leave one of both out"):
        choose(query_prompt_name="question", prompts={"query": "a "})


@pytest.mark.parametrize("mode", ["mean", "max", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_prompt_that_is_not_pooled(mode, family, tmp_path):
    prompts = {"query": "find the garden ", "document": ""}
    folder = make_folder(tmp_path / "model", family, pooling=mode, prompts=prompts)
    pooled = load_encoder(str(folder))
    rewrite(folder / "1_Pooling" / "config.json", include_prompt=False)
    encoder, model = load_encoder(str(folder)), theirs(folder)
    for role, role_vectors in (("query", model.encode_query(TEXTS)), ("document", model.encode_document(TEXTS))):
        np.testing.assert_allclose(encoder.encode(TEXTS, role), role_vectors, atol=1e-5)
        assert (encoder.tokens_fingerprint(role) == pooled.tokens_fingerprint(role)) is False
    assert not np.allclose(encoder.encode_query(TEXTS[:2]), pooled.encode_query(TEXTS[:2]), atol=1e-3)
    assert encoder.fingerprint() != pooled.fingerprint()
    encoder.save_pretrained(tmp_path / "again")
    np.testing.assert_allclose(theirs(tmp_path / "again").encode_query(TEXTS), encoder.encode_query(TEXTS), atol=1e-5)
    maker = Maker(str(folder), Towers(encoder).fingerprint())
    assert StudentFromTeacher([0, 3]).make_student(TeacherSpace(maker, 16, normalized=True)).pooling.include_prompt


def test_texts_in_lower_case(tmp_path):
    """A tokenizer that tells cases apart reads lower case where the folder wants it."""
    folder = make_folder(tmp_path / "model", "xlm-roberta")
    texts = ["Old RIVER", "How to find a Garden"]
    assert not np.allclose(load_encoder(str(folder)).encode_query(texts), theirs(folder).encode([t.lower() for t in texts]), atol=1e-3)
    rewrite(folder / "sentence_bert_config.json", do_lower_case=True)
    encoder = load_encoder(str(folder))
    np.testing.assert_allclose(encoder.encode_query(texts), theirs(folder).encode(texts), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_query(texts), encoder.encode_query([text.lower() for text in texts]), atol=1e-6)
    encoder.save_pretrained(tmp_path / "again")
    np.testing.assert_allclose(theirs(tmp_path / "again").encode(texts), encoder.encode_query(texts), atol=1e-5)


@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "XLM-RoBERTa", "MPNet", "T5 encoder", "Qwen2", "Llama", "ModernBERT"])
def test_lower_case_is_kept_with_every_tokenizer(family, tmp_path):
    """The classes of real folders make their normalizer anew, without what was put before it."""
    folder = Path(write_teacher(tmp_path, family, "mean"))
    rewrite(folder / "sentence_bert_config.json", do_lower_case=True)
    encoder = load_encoder(str(folder))
    vectors = encoder.encode_query(["HELLO World", "hello world"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    encoder.save_pretrained(tmp_path / "again")
    again = load_encoder(str(tmp_path / "again"))
    assert again.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(again.encode_query(["HELLO World", "hello world"]), vectors)
    np.testing.assert_allclose(theirs(tmp_path / "again").encode(["HELLO World", "hello world"]), vectors, atol=1e-5)


def test_a_tokenizer_that_lowers_the_case_later_is_left_as_it_is(tmp_path):
    """Rules before that read capitals."""
    folder = make_folder(tmp_path / "model", "bert")
    rules = [{"type": "Replace", "pattern": {"String": "US"}, "content": "river"}, {"type": "Lowercase"}]
    rewrite(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": rules})
    rewrite(folder / "sentence_bert_config.json", do_lower_case=True)
    vectors = load_encoder(str(folder)).encode_query(["The old US", "the old river"])
    np.testing.assert_allclose(vectors, theirs(folder).encode(["The old US", "the old river"]), atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_texts_without_tokens_beside_the_prompt(tmp_path):
    """Their maximum is 0, not infinite; and a prompt that is no token marks none."""
    folder = make_folder(tmp_path / "model", "bert", pooling="max", head=(), prompts={"query": "find ", "document": " "})
    rewrite(folder / "1_Pooling" / "config.json", include_prompt=False)
    encoder = load_encoder(str(folder), normalize=False)
    vectors = encoder(encoder.pad([[~2, ~30], [~2, 31]]))
    assert vectors[0].tolist() == [0.0] * 16 and bool(vectors.isfinite().all())
    encoder.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert min(encoder.token_ids(["river"], "document")[0]) >= 0


# a store keeps them


def test_a_store_remembers_how_its_model_was_read(source_root, tmp_path):
    folder = shorten(make_folder(tmp_path / "model", "bert"))
    store = encode(
        str(folder), MsMarcoTsv(str(source_root)), str(tmp_path / "store"), dimensions=6, max_length=7, weights="bf16", precision="bf16"
    )
    maker = store.maker
    assert (maker.dimensions, maker.max_length, maker.weights, store.documents.width) == (6, 7, "bf16", 6)
    towers = load_maker(maker)
    assert towers.query.settings.max_length == 7 and towers.width == 6 and towers.query.backbone.dtype == torch.bfloat16
    student = StudentFromTeacher([0, 3]).make_student(TeacherSpace(maker, 6, normalized=True))
    assert student.backbone.dtype == torch.float32 and student.encode_query(TEXTS).shape == (4, 6)
    plain = encode(str(folder), MsMarcoTsv(str(source_root)), str(tmp_path / "plain"), precision="fp32")
    assert not {"dimensions", "max_length", "weights"} & set(plain.maker.to_json())


def test_lengths_of_vectors_are_computed_in_fp32_where_products_are_bf16():
    """Also behind a layer, whose output is bf16 then."""
    encoder = make_encoder("bert", head=[make_dense(16, 8), Normalize()])
    with torch.autocast("cpu", torch.bfloat16):
        lengths = encoder(encoder.pad(encoder.token_ids(TEXTS, "query"))).norm(dim=1)
    assert lengths.dtype == torch.float32
    torch.testing.assert_close(lengths, torch.ones(len(TEXTS)), atol=1e-6, rtol=0)


def test_a_damaged_file_of_weights_is_one_line(tmp_path):
    folder = make_folder(tmp_path / "model", "bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    for weights in ("auto", "fp32"):
        with pytest.raises(BadInput, match=r"model\.safetensors: damaged .*: restore it"):
            load_encoder(str(folder), weights=weights)


def make_router(folder: Path, lengths: tuple[int, int], prompt: str = "") -> str:
    prompts = {"query": prompt, "document": ""}
    Towers(*(make_encoder("bert", seed=seed, max_length=length, prompts=prompts) for seed, length in enumerate(lengths))).save_pretrained(
        folder
    )
    return str(folder)


def test_of_two_towers_one_is_cut_where_nobody_asked_and_the_store_is_read_again(tmp_path, monkeypatch, source_root):
    for module in ("tokenizing", "towers"):
        monkeypatch.setattr(f"distill.encoders.{module}.LONGEST_UNASKED", 12)
    monkeypatch.setattr("distill.teachers.local.LONGEST_UNASKED", 12)
    folder = make_router(tmp_path / "router", (8, 16))
    encode(folder, MsMarcoTsv(str(source_root)), str(tmp_path / "store"), precision="fp32")
    towers = load_maker(TeacherStore(tmp_path / "store").maker)
    assert [tower.settings.max_length for tower in (towers.query, towers.document)] == [8, 12]


def test_a_prompt_that_leaves_no_room_in_its_tower_is_refused(tmp_path):
    """That of queries is none of the document tower's."""
    folder = make_router(tmp_path / "router", (16, 16), "find the small planet letter of the river ")
    assert load_towers(folder, max_length=12).query.settings.max_length == 12
    with pytest.raises(BadInput, match="the prompt of a query fills all 11 tokens"):
        load_towers(folder, max_length=11)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_of_two_towers_that_with_layers_is_compiled(tmp_path):
    Towers(make_static(), make_encoder("bert")).save_pretrained(tmp_path / "router")
    teacher = load_local_teacher(str(tmp_path / "router"), "fp32", compiled=True)
    assert teacher.embed(teacher.prepare(TEXTS, "query"), "query", lambda done: None).shape == (len(TEXTS), 16)
