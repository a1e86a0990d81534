"""RetrievalData: which texts and which stored vectors feed which loader."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from distill.data.base import SplitDataModule
from distill.data.fresh import FreshQueries, check_fresh
from distill.data.loaders import EvaluationLoader, TrainingLoader, make_collate
from distill.encoders.encoder import Encoder
from distill.encoders.students import TeacherSpace
from distill.files.fingerprints import fingerprint
from distill.files.ranks import is_leader
from distill.generate import Generator
from distill.generate.generator import Material
from distill.records import BadInput
from distill.teachers.candidates import holds_pairs, open_pair_stores, put_positive_first, read_scored_candidates
from distill.teachers.open_stored import (
    load_or_search_top,
    open_evaluation_queries,
    open_pair_teacher,
    open_second_teacher,
    open_stored_teacher,
)
from distill.teachers.stored import Teacher
from distill.texts.qrels import Qrels, RelevantRows
from distill.texts.sources import TRAIN, QueryFile, TextSource, judgments_fingerprints
from distill.texts.texts import Texts
from distill.texts.tokens import concatenate_tokens, load_or_tokenize
from distill.vectors.source_documents import check_documents, text_rows
from distill.vectors.store import TeacherStore, VectorStore

EVALUATION_BATCH = 256


class RetrievalData(SplitDataModule):
    """Training queries with their teacher vectors, and a dev split to evaluate on.

    Args:
        source: where documents, queries and judgments come from.
        store: folder of the teacher's vectors, as `distill encode` leaves it.
        train: split to train on; its labels are used where a loss needs them.
        dev: split to evaluate on during training, labelled or not.
        queries: files of extra training queries (TSV or JSON lines), unlabelled; those that an evaluation split asks too are dropped.
            A list uses every query once an epoch; {file: 0.5} draws, anew each epoch, half as many of them as `train` has queries.
        fresh: who makes more queries anew for every epoch, Crop or Noise; the store's teacher has to be here and embeds them.
        fresh_share: an epoch has so many of them for each query that `train` has; 1 by default.
        candidates: documents each query is scored against: its judged positive first, then the teacher's own top documents.
        teachers: more teachers by name, for losses to learn from: other stores of the same texts, and stores of pairs by cross encoders.
            Queries and their candidates are then those that the first cross encoder has read.
        dev_documents: a student that embeds documents itself searches the whole corpus on dev, or where it is larger than this, the
            judged documents and a random rest.
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
        fresh: Generator | None = None,
        fresh_share: float | None = None,
        candidates: int = 0,
        teachers: dict[str, str] | None = None,
        dev_documents: int = 100_000,
        batch_size: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        if batch_size < 1 or candidates < 0 or dev_documents < 1:
            raise BadInput(f"data: batch_size {batch_size} and dev_documents must be at least 1 and candidates {candidates} at least 0")
        for name, share in (queries if isinstance(queries, dict) else {}).items():
            if not 0 <= share < math.inf:
                raise BadInput(f"data.queries: {name}: {share}: a share is 0 or more")
        check_fresh(fresh, fresh_share, bool(candidates or teachers))
        self.source, self.store_folder = source, store
        self.train_split, self.dev_split = train, dev
        self.query_files = list(queries or [])
        self.mixing = queries if isinstance(queries, dict) else {}
        self.candidates, self.batch_size, self.seed = candidates, batch_size, seed
        self.teacher_folders, self.dev_documents = teachers or {}, dev_documents
        self.fresh, self.fresh_share = fresh, fresh_share or 1.0
        self.fresh_queries: FreshQueries | None = None

    def setup(self, stage: str) -> None:
        if self._is_set_up:
            return
        self.store = TeacherStore(self.store_folder)
        if is_leader():
            check_documents(self.store.documents, self.source)
        self._candidate_ids = self._scored_candidates()
        self.train_sets = self._train_sets()
        self.teacher = open_stored_teacher(self.store, self.train_sets)
        if self.fresh:
            material, count = Material(self.source, self.train_split), round(self.fresh_share * sum(map(len, self._real)))
            self.fresh_queries = FreshQueries(self.teacher.queries, self.store, self.fresh, material, count, self.seed)
            self.teacher.queries = self.fresh_queries
        self.dev_texts, self.dev_vectors = open_evaluation_queries(self.source, self.store, self.dev_split)
        self.dev_qrels = self.source.qrels(self.dev_split)
        self.candidate_rows = self._candidate_rows()  # [N, K]
        self.teachers = {name: self._open_teacher(folder) for name, folder in self.teacher_folders.items()}
        if is_leader():
            for store in {id(store): store for store in self._stores().values()}.values():
                store.verify()
        self._is_set_up = True

    def _stores(self) -> dict[str, VectorStore]:
        """Every store that a training run reads; those of further teachers after their name."""
        own = [self.store.documents, *self.teacher.queries.stores, *self.dev_vectors.stores]
        found = {store.folder.name: store for store in own}
        for name, teacher in self.teachers.items():
            found |= {f"{name}/{store.folder.name}": store for store in teacher.stores}
        return found

    def vector_fingerprints(self) -> dict[str, str]:
        """Of the teacher, and of every set of its vectors that a training run reads."""
        stores = {name: fingerprint(store.checksums) for name, store in self._stores().items()}
        return {
            "teacher": self.store.maker.fingerprint,
            **stores,
            **judgments_fingerprints(self.source, self.train_split, self.dev_split),
        }

    @property
    def labelled(self) -> bool:
        """Whether every training query has a judged document in column 0 of its candidates."""
        return bool(self.candidates) and not self.query_files and bool((self._positives() == self.candidate_rows[:, 0]).all())

    @property
    def teacher_space(self) -> TeacherSpace:
        documents = self.store.documents
        return TeacherSpace(documents.maker, documents.width, documents.normalized)

    def train_dataloader(self) -> TrainingLoader:
        tokens = concatenate_tokens([load_or_tokenize(texts, self._student(), "query") for texts, _ in self.train_sets])
        tower = self._module.document_tower
        documents = tower and (
            load_or_tokenize(self.source.documents(), tower, "document"),
            text_rows(self.store.documents, self.source, self.candidate_rows),
        )
        collate = make_collate(tokens, self.candidate_rows, documents, self._relevant() if self.candidates else None)
        fresh = self.fresh_queries
        renew = None if fresh is None else lambda epoch: fresh.epoch_collate(epoch, tokens, self._student())
        return self.training_loader(collate, tokens.lengths, drawn=self._draw_counts(), renew=renew)

    def val_dataloader(self) -> EvaluationLoader:
        tokens = load_or_tokenize(self.dev_texts, self._student(), "query")
        return self.dev_loader(make_collate(tokens, np.empty((len(tokens), 0), np.int64)), tokens.lengths, EVALUATION_BATCH)

    def _student(self) -> Encoder:
        return self._module.encoder  # the texts are cut by the tokenizer of who reads them

    @property
    def _module(self) -> Any:
        return self._fitting.lightning_module

    @cached_property
    def dev_corpus(self) -> np.ndarray:
        """[N] rows of the documents that a student which embeds them itself searches on dev."""
        return (self.dev_qrels or Qrels({})).corpus_sample(self.dev_texts.ids, self.store.documents.ids, self.dev_documents)

    def document_texts(self, rows: np.ndarray) -> list[str]:
        """Texts of the documents in `rows` [n] of the store."""
        return self.source.documents().read(text_rows(self.store.documents, self.source, rows))

    def _scored_candidates(self) -> dict[str, dict[str, list[str]]]:
        """By split and query, the candidates that the first cross encoder has read; nothing without one."""
        folder = next(filter(holds_pairs, self.teacher_folders.values()), None)
        if folder is None:
            return {}
        if not self.candidates or self.query_files:
            raise BadInput(f"data.teachers: {folder} has read candidates of the train split: set data.candidates, leave data.queries out")
        stores = open_pair_stores(folder, self.source, self.train_split)
        return {
            part: read_scored_candidates(store, self.candidates) for part, store in zip(self.train_split.split("+"), stores, strict=True)
        }

    def _open_teacher(self, folder: str) -> Teacher:
        if not holds_pairs(folder):
            return open_second_teacher(folder, self.store, self.source, self.train_sets)
        return open_pair_teacher(open_pair_stores(folder, self.source, self.train_split), self.store, self.train_sets, self.candidate_rows)

    def _train_sets(self) -> list[tuple[Texts, str]]:
        """Each set of training queries with the fingerprint of the whole set it was encoded from."""
        sets, parts = [], self.parts()
        self.removed_from_train = self.source.removed_from_train if TRAIN in parts else 0
        for part in parts:
            whole = self.source.queries(part)
            texts = self.source.drop_leaked(whole, parts)
            self.removed_from_train += len(whole) - len(texts)
            sets.append((texts.subset(self._read_rows(texts, part), part), whole.fingerprint))
        for path in self.query_files:
            whole = QueryFile(path).queries()
            texts = self.source.drop_leaked(whole, parts)
            if is_leader():
                print(f"{path}: {len(texts)} queries, {len(whole) - len(texts)} more left out, which another split asks too")
            sets.append((texts, whole.fingerprint))
        names = [texts.name for texts, _ in sets]
        if len(set(names)) < len(names):
            raise BadInput(f"data: query sets {', '.join(names)}: two of them share a name: rename a file")
        return sets

    def _read_rows(self, texts: Texts, part: str) -> np.ndarray:
        """Rows of the queries to train on: all, or those whose candidates a cross encoder has read."""
        if not self._candidate_ids:
            return np.arange(len(texts))
        read = np.flatnonzero([id_ in self._candidate_ids[part] for id_ in texts.ids])
        left_out = f"{len(texts) - len(read)} queries left out, of which fewer than {self.candidates} documents were read"
        if not len(read):
            raise BadInput(f"data.candidates: {part}: {left_out}: none is left: set fewer, or encode with more --candidates_per_query")
        if is_leader() and len(read) < len(texts):
            print(f"{part}: {left_out}")
        return read

    def _draw_counts(self) -> list[tuple[int, int]]:
        """(size, queries drawn an epoch) of each training set."""
        sizes, real = [len(texts) for texts, _ in self.train_sets], list(map(len, self._real))
        shares = [None] * len(real) + [self.mixing.get(path) for path in self.query_files]
        counts = [size if share is None else round(share * sum(real)) for size, share in zip(sizes, shares, strict=True)]
        fresh = [] if self.fresh_queries is None else [(self.fresh_queries.count, self.fresh_queries.count)]
        return [(size, count if size else 0) for size, count in zip(sizes, counts, strict=True)] + fresh

    @property
    def _real(self) -> list[Texts]:
        """The training sets that are splits; extra files follow them, unlabelled."""
        return [texts for texts, _ in self.train_sets[: len(self.train_sets) - len(self.query_files)]]

    def _positives(self) -> np.ndarray:
        """[N] row of each labelled training query's best judged document in the corpus, -1 where there is none."""
        qrels = self.source.qrels(self.train_split)
        positives = np.full(len(self.teacher.queries), -1, np.int64)
        if qrels is None:
            return positives
        ids = self._judgeable()
        positives[: len(ids)] = qrels.best(ids, self.store.documents.ids, self.source.relevant_from)
        return positives

    def _judgeable(self) -> list[str]:
        """Ids of the training queries but for those of extra files, which follow them and have no labels."""
        return [id_ for texts in self._real for id_ in texts.ids]

    def _relevant(self) -> RelevantRows:
        """What is judged relevant to each training query, in any degree."""
        pairs = (self.source.qrels(self.train_split) or Qrels({})).pairs(self._judgeable(), self.store.documents.ids)
        return RelevantRows(*pairs, len(self.teacher.queries))

    def _candidate_rows(self) -> np.ndarray:
        """[N, K] document rows: the positive where there is one, then the teacher's top documents that are not it."""
        if not self.candidates:
            return np.empty((len(self.teacher.queries), 0), np.int64)
        if self.candidates > len(self.store.documents):
            raise BadInput(f"data.candidates: {self.candidates}, but the corpus has {len(self.store.documents)} documents")
        if self._candidate_ids:
            read = [self._candidate_ids[texts.name][query] for texts, _ in self.train_sets for query in texts.ids]
            rows = self.store.documents.ids.rows([id_ for documents in read for id_ in documents])
            if (rows < 0).any():
                raise BadInput("data.teachers: a cross encoder has read documents that the store lacks: encode the same texts")
            return rows.reshape(-1, self.candidates)
        return put_positive_first(self._positives(), load_or_search_top(self.teacher, self.train_sets, self.candidates))
