"""A dual encoder: one tower for queries, one for documents, which may be the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.encoders.batching import inner_products
from distill.encoders.encoder import Encoder
from distill.encoders.folder import has_module_list, load_encoder, set_prompts
from distill.encoders.hub import local_folder
from distill.encoders.maker import Maker
from distill.encoders.modules import SENTENCE_TRANSFORMERS
from distill.encoders.modules_folder import (
    ROUTER_SETTINGS,
    ModuleEntry,
    read_module_list,
    read_modules,
    write_module_list,
    write_modules,
    write_settings,
)
from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.files.atomic import read_json, refuse_unreadable, write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.records import BadInput

ROUTER = "Router"  # the module of sentence-transformers that sends queries and documents to different modules
ROLES: tuple[Role, Role] = ("query", "document")


class Towers(nn.Module):
    """Encodes queries and documents to vectors [B, D] of one space.

    Args:
        query: embeds queries.
        document: embeds documents; by default the same encoder as queries.

    Raises BadInput where the two write vectors of different width.
    """

    def __init__(self, query: Encoder, document: Encoder | None = None):
        super().__init__()
        self.query = query
        self.document = query if document is None else document
        if self.query.width != self.document.width:
            raise BadInput(f"the query tower is {self.query.width} wide, the document tower {self.document.width}: they need one space")

    @property
    def shared(self) -> bool:
        """Whether queries and documents have the same tower."""
        return self.query is self.document

    @property
    def width(self) -> int:
        return self.query.width

    @property
    def device(self) -> torch.device:
        return self.query.device

    def tower(self, role: Role) -> Encoder:
        """The encoder of texts of that role."""
        return self.query if role == "query" else self.document

    def prepare_for(self, device: torch.device) -> Towers:
        """Moves both towers to `device` as `Encoder.prepare_for` does, and sets them to evaluation."""
        for tower in (self.query, self.document):
            tower.prepare_for(device)
        return self.eval()

    def encode(self, texts: str | Sequence[str], role: Role) -> Tensor:
        """Vectors [N, D] float32 of a handful of texts, or the vector [D] of a single text."""
        return self.tower(role).encode(texts, role)

    def encode_query(self, texts: str | Sequence[str]) -> np.ndarray:
        """Vectors [N, D] float32 of queries, or of a single query [D]."""
        return self.query.encode_query(texts)

    def encode_document(self, texts: str | Sequence[str]) -> np.ndarray:
        """Vectors [N, D] float32 of documents, or of a single document [D]."""
        return self.document.encode_document(texts)

    def similarity(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Inner products [N, M] of vectors [N, D] and [M, D]; a single vector [D] counts as one row."""
        return inner_products(queries, documents)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes shared towers as one encoder's folder, two as a Router of sentence-transformers; whole or not at all."""
        if self.shared:
            self.query.save_pretrained(folder)
            return
        with write_atomically(Path(folder)) as temporary:
            _write_router(self, temporary)

    def fingerprint(self) -> str:
        """16 hex digits over both towers; of shared towers it is the encoder's own."""
        return self.query.fingerprint() if self.shared else fingerprint(self.query.fingerprint(), self.document.fingerprint())


def _write_router(towers: Towers, folder: Path) -> None:
    folder.mkdir(parents=True)
    routes: dict[Role, list[ModuleEntry]] = {}
    for role in ROLES:
        tower = towers.tower(role)
        routes[role] = write_modules(tower.module_list, tower.tokenizer, tower.settings, folder, prefix=f"{role}_")
    settings = {
        "types": {entry.path: entry.type for entries in routes.values() for entry in entries},
        "structure": {role: [entry.path for entry in entries] for role, entries in routes.items()},
        "parameters": {
            "default_route": None,
            "allow_empty_key": False,
        },  # every call has to name the route
    }
    write_json(folder / ROUTER_SETTINGS, settings)
    write_module_list(folder, [ModuleEntry(f"{SENTENCE_TRANSFORMERS}.{ROUTER}", "")])
    write_settings(folder, {role: towers.tower(role).settings.prompts[role] for role in ROLES})


def load_towers(
    name: str, pooling: PoolingMode | None = None, normalize: bool | None = None, prompts: dict[str, str] | None = None
) -> Towers:
    """Loads one encoder as `load_encoder` does, or two from a sentence-transformers Router of a query route and a document route."""
    folder = local_folder(name)
    if not is_router(folder):
        return Towers(load_encoder(name, pooling, normalize, prompts))
    if pooling is not None or normalize is not None:
        raise BadInput(f"{name}: its router_config.json says how it pools and normalises: leave pooling and normalize out")
    with refuse_unreadable("a model folder", name):
        router = read_json(folder / ROUTER_SETTINGS, "router settings")
        if set(router["structure"]) != set(ROLES):
            raise BadInput(f"{name}: a router of {', '.join(router['structure'])}: it needs the routes query and document")
        towers = []
        for role in ROLES:
            entries = [ModuleEntry(router["types"][path], path) for path in router["structure"][role]]
            towers.append(set_prompts(Encoder(*read_modules(folder, entries)), prompts))
        return Towers(*towers)


def is_router(folder: Path) -> bool:
    """Whether a folder holds two towers rather than one."""
    with refuse_unreadable("a model folder", folder):
        if not has_module_list(folder):
            return False
        entries = read_module_list(folder)
        return bool(entries) and entries[0].kind == ROUTER


def load_maker(maker: Maker) -> Towers:
    """The teacher that wrote a store of vectors.

    Raises BadInput where that model changed since then, and where its vectors came from somewhere else.
    """
    if not maker.is_loadable:
        origin = maker.describe_origin()
        raise BadInput(f"{maker.name}: the model is not here, its vectors {origin}: a student starts from StudentFromBackbone")
    towers = load_towers(maker.name, maker.pooling, maker.normalize, maker.prompts)
    if towers.fingerprint() != maker.fingerprint:
        raise BadInput(f"{maker.name}: not the model that made the store (its fingerprint differs): encode again with it")
    return towers


def is_available(maker: Maker) -> bool:
    """Whether the teacher that wrote a store can be loaded; a name that a user gave to other vectors is not looked up."""
    try:
        return maker.is_loadable and local_folder(maker.name).is_dir()
    except BadInput:
        return False
