"""RetrievalData: which texts and which stored vectors feed which loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer

from distill.artefacts import cache_folder, fingerprint, written_atomically
from distill.data.collate import EvaluationLoader, TrainingLoader, collated
from distill.data.sources import QueryFile, TextSource, check_documents
from distill.data.store import TeacherStore, VectorStore
from distill.data.texts import Texts, concatenated
from distill.data.tokens import TokenArrays, tokenized
from distill.device import best_device
from distill.distributed import is_leader
from distill.encoders.encoder import Encoder
from distill.encoders.students import TeacherSpace
from distill.records import BadInput
from distill.search import search
from distill.teachers import StoredQueries, StoredTeacher

EVALUATION_BATCH = 256


class RetrievalData(LightningDataModule):
    """Training queries with their teacher vectors, and a dev split to evaluate on.

    Args:
        source: where documents, queries and judgments come from.
        store: folder of the teacher's vectors, as `distill encode` leaves it.
        train: split to train on; its labels are used where a loss needs them.
        dev: split to evaluate on during training, labelled or not.
        queries: files of extra training queries (TSV or JSON lines), unlabelled; those that an evaluation split asks too are dropped.
            A list uses every query once an epoch; {file: 0.5} draws, anew each epoch, half as many of them as `train` has queries.
        candidates: documents each query is scored against: its judged positive first, then the teacher's own top documents.
        batch_size: queries per rank and step.
        seed: of the order of training queries; the command line sets it by `--seed_everything`.
    """

    def __init__(
        self,
        source: TextSource,
        store: str,
        train: str = "train",
        dev: str = "dev",
        queries: list[str] | dict[str, float] | None = None,
        candidates: int = 0,
        batch_size: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        if batch_size < 1 or candidates < 0:
            raise BadInput(f"data: batch_size {batch_size} must be at least 1 and candidates {candidates} at least 0")
        self.source, self.store_folder = source, store
        self.train_split, self.dev_split = train, dev
        self.query_files = list(queries or [])
        self.mixing = queries if isinstance(queries, dict) else {}
        self.candidates, self.batch_size, self.seed = candidates, batch_size, seed
        self._is_set_up = False
        self._loader: TrainingLoader | None = None
        self._loader_state: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        if self._is_set_up:
            return
        self.store = TeacherStore(self.store_folder)
        self.train_sets = self._train_sets()
        stores = [self.store.queries(texts.name, whole) for texts, whole in self.train_sets]
        rows = [rows_in(store, texts) for store, (texts, _) in zip(stores, self.train_sets, strict=True)]
        self.teacher = StoredTeacher(StoredQueries(stores, rows), self.store.documents)
        self.dev_texts, self.dev_vectors = evaluation_queries(self.source, self.store, self.dev_split)
        self.dev_qrels = self.source.qrels(self.dev_split)
        if is_leader():
            check_documents(self.store.documents, self.source)
            for store in {id(s): s for s in [self.store.documents, *stores, *self.dev_vectors.stores]}.values():
                store.verify()
        self.candidate_rows = self._candidate_rows()  # [N, K]
        self._is_set_up = True

    def vector_fingerprints(self) -> dict[str, str]:
        """Of the teacher, and of every set of its vectors that a training run reads."""
        stores = [self.store.documents, *self.teacher.queries.stores, *self.dev_vectors.stores]
        return {"teacher": self.store.maker["fingerprint"]} | {store.folder.name: fingerprint(store.checksums) for store in stores}

    @property
    def labelled(self) -> bool:
        """Whether every training query has a judged document in column 0 of its candidates."""
        return bool(self.candidates) and not self.query_files and bool((self._positives() >= 0).all())

    @property
    def teacher_space(self) -> TeacherSpace:
        documents = self.store.documents
        return TeacherSpace(documents.maker, documents.width, documents.normalized)

    def train_dataloader(self) -> TrainingLoader:
        tokens = _stacked([tokenized(texts, self._student(), "query") for texts, _ in self.train_sets])
        trainer = self._fitting
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        loader = TrainingLoader(
            collated(tokens, self.candidate_rows),
            tokens.lengths,
            self.batch_size,
            self.seed,
            trainer.global_rank,
            trainer.world_size,
            batches_done=lambda: progress.current.processed,
            drawn=self._drawn(),
        )
        if self._loader_state:
            loader.load_state_dict(self._loader_state)
        self._loader = loader
        if not len(loader):
            raise BadInput(f"{len(tokens)} training queries are too few for {trainer.world_size} ranks: add queries or use fewer ranks")
        return loader

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # the trainer restores a loader too, but only one that nobody asked for its length before, as the optimizer does
        self._loader_state = state_dict

    def val_dataloader(self) -> EvaluationLoader:
        tokens = tokenized(self.dev_texts, self._student(), "query")
        collate = collated(tokens, np.empty((len(tokens), 0), np.int64))
        return EvaluationLoader(collate, tokens.lengths, EVALUATION_BATCH, self._fitting.global_rank, self._fitting.world_size)

    @property
    def _fitting(self) -> Trainer:
        assert self.trainer is not None, "loaders are made by a trainer"
        return self.trainer

    def _student(self) -> Encoder:
        module: Any = self._fitting.lightning_module
        return module.encoder  # the texts are cut by the tokenizer of who reads them

    def _train_sets(self) -> list[tuple[Texts, str]]:
        """Each set of training queries with the fingerprint of the whole set it was encoded from."""
        sets = []
        parts = self.train_split.split("+")
        if shared := set(parts) & set(self.dev_split.split("+")):
            raise BadInput(f"data.dev: {', '.join(sorted(shared))} is trained on too: evaluate on another split")
        for part in parts:
            whole = self.source.queries(part)
            texts = self.source.unseen(whole, parts)
            sets.append((texts.subset(np.arange(len(texts)), part), whole.fingerprint))
        for path in self.query_files:
            whole = QueryFile(path).queries()
            texts = self.source.unseen(whole, parts)
            if is_leader():
                print(f"{path}: {len(texts)} queries, {len(whole) - len(texts)} more left out, which another split asks too")
            sets.append((texts, whole.fingerprint))
        names = [texts.name for texts, _ in sets]
        if len(set(names)) < len(names):
            raise BadInput(f"data: query sets {', '.join(names)}: two of them share a name: rename a file")
        return sets

    def _drawn(self) -> list[tuple[int, int]]:
        """(size, queries drawn an epoch) of each training set."""
        sizes = [len(texts) for texts, _ in self.train_sets]
        splits = len(sizes) - len(self.query_files)
        shares = [None] * splits + [self.mixing.get(path) for path in self.query_files]
        counts = [size if share is None else round(share * sum(sizes[:splits])) for size, share in zip(sizes, shares, strict=True)]
        return list(zip(sizes, [count if size else 0 for size, count in zip(sizes, counts, strict=True)], strict=True))

    def _positives(self) -> np.ndarray:
        """[N] row of each labelled training query's best judged document in the corpus, -1 where there is none."""
        qrels = self.source.qrels(self.train_split)
        positives = np.full(len(self.teacher.queries), -1, np.int64)
        if qrels is None:
            return positives
        splits = self.train_sets[: len(self.train_sets) - len(self.query_files)]  # extra files follow, unlabelled
        ids = [id_ for texts, _ in splits for id_ in texts.ids]
        positives[: len(ids)] = qrels.best(ids, self.store.documents.ids, self.source.relevant_from)
        return positives

    def _candidate_rows(self) -> np.ndarray:
        """[N, K] document rows: the positive where there is one, then the teacher's top documents that are not it."""
        if not self.candidates:
            return np.empty((len(self.teacher.queries), 0), np.int64)
        if self.candidates > len(self.store.documents):
            raise BadInput(f"data.candidates: {self.candidates}, but the corpus has {len(self.store.documents)} documents")
        positives = self._positives()[:, None]  # [N, 1]
        top = self._teacher_top(self.candidates)  # [N, K]
        # the positive leaves its place among the top documents, then leads the row; a stable sort keeps the others' order
        later = np.argsort(top == positives, axis=1, kind="stable")
        others = np.take_along_axis(top, later, axis=1)
        return np.where(positives >= 0, np.concatenate([positives, others], axis=1)[:, : self.candidates], top[:, : self.candidates])

    def _teacher_top(self, k: int) -> np.ndarray:
        """[N, k] rows of the teacher's top documents of every training query, searched once and kept."""
        stores = [self.store.documents, *self.teacher.queries.stores]
        key = fingerprint([store.checksums for store in stores], [texts.fingerprint for texts, _ in self.train_sets], k)
        path = cache_folder() / "teacher-top" / f"{key}.npy"
        if not path.exists():
            queries = torch.from_numpy(self.teacher.queries.take(np.arange(len(self.teacher.queries))))
            _, rows = search(queries.to(best_device()), self.store.documents, k, progress=True)
            with written_atomically(path) as temporary, open(temporary, "wb") as file:
                np.save(file, rows.cpu().numpy())
        return np.load(path)


def evaluation_queries(source: TextSource, store: TeacherStore, split: str) -> tuple[Texts, StoredQueries]:
    """The queries of a split, `dl19+dl20` in that order, and the teacher's vectors of them."""
    parts = [(part, source.queries(part)) for part in split.split("+")]
    stores = [store.queries(part, texts.fingerprint) for part, texts in parts]
    rows = [rows_in(part, texts) for part, (_, texts) in zip(stores, parts, strict=True)]
    return concatenated([texts for _, texts in parts]), StoredQueries(stores, rows)


def rows_in(store: VectorStore, texts: Texts) -> np.ndarray:
    """[N] row of each text in its store; refuses texts without a vector."""
    rows = np.concatenate([store.ids.rows(chunk) for chunk in texts.ids.chunks()])
    if (rows < 0).any():
        missing = texts.ids[int(np.argmax(rows < 0))]
        raise BadInput(f"{store.folder}: no vector of {int((rows < 0).sum())} of {len(texts)} queries, {missing!r} for one: encode them")
    return rows


def _stacked(parts: list[TokenArrays]) -> TokenArrays:
    """Several sets as one, in order."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [len(part.flat) for part in parts])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    return TokenArrays(np.concatenate([part.flat for part in parts]), np.concatenate([*offsets, starts[-1:]]), parts[0].pad_id)
