"""The kinds of teachers, the options of each kind, and a function that opens a teacher."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from distill.encoders.cross_folder import is_cross_encoder
from distill.encoders.hub import local_folder
from distill.encoders.model_options import ModelOptions, Weights, complete_prompts
from distill.encoders.model_settings import choose_query_prompt
from distill.encoders.pooling import PoolingMode
from distill.files.configs import refuse_unknown_choices
from distill.files.device import Precision
from distill.records import BadInput, UnknownKind
from distill.teachers.cross_pairs import load_pair_teacher
from distill.teachers.embedder import Embedder
from distill.teachers.endpoint import is_address
from distill.teachers.function import FunctionTeacher, PairFunctionTeacher, text_functions
from distill.teachers.local import load_local_teacher
from distill.teachers.server import ServerTeacher
from distill.teachers.server_interfaces import find_interface

TeacherKind = Literal["dual encoder", "cross encoder", "server", "function"]

BARE_ADDRESS = re.compile(r"[\w.-]+:[0-9]+(/|$)")
SERVER_OPTIONS = {"model", "requests_per_minute", "price", "role_fields", "concurrent"}
MACHINE_OPTIONS = {"precision", "tokens_per_batch"}  # of models that run on this machine
FOLDER_OPTIONS = {"pooling", "normalize", "trust_remote_code", "max_length", "weights", "query_prompt_name", "compile"}
OPTIONS: dict[TeacherKind, set[str]] = {
    "dual encoder": {*MACHINE_OPTIONS, *FOLDER_OPTIONS, "prompts", "dimensions"},
    "cross encoder": MACHINE_OPTIONS,
    "server": {*SERVER_OPTIONS, "prompts", "dimensions"},
    "function": {"name", "prompts"},
}  # by the kind of teacher that has them


@dataclass(frozen=True)
class TeacherOptions:
    """How a teacher is read or asked.

    Args:
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
        pooling: only for a plain transformers folder, which does not record its pooling.
        normalize: whether vectors get length 1; only for a plain transformers folder, or false where a folder's cosine would have it.
        prompts: put before every text, e.g. {query: "query: ", document: "passage: "}; by default the folder's own.
        model: only for a server: its name for the model; text-embeddings-inference's /embed tells it.
        requests_per_minute: only for a server: most requests in a minute.
        price: only for a server: price of a million tokens.
        name: only for a function: its name in the store. A function that changed needs a new name.
        trust_remote_code: whether Python code that the teacher's folder brings with it may run; read it before. The store says that it ran.
        dimensions: numbers to keep of each vector, for models trained to be cut (Matryoshka); normalised again where the folder does.
            A server is asked for so many.
        max_length: tokens at which texts are cut; by default as the folder has it, but at most 8,192.
        weights: number format of the weights in memory; auto is bf16 where the folder's have 16 bits and products are in bf16.
        query_prompt_name: which of the folder's prompts is put before queries, where it has several.
        role_fields: only for a server: JSON fields of its requests by role: {query: {input_type: query}, document: {input_type: document}}.
        concurrent: only for a server: requests sent in parallel; 4 by default.
        compile: whether PyTorch compiles a model's layers first, for corpora that take far longer than the minutes this takes; on a CPU it
            needs a C++ compiler.
        tokens_per_batch: padded tokens that pass through a model at once; by default 65,536 on a GPU, fewer where they do not fit.
    """

    precision: Precision = "auto"
    pooling: PoolingMode | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    model: str | None = None
    requests_per_minute: int | None = None
    price: float | None = None
    name: str | None = None
    trust_remote_code: bool = False
    dimensions: int | None = None
    max_length: int | None = None
    weights: Weights = "auto"
    query_prompt_name: str | None = None
    role_fields: dict[str, dict[str, Any]] | None = None
    concurrent: int | None = None
    compile: bool = False
    tokens_per_batch: int | None = None

    def __post_init__(self) -> None:
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise BadInput(f"tokens_per_batch: {self.tokens_per_batch}: must be at least 1")
        complete_prompts(self.prompts)  # refuses a role that there is not
        refuse_unknown_choices(type(self).__init__, vars(self))

    def list_changed(self) -> set[str]:
        """Returns the names of the options that differ from their defaults.

        >>> sorted(TeacherOptions(model="m", pooling="cls").list_changed())
        ['model', 'pooling']
        """
        return {field.name for field in fields(self) if getattr(self, field.name) != field.default}


def check_options(teacher: Any, options: TeacherOptions, queries: Iterable[str] | None, candidates: str | None) -> TeacherKind:
    """Returns the kind of a teacher; refuses options that belong to another kind. Nothing is loaded."""
    changed = options.list_changed()
    if isinstance(teacher, str) and BARE_ADDRESS.match(teacher) and not Path(teacher).exists():
        raise BadInput(f"teacher: {teacher}: looks like the address of a server: write http:// or https:// before it")
    if not is_address(teacher) and changed & SERVER_OPTIONS:
        names = ", ".join(sorted(changed & SERVER_OPTIONS))
        raise BadInput(f"{names}: only for a server: give its address as --teacher, e.g. http://localhost:8080/v1")
    kind = find_kind(teacher)
    if unfit := sorted(changed - OPTIONS[kind]):
        others = [other for other in OPTIONS if OPTIONS[other] & set(unfit)]
        raise BadInput(f"{', '.join(unfit)}: for a {' or a '.join(others)} as the teacher, this one is a {kind}: leave out")
    if kind == "cross encoder" and queries:
        raise BadInput("queries: a cross encoder reads those of the splits, with their candidates: leave out")
    if kind not in ("cross encoder", "function") and candidates:
        raise BadInput(f"candidates: {teacher} embeds single texts: leave it out, or name a cross encoder as --teacher")
    if kind == "function" and candidates and (queries or options.prompts or not callable(teacher)):
        raise BadInput("candidates: with a function of pairs (query, document), which takes neither prompts nor queries: leave those out")
    if kind == "server" and not options.model and find_interface(teacher).has_models:
        raise BadInput(f"{teacher}: a server needs --model, its name for the model")
    if kind == "function" and not options.name:
        raise BadInput('a function as the teacher needs a name, which the store keeps: give name="mine"')
    return kind


def find_kind(teacher: Any) -> TeacherKind:
    """Finds the kind of a teacher, which is given as a folder, a hub name, an address or a Python object."""
    if not isinstance(teacher, str):
        return "function"
    if is_address(teacher):
        return "server"
    return "cross encoder" if is_cross_encoder(local_folder(teacher)) else "dual encoder"


def open_embedder(teacher: Any, kind: TeacherKind, options: TeacherOptions, width: int | None) -> Embedder:
    """Opens a teacher of single texts.

    Args:
        teacher: folder or hub name, address, or a model that `text_functions` takes.
        kind: kind of the teacher, from `check_options`.
        options: options of the teacher.
        width: numbers in a vector of its store; None for a store without vectors.
    """
    if kind == "server":
        asked = (options.dimensions, options.role_fields, options.concurrent)
        return ServerTeacher(teacher, options.model, options.prompts, options.requests_per_minute, width, *asked)
    if kind == "function":
        return FunctionTeacher(text_functions(teacher), options.name or "", options.prompts, width)
    try:
        local = load_local_teacher(teacher, options.precision, model_options(teacher, options), options.compile)
    except UnknownKind as error:
        call = f'distill.encode(SentenceTransformer("{teacher}"), source, out, name="mine")'
        raise UnknownKind(f"{error}: where sentence-transformers reads it, hand it over from Python: {call}") from None
    local.towers.limit_batches(options.tokens_per_batch)
    return local


def open_pair_embedder(teacher: Any, kind: TeacherKind, options: TeacherOptions) -> Embedder:
    """Opens a teacher of pairs: a cross encoder, or a function from pairs to scores."""
    if kind == "function":
        return PairFunctionTeacher(teacher, options.name or "")
    pairs = load_pair_teacher(str(teacher), options.precision)
    pairs.encoder.budget.limit = options.tokens_per_batch
    return pairs


def model_options(teacher: str, options: TeacherOptions) -> ModelOptions:
    """How a model's folder is read, with the text of the query's prompt where it was chosen by its name."""
    prompts = options.prompts
    if options.query_prompt_name is not None:
        prompts = choose_query_prompt(local_folder(teacher, options.trust_remote_code), options.query_prompt_name, prompts)
    own = (options.pooling, options.normalize, prompts, options.max_length, options.dimensions)
    return ModelOptions(*own, options.weights, options.trust_remote_code)
