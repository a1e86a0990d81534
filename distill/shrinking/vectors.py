"""The teacher's vectors of a job: documents embedded, imported or taken from another store, and every set of queries embedded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from distill.encoders.towers import is_available
from distill.records import BadInput
from distill.shrinking.request import STORE, Request, open_teacher_store
from distill.shrinking.texts import JobTexts
from distill.teachers.embedder import Embedder
from distill.teachers.encode import TextSet, encode_sets, keep_format
from distill.teachers.import_vectors import write_teacher_documents
from distill.teachers.options import TeacherOptions, check_options, open_embedder
from distill.texts.sources import QueryFile
from distill.texts.text_source import TRAIN
from distill.vectors.store import TeacherStore


def open_job_teacher(request: Request, default: Path | None = None) -> Embedder:
    """Opens the model that embeds the queries of a job; `default` is the store of whose teacher it is where none was named."""
    teacher = request.known_teacher or default
    names = ("model", "prompts", "dimensions", "role_fields", "trust_remote_code", "tokens_per_batch")
    options = TeacherOptions(**{name: getattr(request, name) for name in names})
    store = open_teacher_store(teacher)
    if store is not None:
        if request.prompts or request.dimensions or request.role_fields:
            raise BadInput(f"prompts, dimensions, role_fields: those of {store.folder} are known, which is the teacher: leave them out")
        maker = store.maker
        if not is_available(maker, request.trust_remote_code):
            origin = maker.describe_origin()
            raise BadInput(f"{store.folder}: its vectors {origin}, their model is not here to embed queries: name it as --teacher")
        teacher = maker.name
        own = replace(maker.options, trust_remote_code=request.trust_remote_code)
        options = replace(options, precision="bf16" if own.weights == "bf16" else "auto", **vars(own))
    if isinstance(teacher, Path):
        teacher = str(teacher)
    if not isinstance(teacher, str):
        options = replace(options, name=getattr(teacher, "__name__", type(teacher).__name__))
    kind = check_options(teacher, options, None, None)
    if kind == "cross encoder":
        raise BadInput(f"{teacher}: a cross encoder scores pairs and has no space of its own: see the docs, 'Cross encoders'")
    options = keep_format(options, request.out / STORE)
    return open_embedder(teacher, kind, options, None if store is None else store.documents.width)


def prepare_vectors(request: Request, embedder: Embedder, texts: JobTexts, folder: Path) -> TeacherStore:
    """Writes the store of a job; a second call goes on with what is missing.

    Args:
        request: what the job was asked for.
        embedder: embeds the texts.
        texts: its texts.
        folder: store to write.
    """
    store = request.store
    sets = list_query_sets(texts)
    if request.index is not None:
        write_teacher_documents(request.index.files, embedder, folder / "documents")
    elif store is not None:
        link_set(store.documents.folder.resolve(), folder / "documents")
    elif texts.summary["documents"] == "queries":
        link_set(Path(f"queries-{TRAIN}"), folder / "documents")  # they are the training queries
    else:
        sets.insert(0, ("documents", texts.source.documents(), "document"))
    opened = encode_sets(embedder, sets, folder, price=None, budget=1.0)
    assert opened is not None, "one process embeds all"
    return opened


def list_query_sets(texts: JobTexts) -> list[TextSet]:
    """Lists all sets of queries of a job."""
    sets: list[TextSet] = [(f"queries-{split}", texts.source.queries(split), "query") for split in texts.source.splits()]
    for path in texts.extra:
        queries = QueryFile(str(path)).queries()
        sets.append((f"queries-{queries.name}", queries, "query"))
    return sets


def link_set(target: Path, link: Path) -> None:
    """Makes a set of vectors that is stored elsewhere part of a store, without copying it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        os.symlink(target, link)
