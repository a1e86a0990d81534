"""`import_vectors`: writes vectors that already exist into a store."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.records import BadInput
from distill.teachers.agreement import compare_with_teacher
from distill.teachers.embedder import Embedder
from distill.teachers.function import EncodesTexts, TextFunction
from distill.teachers.options import TeacherOptions, check_options, open_embedder
from distill.texts.text_source import TextSource
from distill.vectors.index import Index
from distill.vectors.source_documents import check_document_ids, check_query_ids
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter, write_store
from distill.vectors.vector_files import VectorFiles, check_vector_ids


def import_vectors(
    vectors: str,
    out: str,
    ids: str | None = None,
    name: str | None = None,
    queries: str | None = None,
    source: TextSource | None = None,
    teacher: str | TextFunction | EncodesTexts | None = None,
    **options: Any,
) -> VectorStore:
    """Writes vectors that already exist into a store: the documents first, then each set of queries; the model itself is not needed.

    Everything is checked before anything is written. Run again after a kill it goes on with the missing shards.

    Args:
        vectors: .npy or .parquet file, a folder of either, or a flat faiss index.
        out: store folder to write.
        ids: text file with an id a line, in the order of the vectors; for parquet the name of the id column, where several are possible.
        name: name of the model that made the vectors, as results show it, e.g. openai/text-embedding-3-small; not with a teacher.
        queries: name of the query set, a split or the name of a file of extra queries without its ending; documents by default.
        source: the texts of these vectors; what they lack is then refused now and not by the training. A file of extra queries is in none.
        teacher: the model that made the vectors, as `encode` takes it. It embeds 256 of the source's texts, and vectors that it would not
            have written are refused. `encode` then adds queries to the store, and a student can be cut from it.
        options: only with a teacher: how it is read or asked, as `TeacherOptions` has them.

    Returns:
        The store of this set: `out/documents`, or `out/queries-NAME`.
    """
    folder = choose_folder(Path(out), queries)
    asked = TeacherOptions(name=name, **options)
    refuse_unusable_options(teacher, asked, source, queries)
    documents = None if queries is None else open_given_documents(Path(out), name if teacher is None else None)
    index = open_index(vectors, ids, documents)
    if source is not None:
        check_texts_of(index.files, source, queries)
    maker = make_maker(name, index.files.fingerprint(), documents)
    if teacher is not None and source is not None:
        embedder = open_embedder(teacher, check_options(teacher, asked, None, None), asked, None)
        refuse_other_teacher(embedder, documents)
        maker = compare_and_name(embedder, source, queries, index, maker)
    write_store(index.files, StoreWriter(folder, index.ids, index.width, maker, texts=None))
    return VectorStore(folder)


def choose_folder(out: Path, queries: str | None) -> Path:
    """Returns the folder of a set within a store; refuses a folder of something else, and a name that no folder can have."""
    if out.exists() and any(out.iterdir()) and not (out / "documents").exists():
        raise BadInput(f"{out}: not a store and not empty: choose another --out")
    if queries is not None and not re.fullmatch(r"[\w.-]+", queries):
        raise BadInput(f"queries: {queries!r}: a set of queries is named with letters, digits, '.', '_' and '-', e.g. train")
    return out / (f"queries-{queries}" if queries else "documents")


def refuse_unusable_options(teacher: Any, options: TeacherOptions, source: TextSource | None, queries: str | None) -> None:
    """Refuses options of a teacher where there is none, a teacher that cannot be compared, and documents that nobody made."""
    if teacher is None:
        changed = sorted(options.list_changed() - {"name"})
        if changed:
            raise BadInput(f"{', '.join(changed)}: only with --teacher, the model that made the vectors: name it or leave this out")
        if queries is None and not options.name:
            raise BadInput("name: say what made the vectors, e.g. --name openai/text-embedding-3-small, or --teacher where it is here")
        return
    if check_options(teacher, options, None, None) == "cross encoder":
        raise BadInput(f"{teacher}: a cross encoder scores pairs and writes no vectors of texts: name the model that made them")
    if source is None:
        raise BadInput("teacher: needs the texts of the vectors, to embed some of them again: name their --source, or give --name instead")
    if queries is None and not source.has_documents():
        raise BadInput(f"teacher: {source} has no texts of documents to embed again: add them, or give --name instead of --teacher")


def open_given_documents(out: Path, name: str | None) -> VectorStore:
    """Opens the documents that the queries belong to; refuses a name other than that of their maker."""
    if not (out / "documents").exists():
        raise BadInput(f"{out}: no documents in it yet, whose model these queries share: import those first, without --queries")
    documents = VectorStore(out / "documents")
    if name not in (None, documents.maker.name):
        raise BadInput(f"name: the documents of {out} are by {documents.maker.name}, not {name}: one store holds one model's vectors")
    return documents


def open_index(vectors: str, ids: str | None, documents: VectorStore | None) -> Index:
    """Opens the vectors to import; refuses ids that no run file can hold, and another width than that of the documents."""
    index = Index(vectors, ids)
    check_vector_ids(index.ids, ids if ids is not None and Path(ids).is_file() else vectors)
    if documents is not None and index.width != documents.width:
        widths = f"{index.width} wide, the documents of {documents.folder.parent} are {documents.width}"
        raise BadInput(f"{vectors}: {widths}: import vectors of the same model")
    return index


def refuse_other_teacher(embedder: Embedder, documents: VectorStore | None) -> None:
    """Refuses a teacher of queries other than that of the documents in their store."""
    if documents is None or documents.maker.fingerprint == embedder.maker.fingerprint:
        return
    store, maker = documents.folder.parent, documents.maker
    if maker.origin == "import":
        raise BadInput(f"teacher: the documents of {store} were imported without it: import them with --teacher too, or leave it out")
    reason = f"the documents of {store} are by {maker.name} of fingerprint {maker.fingerprint}, not {embedder.maker.fingerprint}"
    raise BadInput(f"teacher: {reason}: name their model, with the prompts that it had then")


def compare_and_name(embedder: Embedder, source: TextSource, queries: str | None, index: Index, imported: Maker) -> Maker:
    """Refuses vectors that the teacher would not write; returns the maker of those that it would, `imported` with the teacher as model."""
    if queries is None:
        compare_with_teacher(embedder, source.documents(), index, "document")
    else:
        compare_with_teacher(embedder, source.queries(queries), index, "query")
    return name_teacher(embedder, imported.role, imported.vectors)


def name_teacher(embedder: Embedder, role: Role | None, vectors: str | None) -> Maker:
    """The maker of a teacher's vectors that another program wrote, whose fingerprint is `vectors`."""
    return replace(embedder.maker, role=role, precision=None, vectors=vectors)


def write_teacher_documents(files: VectorFiles, embedder: Embedder, folder: Path) -> None:
    """Writes vectors that were given as those of the teacher's documents."""
    write_store(files, StoreWriter(folder, files.ids, files.width, name_teacher(embedder, "document", files.fingerprint()), texts=None))


def check_texts_of(files: VectorFiles, source: TextSource, queries: str | None) -> None:
    """Refuses vectors whose ids are not those of the source's documents or of one of its splits, and a split with an empty query."""
    if queries is not None:
        texts = source.queries(queries)
        texts.refuse_empty()
        check_query_ids(files.ids, texts, files.path)
    elif source.has_documents():
        check_document_ids(files.ids, source, files.path)


def make_maker(name: str | None, vectors: str, documents: VectorStore | None) -> Maker:
    """Makes the maker of imported vectors; as their model is unknown, the fingerprint of the documents' vectors stands for it.

    Args:
        name: as the user gave it.
        vectors: fingerprint of the imported set: other vectors under the same ids are another store.
        documents: the store that queries belong to; None where these are the documents.
    """
    if documents is None:
        return Maker(name or "", vectors, "import", role="document", vectors=vectors)
    return replace(documents.maker, origin="import", role="query", vectors=vectors)
