"""`distill encode`: the teacher's vectors of documents and queries into a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from distill.encoders.batching import encode_token_ids
from distill.encoders.cross_folder import is_cross_encoder
from distill.encoders.hub import local_folder
from distill.encoders.maker import Maker
from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, load_towers
from distill.files.atomic import holds_files
from distill.files.device import Precision, best_device, resolve_precision
from distill.files.progress import progress_bar
from distill.files.ranks import launched_rank, launched_world_size
from distill.records import BadInput
from distill.teachers.candidates import PairTexts, holds_pairs
from distill.teachers.cross_pairs import list_pair_sets, load_pair_teacher
from distill.teachers.server import ServerTeacher, is_address
from distill.texts.sources import QueryFile, TextSource
from distill.texts.texts import Texts
from distill.vectors.store_writer import StoreWriter, read_plan, rows_written

T = TypeVar("T")
R = TypeVar("R")

CHARACTERS_PER_TOKEN = 4  # of English text, for an estimate
TEXTS_ESTIMATED_BY = 1000

TextSet = tuple[str, Texts, Role]  # name of its store


class VectorMaker(Protocol):
    """Who turns texts, or pairs of them, into vectors: a model here or a server elsewhere."""

    @property
    def width(self) -> int: ...

    @property
    def where(self) -> str: ...

    def cut(self, texts: Sequence[Any], role: Role) -> Sequence[Any]:
        """What can be done to texts before their turn, in another thread."""

    def vectors(self, cut: Sequence[Any], role: Role, progress: Callable[[int], object]) -> np.ndarray: ...


@dataclass(frozen=True)
class LocalTeacher:
    """A model on this machine."""

    towers: Towers
    precision: Precision

    @property
    def width(self) -> int:
        return self.towers.width

    @property
    def where(self) -> str:
        return f"in {self.precision} on {self.towers.device}"

    def cut(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        return self.towers.tower(role).token_ids(texts, role)

    def vectors(self, cut: Sequence[list[int]], role: Role, progress: Callable[[int], object]) -> np.ndarray:
        return encode_token_ids(self.towers.tower(role), cut, self.precision, progress)


def encode(
    teacher: str,
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
) -> None:
    """Writes the teacher's vectors of a corpus and its queries into a store, shard by shard.

    A cross encoder reads pairs: the store then holds its scores, and where it pools them apart its vectors, of each query's candidates.
    Run again after a kill it goes on with the missing shards; what is finished is skipped. Under torchrun every rank encodes
    its own shards. A server with OpenAI's embeddings interface is a teacher too; its key is read from OPENAI_API_KEY.

    Args:
        teacher: folder or hub name of the teacher, or the address of a server, e.g. http://localhost:8080/v1.
        source: where documents and queries come from.
        out: store folder to write.
        splits: splits whose queries to encode; all of the source's by default.
        queries: files of extra queries to encode too.
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
        pooling: only for a plain transformers folder, which does not say it.
        normalize: likewise, whether vectors are scaled to length 1.
        prompts: put before every text, e.g. {query: "query: ", document: "passage: "}; by default the folder's own.
        candidates: only for a cross encoder: which documents it reads beside each query: mined negatives, a TREC run file, or a dual
            encoder's store, whose highest ranking ones are taken. A judged query's positive is always the first of them.
        candidates_per_query: so many, the positive included.
        model: what a server calls its model; the options below are for servers too.
        requests_per_minute: at most so many are sent.
        price: what a million tokens cost there.
        budget: nothing is sent when the estimated cost is above it.
    """
    is_local = not is_address(teacher)
    if is_local and (model or requests_per_minute or price is not None):
        raise BadInput("model, requests_per_minute, price: only for a server: give its address as --teacher, e.g. http://localhost:8080/v1")
    if is_local and is_cross_encoder(local_folder(teacher)):
        if queries or pooling or normalize is not None or prompts:
            raise BadInput("a cross encoder takes neither queries, pooling, normalize nor prompts: leave them out")
        return encode_candidate_pairs(teacher, list_pair_sets(source, splits, candidates, candidates_per_query), Path(out), precision)
    if candidates:
        raise BadInput(f"candidates: {teacher} embeds single texts: leave it out, or name a cross encoder as --teacher")
    if not is_local and (not model or pooling or normalize is not None or precision != "auto"):
        raise BadInput(f"{teacher}: a server needs --model, and has its own pooling, normalize and precision: leave those out")
    folder = Path(out)
    width, sets = check_store_folder(folder), list_text_sets(source, splits, queries)
    if is_local:
        return encode_sets(*load_local_teacher(teacher, precision, pooling, normalize, prompts), sets, folder)
    server = ServerTeacher(teacher, model or "", prompts, requests_per_minute, width)
    announce_cost(server, sets, folder, price, budget)
    maker = Maker(server.name, server.fingerprint(), "server", prompts=prompts)
    encode_sets(server, maker, sets, folder)


def encode_sets(teacher: VectorMaker, maker: Maker, sets: list[TextSet], out: Path) -> None:
    for name, texts, role in sets:
        encode_set(teacher, texts, role, out / name, maker)


def check_store_folder(folder: Path) -> int | None:
    """Width of the vectors that a folder's store has so far, None where there is none; refuses imported documents and other files."""
    if holds_files(folder) and not (folder / "documents").exists():
        raise BadInput(f"{folder}: not a store and not empty: choose another --out")
    if not (folder / "documents" / "plan.json").exists():
        return None
    plan = read_plan(folder / "documents")
    maker = Maker.from_json(plan["maker"], folder / "documents" / "plan.json")
    if maker.origin == "import":  # nobody knows which model made them: the queries have to come from where they came from
        raise BadInput(f"{folder}: its documents were imported, no model of {maker.name} is known: distill import its queries too")
    return plan["width"]


def encode_candidate_pairs(teacher: str, sets: list[tuple[str, PairTexts]], out: Path, precision: Precision) -> None:
    """What a cross encoder says about pairs, a store for each split."""
    if holds_files(out) and not holds_pairs(str(out)):
        raise BadInput(f"{out}: not a store of pairs and not empty: choose another --out")
    reader, maker = load_pair_teacher(teacher, precision)
    for name, texts in sets:
        encode_set(reader, texts, "query", out / name, maker)


def load_local_teacher(
    teacher: str, precision: Precision, pooling: PoolingMode | None, normalize: bool | None, prompts: dict[str, str] | None
) -> tuple[LocalTeacher, Maker]:
    """A model of this machine, and what a store says of it."""
    towers = load_towers(teacher, pooling, normalize, prompts).prepare_for(best_device())
    local = LocalTeacher(towers, resolve_precision(precision, towers.device.type))
    name = str(Path(teacher).resolve()) if Path(teacher).is_dir() else teacher
    maker = Maker(name, towers.fingerprint(), precision=local.precision, pooling=pooling, normalize=normalize, prompts=prompts)
    return local, maker


def list_text_sets(source: TextSource, splits: list[str] | None, queries: list[str] | None) -> list[TextSet]:
    """Everything to encode: the documents, the splits' queries, the files of extra queries."""
    sets: list[TextSet] = [("documents", source.documents(), "document")]
    for split in splits or source.splits():
        sets += [(f"queries-{part}", source.queries(part), "query") for part in split.split("+")]
    for path in queries or []:
        texts = QueryFile(path).queries()
        sets.append((f"queries-{texts.name}", texts, "query"))
    names = [name for name, _, _ in sets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"query sets: {', '.join(sorted(twice))} would be written twice: rename the file, or name each split once")
    return sets


def announce_cost(teacher: ServerTeacher, sets: list[TextSet], out: Path, price: float | None, budget: float) -> None:
    """Says what is about to be asked for and what that may cost; refuses what is above the budget."""
    texts, tokens = 0, 0.0
    for name, those, role in sets:
        missing = len(those) - rows_written(out / name)
        some = those.read(np.linspace(0, len(those) - 1, min(TEXTS_ESTIMATED_BY, len(those))).astype(int))
        characters = sum(map(len, some)) / max(1, len(some)) + len(teacher.prompts.get(role, ""))
        texts, tokens = texts + missing, tokens + missing * characters / CHARACTERS_PER_TOKEN
    if not texts:
        return
    cost = None if price is None else price * tokens / 1e6
    estimate = f"{texts} texts, about {tokens / 1e6:.3g} million tokens" + ("" if cost is None else f", about {cost:.2f} in all")
    if cost is not None and cost > budget:
        raise BadInput(f"budget: {teacher.name} would be asked for {estimate}, above {budget:g}: raise --budget or give fewer texts")
    print(f"{teacher.name}: {estimate}" + (" (no --price given)" if price is None else ""), flush=True)


def encode_set(teacher: VectorMaker, texts: Texts | PairTexts, role: Role, folder: Path, maker: Maker) -> None:
    """One set of texts into one store; this process does every `WORLD_SIZE`-th shard, from `RANK`."""
    writer = StoreWriter(folder, texts.ids, teacher.width, replace(maker, role=role), texts.fingerprint)
    if writer.finished:
        writer.update_name()
        return print(f"{folder}: done before, {len(texts)} vectors")
    rank, world = launched_rank(), launched_world_size()
    missing = [(shard, rows) for shard, rows in writer.missing() if shard % world == rank]
    todo = sum(len(rows) for _, rows in missing)
    print(f"{folder}: {todo} texts to encode {teacher.where}", flush=True)
    with progress_bar(total=todo, desc=f"encode {folder.name}", unit=" texts") as bar:
        shards = [shard for shard, _ in missing]
        cut = run_ahead(lambda part: teacher.cut(texts.read(part[1]), role), missing)
        vectors = (teacher.vectors(texts_cut, role, bar.update) for texts_cut in cut)
        for _ in run_ahead(lambda part: writer.write(*part), zip(shards, vectors, strict=True)):
            pass
    writer.finish()
    print(f"{folder}: {len(texts)} vectors, {teacher.width} wide")


def run_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`function` of each item in turn, worked out in another thread while the caller is busy with the one before."""
    beside = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(beside.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        for last in waiting:
            yield last.result()
    finally:
        # not waited for: what an error leaves behind is closed by the garbage collector, in whatever thread that runs
        beside.shutdown(wait=False, cancel_futures=True)
