"""`encode`: writes the teacher's vectors of documents and queries into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.files.atomic import has_files
from distill.files.device import Precision
from distill.files.progress import log
from distill.records import BadInput
from distill.teachers.costs import CHARACTERS_PER_TOKEN, mean_characters
from distill.teachers.cross_pairs import encode_pairs
from distill.teachers.embedder import Embedder, encode_set
from distill.teachers.function import EncodesTexts, TextFunction
from distill.teachers.options import TeacherOptions, check_options, open_embedder
from distill.teachers.server import ServerTeacher
from distill.texts.sources import QueryFile
from distill.texts.text_source import TextSource, require_source
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore, VectorStore
from distill.vectors.store_plan import PLAN, read_plan, rows_written

TextSet = tuple[str, Texts, Role]  # name of the folder within the teacher's store, texts, role of the texts


def encode(
    teacher: str | TextFunction | EncodesTexts,
    source: TextSource,
    out: str,
    splits: list[str] | None = None,
    queries: list[str] | None = None,
    precision: Precision = "auto",
    pooling: PoolingMode | None = None,
    normalize: bool | None = None,
    prompts: dict[str, str] | None = None,
    candidates: str | None = None,
    candidates_per_query: int = 4,
    model: str | None = None,
    requests_per_minute: int | None = None,
    price: float | None = None,
    budget: float = 1.0,
    name: str | None = None,
    trust_remote_code: bool = False,
    dimensions: int | None = None,
    role_fields: dict[str, dict[str, Any]] | None = None,
    concurrent: int | None = None,
) -> TeacherStore | dict[str, VectorStore] | None:
    """Writes the teacher's vectors of a corpus and its queries into a store, shard by shard, and returns it.

    A cross encoder reads pairs: its stores hold scores of each query's candidates, and vectors where its head pools them. A second call
    after a kill goes on with the missing shards. Under torchrun every rank encodes its own shards; one that ends early returns None.

    Args:
        teacher: folder or hub name, a server's address (key in OPENAI_API_KEY); in Python also a function or object from texts to vectors.
        source: where documents and queries come from.
        out: store folder to write.
        splits: splits whose queries to encode; all by default.
        queries: files of extra queries to encode too.
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
        pooling: only for a plain transformers folder, which does not record its pooling.
        normalize: whether vectors get length 1; only for a plain transformers folder, or false where a folder's cosine would have it.
        prompts: put before every text, e.g. {query: "query: ", document: "passage: "}; by default the folder's own.
        candidates: only for a cross encoder: what it reads with a query behind its positive: mined negatives, a TREC run or a store's top.
        candidates_per_query: only for a cross encoder: number of documents for each query, including the positive.
        model: only for a server: its name for the model; text-embeddings-inference's /embed tells it.
        requests_per_minute: only for a server: most requests in a minute.
        price: only for a server: price of a million tokens.
        budget: only for a server: nothing is sent when the estimated cost is above it.
        name: only for a function: its name in the store. A function that changed needs a new name: the store cannot see the change.
        trust_remote_code: whether Python code that the teacher's folder brings with it may run; read it before. The store says that it ran.
        dimensions: only for a server: numbers in a vector to ask for, where its model can shorten them; its own by default.
        role_fields: only for a server: JSON fields of its requests by role: {query: {input_type: query}, document: {input_type: document}}.
        concurrent: only for a server: requests sent in parallel; 4 by default.
    """
    return _encode(**locals())


def _encode(
    teacher: str | TextFunction | EncodesTexts,
    source: TextSource,
    out: str,
    splits: list[str] | None,
    queries: list[str] | None,
    candidates: str | None,
    candidates_per_query: int,
    budget: float,
    **given: Any,
) -> TeacherStore | dict[str, VectorStore] | None:
    """Does what `encode` does; `given` are the options of the teacher."""
    require_source(source)
    options = TeacherOptions(**given)
    kind = check_options(teacher, options, queries, candidates)
    if kind == "cross encoder":
        return encode_pairs(str(teacher), source, out, splits, candidates, candidates_per_query, options.precision)
    embedder = open_embedder(teacher, kind, options, read_stored_width(Path(out)))
    return encode_sets(embedder, list_text_sets(source, splits, queries), Path(out), options.price, budget)


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


def list_text_sets(source: TextSource, splits: list[str] | None, queries: list[str] | None) -> list[TextSet]:
    """Lists everything to encode: the documents, the splits' queries, the files of extra queries."""
    sets: list[TextSet] = [("documents", source.documents(), "document")]
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
