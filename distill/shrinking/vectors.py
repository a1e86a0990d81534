"""The teacher's vectors of a job: documents embedded, imported or taken from another store, and every set of queries embedded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.callbacks.diagnosis import SAME_TEXT, diagnose_wrong_vectors
from distill.encoders.towers import is_available
from distill.files.progress import log
from distill.records import BadInput
from distill.shrinking.request import Request, open_teacher_store
from distill.shrinking.texts import JobTexts
from distill.teachers.embedder import Embedder
from distill.teachers.encode import TextSet, encode_sets
from distill.teachers.local import LocalTeacher
from distill.teachers.options import TeacherOptions, check_options, open_embedder
from distill.texts.sources import QueryFile
from distill.texts.text_source import TRAIN
from distill.texts.texts import evenly_spaced_rows
from distill.vectors.import_vectors import write_store
from distill.vectors.index import Index
from distill.vectors.store import TeacherStore
from distill.vectors.store_writer import StoreWriter
from distill.vectors.vector_files import ROWS_PER_BATCH, VectorFiles

TEXTS_COMPARED = 256  # documents that are embedded again to see whether vectors that were given are this teacher's
SAME_LENGTH = 0.02  # most that two vectors of one text may differ in length, as a share of it, beside a scale that all have
LEAST_AGREEING = 0.9  # share of them that must agree; the rest may have been cut at another length


def open_job_teacher(request: Request, default: Path | None = None) -> Embedder:
    """Opens the model that embeds the queries of a job; `default` is the store of whose teacher it is where none was named."""
    teacher, options = request.known_teacher or default, TeacherOptions(model=request.model, trust_remote_code=request.trust_remote_code)
    store = open_teacher_store(teacher)
    if store is not None:
        maker = store.maker
        if not is_available(maker, request.trust_remote_code):
            origin = maker.describe_origin()
            raise BadInput(f"{store.folder}: its vectors {origin}, their model is not here to embed queries: name it as --teacher")
        teacher = maker.name
        own = maker.options
        options = replace(options, pooling=own.pooling, normalize=own.normalize, prompts=own.prompts)
        options = replace(options, max_length=own.max_length, dimensions=own.dimensions, weights=own.weights)
    if isinstance(teacher, Path):
        teacher = str(teacher)
    if not isinstance(teacher, str):
        options = replace(options, name=getattr(teacher, "__name__", type(teacher).__name__))
    kind = check_options(teacher, options, None, None)
    if kind == "cross encoder":
        raise BadInput(f"{teacher}: a cross encoder scores pairs and has no space of its own: see the docs, 'Cross encoders'")
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
        import_documents(request.index.files, embedder, folder / "documents")
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


def import_documents(index: VectorFiles, embedder: Embedder, folder: Path) -> None:
    """Writes vectors that were given as those of the teacher's documents."""
    maker = replace(embedder.maker, role="document", precision=None, vectors=index.fingerprint())
    write_store(index, StoreWriter(folder, index.ids, index.width, maker, texts=None))


def compare_with_teacher(embedder: Embedder, texts: JobTexts, index: Index) -> None:
    """Embeds a sample of the documents and refuses vectors that the teacher would not write; without texts it can only warn."""
    path, material = index.files.path, texts.material
    if index.width != embedder.width:
        raise BadInput(f"{path}: its vectors are {index.width} wide, {embedder.maker.name} writes {embedder.width}: not its vectors")
    if material is None:
        reason = describe_lengths(embedder, torch.from_numpy(next(iter(index.files.batches(TEXTS_COMPARED)))).float())
        if reason is not None:
            raise BadInput(f"{path}: not {embedder.maker.name}'s vectors: {reason}")
        log.warning(f"{path}: nothing proves that they are the teacher's: give some of their texts as --documents")
        return
    rows = evenly_spaced_rows(len(material), TEXTS_COMPARED)
    prepared = embedder.prepare(material.read(rows), "document")
    again = torch.from_numpy(embedder.embed(prepared, "document", lambda _: None))  # [n, D]
    stored = take_vectors(index, [material.ids[row] for row in rows])  # [n, D]
    lengths = again.norm(dim=1) / stored.norm(dim=1).clamp(min=1e-12)  # [n], all alike where only the scale differs
    same_length = (lengths / lengths.median() - 1).abs() < SAME_LENGTH
    agreeing = float(((torch.cosine_similarity(again, stored) >= SAME_TEXT) & same_length).float().mean())
    if agreeing < LEAST_AGREEING:
        _, nearest = index.search(again.numpy(), 1)
        fault = diagnose_wrong_vectors(stored, again, take_vectors(index, [ids[0] for ids in nearest]))
        reason = "their lengths differ from those that it writes" if fault is None else fault.message
        if fault is None:
            reason = describe_lengths(embedder, stored) or reason
        raise BadInput(f"{path}: not {embedder.maker.name}'s vectors of these texts: of {len(rows)} sampled, {reason}")
    log.info(f"{path}: {agreeing:.0%} of {len(rows)} sampled documents have the vector that the teacher writes")


def describe_lengths(embedder: Embedder, stored: Tensor) -> str | None:
    """What is wrong with vectors [n, D] of several lengths, where the teacher's have length 1; None where nothing is."""
    lengths = stored.norm(dim=1)  # [n]
    even = ((lengths / lengths.median().clamp(min=1e-12) - 1).abs() < SAME_LENGTH).float().mean()
    if not isinstance(embedder, LocalTeacher) or not embedder.towers.document.normalizes or even >= LEAST_AGREEING:
        return None
    low, high = (float(value) for value in torch.aminmax(lengths))
    fix = "divide each by its length, as an index that searches by cosine ranks the same"
    return f"it ranks by cosine, with vectors of length 1, these are {low:.3g} to {high:.3g} long: {fix}"


def take_vectors(index: Index, ids: Sequence[str]) -> Tensor:
    """Looks up the vectors [n, D] float32 of n documents of an index, in one pass over its files."""
    rows = index.ids.rows(list(ids))
    vectors, start = np.empty((len(rows), index.width), np.float32), 0
    for batch in index.files.batches(ROWS_PER_BATCH):
        here = (rows >= start) & (rows < start + len(batch))
        vectors[here] = batch[rows[here] - start]
        start += len(batch)
    return torch.from_numpy(vectors)
