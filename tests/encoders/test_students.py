import copy
import itertools
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, make_dense, make_encoder, make_folder
from plain_folders import USUAL
from torch import nn
from transformers import LongformerConfig, LongformerModel, MambaConfig, MambaModel

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.layer_cuts import choose_layers, cut_layers, turn_off_dropout
from distill.encoders.maker import Maker
from distill.encoders.modules import Dense, Normalize, Transformer
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, TeacherSpace
from distill.files.configs import from_config, to_config
from distill.files.progress import log
from distill.records import BadInput
from distill.training.run_folder import first_difference

TEXTS = ["what is the best river", "garden", " ".join(["small planet letter"] * 3)]
STACKS = {
    "bert": "encoder.layer",
    "xlm-roberta": "encoder.layer",
    "mpnet": "encoder.layer",
    "distilbert": "transformer.layer",
    "modernbert": "layers",
}


def make_space(folder, width: int = 16, normalized: bool = True) -> TeacherSpace:
    maker = Maker(str(folder), load_encoder(str(folder)).fingerprint())
    return TeacherSpace(maker, width, normalized)


def states_by_layer(backbone, tokens, keep: list[int]) -> torch.Tensor:
    """Last hidden states of the full model run without the layers that are not in `keep`, in place, by hand."""
    shortened = copy.deepcopy(backbone)
    owner = shortened.get_submodule(STACKS[backbone.config.model_type].rpartition(".")[0])
    stack = owner.get_submodule(STACKS[backbone.config.model_type].rpartition(".")[2])
    for index, layer in enumerate(stack):
        if index not in keep:
            layer.forward = make_identity(backbone.config.model_type)
    return shortened(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state


def make_identity(family: str):
    """A layer that does nothing; MPNet's and DistilBERT's return a tuple."""
    if family == "mpnet":
        return lambda hidden_states, *args, **kwargs: (hidden_states,)
    return lambda hidden_states, *args, **kwargs: hidden_states


@pytest.mark.parametrize("keep", [[0, 3], [0, 2, 3], [0], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_cut_runs_exactly_the_layers_named(family, keep):
    encoder = make_encoder(family)
    tokens = encoder.pad(encoder.token_ids(TEXTS, "query"))
    cut = cut_layers(encoder.backbone, keep)
    states = cut(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    torch.testing.assert_close(states, states_by_layer(encoder.backbone, tokens, keep), atol=1e-6, rtol=0)
    assert cut.config.num_hidden_layers == len(cut.get_submodule(STACKS[family])) == len(keep)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "modernbert"])
@torch.inference_mode()
def test_the_first_layer_may_go(family):
    encoder = make_encoder(family)
    tokens = encoder.pad(encoder.token_ids(TEXTS, "query"))
    states = cut_layers(encoder.backbone, [1, 3])(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    torch.testing.assert_close(states, states_by_layer(encoder.backbone, tokens, [1, 3]), atol=1e-6, rtol=0)


def test_the_first_layer_of_modernbert_must_stay():
    """It is built without a norm of its own."""
    with pytest.raises(BadInput, match=r"layers: \[1, 3\]: modernbert cannot be cut so: .*layers\.0\.attn_norm\.weight"):
        cut_layers(make_encoder("modernbert").backbone, [1, 3])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_reloads_identically(family, tmp_path):
    encoder = make_encoder(family)
    cut = Transformer(cut_layers(encoder.backbone, [0, 3]))
    student = Encoder([cut, encoder.pooling, *encoder.head], encoder.tokenizer, encoder.settings)
    student.save_pretrained(tmp_path / "student")
    loaded = load_encoder(str(tmp_path / "student"))
    assert torch.equal(loaded.encode(TEXTS, "query"), student.encode(TEXTS, "query"))
    assert loaded.fingerprint() == student.fingerprint()
    assert loaded.parameter_count() < encoder.parameter_count()


def test_training_the_cut_leaves_the_teacher_as_it_was():
    encoder = make_encoder("bert")
    before = encoder.fingerprint()
    cut = cut_layers(encoder.backbone, [0, 3])
    with torch.no_grad():
        for parameter in cut.parameters():
            parameter.add_(1.0)
    assert encoder.fingerprint() == before
    assert encoder.backbone.config.num_hidden_layers == 4
    assert encoder.backbone.config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize("layers", [[], [0, 0], [0, 4], [-1], [3, 3, 1]], ids=str)
def test_layers_that_do_not_exist_or_repeat_are_refused(layers):
    with pytest.raises(BadInput, match="name each layer to keep once, from 0 to 3"):
        cut_layers(make_encoder("bert").backbone, layers)


def test_a_model_without_layers_is_refused():
    backbone = make_encoder("bert").backbone
    backbone.encoder.layer = nn.Sequential(*backbone.encoder.layer)
    with pytest.raises(BadInput, match="bert: this architecture has no stack of 4 layers to cut"):
        cut_layers(backbone, [0])


def test_settings_of_layers_are_cut_with_them():
    backbone = LongformerModel(LongformerConfig(**USUAL | {"num_hidden_layers": 3}, attention_window=[4, 8, 16]), add_pooling_layer=False)
    assert cut_layers(backbone, [0, 2]).config.attention_window == [4, 16]
    backbone = MambaModel(MambaConfig(hidden_size=16, num_hidden_layers=3, state_size=4))  # computes layer_types from their number
    assert len(cut_layers(backbone, [0, 2]).layers) == 2


def test_an_architecture_that_cannot_be_built_so_is_refused_in_one_line():
    backbone = LongformerModel(LongformerConfig(**USUAL | {"num_hidden_layers": 3}, attention_window=[4, 8, 16]), add_pooling_layer=False)
    backbone.config.attention_window = [4, 8]
    with pytest.raises(BadInput, match=r"longformer cannot be cut so: .*: keep more layers, or begin from StudentFromBackbone") as error:
        cut_layers(backbone, [0, 2])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_in_training(family):
    encoder = make_encoder(family)
    tokens = encoder.pad(encoder.token_ids(TEXTS, "query"))
    for backbone in (cut_layers(encoder.backbone, [0, 3]), turn_off_dropout(encoder.backbone)):
        student = Encoder([Transformer(backbone), encoder.pooling], encoder.tokenizer, encoder.settings).train()
        calm = student.eval()(tokens)
        assert torch.equal(student.train()(tokens), calm)


# as configured


def test_a_student_from_the_teacher_keeps_its_head_and_settings(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert", head=[make_dense(16, 8), Normalize()], prompts={"query": "find ", "document": ""})
    student = StudentFromTeacher(layers=[0, 3]).build(make_space(folder, width=8))
    teacher = load_encoder(str(folder))
    assert student.settings == teacher.settings
    assert student.width == 8
    assert torch.equal(student.head[0].weight, teacher.head[0].weight)
    everything = StudentFromTeacher(layers=[0, 1, 2, 3]).build(make_space(folder, width=8))
    torch.testing.assert_close(everything.encode(TEXTS, "query"), teacher.encode(TEXTS, "query"), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("count", "depth", "expected"),
    [
        (1, 1, [0]),
        (1, 12, [11]),
        (2, 2, [0, 1]),
        (2, 6, [0, 5]),
        (2, 12, [0, 11]),
        (3, 6, [0, 2, 5]),
        (3, 12, [0, 5, 11]),
        (4, 12, [0, 4, 7, 11]),
        (6, 12, [0, 2, 4, 7, 9, 11]),
        (3, 4, [0, 1, 3]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_number_of_layers_is_spread_evenly_over_the_teacher(count, depth, expected):
    assert choose_layers(count, depth) == expected


def test_every_number_of_layers_gives_as_many_different_ones():
    for depth in range(1, 49):
        for count in range(2, depth + 1):
            layers = choose_layers(count, depth)
            gaps = [after - before for before, after in itertools.pairwise(layers)]
            assert (layers[0], layers[-1], len(layers)) == (0, depth - 1, count)
            assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


def test_a_student_of_so_many_layers_is_the_one_with_these_listed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)  # a verb of the command line may have run in this process
    space = make_space(make_folder(tmp_path / "teacher", "bert"))
    for count, layers in ((1, [3]), (2, [0, 3]), (3, [0, 1, 3])):
        assert StudentFromTeacher(count).build(space).fingerprint() == StudentFromTeacher(layers).build(space).fingerprint()
    assert StudentFromTeacher() == StudentFromTeacher(2)
    assert caplog.messages == []


@pytest.mark.parametrize("count", [0, -1, 5])
def test_more_layers_than_the_teacher_has_are_refused(tmp_path, count):
    space = make_space(make_folder(tmp_path / "teacher", "bert"))
    with pytest.raises(BadInput, match=f"^layers: {count}: the model has 4: keep from 1 to 4 of them$"):
        StudentFromTeacher(count).build(space)


def test_a_list_without_the_last_layer_is_warned_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)
    space = make_space(make_folder(tmp_path / "teacher", "bert"))
    assert StudentFromTeacher([0, 2]).build(space).backbone.config.num_hidden_layers == 2
    (message,) = set(caplog.messages)
    assert message.startswith("layers: [0, 2]: leaves out the last layer, 3, ")


def test_another_teacher_of_another_width_is_refused(tmp_path):
    narrow = make_folder(tmp_path / "narrow", "bert")
    with pytest.raises(BadInput, match="16 wide, the teacher's vectors are 24"):
        StudentFromTeacher(layers=[0], teacher=str(narrow)).build(make_space(narrow, width=24))


def test_a_teacher_that_changed_since_it_made_the_store_is_refused(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert")
    before = make_space(folder)
    make_folder(folder, "bert", seed=5)
    with pytest.raises(BadInput, match="not the model that made the store"):
        StudentFromTeacher(layers=[0]).build(before)


def test_widths_that_differ_ask_for_a_projection(tmp_path):
    teacher, student = make_folder(tmp_path / "teacher", "bert", width=32), make_folder(tmp_path / "student", "distilbert")
    with pytest.raises(BadInput, match=r"^teacher vectors are 32 wide, student is 16: set projection: linear$"):
        StudentFromBackbone(str(student)).build(make_space(teacher, width=32))


@pytest.mark.parametrize("normalized", [True, False])
def test_a_linear_projection_travels_in_the_folder(normalized, tmp_path):
    teacher, folder = make_folder(tmp_path / "teacher", "bert", width=32), make_folder(tmp_path / "backbone", "mpnet")
    student = StudentFromBackbone(str(folder), projection="linear").build(make_space(teacher, 32, normalized))
    assert [type(layer) for layer in student.head] == [Dense, Normalize][: 1 + normalized]
    vectors = student.encode(TEXTS, "query")
    pooled = make_encoder("mpnet", head=[]).encode(TEXTS, "query")
    expected = pooled @ student.head[0].weight.detach().T
    torch.testing.assert_close(vectors, expected / expected.norm(dim=1, keepdim=True) if normalized else expected)
    student.save_pretrained(tmp_path / "student")
    loaded = load_encoder(str(tmp_path / "student"))
    assert torch.equal(loaded.encode(TEXTS, "query"), vectors)
    assert loaded.width == 32


def test_the_backbones_own_normalisation_gives_way_to_the_teachers(tmp_path):
    folder = make_folder(tmp_path / "backbone", "bert")
    assert [type(layer) for layer in StudentFromBackbone(str(folder)).build(make_space(folder)).head] == [Normalize]
    assert list(StudentFromBackbone(str(folder)).build(make_space(folder, normalized=False)).head) == []


def test_a_plain_backbone_takes_its_pooling_from_the_spec(tmp_path):
    folder = make_folder(tmp_path / "backbone", "bert")
    teacher = make_space(folder)
    (folder / "modules.json").unlink()
    student = StudentFromBackbone(str(folder), pooling="cls").build(teacher)
    assert student.pooling.mode == "cls"
    with pytest.raises(BadInput, match="set pooling"):
        StudentFromBackbone(str(folder)).build(teacher)


def test_a_spec_is_made_by_position_and_described_for_a_configuration():
    described = to_config(StudentFromTeacher([0, 3], max_length=8))
    init_args = {"layers": [0, 3], "teacher": None, "max_length": 8, "vocabulary": None, "table_width": None}
    assert described == {"class_path": "distill.encoders.students.StudentFromTeacher", "init_args": init_args}
    assert from_config(described) == StudentFromTeacher([0, 3], None, 8)
    backbone = StudentFromBackbone("acme/small", "linear")
    assert from_config(to_config(backbone)) == backbone != StudentFromBackbone("acme/small")


def test_a_student_reads_texts_of_the_length_that_is_set(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert")
    assert StudentFromTeacher([0, 3], max_length=8).make_student(make_space(folder)).settings.max_length == 8
    assert StudentFromTeacher([0, 3]).make_student(make_space(folder)).settings.max_length == 16
    with pytest.raises(BadInput, match="max_length: 17: must be from 3 to 16"):
        StudentFromTeacher([0, 3], max_length=17).make_student(make_space(folder))


def test_a_teacher_that_is_named_cuts_texts_where_the_maker_of_the_store_did(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert")
    space = make_space(folder)
    shorter = replace(space, maker=replace(space.maker, max_length=9))
    lengths = [StudentFromTeacher([0, 3], teacher=str(folder)).make_student(given).settings.max_length for given in (space, shorter)]
    assert lengths == [16, 9]


SHORT, LONG = "find ", "find the small planet letter of the river "  # one token and nine


@pytest.mark.parametrize(
    ("own", "prompt", "read"),
    [
        (SHORT, None, SHORT),
        (LONG, None, ""),
        (LONG, "teacher", LONG),
        (LONG, "none", ""),
        (SHORT, "none", ""),
        (LONG, "letter ", "letter "),
        ("", None, ""),
        ("", "teacher", ""),
    ],
)
def test_a_student_reads_no_long_instruction_unasked(tmp_path, caplog, own, prompt, read):
    caplog.set_level("INFO", logger="distill")
    folder = make_folder(tmp_path / "teacher", "bert", prompts={"query": own, "document": "text "})
    student = StudentFromTeacher([0, 3]).make_student(make_space(folder), prompt)
    assert student.settings.prompts == {"query": read, "document": "text "}
    assert ("without the 9 tokens" in caplog.text) == (own == LONG and prompt is None)
    student.save_pretrained(tmp_path / "student")
    again = load_encoder(str(tmp_path / "student"))
    bare = Encoder([again.transformer, again.pooling, *again.head], again.tokenizer, replace(again.settings, prompts={}))
    torch.testing.assert_close(again.encode(TEXTS, "query"), bare.encode([read + text for text in TEXTS], "query"))


def test_a_backbone_reads_the_teachers_prompt_where_that_is_asked_for(tmp_path):
    teacher = make_space(make_folder(tmp_path / "teacher", "bert", prompts={"query": LONG, "document": ""}))
    backbone = make_folder(tmp_path / "backbone", "mpnet", prompts={"query": SHORT, "document": ""})
    prompts = {prompt: StudentFromBackbone(str(backbone)).make_student(teacher, prompt).settings.prompts for prompt in (None, "teacher")}
    assert {prompt: read["query"] for prompt, read in prompts.items()} == {None: SHORT, "teacher": LONG}


def test_layers_of_a_backbone_are_kept_too(tmp_path):
    """A student that is cut out of another model than the teacher: its layers, with a projection."""
    teacher = make_space(make_folder(tmp_path / "teacher", "bert"))
    folder = make_folder(tmp_path / "backbone", "mpnet", width=8, seed=3)
    whole = load_encoder(str(folder)).backbone.state_dict()
    for layers, kept in (([1, 3], [1, 3]), (2, [0, 3]), (None, [0, 1, 2, 3])):
        student = StudentFromBackbone(str(folder), "linear", keep_layers=layers).make_student(teacher)
        assert student.encode(TEXTS, "query").shape == (len(TEXTS), 16)
        for new, old in enumerate(kept):
            name = "encoder.layer.{}.attention.attn.q.weight"
            assert torch.equal(student.backbone.state_dict()[name.format(new)], whole[name.format(old)])
        assert student.backbone.config.num_hidden_layers == len(kept)
    with pytest.raises(BadInput, match=r"layers: 'all': give how many layers to keep"):
        StudentFromBackbone(str(folder), "linear", keep_layers="all")
    with pytest.raises(BadInput, match=r"layers: 5: the model has 4: keep from 1 to 4 of them"):
        StudentFromBackbone(str(folder), "linear", keep_layers=5).make_student(teacher)


def test_a_prompt_that_was_dropped_unasked_is_told(tmp_path):
    """A run of a release whose students read it must not go on without it."""
    folder = make_folder(tmp_path / "teacher", "bert", prompts={"query": LONG, "document": ""})
    dropped = {}
    for prompt in (None, "none", "teacher"):
        spec = StudentFromTeacher([0, 3])
        spec.make_student(make_space(folder), prompt)
        dropped[prompt] = spec.dropped_prompt
    assert dropped == {None: LONG, "none": "", "teacher": ""}
    assert first_difference({"vectors": {}}, {"vectors": {}, "dropped_prompt": {"query": LONG}}) is not None
    assert first_difference({"model": {}}, {"model": {"student_prompt": "teacher"}}) is None


def test_a_prompt_that_nobody_said_is_asked_for(tmp_path):
    backbone = StudentFromBackbone(str(make_folder(tmp_path / "backbone", "mpnet")))
    for origin in ("import", "function"):
        with pytest.raises(BadInput, match="nobody said which prompt mine reads: give its text"):
            backbone.make_student(TeacherSpace(Maker("mine", "1f", origin), 16, True), "teacher")


def test_a_backbone_may_read_longer_texts_than_its_folder_says(tmp_path):
    folder = make_folder(tmp_path / "backbone", "bert", max_length=8)
    space = TeacherSpace(Maker("mine", "1f", "import"), 16, True)
    assert StudentFromBackbone(str(folder), max_length=12).make_student(space).settings.max_length == 12
    assert StudentFromBackbone(str(folder)).make_student(space).settings.max_length == 8


def test_a_prompt_of_a_teacher_that_is_not_here(tmp_path):
    backbone = make_folder(tmp_path / "backbone", "mpnet")
    space = TeacherSpace(Maker("ada at http://a/v1", "1f", "server", prompts={"query": "query: "}), 16, True)
    assert StudentFromBackbone(str(backbone)).make_student(space, "teacher").settings.prompts["query"] == "query: "
