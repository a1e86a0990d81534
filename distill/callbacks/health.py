"""What goes wrong in a distillation without an error: each fault is told in one line, and again to a tracker that takes alerts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from distill.callbacks.run_log import read_lines
from distill.callbacks.watch import DevWatcher
from distill.encoders.batching import encode_texts
from distill.encoders.towers import is_available, load_maker
from distill.files.atomic import write_atomically, write_json
from distill.files.ranks import gather_rows, max_over_ranks
from distill.records import BadInput, Batch, Encoded
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.store import VectorStore

WARNINGS = "health.jsonl"
SAMPLE = 16  # texts of a set embedded again
DEV_SAMPLE = 256  # dev queries looked at
SAME = 0.99  # cosine from which two vectors are of one text by one maker, precision aside
COPY = 0.999  # cosine from which two queries are one
LEAST_RANK, LEAST_SPREAD = 0.25, 0.1  # shares of the teacher's effective rank and of its angles that a student must have
NORMS = (0.5, 2.0)  # student's mean norm over the teacher's
STEPS_UNCHECKED = 20  # of a loss where every look waits for a GPU or for other ranks


class Health(DevWatcher):
    """Warns of what spoils a student, stops where going on is useless. Each fault is told once.

    After every evaluation: collapse and drift of norms; on the next step: a loss term without gradient. On every step, looked at every
    20 on a GPU and on several ranks: a loss that is no number, whose batch is kept, of every rank. At the start: dev queries among the
    training queries; vectors that the teacher does not write, or that belong to other texts.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder
        self._reported: set[str] = set()
        self._terms_due = True
        self._recent: list[tuple[int, list[int], Tensor]] = []  # step, queries and loss of batches not looked at yet
        self._previous: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and (log := self.folder / WARNINGS).exists():
            # what was told after the checkpoint, or before there was one, is told again
            lines = [line for line in read_lines(log) if line.get("fault") in self._reported]
            with write_atomically(log) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        if trainer.is_global_zero and trainer.global_step == 0:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            for fault, message in (*find_leaks(data), *find_misfits(data)):
                self.warn(trainer, fault, message)

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        self._terms_due = True
        if not torch.isfinite(student).all():  # by the last step, whose loss was a number, but not its gradient
            self._stop(trainer, trainer.global_step, "a vector of the student is no number", self._previous, [])
        ours, theirs = (measure_spread(vectors[:DEV_SAMPLE]) for vectors in (student, teacher))
        module.log_dict({f"health/{name}": value for name, value in ours.items()}, batch_size=len(rows))
        rank, cosine, norm = (ours[name] for name in ("effective_rank", "pairwise_cosine", "norm"))
        if rank < LEAST_RANK * theirs["effective_rank"] or 1 - cosine < LEAST_SPREAD * (1 - theirs["pairwise_cosine"]):
            teacher_says = f"the teacher's {theirs['effective_rank']:.1f} and {theirs['pairwise_cosine']:.3f}"
            told = f"the student's vectors collapse: effective rank {rank:.1f}, mean cosine between queries {cosine:.3f}, {teacher_says}"
            self.warn(trainer, "collapse", f"{told}: lower the learning rate, or add query matching")
        if not NORMS[0] <= norm / theirs["norm"] <= NORMS[1]:
            told = f"the student's vectors have length {norm:.3g} on average, the teacher's {theirs['norm']:.3g}"
            self.warn(trainer, "norms", f"{told}: end the student's head with Normalize, or match by l2")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        due, self._terms_due = self._terms_due, False
        if due:
            module: Any = pl_module
            student, _, terms = module.last_step
            for name, value in terms.items():
                why = (
                    "its weight is 0" if not module.losses[name].weight else "its gradient is 0" if has_no_gradient(value, student) else ""
                )
                if why:
                    self.warn(trainer, f"gradient of {name}", f"model.losses.{name} teaches the student nothing: {why}: remove or mend it")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self._rows = batch.query_rows.tolist()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._recent.append((trainer.global_step, self._rows, outputs["loss"].detach()))
        at_once = pl_module.device.type == "cpu" and trainer.world_size == 1
        if at_once and math.isfinite(outputs["loss"]):
            self._previous, self._recent = self._rows, []
        elif at_once or len(self._recent) >= STEPS_UNCHECKED:
            self._refuse_nan(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refuse_nan(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refuse_nan(trainer)  # where nothing is evaluated

    def _refuse_nan(self, trainer: Trainer) -> None:
        """Every rank stops at the first step whose loss is no number on any of them."""
        if not self._recent:
            return
        finite = torch.stack([torch.isfinite(loss) for _, _, loss in self._recent]).long()
        bad = len(finite) - max_over_ranks(len(finite) - int(finite.cumprod(0).sum()), finite.device)
        batches = [self._previous, *(rows for _, rows, _ in self._recent)]
        if bad < len(finite):
            step, _, loss = self._recent[bad]
            value = float(loss) if not finite[bad] else "no number on another rank"
            self._stop(trainer, step, f"the loss is {value}", batches[bad + 1], batches[bad])
        self._previous, self._recent = batches[-1], []

    def _stop(self, trainer: Trainer, step: int, why: str, rows: list[int], before: list[int]) -> NoReturn:
        """Keeps the ids of the queries in the batches of all ranks; one of them tells why."""
        device, ids = trainer.strategy.root_device, query_id_lookup(trainer.datamodule)  # type: ignore[attr-defined]
        queries, last = (
            [ids(row) for row in gather_rows(torch.tensor(part, dtype=torch.int64, device=device)).tolist()] for part in (rows, before)
        )
        if not trainer.is_global_zero:
            raise SystemExit(0)  # a launcher that sees a rank fail kills the others, and the first has yet to say why
        path = self.folder / f"nan-step-{step}.json"
        write_json(path, {"step": step, "queries": queries, "batch_before": last})
        message = f"step {step}: {why}; the queries of that batch, and of the one before, are in {path}"
        self.warn(trainer, "loss", message)
        raise BadInput(f"{message}: lower model.learning_rate, clip gradients or train in fp32, into another --out")

    def warn(self, trainer: Trainer, fault: str, message: str) -> None:
        """Tells a fault once: on the terminal, in health.jsonl, and to every tracker that sends alerts."""
        if fault in self._reported or not trainer.is_global_zero:
            return
        self._reported.add(fault)
        print(f"warning: {message}", flush=True)
        with open(self.folder / WARNINGS, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": trainer.global_step, "fault": fault, "message": message}) + "\n")
        for logger in trainer.loggers:
            experiment = getattr(logger, "experiment", None)
            if alert := getattr(experiment, "alert", None):
                alert(title=f"distill: {fault}", text=message)
            elif add_text := getattr(experiment, "add_text", None):
                add_text(f"alert/{fault}", message, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"told": sorted(self._reported)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reported = set(state_dict["told"])


def has_no_gradient(value: Tensor, student: Encoded) -> bool:
    """Whether nothing that the student says moves a loss."""
    # gathered from several ranks, scores no longer hang on the vectors they were made of
    sources = [part for part in (student.query, student.document, student.scores) if part.requires_grad]
    if not value.requires_grad or not sources:
        return True
    gradients = torch.autograd.grad(value, sources, retain_graph=True, allow_unused=True)
    return not any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def measure_spread(vectors: Tensor) -> dict[str, float]:
    """How much of the space vectors [Q, D] use.

    `effective_rank` is the exponential of the entropy of their singular values (Roy and Vetterli, EUSIPCO 2007), 1 where all point one
    way; `pairwise_cosine` the mean over pairs; `norm` the mean length.
    """
    norms = vectors.norm(dim=1)
    unit = vectors / norms.clamp(min=1e-12)[:, None]
    shares = torch.linalg.svdvals(unit)
    shares = shares / shares.sum().clamp(min=1e-12)
    count = len(unit)
    pairs = (unit.sum(0).square().sum() - unit.square().sum()) / max(1, count * (count - 1))
    rank = torch.special.entr(shares).sum().exp()
    return {"effective_rank": float(rank), "pairwise_cosine": float(pairs), "norm": float(norms.mean())}


def find_leaks(data: Any) -> list[tuple[str, str]]:
    """Dev queries that the teacher cannot tell from a training query; those of the same words are dropped before."""
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(len(data.dev_vectors))[:DEV_SAMPLE])
    dev = torch.nn.functional.normalize(torch.from_numpy(data.dev_vectors.take(rows)).float(), dim=1)
    found, queries = [], data.teacher.queries
    for start in range(0, len(queries), 65_536):
        chunk = torch.from_numpy(queries.take(np.arange(start, min(start + 65_536, len(queries))))).float()
        best, place = (dev @ torch.nn.functional.normalize(chunk, dim=1).T).max(dim=1)
        found += [(rows[i], start + int(place[i])) for i in torch.nonzero(best >= COPY).flatten().tolist()]
    if not found:
        return []
    (one, other), ids = found[0], query_id_lookup(data)
    share = len({row for row, _ in found}) / len(rows)
    message = f"{share:.1%} of the dev queries are training queries to the teacher, {data.dev_texts.ids[one]!r} is {ids(other)!r} for one"
    return [("leakage", f"{message}: what dev says is too good")]


def find_misfits(data: Any) -> list[tuple[str, str]]:
    """Stored vectors that the teacher, where it is at hand, does not write from the texts as they are now."""
    maker = data.store.maker
    if not is_available(maker):
        return []
    try:
        teacher = load_maker(maker).prepare_for(torch.device("cpu"))
    except BadInput as error:
        return [("teacher", str(error))]
    sets: list[tuple[str, VectorStore, Texts]] = []
    if data.source.has_documents():
        sets.append(("document", data.store.documents, data.source.documents()))
    sets += [("query", store, texts) for store, (texts, _) in zip(data.teacher.queries.stores, data.train_sets, strict=True)]
    dev = data.dev_vectors
    sets += [("query", store, data.dev_texts.subset(np.flatnonzero(dev.store_of == part))) for part, store in enumerate(dev.stores)]
    for role, store, texts in sets:
        rows = np.sort(np.random.default_rng(0).permutation(len(texts))[:SAMPLE])
        ids = [texts.ids[row] for row in rows]
        stored = torch.from_numpy(store.take(store.ids.rows(ids))).float()
        again = torch.from_numpy(encode_texts(teacher.tower(role), texts.read(rows), role))  # type: ignore[arg-type]
        if vectors_agree(stored, again):
            continue
        _, first = search(again, store, 1)
        nearest = torch.from_numpy(store.take(first[:, 0].numpy())).float()
        if fault := diagnose_misfit(stored, again, nearest):
            where = f"{store.folder}: of {len(ids)} sampled vectors"
            return [(fault[0], f"{where} {fault[1]}")]
    return []


def vectors_agree(stored: Tensor, again: Tensor) -> bool:
    """Whether all of two sets of vectors [n, D] are of one text and one length each."""
    lengths = again.norm(dim=1) / stored.norm(dim=1).clamp(min=1e-12)
    return bool((torch.cosine_similarity(again, stored) >= SAME).all() and ((lengths - 1).abs() < 0.02).all())


def diagnose_misfit(stored: Tensor, again: Tensor, nearest: Tensor) -> tuple[str, str] | None:
    """What is wrong with stored vectors [n, D] of texts that were embedded `again`; None where they agree.

    `nearest` [n, D] are the stored vectors, of any text, that a search finds for those embedded again: their own, were all well.
    """
    if vectors_agree(stored, again):
        return None
    own = torch.cosine_similarity(again, stored)
    wrong = own < SAME
    # what another prompt or pooling writes is nowhere in the store; a vector in another row is
    strangers = wrong & (torch.cosine_similarity(again, nearest) >= SAME)
    if strangers.sum() > wrong.sum() / 2:
        return "misalignment", f"{int(strangers.sum())} belong to other texts (mean cosine {own.mean():.3f}): encode or import them again"
    what = f"mean cosine {own.mean():.3f}, length {float((again.norm(dim=1) / stored.norm(dim=1)).mean()):.3g} times"
    return "teacher", f"none but differs from what the teacher writes now ({what}): its prompt, pooling or normalisation is another"


def query_id_lookup(data: Any) -> Any:
    """Id of a row of all training queries."""
    sizes = np.cumsum([len(texts) for texts, _ in data.train_sets])

    def id_of(row: int) -> str:
        part = int(np.searchsorted(sizes, row, side="right"))
        if part == len(sizes):  # made for that epoch alone: it has words, no id
            return data.fresh_queries.text(row)
        texts = data.train_sets[part][0]
        return texts.ids[row - int(sizes[part]) + len(texts)]

    return id_of
