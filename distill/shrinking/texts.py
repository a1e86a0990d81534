"""Brings the texts of a job, in whatever files they come, into one folder of documents and splits of queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.atomic import read_json, write_atomically, write_json
from distill.files.progress import log
from distill.records import BadInput
from distill.shrinking.crops import FEW_QUERIES, SHARE_OF_PIECES, keep_what_fits, make_crops, make_pieces
from distill.shrinking.request import Request
from distill.shrinking.splits import (
    DEV,
    JUDGED,
    TEST,
    Pool,
    Split,
    check_judged_documents,
    choose_judged,
    judged_splits,
    leave_out,
    refuse_nothing_relevant,
    sample_dev,
)
from distill.teachers.embedder import Embedder
from distill.texts.collection import Collection, write_split
from distill.texts.ids import Ids
from distill.texts.qrels import read_qrels
from distill.texts.tables import read_queries, read_rows, write_documents
from distill.texts.text_source import HOLDOUT, TRAIN, TextSource
from distill.texts.texts import Texts
from distill.vectors.index import Index
from distill.vectors.source_documents import check_document_ids, check_documents

SUMMARY = "summary.json"
CROPS, PIECES, NOISE = "crops", "pieces", "noise"
NUMBERED = "numbered"  # whether the documents came without ids
CORPUS = "corpus.jsonl"
SAMPLE = "sample.jsonl"  # texts of a part of the documents whose vectors were given


@dataclass(frozen=True)
class JobTexts:
    """The texts of a job, and what became of those that were given.

    Attributes:
        source: documents and splits of queries: train, dev, holdout, and the judged ones.
        sample: texts of a part of the documents, where only their vectors are complete.
        extra: files of more queries to learn from: crops where there are few real ones, pieces, and what a continued job replays.
        summary: the counts of each, and `evaluated_on`, the split that the verdict is about.
    """

    source: TextSource
    sample: Texts | None
    extra: tuple[Path, ...]
    summary: dict[str, Any]

    @property
    def material(self) -> Texts | None:
        """Texts of documents: all of them, or those that are known; None where none is."""
        if self.sample is not None:
            return self.sample
        return self.source.documents() if self.source.has_documents() else None


def prepare_texts(request: Request, folder: Path, embedder: Embedder | None = None) -> JobTexts:
    """Writes the texts of a job into its folder, whole or not at all; a second call opens what is there.

    Args:
        request: what the job was asked for.
        folder: to write.
        embedder: the teacher, whose rate decides how many crops and pieces there are; None keeps all.
    """
    if not folder.exists():
        with write_atomically(folder) as temporary:
            temporary.mkdir(parents=True)
            write_json(temporary / SUMMARY, _write_texts(request, temporary, embedder))
    summary = read_summary(folder)
    given = request.text_source
    documents = given if summary["documents"] == "source" else None
    relevant_from = 1 if given is None else given.relevant_from
    # numbers that we gave to documents are not the ids of queries
    keep_own = request.keep_own_documents or summary.get(NUMBERED, False) if given is None else given.keep_own_documents
    return open_texts(Collection(str(folder), documents, summary["documents"] == "queries", relevant_from, keep_own), folder)


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads the counts of the texts that an earlier call wrote."""
    return read_json(folder / SUMMARY, "summary of a job's texts")


def open_texts(source: TextSource, folder: Path) -> JobTexts:
    """Opens the texts that an earlier call wrote."""
    sample = Texts.open(folder / SAMPLE, join_title=True) if (folder / SAMPLE).exists() else None
    others = [path for path in sorted(folder.glob("*.jsonl")) if path.name not in (CORPUS, SAMPLE) and not path.name.startswith("queries.")]
    return JobTexts(source, sample, tuple(others), read_summary(folder))


def write_extra(folder: Path, name: str, queries: Texts) -> None:
    """Writes a file of queries to learn from that is no split."""
    if (folder / f"queries.{name}.jsonl").exists():
        raise BadInput(f"source: its split {name!r} is called as a file that shrink writes: rename it")
    write_split(folder, name, queries)
    (folder / f"queries.{name}.jsonl").rename(folder / f"{name}.jsonl")


def _write_texts(request: Request, folder: Path, embedder: Embedder | None) -> dict[str, Any]:
    """Writes documents, splits, crops and pieces, and returns the summary."""
    general = request.general_texts  # refused before anything is written
    kind = _write_documents(request, folder)
    material = _open_material(request, folder, kind)
    given = None if request.queries is None else read_queries(request.queries, request.text_field, request.id_field)
    measured, dev, pool, counts = _gather_queries(request, given, kind)
    searched = material if request.known_vectors is None else request.known_vectors
    known = None if searched is None else searched.ids
    for split in measured.values():
        check_judged_documents(split, known)
    refuse_nothing_relevant(measured.values(), known)
    if not pool.ids:
        pool.add(_cut_crops(material, None, pool.evaluation))
        counts["queries"] = "crops"
    parts = pool.divide(needs_dev=dev is None, needs_holdout=HOLDOUT not in measured)
    splits = {**parts, **measured, **({} if dev is None else {DEV: dev})}
    for name, split in splits.items():
        write_split(folder, name, split.queries, split.qrels)
        counts[name] = len(split.queries)
    evaluation = [split.queries for name, split in splits.items() if name != TRAIN]
    extra = [_cut_pieces([material, general], evaluation)]
    if embedder is not None:
        extra = [keep_what_fits(extra[0], partial(embed_queries, embedder), SHARE_OF_PIECES * request.minutes)]
    if counts["queries"] == "given" and counts[TRAIN] < FEW_QUERIES and material is not None:
        crops = _cut_crops(material, splits[TRAIN].queries, evaluation)
        if embedder is not None:
            crops = keep_what_fits(crops, partial(embed_queries, embedder), (1 - SHARE_OF_PIECES) * request.minutes)
        extra.append(crops)
    for queries in extra:
        if len(queries):
            write_extra(folder, queries.name, queries)
            counts[queries.name] = len(queries)
    evaluated_on = "+".join(measured) or HOLDOUT
    if _is_numbered(request):
        counts[NUMBERED] = True
    return {**counts, "documents": kind, "evaluated_on": evaluated_on, "removed": pool.removed}


def embed_queries(embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
    """Returns a teacher's vectors [N, D] of a few queries."""
    return embedder.embed(embedder.prepare(texts, "query"), "query", lambda _: None)


def _gather_queries(request: Request, given: Texts | None, kind: str) -> tuple[dict[str, Split], Split | None, Pool, dict[str, Any]]:
    """Returns the judged splits to measure on, the source's dev split, the queries to learn from, and how many of these came from where."""
    source = request.text_source
    has_documents = kind != "queries"  # else there is nothing that judgments could be about
    measured = judged_splits(source) if source is not None and has_documents else {}
    if given is not None and request.judgments:
        judged = choose_judged(given, read_qrels(Path(request.judgments)))
        name = JUDGED if TEST in measured else TEST
        unknown = leave_out(judged, [split.queries for split in measured.values()])
        if len(unknown.queries):
            measured[name] = unknown
        else:
            log.warning(f"judgments: {request.judgments}: not used: the source judges all of these queries, and its judgments count")
    dev = None if source is None else sample_dev(source, measured)
    pool = Pool([split.queries for split in [*measured.values(), *([] if dev is None else [dev])]])
    counts: dict[str, Any] = {"queries": "given"}
    if source is not None and TRAIN in source.splits():
        counts["of the source"] = pool.add(source.queries(TRAIN))
    unlabelled = None if source is None else source.load_unlabelled()
    if unlabelled is not None:
        counts["unlabelled"] = pool.add(unlabelled)
    if given is not None:
        counts["of the file"] = pool.add(given)
    return measured, dev, pool, counts


def _cut_crops(material: Texts | None, queries: Texts | None, evaluation: Sequence[Texts]) -> Texts:
    if material is None:
        raise BadInput("queries: no usable one, and no text of a document to cut some from: give --queries or --documents")
    crops = make_crops(material, queries, evaluation)
    if not crops:
        raise BadInput("documents: no words in them to cut queries from: give texts, or --queries")
    return _number_texts("crop", crops, CROPS)


def _cut_pieces(materials: Sequence[Texts | None], evaluation: Sequence[Texts]) -> Texts:
    pieces = [piece for material in materials if material is not None for piece in make_pieces(material, evaluation)]
    pieces = list(dict.fromkeys(pieces))
    random.Random(0).shuffle(pieces)  # else a slow teacher would leave out the general ones
    return _number_texts("piece", pieces, PIECES)


def _number_texts(kind: str, texts: list[str], name: str) -> Texts:
    return Texts.from_lists([f"{kind}-{number}" for number in range(len(texts))], texts, name=name)


def _write_documents(request: Request, folder: Path) -> str:
    """Writes the file of the documents, or of a sample of them, and returns where documents are: file, source, queries or vectors."""
    source, vectors = request.text_source, request.known_vectors
    if source is not None and source.has_documents():
        if request.index is not None:
            check_document_ids(request.index.ids, source, request.index.files.path)
        elif request.store is not None:
            check_documents(request.store.documents, source)
        return "source"
    if request.document_file is None:
        return "queries" if vectors is None else "vectors"
    path = folder / CORPUS
    write_documents(path, read_rows(request.document_file, request.field_names))
    has_all = vectors is None or _has_all(Texts.open(path).ids, vectors, _is_numbered(request))
    if has_all and (vectors is request.index or request.store is None or request.store.documents.texts is None):
        return "file"
    path.rename(folder / SAMPLE)
    return "vectors"


def _is_numbered(request: Request) -> bool:
    """Whether documents have their row's number as their id, as their file has none."""
    return request.document_file is not None and next(read_rows(request.document_file, request.field_names)).id is None


def _has_all(texts: Ids, index: Index, is_numbered: bool) -> bool:
    """Whether there are texts of all vectors; refuses texts that have no vector, and ids that never meet."""
    vectors, path = index.ids, index.files.path
    rows = np.concatenate([vectors.rows(chunk) for chunk in texts.chunks()])
    unknown = int((rows < 0).sum())
    fix = "they have no ids and were numbered: name the field of ids, --fields id=FIELD" if is_numbered else "give the same ids in both"
    if unknown == len(texts):
        pair = f"{texts[0]!r} is an id of a document, {vectors[0]!r} of a vector"
        raise BadInput(f"documents: none of them is among the vectors of {path}: {pair}: {fix}")
    if unknown:
        id_ = texts[int(np.argmax(rows < 0))]
        raise BadInput(f"documents: {unknown} of {len(texts)} have no vector in {path}, {id_!r} for one: {fix}")
    return len(texts) == len(vectors)


def _open_material(request: Request, folder: Path, kind: str) -> Texts | None:
    """Opens the texts that crops can be cut from."""
    if kind == "source":
        assert request.text_source is not None
        return request.text_source.documents()
    path = next((path for path in (folder / CORPUS, folder / SAMPLE) if path.exists()), None)
    return None if path is None else Texts.open(path, join_title=True)


def describe_texts(texts: JobTexts) -> list[str]:
    """Says in a few lines what is learnt from, and what is measured."""
    summary, lines = texts.summary, []
    kind = "crops of documents" if summary["queries"] == "crops" else "queries"
    lines.append(f"{summary[TRAIN]} {kind} to learn from, {summary['dev']} to choose the epoch by, {summary[HOLDOUT]} held out")
    if summary.get("unlabelled"):
        lines.append(f"{summary['unlabelled']} unlabelled queries beside the judged ones are learnt from too")
    if NOISE in summary:
        copies = f"{summary[NOISE]} noisy copies of them, and " if summary[NOISE] else ""
        lines.append(f"beside them: {copies}queries, crops and pieces of the earlier jobs")
    elif summary.get(CROPS):
        lines.append(f"few queries: {summary[CROPS]} crops of documents are mixed in")
    if summary.get(PIECES) and NOISE not in summary:
        lines.append(f"for queries of other kinds and lengths: {summary[PIECES]} pieces of up to 160 words are mixed in")
    if summary["removed"]:
        lines.append(f"{summary['removed']} queries left out: repeated, or among those that are measured on")
    if summary["documents"] == "queries":
        lines.append("no documents: agreement is measured among the vectors of the queries")
    return lines


def log_texts(texts: JobTexts) -> None:
    """Logs what `describe_texts` says."""
    for line in describe_texts(texts):
        log.info(line)
