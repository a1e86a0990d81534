"""A dual encoder: one tower for queries, one for documents, which may be the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.encoders.batching import inner_products
from distill.encoders.encoder import Encoder
from distill.encoders.folder import has_module_list, read_encoder
from distill.encoders.hub import local_folder
from distill.encoders.loading import trusted_folders
from distill.encoders.maker import Maker
from distill.encoders.model_checks import count_table_rows
from distill.encoders.model_options import ModelOptions, complete_prompts
from distill.encoders.model_settings import write_settings
from distill.encoders.modules import SENTENCE_TRANSFORMERS, Normalize
from distill.encoders.modules_folder import (
    ROUTER_SETTINGS,
    ModuleEntry,
    is_standard,
    read_module_list,
    read_modules,
    write_module_list,
    write_modules,
)
from distill.encoders.prompt_names import DOCUMENT_PROMPTS
from distill.encoders.tokenizing import LONGEST_UNASKED, Role, refuse_long_prompts
from distill.encoders.transformer_folder import UNLIMITED
from distill.files.atomic import path_within, read_json, refuse_unreadable, write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.files.progress import log
from distill.records import BadInput, UnknownKind

ROUTER = "Router"  # the module of sentence-transformers that sends queries and documents to different modules
ROUTERS = (ROUTER, "Asym")  # with its name of before release 5
ASYM_SETTINGS = "config.json"  # of an Asym, with the same keys as a Router's
DOCUMENT_ROUTES = ("doc", *DOCUMENT_PROMPTS)  # an Asym has no fixed names; its documentation says doc
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

    def cap_length(self, name: str) -> bool:
        """Cuts texts at LONGEST_UNASKED tokens where the folder `name` would read longer ones; returns whether it does."""
        # a table of tokens has no attention
        long = [
            tower for tower in (self.query, self.document) if tower.transformer.has_layers and tower.settings.max_length > LONGEST_UNASKED
        ]
        for tower in long:
            tower.limit_length(LONGEST_UNASKED)
        if long:
            log.warning(f"{name}: texts are cut at {LONGEST_UNASKED:,} tokens: max_length sets another number")
        return bool(long)

    def limit_batches(self, tokens: int | None) -> None:
        """Passes so many tokens at once through each tower from now on, padding included; None leaves it to the device."""
        for tower in (self.query, self.document):
            tower.budget.limit = tokens

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


def load_towers(name: str, **options: Any) -> Towers:
    """Loads one encoder as `load_encoder` does, or two from a sentence-transformers Router or Asym of a query and a document route.

    Args:
        name: its folder or hub name.
        options: those of `load_encoder`.
    """
    return read_towers(name, ModelOptions(**options))


def read_towers(name: str, options: ModelOptions) -> Towers:
    """As `load_towers`, with its options as one object."""
    folder = local_folder(name, options.trust_remote_code)
    if options.trust_remote_code:
        trusted_folders.add(folder.resolve())  # where its transformers lie in folders of their own too
    if not is_router(folder):
        return Towers(read_encoder(name, options))
    if options.pooling is not None:
        raise BadInput(f"{name}: its modules.json and its router say how it pools and normalises: leave pooling and normalize out")
    options = replace(options, prompts=complete_prompts(options.prompts))
    with refuse_unreadable("a model folder", name):
        routes = read_routes(folder)
        towers = [Encoder(*read_modules(folder, routes[role], replace(options, max_length=None))) for role in ROLES]
        if options.max_length is not None:
            set_lengths(towers, options.max_length)
        return Towers(*towers)


def set_lengths(towers: Sequence[Encoder], asked: int) -> None:
    """Cuts texts at `asked` tokens in each tower, or at as many as it has positions for, where one of them has enough."""
    positions = [min(count_table_rows(tower.transformer), default=UNLIMITED) for tower in towers]
    shortest = 1 + max(tower.tokenizer.num_special_tokens_to_add() for tower in towers)
    if not shortest <= asked <= max(positions):
        raise BadInput(f"max_length: {asked}: must be from {shortest} to {max(positions)}, the tokens that the towers read")
    for tower, most, role in zip(towers, positions, ROLES, strict=True):
        tower.settings = replace(tower.settings, max_length=min(asked, most))
        refuse_long_prompts(tower.tokenizer, tower.settings, [role])


def read_routes(folder: Path) -> dict[Role, list[ModuleEntry]]:
    """The modules of each route of a router's folder, with those before and behind the router, which both routes run."""
    entries = read_module_list(folder)
    place = next(number for number, entry in enumerate(entries) if is_routing(entry))
    path = path_within(folder, entries[place].path)
    path = path / ROUTER_SETTINGS if (path / ROUTER_SETTINGS).exists() else path / ASYM_SETTINGS
    router = read_json(path, "router settings")
    names = name_routes(folder, router["structure"])
    mappings = (router.get("parameters") or {}).get("route_mappings")
    if mappings:
        raise UnknownKind(f"{path}: route_mappings: {mappings}: not supported: name the routes query and document, and take it out")
    routes: dict[Role, list[ModuleEntry]] = {}
    for role, name in names.items():
        parts = router["structure"][name]
        own = [ModuleEntry(router["types"][part], (Path(entries[place].path) / part).as_posix()) for part in parts]
        routes[role] = [*entries[:place], *own, *entries[place + 1 :]]
    return routes


def name_routes(folder: Path, names: Collection[str]) -> dict[Role, str]:
    """The name of each role's route among those of a router; refuses routes that are not one for each role."""
    documents = [name for name in names if name in DOCUMENT_ROUTES]
    if len(names) != 2 or "query" not in names or not documents:
        expected = f"it needs the routes query and document, which may be called {', '.join(DOCUMENT_ROUTES[:-1])} or {DOCUMENT_ROUTES[-1]}"
        raise BadInput(f"{folder}: a router of {', '.join(names)}: {expected}")
    return {"query": "query", "document": documents[0]}


def is_routing(entry: ModuleEntry) -> bool:
    """Whether a module sends queries and documents to different modules."""
    return entry.kind in ROUTERS and is_standard(entry)


def is_router(folder: Path) -> bool:
    """Whether a folder holds two towers rather than one."""
    with refuse_unreadable("a model folder", folder):
        return has_module_list(folder) and any(is_routing(entry) for entry in read_module_list(folder))


def load_maker(maker: Maker, trust_remote_code: bool = False) -> Towers:
    """The teacher that wrote a store of vectors.

    Args:
        maker: the teacher, as its store names it.
        trust_remote_code: whether Python code of its folder may run. That its store was made by it is no leave to run it again, only
            that it has run in this process is.

    Raises BadInput where that model changed since then, and where its vectors came from somewhere else.
    """
    if not maker.is_loadable:
        origin = maker.describe_origin()
        raise BadInput(f"{maker.name}: the model is not here, its vectors {origin}: a student starts from StudentFromBackbone")
    may_run = trust_remote_code or has_run(maker)
    if maker.trust_remote_code and not may_run:
        raise BadInput(f"{maker.name}: runs Python code of its folder, a student does not: begin from StudentFromBackbone")
    towers = read_towers(maker.name, maker.options)
    if towers.fingerprint() == maker.fingerprint:
        return towers
    if maker.max_length == LONGEST_UNASKED and not towers.shared:  # nobody asked for it: the other tower may read fewer or more
        capped = read_towers(maker.name, replace(maker.options, max_length=None))
        capped.cap_length(maker.name)
        if capped.fingerprint() == maker.fingerprint:
            return capped
    if maker.normalize is None:
        unscaled = remove_scaling(towers)
        if unscaled.fingerprint() == maker.fingerprint:
            log.warning(f"{maker.name}: its store was made before vectors were scaled for cosine: encode again to rank as the model does")
            return unscaled
    raise BadInput(f"{maker.name}: not the model that made the store (its fingerprint differs): encode again with it")


def remove_scaling(towers: Towers) -> Towers:
    """The same towers without the Normalize module at their end, as older releases read folders that compare vectors by cosine."""
    query, document = (_without_normalize(towers.tower(role)) for role in ROLES)
    return Towers(query) if towers.shared else Towers(query, document)


def _without_normalize(encoder: Encoder) -> Encoder:
    modules = encoder.module_list
    kept = modules[:-1] if isinstance(modules[-1], Normalize) else modules
    return Encoder(kept, encoder.tokenizer, encoder.settings)


def has_run(maker: Maker) -> bool:
    """Whether the user has let the code of a maker's folder run in this process, as `shrink` and `encode` do where they are asked to."""
    return maker.is_loadable and local_folder(maker.name).resolve() in trusted_folders


def is_available(maker: Maker, trust_remote_code: bool = False) -> bool:
    """Whether the teacher that wrote a store can be loaded; a name that a user gave to other vectors is not looked up.

    One that runs Python code of its folder cannot, unless that is trusted.
    """
    if maker.trust_remote_code and not trust_remote_code and not has_run(maker):
        return False
    try:
        return maker.is_loadable and local_folder(maker.name, bool(maker.trust_remote_code)).is_dir()
    except BadInput:
        return False
