"""The teacher's vectors of small collections, which are made once and kept in the cache."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from distill.encoders.tokenizing import Role
from distill.encoders.towers import is_available, load_maker
from distill.files.cache import cache_folder
from distill.files.device import best_device, resolve_precision
from distill.files.fingerprints import fingerprint
from distill.files.locks import wait_for_lock
from distill.files.progress import log
from distill.records import BadInput
from distill.teachers.embedder import Embedder, encode_set
from distill.teachers.local import LocalTeacher
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore, VectorStore
from distill.vectors.store_plan import MANIFEST
from distill.vectors.store_writer import StoreWriter


def load_store_teacher(store: TeacherStore) -> LocalTeacher:
    """Loads the model that made a store; refuses one that is not on this machine."""
    maker = store.maker
    if not is_available(maker):
        raise BadInput(f"suite: {maker.name} embeds the collections, but its vectors {maker.describe_origin()}: its model is not here")
    towers = load_maker(maker).prepare_for(best_device())
    precision = resolve_precision(maker.precision or "fp32", towers.device.type)
    return LocalTeacher(towers, precision, replace(maker, role=None, precision=precision))


def embed_into_cache(teacher: Embedder, source: TextSource, split: str) -> TeacherStore:
    """Opens the teacher's vectors of a collection in the cache; makes what is missing, while other processes wait."""
    documents = source.documents()
    queries = {part: source.queries(part) for part in split.split("+")}
    texts = [documents.content_fingerprint, *(part.content_fingerprint for part in queries.values())]
    folder = cache_folder() / "suite" / fingerprint(teacher.maker.fingerprint, teacher.maker.precision, *texts)
    sets: list[tuple[str, Texts, Role]] = [("documents", documents, "document")]
    sets += [(f"queries-{name}", part, "query") for name, part in queries.items()]
    folder.parent.mkdir(exist_ok=True)
    with wait_for_lock(folder):
        for name, part, role in sets:
            _embed_set(teacher, part, role, folder / name)
    return TeacherStore(folder)


def _embed_set(teacher: Embedder, texts: Texts, role: Role, folder: Path) -> None:
    """Makes the vectors of a set unless they are there; what is damaged, or begun from another file of the same texts, is made again."""
    try:
        if (folder / MANIFEST).exists():
            VectorStore(folder).verify()
            return
        if folder.exists() and any(folder.iterdir()):  # begun
            StoreWriter(folder, texts.ids, teacher.width, replace(teacher.maker, role=role), texts.fingerprints(role)[0])
    except BadInput as error:
        log.warning(f"{error}; its vectors are made again")
        shutil.rmtree(folder)
    encode_set(teacher, texts, role, folder, alone=True)
