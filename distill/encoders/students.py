"""Students to train: a cut of the teacher's own layers, or any backbone."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from transformers import AutoModel, PreTrainedModel

from distill.encoders.encoder import Dense, Encoder, Normalize
from distill.encoders.folder import build_options, load_encoder, local_folder
from distill.encoders.maker import Maker
from distill.encoders.pooling import Pooling
from distill.encoders.towers import load_maker
from distill.records import BadInput

Projection = Literal["none", "linear"]
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embedding_dropout", "mlp_dropout")


@dataclass(frozen=True)
class TeacherSpace:
    """The embedding space a student has to write into."""

    maker: Maker  # the model that wrote the store
    width: int
    normalized: bool


class StudentSpec:
    """How to make the student; one subclass for each way."""

    max_length: int | None = None  # tokens of a text; None is what the model reads that the student is made from

    def student(self, teacher: TeacherSpace) -> Encoder:
        """A new student for the teacher's space, which reads texts of `max_length`."""
        return self.build(teacher).limit_length(self.max_length)

    def build(self, teacher: TeacherSpace) -> Encoder:
        """A new student whose vectors are as wide as the teacher's."""
        raise NotImplementedError


@dataclass
class StudentFromTeacher(StudentSpec):
    """A student cut out of the teacher's own transformer.

    Args:
        layers: which of the teacher's layers to keep, counted from 0, e.g. [0, 5]. Keep the last one: the head was trained on it.
        teacher: folder or hub name to cut; by default the model that made the store.
        max_length: tokens of a text, special tokens included; by default as many as the teacher reads.
    """

    layers: list[int] = field(default_factory=list)
    teacher: str | None = None
    max_length: int | None = None

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = load_encoder(self.teacher) if self.teacher else load_maker(teacher.maker).query
        if encoder.width != teacher.width:
            raise BadInput(f"{self.teacher}: {encoder.width} wide, the teacher's vectors are {teacher.width}: cut the store's maker")
        return Encoder(cut_layers(encoder.backbone, self.layers), encoder.tokenizer, encoder.settings, list(encoder.head))


@dataclass
class StudentFromBackbone(StudentSpec):
    """Any encoder by folder or hub name as the student.

    Args:
        name: folder or hub name.
        projection: linear adds a trained layer from the student's width to the teacher's; it is saved with the student.
        pooling: cls or mean; only for a plain transformers folder, a sentence-transformers folder says it itself.
        max_length: tokens of a text, special tokens included; by default as many as the folder says.
    """

    name: str
    projection: Projection = "none"
    pooling: Pooling | None = None
    max_length: int | None = None

    def build(self, teacher: TeacherSpace) -> Encoder:
        if not self.pooling and not (local_folder(self.name) / "modules.json").exists():
            raise BadInput(f"model.student: {self.name} is a plain transformers folder: set pooling to cls or mean")
        # whether the student normalises follows from the teacher's vectors, below
        encoder = load_encoder(self.name, self.pooling, None if self.pooling is None else False)
        if encoder.width != teacher.width and self.projection == "none":
            raise BadInput(f"teacher vectors are {teacher.width} wide, student is {encoder.width}: set projection: linear")
        head = [layer for layer in encoder.head if not isinstance(layer, Normalize)]
        if self.projection == "linear":
            head.append(Dense(encoder.width, teacher.width, bias=False))
        if teacher.normalized:
            head.append(Normalize())
        return Encoder(without_dropout(encoder.backbone), encoder.tokenizer, encoder.settings, head)


def cut_layers(backbone: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A copy of `backbone` that keeps only `layers`, in the order given; everything else is shared weights, copied."""
    count = backbone.config.num_hidden_layers
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer < count for layer in layers):
        raise BadInput(f"layers: {layers}: name each layer to keep once, from 0 to {count - 1}")
    path = _layer_path(backbone, count)
    config = copy.deepcopy(backbone.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in layers]
    student = AutoModel.from_config(_no_dropout(config), **build_options(config))
    position = {str(layer): str(new) for new, layer in enumerate(layers)}
    state = {}
    for name, tensor in backbone.state_dict().items():
        match = re.match(rf"({re.escape(path)}\.)(\d+)(\..*)", name)
        if match and match[2] in position:
            state[match[1] + position[match[2]] + match[3]] = tensor
        elif not match:
            state[name] = tensor
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"layers: {layers}: {backbone.config.model_type} cannot be cut so: {str(error).splitlines()[1].strip()}") from None
    return student.eval()


def without_dropout(backbone: PreTrainedModel) -> PreTrainedModel:
    """Matching is regression onto fixed vectors: dropout only adds noise to it."""
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    _no_dropout(backbone.config)
    return backbone


def _no_dropout(config):
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def _layer_path(backbone: PreTrainedModel, count: int) -> str:
    """Where the stack of layers sits, e.g. `encoder.layer`."""
    stacks = [name for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if not stacks:
        raise BadInput(f"{backbone.config.model_type}: this architecture has no stack of {count} layers to cut")
    return stacks[0]
