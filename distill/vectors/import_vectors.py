"""`import_vectors`: writes vectors that already exist into a store."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from distill.encoders.maker import Maker
from distill.files.progress import log, progress_bar
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.vectors.import_formats import open_vectors
from distill.vectors.source_documents import check_document_ids, check_query_ids
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter
from distill.vectors.vector_files import VectorFiles, check_vector_ids


def import_vectors(
    vectors: str,
    out: str,
    ids: str | None = None,
    name: str | None = None,
    queries: str | None = None,
    source: TextSource | None = None,
) -> VectorStore:
    """Writes vectors that already exist into a store: the documents first, then each set of queries; the model itself is not needed.

    Everything is checked before anything is written. Run again after a kill it goes on with the missing shards.

    Args:
        vectors: .npy or .parquet file, a folder of either, or a flat faiss index.
        out: store folder to write.
        ids: text file with an id a line, in the order of the vectors; for parquet the name of the id column, where several are possible.
        name: name of the model that made the vectors, as results show it, e.g. openai/text-embedding-3-small.
        queries: name of the query set, a split or the name of a file of extra queries without its ending; documents by default.
        source: the texts of these vectors; what they lack is then refused now and not by the training. A file of extra queries is in none.

    Returns:
        The store of this set: `out/documents`, or `out/queries-NAME`.
    """
    if Path(out).exists() and any(Path(out).iterdir()) and not (Path(out) / "documents").exists():
        raise BadInput(f"{out}: not a store and not empty: choose another --out")
    if queries is not None and not re.fullmatch(r"[\w.-]+", queries):
        raise BadInput(f"queries: {queries!r}: a set of queries is named with letters, digits, '.', '_' and '-', e.g. train")
    documents = None if queries is None else open_imported_documents(Path(out), name)
    if documents is None and not name:
        raise BadInput("name: say what made the vectors, e.g. --name openai/text-embedding-3-small")
    files = open_vectors(vectors, ids)
    check_vector_ids(files.ids, ids if ids is not None and Path(ids).is_file() else vectors)
    if documents is not None and files.width != documents.width:
        raise BadInput(f"{vectors}: {files.width} wide, the documents of {out} are {documents.width}: import vectors of the same model")
    if source is not None:
        check_texts_of(files, source, queries)
    folder = Path(out) / (f"queries-{queries}" if queries else "documents")
    maker = make_maker(name, files.fingerprint(), documents)
    write_store(files, StoreWriter(folder, files.ids, files.width, maker, texts=None))
    return VectorStore(folder)


def open_imported_documents(out: Path, name: str | None) -> VectorStore:
    """Opens the documents that the queries belong to; refuses a name other than that of their maker."""
    if not (out / "documents").exists():
        raise BadInput(f"{out}: no documents in it yet, whose model these queries share: import those first, without --queries")
    documents = VectorStore(out / "documents")
    if name not in (None, documents.maker.name):
        raise BadInput(f"name: the documents of {out} are by {documents.maker.name}, not {name}: one store holds one model's vectors")
    return documents


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


def write_store(files: VectorFiles, writer: StoreWriter) -> None:
    """Writes the vectors of all shards that are not written yet."""
    if writer.finished:
        writer.update_name()
        log.info(f"{writer.folder}: done before, {files.rows} vectors")
        return
    missing = {shard for shard, _ in writer.missing_shards()}
    with progress_bar(total=files.rows, desc=f"import {writer.folder.name}", unit=" vectors") as bar:
        for shard, vectors in enumerate(files.batches(writer.rows_per_shard)):
            if shard in missing:
                writer.write_shard(shard, vectors)
            bar.update(len(vectors))
    writer.finish()
    log.info(f"{writer.folder}: {files.rows} vectors, {files.width} wide")
