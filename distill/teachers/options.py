"""The kinds of teachers, the options of each kind, and a function that opens a teacher."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

from distill.encoders.cross_folder import is_cross_encoder
from distill.encoders.hub import local_folder
from distill.encoders.pooling import PoolingMode
from distill.files.configs import refuse_unknown_choices
from distill.files.device import Precision
from distill.records import BadInput, UnknownKind
from distill.teachers.embedder import Embedder
from distill.teachers.endpoint import is_address
from distill.teachers.function import FunctionTeacher, text_functions
from distill.teachers.local import load_local_teacher
from distill.teachers.server import ServerTeacher

TeacherKind = Literal["dual encoder", "cross encoder", "server", "function"]

SERVER_OPTIONS = {"model", "requests_per_minute", "price"}
FOLDER_OPTIONS = {"pooling", "normalize", "precision", "trust_remote_code"}


@dataclass(frozen=True)
class TeacherOptions:
    """Options of a teacher of single texts; `encode` explains each of them."""

    precision: Precision = "auto"
    pooling: PoolingMode | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    model: str | None = None
    requests_per_minute: int | None = None
    price: float | None = None
    name: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
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
    if not is_address(teacher) and changed & SERVER_OPTIONS:
        raise BadInput("model, requests_per_minute, price: only for a server: give its address as --teacher, e.g. http://localhost:8080/v1")
    kind = find_kind(teacher)
    if kind != "function" and options.name:
        raise BadInput("name: only for a Python function as the teacher, other teachers have a name: leave it out")
    if kind == "cross encoder":
        if options.trust_remote_code:
            raise BadInput(f"{teacher}: a cross encoder runs no code of its folder: leave trust_remote_code out")
        if queries or changed & {"pooling", "normalize", "prompts"}:
            raise BadInput("a cross encoder takes neither queries, pooling, normalize nor prompts: leave them out")
    elif candidates:
        raise BadInput(f"candidates: {teacher} embeds single texts: leave it out, or name a cross encoder as --teacher")
    if kind == "server" and (not options.model or changed & FOLDER_OPTIONS):
        raise BadInput(f"{teacher}: a server needs --model, and has its own pooling, normalize and precision: leave those out")
    if kind == "function" and not options.name:
        raise BadInput('a function as the teacher needs a name, which the store keeps: give name="mine"')
    if kind == "function" and changed & FOLDER_OPTIONS:
        raise BadInput("a function as the teacher has its own pooling, normalize and precision: leave those out")
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
        return ServerTeacher(teacher, options.model or "", options.prompts, options.requests_per_minute, width)
    if kind == "function":
        return FunctionTeacher(text_functions(teacher), options.name or "", options.prompts, width)
    local = (options.precision, options.pooling, options.normalize, options.prompts, options.trust_remote_code)
    try:
        return load_local_teacher(teacher, *local)
    except UnknownKind as error:
        call = f'distill.encode(SentenceTransformer("{teacher}"), source, out, name="mine")'
        raise UnknownKind(f"{error}: where sentence-transformers reads it, hand it over from Python: {call}") from None
