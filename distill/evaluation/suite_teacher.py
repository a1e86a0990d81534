"""The teacher of a suite: its vectors of each collection are made once and kept in the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, is_available, load_maker
from distill.evaluation.systems import System, open_system
from distill.files.cache import cache_folder
from distill.files.device import best_device, resolve_precision
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, UnknownKind
from distill.teachers.embedder import Embedder, encode_set
from distill.teachers.local import LocalTeacher, load_local_teacher
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore


def open_suite_teacher(teacher: Any) -> Embedder | System:
    """Opens the model that embeds the collections of a suite.

    Args:
        teacher: a store, whose model is loaded; or any model that `open_system` takes.

    Returns:
        An Embedder where the model can be told from others, so that its vectors can be kept; else a System.

    Raises:
        BadInput: vectors alone, or a store whose model is not here.
    """
    if isinstance(teacher, tuple):
        raise BadInput("suite: the teacher's model embeds the collections: name the model, not vectors")
    if isinstance(teacher, str | Path) and (Path(teacher) / "documents" / "plan.json").exists():
        teacher = TeacherStore(teacher)
    if isinstance(teacher, TeacherStore):
        return load_store_teacher(teacher)
    if isinstance(teacher, Encoder):
        teacher = Towers(teacher)
    if isinstance(teacher, Towers):
        precision = resolve_precision("auto", best_device().type)
        maker = Maker(type(teacher.query).__name__, teacher.fingerprint(), precision=precision)
        return LocalTeacher(teacher.prepare_for(best_device()), precision, maker)
    if isinstance(teacher, str | Path):
        try:
            return load_local_teacher(str(teacher), "auto", None, None, None)
        except UnknownKind:
            return open_system(teacher)
    return open_system(teacher)


def load_store_teacher(store: TeacherStore) -> LocalTeacher:
    """Loads the model that made a store; refuses one that is not on this machine."""
    maker = store.maker
    if not is_available(maker):
        raise BadInput(f"suite: {maker.name} embeds the collections, but its vectors {maker.describe_origin()}: its model is not here")
    towers = load_maker(maker).prepare_for(best_device())
    return LocalTeacher(towers, resolve_precision(maker.precision or "auto", towers.device.type), replace(maker, role=None))


def embed_into_cache(teacher: Embedder, source: TextSource, split: str) -> TeacherStore:
    """Opens the teacher's vectors of a collection in the cache; makes what is missing."""
    documents = source.documents()
    queries = {part: source.queries(part) for part in split.split("+")}
    texts = [documents.content_fingerprint, *(part.content_fingerprint for part in queries.values())]
    folder = cache_folder() / "suite" / fingerprint(teacher.maker.fingerprint, teacher.maker.precision, *texts)
    sets: list[tuple[str, Texts, Role]] = [("documents", documents, "document")]
    sets += [(f"queries-{name}", part, "query") for name, part in queries.items()]
    for name, part, role in sets:
        if not (folder / name / "manifest.json").exists():
            encode_set(teacher, part, role, folder / name)
    return TeacherStore(folder)
