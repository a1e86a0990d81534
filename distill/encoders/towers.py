"""A dual encoder: one tower for queries, one for documents, which may be the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.encoders.encoder import Encoder, Role
from distill.encoders.folder import (
    MODULE_TYPES,
    load_encoder,
    load_parts,
    local_folder,
    module_entry,
    optional_json,
    save_encoder,
    sentence_transformers_config,
    with_prompts,
    write_parts,
)
from distill.encoders.maker import Maker
from distill.encoders.pooling import Pooling
from distill.files.atomic import path_within, read_json, refuse_unreadable, write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.records import BadInput


class Towers(nn.Module):
    """Texts of either role to vectors of one space; without a document tower both roles share the query's."""

    def __init__(self, query: Encoder, document: Encoder | None = None):
        super().__init__()
        self.query = query
        self.document = query if document is None else document
        if self.query.width != self.document.width:
            raise BadInput(f"the query tower is {self.query.width} wide, the document tower {self.document.width}: they need one space")

    @property
    def shared(self) -> bool:
        return self.query is self.document

    @property
    def width(self) -> int:
        return self.query.width

    @property
    def device(self) -> torch.device:
        return self.query.device

    def tower(self, role: Role) -> Encoder:
        return self.query if role == "query" else self.document

    def prepare_for(self, device: torch.device) -> Towers:
        """Both towers, as `Encoder.prepare_for`, ready to encode."""
        for tower in (self.query, self.document):
            tower.prepare_for(device)
        return self.eval()

    def encode(self, texts: Sequence[str], role: Role) -> Tensor:
        """Vectors [N, D] float32 of a handful of texts."""
        return self.tower(role).encode(texts, role)

    def fingerprint(self) -> str:
        """Of shared towers it is the encoder's own."""
        return self.query.fingerprint() if self.shared else fingerprint(self.query.fingerprint(), self.document.fingerprint())


def load_towers(name: str, pooling: Pooling | None = None, normalize: bool | None = None, prompts: dict[str, str] | None = None) -> Towers:
    """As `load_encoder`, and a sentence-transformers Router of a query and a document route is read too."""
    folder = local_folder(name)
    if not is_router(folder):
        return Towers(load_encoder(name, pooling, normalize, prompts))
    if pooling is not None or normalize is not None:
        raise BadInput(f"{name}: its router_config.json says how it pools and normalises: leave pooling and normalize out")
    towers = []
    with refuse_unreadable("a model folder", name):
        router: dict[str, Any] = read_json(folder / "router_config.json", "router settings")
        if set(router["structure"]) != {"query", "document"}:
            raise BadInput(f"{name}: a router of {', '.join(router['structure'])}: it needs the routes query and document")
        for role in ("query", "document"):
            parts = [(router["types"][path].rsplit(".", 1)[-1], path_within(folder, path)) for path in router["structure"][role]]
            towers.append(with_prompts(load_parts(folder, parts), prompts))
    return Towers(*towers)


def is_router(folder: Path) -> bool:
    with refuse_unreadable("a model folder", folder):
        parts: Any = optional_json(folder / "modules.json")
        return bool(parts) and parts[0]["type"].rsplit(".", 1)[-1] == "Router"


def load_maker(maker: Maker) -> Towers:
    """The teacher that made a store; refuses a model that changed since it did, and one that was never here."""
    if not maker.is_loadable:
        origin = maker.describe_origin()
        raise BadInput(f"{maker.name}: the model is not here, its vectors {origin}: a student starts from StudentFromBackbone")
    towers = load_towers(maker.name, maker.pooling, maker.normalize, maker.prompts)
    if towers.fingerprint() != maker.fingerprint:
        raise BadInput(f"{maker.name}: not the model that made the store (its fingerprint differs): encode again with it")
    return towers


def save_towers(towers: Towers, folder: Path) -> None:
    """Shared towers as one encoder's folder, two as a Router; whole or not at all."""
    if towers.shared:
        return save_encoder(towers.query, folder)
    with write_atomically(folder) as temporary:
        write_router(towers.query, towers.document, temporary)


def write_router(query: Encoder, document: Encoder, folder: Path) -> None:
    """One sentence-transformers folder that sends queries to one encoder and documents to the other."""
    folder.mkdir(parents=True)
    routes = {
        "query": list(write_parts(query, folder, prefix="query_")),
        "document": list(write_parts(document, folder, prefix="document_")),
    }
    write_json(
        folder / "router_config.json",
        {
            "types": {path: f"{MODULE_TYPES}.{kind}" for parts in routes.values() for path, kind in parts},
            "structure": {route: [path for path, _ in parts] for route, parts in routes.items()},
            "parameters": {"default_route": None, "allow_empty_key": False},  # no silent route: encode() must say which
        },
    )
    write_json(folder / "modules.json", [module_entry(0, "", "Router")])
    prompts = {"query": query.settings.prompts["query"], "document": document.settings.prompts["document"]}
    write_json(folder / "config_sentence_transformers.json", sentence_transformers_config(prompts))
