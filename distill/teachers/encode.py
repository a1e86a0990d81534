"""`encode`: writes the teacher's vectors of documents and queries into a store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from distill.encoders.tokenizing import Role
from distill.files.atomic import has_files
from distill.files.progress import log
from distill.records import BadInput
from distill.teachers.costs import CHARACTERS_PER_TOKEN, mean_characters
from distill.teachers.cross_pairs import encode_pairs
from distill.teachers.embedder import Embedder, encode_set
from distill.teachers.function import EncodesTexts, PairFunction, TextFunction
from distill.teachers.options import TeacherOptions, check_options, open_embedder, open_pair_embedder
from distill.teachers.server import ServerTeacher
from distill.texts.sources import QueryFile
from distill.texts.text_source import TextSource, require_source
from distill.texts.texts import Texts
from distill.vectors.source_documents import check_document_ids, check_query_ids
from distill.vectors.store import TeacherStore, VectorStore
from distill.vectors.store_plan import PLAN, read_plan, rows_written

TextSet = tuple[str, Texts, Role]  # name of the folder within the teacher's store, texts, role of the texts


def encode(
    teacher: str | Path | TextFunction | EncodesTexts | PairFunction,
    source: TextSource,
    out: str,
    splits: list[str] | None = None,
    queries: list[str] | None = None,
    candidates: str | None = None,
    candidates_per_query: int = 4,
    budget: float = 1.0,
    **options: Any,
) -> TeacherStore | dict[str, VectorStore] | None:
    """Writes the teacher's vectors of a corpus and its queries into a store, shard by shard, and returns it.

    A cross encoder reads pairs: its stores hold scores of each query's candidates, and vectors where its head pools them. A second call
    after a kill goes on with the missing shards. Under torchrun or srun every rank encodes its own shards; one that ends early
    returns None.

    Args:
        teacher: folder or hub name, a server's address (key in OPENAI_API_KEY); in Python also a function or object from texts to vectors,
            or with candidates a function from pairs (query, document) to scores.
        source: where documents and queries come from.
        out: store folder to write.
        splits: splits whose queries to encode; all by default.
        queries: files of extra queries to encode too.
        candidates: only for who reads pairs: what is read with a query behind its positive: mined negatives, a TREC run or a store's top.
        candidates_per_query: only for who reads pairs: number of documents for each query, including the positive.
        budget: only for a server: nothing is sent when the estimated cost is above it.
        options: how the teacher is read or asked, as `TeacherOptions` has them.
    """
    require_source(source)
    if isinstance(teacher, Path):
        teacher = str(teacher)
    asked = TeacherOptions(**options)
    kind = check_options(teacher, asked, queries, candidates)
    if kind == "cross encoder" or candidates:
        return encode_pairs(partial(open_pair_embedder, teacher, kind, asked), source, out, splits, candidates, candidates_per_query)
    embedder = open_embedder(teacher, kind, keep_format(asked, Path(out)), read_stored_width(Path(out)))
    return encode_sets(embedder, list_missing_sets(embedder, source, splits, queries, Path(out)), Path(out), asked.price, budget)


def encode_sets(embedder: Embedder, sets: list[TextSet], folder: Path, price: float | None, budget: float) -> TeacherStore | None:
    """Writes the stores of all sets of texts; returns None where other ranks still have shards to write."""
    if isinstance(embedder, ServerTeacher):
        check_cost(embedder, sets, folder, price, budget)
    stores = [encode_set(embedder, texts, role, folder / name) for name, texts, role in sets]
    return None if None in stores else TeacherStore(folder)


def read_stored_width(folder: Path) -> int | None:
    """Returns the width of the vectors in a store, None where there are none yet; refuses imported documents and other folders."""
    if has_files(folder) and not (folder / "documents").exists():
        raise BadInput(f"{folder}: not a store and not empty: choose another --out")
    if not (folder / "documents" / PLAN).exists():
        return None
    plan = read_plan(folder / "documents")
    if plan.maker.origin == "import":  # their model is unknown, so the queries have to be imported from the same place
        raise BadInput(f"{folder}: its documents were imported, no model of {plan.maker.name} is known: distill import its queries too")
    return plan.width


def keep_format(options: TeacherOptions, folder: Path) -> TeacherOptions:
    """The options of a teacher with the formats of products and of weights in which its store was begun, where none are asked for."""
    if options.precision == "auto" and options.weights != "bf16":
        own = [path for path in (folder / "documents", *folder.glob("queries-*")) if (path / PLAN).exists() and not path.is_symlink()]
        precision = next((maker.precision for maker in (read_plan(path).maker for path in own) if maker.precision), options.precision)
        options = replace(options, precision=precision)
    if options.weights != "auto" or not (folder / "documents" / PLAN).exists():
        return options
    return replace(options, weights=read_plan(folder / "documents").maker.weights or "fp32")


def list_missing_sets(
    embedder: Embedder, source: TextSource, splits: list[str] | None, queries: list[str] | None, folder: Path
) -> list[TextSet]:
    """Lists everything to encode, but for sets of which this teacher's vectors were imported; refuses those of another teacher."""
    has_documents = source.has_documents() or not _is_imported(folder / "documents")
    sets = list_text_sets(source, splits, queries, has_documents)
    if not has_documents:
        _check_imported(embedder, VectorStore(folder / "documents"))
    missing = []
    for name, texts, role in sets:
        if not _is_imported(folder / name):
            missing.append((name, texts, role))
            continue
        store = VectorStore(folder / name)
        _check_imported(embedder, store)
        if role == "document":
            check_document_ids(store.ids, source, str(store.folder))
        else:
            check_query_ids(store.ids, texts, str(store.folder))
        log.info(f"{store.folder}: imported before, {len(store)} vectors")
    return missing


def _is_imported(folder: Path) -> bool:
    return (folder / PLAN).exists() and read_plan(folder).maker.vectors is not None


def _check_imported(embedder: Embedder, store: VectorStore) -> None:
    """Refuses imported vectors of another teacher than this one."""
    maker, now = store.maker, embedder.maker
    if maker.origin == "import":
        fix = "import them with --teacher, which compares them with the model, or choose another --out"
        raise BadInput(f"{store.folder}: imported as vectors that nobody compared with {now.name}: {fix}")
    if maker.fingerprint != now.fingerprint:
        models = f"by {maker.name} of fingerprint {maker.fingerprint}, not by {now.name} of fingerprint {now.fingerprint}"
        raise BadInput(f"{store.folder}: imported as vectors {models}: choose another --out, or name that teacher with its prompts")


def list_text_sets(source: TextSource, splits: list[str] | None, queries: list[str] | None, has_documents: bool = True) -> list[TextSet]:
    """Lists everything to encode: the documents, the splits' queries, the files of extra queries."""
    sets: list[TextSet] = [("documents", source.documents(), "document")] if has_documents else []
    for split in splits or source.splits():
        sets += [(f"queries-{part}", source.queries(part), "query") for part in split.split("+")]
    for _, texts, _ in sets:
        texts.refuse_odd_ids()  # not those of extra queries, which are trained on alone and in no run file
    for path in queries or []:
        texts = QueryFile(path).queries()
        sets.append((f"queries-{texts.name}", texts, "query"))
    names = [name for name, _, _ in sets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(f"query sets: {', '.join(sorted(twice))} would be written twice: rename the file, or name each split once")
    return sets


def check_cost(server: ServerTeacher, sets: list[TextSet], folder: Path, price: float | None, budget: float) -> None:
    """Logs how many texts will be sent to a server and the estimated cost; refuses a cost above the budget."""
    count, tokens = 0, 0.0
    for name, texts, role in sets:
        missing = len(texts) - rows_written(folder / name)
        characters = mean_characters(texts) + len(server.prompts.get(role, ""))
        count += missing
        tokens += missing * characters / CHARACTERS_PER_TOKEN
    if not count:
        return
    estimate = f"{count} texts, about {tokens / 1e6:.3g} million tokens"
    if price is None:
        log.info(f"{server.maker.name}: {estimate} (no --price given)")
        return
    cost = price * tokens / 1e6
    estimate += f", about {cost:.2f} in all"
    if cost > budget:
        raise BadInput(f"budget: {server.maker.name} would be asked for {estimate}, above {budget:g}: raise --budget or give fewer texts")
    log.info(f"{server.maker.name}: {estimate}")
