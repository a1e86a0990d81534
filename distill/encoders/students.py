"""Students to train: a cut of the teacher's own layers, or any backbone."""

# no annotations from __future__: the command line reads the types of these dataclasses, which it cannot once they are texts
import copy
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from distill.encoders.encoder import Encoder
from distill.encoders.folder import has_module_list, load_encoder
from distill.encoders.hub import local_folder
from distill.encoders.maker import Maker
from distill.encoders.modules import Dense, FirstModule, Normalize, Transformer
from distill.encoders.pooling import Pooling, PoolingMode
from distill.encoders.towers import load_maker
from distill.encoders.transformer_folder import first_line, new_backbone
from distill.files.configs import Configurable
from distill.files.progress import log
from distill.records import BadInput, one_line

Projection = Literal["none", "linear"]
# from a student to the token ids [L] of each of N training queries, as it cuts them, and the teacher's vectors [N, D] of these queries
ReadTargets = Callable[[Encoder], tuple[Sequence[np.ndarray], np.ndarray]]
OTHER_START = "begin from StudentFromBackbone (shrink: --backbone)"
LONGEST_PROMPT = 5  # tokens before a query that a student keeps unasked
PER_LAYER = ("layer_types", "attention_window")  # settings that may list a value for each layer
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout_rate",  # T5
    "embd_pdrop",  # GPT-2
    "attn_pdrop",
    "resid_pdrop",
)


@dataclass(frozen=True)
class TeacherSpace:
    """The embedding space a student has to write into."""

    maker: Maker  # the model that wrote the store
    width: int
    normalized: bool


class StudentSpec(Configurable):
    """How to make the student; one subclass for each way, which defines `build`."""

    max_length: int | None = None  # tokens of a text; None keeps the limit of the model that the student is made from
    dropped_prompt = ""  # of the model that the last student was made from, where that does not read it unasked

    def make_student(self, teacher: TeacherSpace, prompt: str | None = None, *, read_targets: ReadTargets | None = None) -> Encoder:
        """A new student for the teacher's space, which cuts texts to `max_length`.

        Args:
            teacher: the space to write into.
            prompt: what the student reads before each query, as `choose_prompt` has it.
            read_targets: reads what `fit_start` fits the student to; None leaves it as `build` makes it.
        """
        student = self.build(teacher).limit_length(self.max_length)
        own, chosen = student.settings.prompts.get("query") or "", choose_prompt(prompt, student, teacher.maker)
        self.dropped_prompt = own if prompt is None and chosen != own else ""
        student.set_query_prompt(chosen)
        if read_targets is not None:
            self.fit_start(student, read_targets)
        return student

    def fit_start(self, student: Encoder, read_targets: ReadTargets) -> None:
        """Fits a new student to the teacher's vectors of training queries before the first step; by default it does nothing."""

    def build(self, teacher: TeacherSpace) -> Encoder:
        """A new student whose vectors are as wide as the teacher's."""
        raise NotImplementedError


@dataclass
class StudentFromTeacher(StudentSpec):
    """A student cut out of the teacher's own transformer.

    Args:
        layers: how many of the teacher's layers to keep, the first and the last among them; or their numbers, counted from 0, e.g.
            [0, 5]. Keep the last one: the head was trained on it.
        teacher: folder or hub name to cut; by default the model that made the store.
        max_length: tokens of a text, special tokens included; by default as many as the teacher reads.

    >>> StudentFromTeacher([0, 5], max_length=64).init_args
    {'layers': [0, 5], 'teacher': None, 'max_length': 64}
    """

    layers: int | list[int] = 2
    teacher: str | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        check_layers(self.layers)

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = load_encoder(self.teacher) if self.teacher else load_maker(teacher.maker).query
        if encoder.width != teacher.width:
            raise BadInput(f"{self.teacher}: {encoder.width} wide, the teacher's vectors are {teacher.width}: cut the store's maker")
        if encoder.runs_remote_code:
            raise BadInput(f"{teacher.maker.name}: runs Python code of its folder, a student does not: {OTHER_START}")
        cut = Transformer(keep_layers(encoder.backbone, self.layers).float())  # trained in fp32, whatever the teacher's weights are in
        pooling = Pooling(*encoder.pooling.modes)  # of all tokens: a student learns to do without its teacher's prompt
        return Encoder([cut, pooling, *encoder.head], encoder.tokenizer, encoder.settings)


@dataclass
class StudentFromBackbone(StudentSpec):
    """Any encoder by folder or hub name as the student.

    Args:
        name: folder or hub name.
        projection: linear adds a trained layer from the student's width to the teacher's; it is saved with the student.
        pooling: cls, mean or another mode of a `Pooling`; only for a plain transformers folder, a sentence-transformers folder holds it.
        max_length: tokens of a text, special tokens included; by default as many as the folder sets.
        keep_layers: how many of its layers to keep, or their numbers, as `layers` of `StudentFromTeacher`; all by default.
    """

    name: str
    projection: Projection = "none"
    pooling: PoolingMode | None = None
    max_length: int | None = None
    keep_layers: int | list[int] | None = None

    def __post_init__(self) -> None:
        if self.keep_layers is not None:
            check_layers(self.keep_layers)

    def build(self, teacher: TeacherSpace) -> Encoder:
        if not self.pooling and not has_module_list(local_folder(self.name)):
            raise BadInput(f"model.student: {self.name} is a plain transformers folder: set pooling, e.g. to cls or mean")
        # whether the student normalises follows from the teacher's vectors, below
        encoder = load_encoder(self.name, self.pooling, None if self.pooling is None else False)
        if encoder.width != teacher.width and self.projection == "none":
            raise BadInput(f"teacher vectors are {teacher.width} wide, student is {encoder.width}: set projection: linear")
        head = [module for module in encoder.head if not isinstance(module, Normalize)]
        if self.projection == "linear":
            head.append(Dense(encoder.width, teacher.width, bias=False))
        if teacher.normalized:
            head.append(Normalize())
        first: FirstModule = encoder.transformer
        if self.keep_layers is not None:
            first = Transformer(keep_layers(encoder.backbone, self.keep_layers))
        elif first.has_layers:
            turn_off_dropout(encoder.backbone)
        return Encoder([first, Pooling(*encoder.pooling.modes), *head], encoder.tokenizer, encoder.settings)


def choose_prompt(prompt: str | None, student: Encoder, maker: Maker) -> str:
    """Chooses what a student reads before each query.

    Args:
        prompt: `teacher` for the prompt of the teacher's queries, `none`, or any other text; None keeps the prompt of the model that the
            student is made from, but no instruction of more than five tokens, which would cost time with every query.
        student: has the prompts of the model that it is made from.
        maker: the teacher.
    """
    own = student.settings.prompts.get("query") or ""
    if prompt == "teacher":
        prompts = load_maker(maker).query.settings.prompts if maker.is_loadable else maker.prompts or {}
        return prompts.get("query") or ""
    if prompt is not None:
        return "" if prompt == "none" else prompt
    tokens = student.tokenizer(own, add_special_tokens=False)["input_ids"] if own else []
    if len(tokens) <= LONGEST_PROMPT:
        return own
    fix = "model.student_prompt: teacher keeps them"
    log.info(f"the student reads queries without the {len(tokens)} tokens {own!r:.60} before them: {fix}")
    return ""


def check_layers(layers: Any) -> None:
    """Refuses what is neither a number of layers nor a list of them."""
    if isinstance(layers, bool) or not isinstance(layers, int | list | tuple):
        raise BadInput(f"layers: {layers!r}: give how many layers to keep, e.g. 2, or list them, counted from 0, e.g. [0, 5]")


def keep_layers(backbone: PreTrainedModel, layers: int | list[int]) -> PreTrainedModel:
    """A copy of a transformer with so many of its layers, as `choose_layers` has them, or with those that are listed."""
    depth = backbone.config.num_hidden_layers
    if isinstance(layers, int):
        return cut_layers(backbone, choose_layers(layers, depth))
    if layers and depth - 1 not in layers:
        reason = f"leaves out the last layer, {depth - 1}, which the modules behind it were trained on: a student that keeps it is better"
        log.warning(f"layers: {layers}: {reason}")
    return cut_layers(backbone, list(layers))


def choose_layers(count: int, depth: int) -> list[int]:
    """Chooses `count` of `depth` layers, evenly spaced, the first and the last among them; a single one is the last.

    Raises BadInput where the model has not so many.

    >>> choose_layers(2, depth=12), choose_layers(3, depth=6), choose_layers(1, depth=6)
    ([0, 11], [0, 2, 5], [5])
    """
    if not 1 <= count <= depth:
        raise BadInput(f"layers: {count}: the model has {depth}: keep from 1 to {depth} of them")
    if count == 1:
        return [depth - 1]
    places = [number * (depth - 1) / (count - 1) for number in range(count)]
    return [math.ceil(place - 0.5) for place in places]  # a half is rounded down


def cut_layers(backbone: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A copy of a transformer with some of its layers.

    Args:
        layers: the numbers of those to keep, from 0, in the order they will run.

    Raises BadInput where there is no such layer, and where the architecture cannot be cut there.
    """
    count = backbone.config.num_hidden_layers
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer < count for layer in layers):
        raise BadInput(f"layers: {layers}: name each layer to keep once, from 0 to {count - 1}")
    state = cut_state(backbone.state_dict(), find_layer_path(backbone, count), layers)
    try:
        student = new_backbone(cut_config(backbone.config, layers))
        student.load_state_dict(state)
    except MemoryError:
        raise
    except Exception as error:  # of any kind, where an architecture has more settings of its layers
        lines = str(error).splitlines()
        has_heading = isinstance(error, RuntimeError) and len(lines) > 1
        reason = f"{backbone.config.model_type} cannot be cut so: {one_line(lines[1]) if has_heading else first_line(error)}"
        raise BadInput(f"layers: {layers}: {reason}: keep more layers, or {OTHER_START}") from None
    return student.eval()


def cut_config(config: PretrainedConfig, layers: list[int]) -> PretrainedConfig:
    """The config of a transformer with some of its layers, without dropout."""
    cut = copy.deepcopy(config)
    cut.num_hidden_layers = len(layers)
    for name in PER_LAYER:
        values = getattr(config, name, None)
        kept = [values[layer] for layer in layers] if isinstance(values, list) else values
        if getattr(cut, name, None) != kept:  # some configs compute theirs from the number of layers
            setattr(cut, name, kept)
    set_dropout_to_zero(cut)
    return cut


def cut_state(state: dict[str, Tensor], path: str, layers: list[int]) -> dict[str, Tensor]:
    """Removes all layers below `path` but those in `layers` from a state dict, and renumbers these.

    >>> cut_state({"words": 1, "layer.0.weight": 2, "layer.1.weight": 3}, "layer", [1])
    {'words': 1, 'layer.0.weight': 3}
    """
    new_number = {str(layer): new for new, layer in enumerate(layers)}
    cut = {}
    for name, tensor in state.items():
        match = re.fullmatch(rf"{re.escape(path)}\.(\d+)\.(.*)", name)
        if match is None:
            cut[name] = tensor
        elif match[1] in new_number:
            cut[f"{path}.{new_number[match[1]]}.{match[2]}"] = tensor
    return cut


def find_layer_path(backbone: PreTrainedModel, count: int) -> str:
    """Where in a model its stack of `count` layers is, e.g. `encoder.layer`."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name
    raise BadInput(f"{backbone.config.model_type}: this architecture has no stack of {count} layers to cut: {OTHER_START}")


def turn_off_dropout(backbone: PreTrainedModel) -> PreTrainedModel:
    """Sets a model's dropout to 0: matching is regression onto fixed vectors, to which dropout only adds noise."""
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    set_dropout_to_zero(backbone.config)
    return backbone


def set_dropout_to_zero(config: PretrainedConfig) -> None:
    """Turns off dropout in every model that is made from `config`."""
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
