"""What a sentence-transformers folder says of the whole model: how vectors are compared, prompts, cut vectors."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import make_dense, make_folder
from folder_settings import SETTINGS_NAMES

from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Normalize
from distill.encoders.towers import Towers, load_maker, load_towers
from distill.evaluation.systems import open_system
from distill.records import BadInput
from distill.teachers.agreement import describe_lengths
from distill.teachers.function import text_functions
from distill.teachers.local import LocalTeacher

TEXTS = ["old river", "how to find a garden", "bread " * 30]
ABSENT = object()


@pytest.fixture
def folder(tmp_path):
    """A BERT without a Normalize module: its vectors have several lengths."""
    return make_folder(tmp_path / "model", "bert", head=[make_dense(16, 8, activation="Tanh")])


def set_model(folder, **changes):
    path = folder / "config_sentence_transformers.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not ABSENT}))


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("similarity", ["cosine", None, ABSENT])
def test_cosine_scales_vectors_and_says_so(similarity, folder, caplog):
    raw = load_encoder(str(folder)).encode(TEXTS, "query")  # the folder says dot
    assert not caplog.records
    set_model(folder, similarity_fn_name=similarity)
    with caplog.at_level(logging.WARNING, "distill"):
        encoder = load_encoder(str(folder))
    assert [record.message for record in caplog.records if "scaled to length 1" in record.message]
    torch.testing.assert_close(encoder.encode(TEXTS, "query"), unit(raw))
    assert encoder.normalizes  # a student that is cut from it is, too
    torch.testing.assert_close(load_encoder(str(folder), normalize=False).encode(TEXTS, "query"), raw)


def test_a_folder_that_scales_is_left_as_it_is(tmp_path, caplog):
    folder = make_folder(tmp_path / "model", "bert")
    before = load_encoder(str(folder)).fingerprint()
    for similarity in ("cosine", "dot", "euclidean", None):
        set_model(folder, similarity_fn_name=similarity)
        assert load_encoder(str(folder)).fingerprint() == before
    assert not caplog.records


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan", "maxsim", "nonsense", 3])
def test_other_similarities_are_refused_unless_the_user_chooses(similarity, folder):
    set_model(folder, similarity_fn_name=similarity)
    with pytest.raises(BadInput, match=f"similarity_fn_name: {similarity}: inner products"):
        load_encoder(str(folder))
    assert load_encoder(str(folder), normalize=True).normalizes


def test_a_store_made_before_vectors_were_scaled_still_opens(folder, caplog):
    old = load_encoder(str(folder)).fingerprint()
    set_model(folder, similarity_fn_name="cosine")
    assert load_encoder(str(folder)).fingerprint() != old
    towers = load_maker(Maker(str(folder), old))
    assert towers.fingerprint() == old and not towers.query.normalizes
    assert "made before vectors were scaled" in caplog.text
    with pytest.raises(BadInput, match="its fingerprint differs"):
        load_maker(Maker(str(folder), "0" * 16))


@pytest.mark.parametrize("length", [0, -1, True, "8"])
def test_a_cut_that_is_none_is_refused(length, folder):
    set_model(folder, truncate_dim=length)
    with pytest.raises(BadInput, match=r"truncate_dim: .*: set how many of the 8 numbers of a vector to keep, or null"):
        load_encoder(str(folder))


def test_a_cut_beyond_the_vector_changes_nothing(folder):
    before = load_encoder(str(folder)).fingerprint()
    for length in (8, 512, None):
        set_model(folder, truncate_dim=length)
        assert load_encoder(str(folder)).fingerprint() == before


def test_vectors_are_cut_where_the_folder_says_so(folder):
    raw = load_encoder(str(folder)).encode(TEXTS, "query")
    set_model(folder, truncate_dim=4)
    np.testing.assert_allclose(open_system(str(folder)).encode(TEXTS, "query"), raw[:, :4].numpy(), atol=1e-5)
    set_model(folder, similarity_fn_name="cosine")
    np.testing.assert_allclose(open_system(str(folder)).encode(TEXTS, "query"), unit(raw[:, :4]).numpy(), atol=1e-5)


def test_an_object_that_compares_by_cosine_is_scaled():
    model = SimpleNamespace(
        similarity_fn_name="cosine",
        encode_query=lambda texts: [[3.0, 4.0] for _ in texts],
        encode_document=lambda texts: [[0.0, 2.0] for _ in texts],
    )
    functions = text_functions(model)
    np.testing.assert_allclose(functions["query"](["a"]), [[0.6, 0.8]], atol=1e-7)
    np.testing.assert_allclose(functions["document"](["a"]), [[0.0, 1.0]], atol=1e-7)
    model.similarity_fn_name = "dot"
    assert text_functions(model)["query"](["a"]) == [[3.0, 4.0]]
    model.similarity_fn_name = "manhattan"
    with pytest.raises(BadInput, match="manhattan: ranks otherwise than inner products"):
        text_functions(model)


def test_an_index_of_other_lengths_is_explained(folder):
    set_model(folder, similarity_fn_name="cosine")
    teacher = LocalTeacher(load_towers(str(folder)), "fp32", Maker(str(folder), "0"))
    varied = torch.tensor([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    assert "ranks by cosine, with vectors of length 1, these are 1 to 4 long: divide each" in describe_lengths(teacher, varied)
    assert describe_lengths(teacher, unit(varied) * 7) is None  # one scale for all ranks the same


@pytest.mark.parametrize(
    ("prompts", "default", "message"),
    [
        ({"query": 3}, None, "prompts: query: 3 is no text"),
        ({"query": "find "}, "other", "default_prompt_name: 'other' is none of its prompts: query"),
        ({"query": "find "}, "query", "default_prompt_name: query, and no prompt for a document"),
        ({"other": "the "}, "other", "default_prompt_name: other, and no prompt for a query"),
    ],
)
def test_prompts_that_could_mean_two_things_are_refused(prompts, default, message, folder):
    set_model(folder, prompts=prompts, default_prompt_name=default)
    with pytest.raises(BadInput, match=message):
        load_encoder(str(folder))
    assert load_encoder(str(folder), prompts={"query": "ask "}).settings.prompts == {"query": "ask ", "document": ""}


def test_empty_prompts_and_defaults_that_every_role_has_are_read(folder):
    for prompts, default in (({"query": None, "document": None}, None), ({"query": "a ", "document": ""}, "query"), (None, None)):
        set_model(folder, prompts=prompts, default_prompt_name=default)
        found = {"query": (prompts or {}).get("query") or "", "document": ""}
        assert load_encoder(str(folder)).settings.prompts == found


@pytest.mark.parametrize("kind", ["SparseEncoder", "CrossEncoder", "MultiVectorEncoder"])
def test_models_of_other_kinds_are_refused(kind, folder):
    set_model(folder, model_type=kind)
    with pytest.raises(BadInput, match=f"model_type: {kind}: not a model that embeds single texts"):
        load_encoder(str(folder))


@pytest.mark.parametrize("name", SETTINGS_NAMES)
def test_the_longest_text_is_read_under_every_name(name, folder):
    (folder / SETTINGS_NAMES[0]).unlink()
    (folder / SETTINGS_NAMES[0]).write_text("{}")
    (folder / name).write_text('{"max_seq_length": 7, "do_lower_case": false}')
    assert load_encoder(str(folder)).settings.max_length == 7
    assert [len(ids) for ids in load_encoder(str(folder)).token_ids(["bread " * 9], "query")] == [7]


SETTINGS = [
    {"query_length": 4},
    {"document_length": 4},
    {"query_expansion": {"strategy": "fixed", "length": 8}},
    {"processing_kwargs": {"text": {"max_length": 4}}},
    {"tokenizer_args": {"model_max_length": 5}},
    {"config_args": {"hidden_act": "relu"}},
    {"model_kwargs": {"num_hidden_layers": 1}},
    {"transformer_task": "fill-mask"},
    {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}, "module_output_name": "token_embeddings"},
    {"modality_config": {"message": {}, "text": {}}, "module_output_name": "token_embeddings"},
    {"tokenizer_name_or_path": "another/model"},
    {"from_the_future": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: next(iter(value)))
def test_settings_that_change_vectors_are_refused(settings, folder):
    (folder / SETTINGS_NAMES[0]).write_text(json.dumps({"max_seq_length": 9, **settings}))
    with pytest.raises(BadInput, match=f"{next(iter(settings))} is not supported"):
        load_encoder(str(folder))


def test_settings_that_change_nothing_are_read(folder):
    before = load_encoder(str(folder)).fingerprint()
    harmless = {
        "max_seq_length": 16,
        "do_lower_case": False,
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "model_args": {"trust_remote_code": True, "attn_implementation": "sdpa", "torch_dtype": "float32"},
        "unpad_inputs": True,
        "query_length": None,
    }
    (folder / SETTINGS_NAMES[0]).write_text(json.dumps(harmless))
    assert load_encoder(str(folder)).fingerprint() == before


def test_a_kernel_is_downloaded_by_nobody(folder):
    (folder / SETTINGS_NAMES[0]).write_text(json.dumps({"model_args": {"attn_implementation": "someone/kernel"}}))
    with pytest.raises(BadInput, match="'someone/kernel' is code to be downloaded"):
        open_system(str(folder))


def test_a_pair_reader_of_another_task_is_refused(tmp_path):
    from families import make_cross

    make_cross("bert", "cls").save_pretrained(tmp_path / "cross")
    for task, is_read in (("sequence-classification", True), ("text-generation", False)):
        (tmp_path / "cross" / SETTINGS_NAMES[0]).write_text(json.dumps({"transformer_task": task}))
        if is_read:
            load_cross_encoder(str(tmp_path / "cross"))
        else:
            with pytest.raises(BadInput, match="transformer_task is not supported"):
                load_cross_encoder(str(tmp_path / "cross"))


@pytest.mark.parametrize("place", ["module_input_name", "module_output_name"])
def test_modules_beside_the_vector_are_refused(place, tmp_path):
    folder = make_folder(tmp_path / "model", "bert", head=[make_dense(16, 16), Normalize()])
    for module in ("2_Dense", "3_Normalize"):
        path = folder / module / "config.json"
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), place: "token_embeddings"}))
        with pytest.raises(BadInput, match=f"{place}: token_embeddings"):
            load_encoder(str(folder))
        path.write_text(before)


@pytest.mark.parametrize("activation", ["mine.GELU", "torch.tanh", None, "torch.nn.modules.activation.PReLU"])
def test_other_activations_are_refused(activation, folder):
    path = folder / "2_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "activation_function": activation}))
    with pytest.raises(BadInput, match="is not supported"):
        load_encoder(str(folder))


def test_a_router_runs_the_modules_behind_it(tmp_path):
    query, document = (make_folder(tmp_path / name, "bert", head=[], seed=seed) for seed, name in enumerate(("query", "document")))
    towers = Towers(load_encoder(str(query)), load_encoder(str(document)))
    towers.save_pretrained(tmp_path / "router")
    raw = {role: towers.encode(TEXTS, role) for role in ("query", "document")}
    modules = json.loads((tmp_path / "router" / "modules.json").read_text())
    entry = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
    (tmp_path / "router" / "modules.json").write_text(json.dumps([*modules, entry]))
    loaded = load_towers(str(tmp_path / "router"))
    for role, vectors in raw.items():
        torch.testing.assert_close(loaded.encode(TEXTS, role), unit(vectors))
    path = tmp_path / "router" / "router_config.json"
    router = json.loads(path.read_text())
    router["parameters"]["route_mappings"] = {"('query', None)": "document"}
    path.write_text(json.dumps(router))
    with pytest.raises(BadInput, match="route_mappings"):
        load_towers(str(tmp_path / "router"))


TOKENIZERS = {
    "padding_side": ({"padding_side": "left"}, "padding_side: left: this model counts positions from the padding on: set right"),
    "attention_mask": ({"model_input_names": ["input_ids"]}, "model_input_names: input_ids: padding would be read as text"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_let_padding_count_are_refused(name, folder):
    change, message = TOKENIZERS[name]
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadInput, match=message):
        load_encoder(str(folder))


def test_padding_on_the_left_is_no_fault_where_positions_do_not_count_it(tmp_path):
    folder = make_folder(tmp_path / "model", "xlm-roberta", head=[])
    before = load_encoder(str(folder)).encode(TEXTS, "query")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "left"}))
    torch.testing.assert_close(load_encoder(str(folder)).encode(TEXTS, "query"), before)


def test_types_of_a_single_texts_tokens_are_refused(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    for part in tokenizer["post_processor"]["single"]:
        next(iter(part.values()))["type_id"] = 1
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(BadInput, match="the types of a single text's tokens are not read here"):
        load_encoder(str(folder))
