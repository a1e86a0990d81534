"""Maker: which model wrote a store of vectors, and how it can be loaded again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from distill.encoders.model_options import ModelOptions
from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.files.device import Precision
from distill.records import BadInput

Origin = Literal["model", "import", "server", "function"]

# ends of a sentence that begins with "its vectors"; release 0.1 wrote the first two into its manifests in place of the origin
ORIGIN_PHRASES: dict[str, str] = {
    "import": "were imported",
    "server": "came from an endpoint",
    "function": "came from a Python function",
}
CHOICES = {"precision": get_args(Precision), "pooling": get_args(PoolingMode), "role": get_args(Role), "weights": ("bf16",)}
NEW_FIELDS = ("trust_remote_code", "max_length", "dimensions", "weights")  # release 0.1 did not write them
OLD_ORIGINS = {phrase: origin for origin, phrase in ORIGIN_PHRASES.items()}


@dataclass(frozen=True)
class Maker:
    """The model that wrote a store of vectors.

    Attributes:
        name: folder or hub name of the model; of anything but a model the name that the user gave it.
        fingerprint: 16 hex digits, the same for the same model in every folder.
        origin: model is one that this machine can load by its name; import: vectors that another program wrote; server: one
            that answered over HTTP; function: a Python function or object.
        precision: number format of the matrix products.
        pooling: mode of a `Pooling`, as the user set it; None where the model's folder sets it.
        normalize: whether vectors are scaled to length 1; None where the model's folder sets it.
        prompts: text put before every query and document; None where the model's folder sets it.
        role: whether the texts of this store are queries or documents.
        head: head of a cross encoder, dual_pooling or cls; None for other models.
        vectors: fingerprint of imported vectors.
        trust_remote_code: True where Python code of the model's folder embedded the texts; None where none did.
        max_length: most tokens of a text, as the user set it; None where the model's folder sets it.
        dimensions: how many numbers of each vector are kept, as the user set it; None where the folder sets it.
        weights: bf16 where the weights were in that format; None where they were in fp32.

    >>> Maker.from_json({"name": "ada", "fingerprint": "1f", "origin": "were imported"}, "manifest.json").origin
    'import'
    """

    name: str
    fingerprint: str
    origin: Origin = "model"
    precision: Precision | None = None
    pooling: PoolingMode | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    role: Role | None = None
    head: str | None = None
    vectors: str | None = None
    trust_remote_code: bool | None = None
    max_length: int | None = None
    dimensions: int | None = None
    weights: Literal["bf16"] | None = None

    @classmethod
    def from_json(cls, value: Any, path: str | Path) -> Maker:
        """Reads the maker that a JSON file names, also one of release 0.1; keys that this release does not know are ignored.

        Raises BadInput, which names `path`, where the value is no maker.
        """
        if not isinstance(value, dict):
            raise BadInput(f"{path}: its maker is {value!r}, not an object with name and fingerprint: restore it")
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        if isinstance(known.get("origin"), str):
            known["origin"] = OLD_ORIGINS.get(known["origin"], known["origin"])
        for key in ("name", "fingerprint"):
            known.setdefault(key, None)
        for key, item in known.items():
            if not _is_valid(key, item):
                raise BadInput(f"{path}: its maker has the {key} {item!r}: restore it")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """Returns every field, as manifests and results.json hold it; those of NEW_FIELDS only where they are set."""
        return {key: value for key, value in asdict(self).items() if value or key not in NEW_FIELDS}

    @property
    def options(self) -> ModelOptions:
        """How its folder is read."""
        own = (self.pooling, self.normalize, self.prompts, self.max_length, self.dimensions)
        return ModelOptions(*own, self.weights or "fp32", bool(self.trust_remote_code))

    @property
    def is_loadable(self) -> bool:
        """Whether `load_towers` can look for the model by its name; makers of other origins are not on this machine."""
        return self.origin == "model"

    def describe_origin(self) -> str:
        """Returns the end of a sentence about vectors whose model is not on this machine.

        >>> "its vectors " + Maker("ada", "1f", "server").describe_origin()
        'its vectors came from an endpoint'
        """
        return ORIGIN_PHRASES.get(self.origin, "were written by a model")


def _is_valid(key: str, value: Any) -> bool:
    """Tells whether a field of Maker can have that value."""
    if key in ("name", "fingerprint"):
        return isinstance(value, str)
    if key == "origin":
        return value in get_args(Origin)
    if value is None:
        return True
    if key in CHOICES:
        return value in CHOICES[key]
    if key in ("normalize", "trust_remote_code"):
        return isinstance(value, bool)
    if key in ("max_length", "dimensions"):
        return isinstance(value, int) and not isinstance(value, bool)
    if key == "prompts":
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return isinstance(value, str)
