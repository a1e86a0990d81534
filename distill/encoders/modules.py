"""Modules of an encoder: those that change the vector of a text after pooling, and which may follow which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.encoders.pooling import Pooling
from distill.encoders.token_table import TokenTable
from distill.encoders.transformer import Transformer
from distill.files.configs import Configurable, to_config
from distill.records import BadInput, UnknownKind

SENTENCE_TRANSFORMERS = "sentence_transformers.models"  # the module path that every release of sentence-transformers understands
VECTOR = "sentence_embedding"  # what sentence-transformers calls the vector of a text
# of torch.nn, each taking numbers one by one and without weights of its own
ACTIVATIONS = (
    *("Identity", "Tanh", "ReLU", "GELU", "CELU", "ELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid"),
    *("Mish", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanhshrink"),
)

FirstModule = Transformer | TokenTable  # from tokens to states


class EncoderModule(Configurable, nn.Module):
    """A module that changes the vectors of texts; subclass it to add one of your own to an encoder.

    It is trained, resumed, saved and exported with the encoder. The folder holds the name of its class, the arguments that it was made
    with, which must be JSON, and its weights. Loading that folder needs the class: import the package that defines it before.

    >>> class Scale(EncoderModule):
    ...     def __init__(self, width: int):
    ...         super().__init__()
    ...         self.factors = nn.Parameter(torch.ones(width))
    ...
    ...     def forward(self, vectors: Tensor) -> Tensor:
    ...         return vectors * self.factors
    >>> Scale(width=2).config()
    {'width': 2}
    """

    classes: ClassVar[dict[str, type[EncoderModule]]] = {}  # by the type that modules.json holds
    type_name: ClassVar[str]

    def __init_subclass__(cls, registered: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not registered:
            return
        if "type_name" not in vars(cls):
            cls.type_name = f"{cls.__module__}.{cls.__qualname__}"
        EncoderModule.classes[cls.type_name] = cls

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [B, D] to vectors [B, output_width(D)]."""
        raise NotImplementedError

    def output_width(self, width: int) -> int:
        """Dimensions of its vectors where those before it have `width`; override it where they differ.

        Raises BadInput where it cannot take vectors of that width.
        """
        return width

    def config(self) -> dict[str, Any]:
        """What config.json holds of it."""
        return to_config(self.init_args)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A module as `config` describes it, its weights still to be loaded."""
        return cls(**config)

    def name_in_file(self, name: str) -> str:
        """What its weight `name` is called in its file; override it where sentence-transformers expects another name."""
        return name


class Dense(nn.Linear, EncoderModule):
    """A linear layer and an activation after it.

    Args:
        in_features: dimensions of the vectors it takes.
        out_features: dimensions of the vectors it returns.
        bias: whether it adds a trained constant.
        activation: name of an activation of torch.nn, e.g. Identity, Tanh or GELU.
        residual: whether the vectors it takes are added to what it makes of them, through a linear layer where they differ in width.
    """

    type_name = f"{SENTENCE_TRANSFORMERS}.Dense"
    residual: nn.Module | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, activation: str = "Identity", residual: bool = False):
        if activation not in ACTIVATIONS:
            raise UnknownKind(f"activation {activation!r} is not supported: {', '.join(ACTIVATIONS[:-1])} or {ACTIVATIONS[-1]}")
        super().__init__(in_features, out_features, bias)
        self.activation = getattr(nn, activation)()
        self.residual = None
        if residual:
            self.residual = nn.Identity() if in_features == out_features else nn.Linear(in_features, out_features, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        changed = self.activation(super().forward(vectors))
        return changed if self.residual is None else changed + self.residual(vectors)

    def output_width(self, width: int) -> int:
        refuse_other_width(self, width, self.in_features)
        return self.out_features

    def config(self) -> dict[str, Any]:
        activation = type(self.activation)
        settings = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "activation_function": f"{activation.__module__}.{activation.__name__}",
        }
        return settings if self.residual is None else settings | {"use_residual": True}  # a key that old releases do not know

    def name_in_file(self, name: str) -> str:
        return name if name.startswith("residual.") else f"linear.{name}"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        refuse_other_places(config, "a dense layer")
        activation = config.get("activation_function", "torch.nn.Tanh")  # the default of sentence-transformers
        if not str(activation).startswith("torch.nn."):
            raise UnknownKind(f"activation_function: {activation!r} is not supported: of torch.nn only {', '.join(ACTIVATIONS)}")
        bias, residual = bool(config.get("bias", True)), bool(config.get("use_residual"))
        return cls(config["in_features"], config["out_features"], bias, activation.rsplit(".", 1)[-1], residual)


class Truncate(Dense, registered=False):
    """Keeps the first numbers of each vector, for models that were trained to be cut (Matryoshka).

    It is written as the Dense layer that does the same, which every release of sentence-transformers reads.

    Args:
        in_features: dimensions of the vectors it takes.
        out_features: how many of them are kept.

    >>> Truncate(3, 2)(torch.tensor([[3.0, 4.0, 5.0]])).tolist()
    [[3.0, 4.0]]
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)
        nn.init.eye_(self.weight).requires_grad_(False)

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.out_features]  # exact in every number format, as a product is not

    def _get_name(self) -> str:
        return "Dense"  # fingerprints contain it: releases that knew no cuts read the same layer as a Dense

    @staticmethod
    def from_dense(layer: Dense) -> Dense:
        """The same layer, as a Truncate where it does nothing but keep the first numbers."""
        does_more = layer.bias is not None or layer.residual is not None or not isinstance(layer.activation, nn.Identity)
        if does_more or layer.out_features >= layer.in_features:
            return layer
        cut = Truncate(layer.in_features, layer.out_features)
        return cut if torch.equal(cut.weight, layer.weight) else layer


class LayerNorm(nn.LayerNorm, EncoderModule):
    """Layer normalisation with trained weights.

    Args:
        dimension: dimensions of the vectors.
    """

    type_name = f"{SENTENCE_TRANSFORMERS}.LayerNorm"

    def __init__(self, dimension: int):
        super().__init__(dimension)
        self.dimension = dimension

    def output_width(self, width: int) -> int:
        refuse_other_width(self, width, self.dimension)
        return width

    def name_in_file(self, name: str) -> str:
        return f"norm.{name}"


class Normalize(EncoderModule):
    """Scales every vector to length 1.

    >>> Normalize()(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    type_name = f"{SENTENCE_TRANSFORMERS}.Normalize"

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors.float(), dim=-1)  # autocast leaves bf16 as it is on a CPU

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        refuse_other_places(config, "a normalisation")
        return cls()


def cut_vectors(modules: Sequence[nn.Module], width: int, dimensions: int | None) -> list[nn.Module]:
    """Lets modules keep the first `dimensions` of `width` numbers, scaled to length 1 again where they scale them; None keeps all."""
    if dimensions is None or dimensions == width:
        return list(modules)
    if not 1 <= dimensions < width:
        raise BadInput(f"dimensions: {dimensions}: must be from 1 to {width}, the numbers in a vector of this model")
    scaling = [Normalize()] if isinstance(modules[-1], Normalize) else []
    return [*modules, Truncate(width, dimensions), *scaling]


def refuse_other_places(config: dict[str, Any], what: str) -> None:
    """UnknownKind where a module reads or writes something else than the vector of a text, under the names of sentence-transformers."""
    for key in ("module_input_name", "module_output_name"):
        name = config.get(key) or VECTOR
        if name != VECTOR:
            raise UnknownKind(f"{key}: {name}: {what} before pooling, or beside the vector, is not supported")


def refuse_other_width(module: nn.Module, width: int, expected: int) -> None:
    """BadInput where the vectors before a module are not as wide as it needs them."""
    if width != expected:
        raise BadInput(f"{type(module).__name__} takes vectors {expected} wide, those before it are {width}: give it {width}")


def split_modules(modules: Sequence[nn.Module]) -> tuple[FirstModule, Pooling, list[EncoderModule]]:
    """The modules of an encoder by what they do: tokens to states, states to a vector, vectors to vectors.

    Raises BadInput where they are not in that order.
    """
    kinds = " > ".join(type(module).__name__ for module in modules) or "no modules"
    if len(modules) < 2 or not isinstance(modules[0], FirstModule) or not isinstance(modules[1], Pooling):
        raise BadInput(f"{kinds}: an encoder begins with Transformer > Pooling or TokenTable > Pooling")
    pooling = modules[1]
    if isinstance(modules[0], TokenTable) and pooling.mode not in modules[0].poolings:
        raise BadInput(f'{kinds}: pooling {pooling.mode}: a TokenTable has none but the mean of its rows: take Pooling("mean")')
    head: list[EncoderModule] = []
    for module in modules[2:]:
        if not isinstance(module, EncoderModule):
            raise BadInput(f"{kinds}: {type(module).__name__} is no EncoderModule: derive it from that class")
        head.append(module)
    return modules[0], pooling, head


def output_width(transformer: FirstModule, pooling: Pooling, head: Sequence[EncoderModule]) -> int:
    """Dimensions of the vectors that come out of the last module; raises BadInput where one cannot follow the one before it."""
    width = pooling.output_width(transformer.width)
    for module in head:
        width = module.output_width(width)
    return width
