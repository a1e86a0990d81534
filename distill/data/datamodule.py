"""RetrievalData: the texts and stored vectors that a student is trained and evaluated on."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
from torch import Tensor

from distill.data.base import SplitDataModule
from distill.data.checks import check_numbers, list_paths
from distill.data.dev_suite import fingerprint_dev_suite, open_dev_suite
from distill.data.fresh import FreshQueries, check_fresh
from distill.data.loaders import Draw, EvaluationLoader, TrainingLoader, make_collate
from distill.data.token_counts import count_tokens
from distill.data.training_queries import read_given_candidates, select_training_queries
from distill.encoders.device_batches import TOKENS_PER_CHUNK, tokens_for
from distill.encoders.encoder import Encoder
from distill.encoders.students import TeacherSpace
from distill.files.fingerprints import fingerprint
from distill.files.ranks import is_leader
from distill.generate import Generator
from distill.generate.material import Material
from distill.records import BadInput
from distill.teachers.candidates import put_positive_first
from distill.teachers.open_stored import (
    DOCUMENTS,
    QuerySet,
    load_or_search_top,
    open_evaluation_queries,
    open_further_teacher,
    open_stored_teacher,
    refuse_unlike_roles,
)
from distill.teachers.stored import LookUpTeacher, StoredPairs, StoredTeacher
from distill.teachers.teacher import Teacher
from distill.texts.own_documents import find_own_documents
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource, fingerprint_judgments, require_source
from distill.texts.tokens import TokenArrays, concatenate_tokens, load_or_tokenize
from distill.vectors.source_documents import check_documents, text_rows
from distill.vectors.store import TeacherStore, VectorStore

BATCH_SIZE, EVALUATION_BATCH = 64, 256


class RetrievalData(SplitDataModule):
    """Training queries with their teacher vectors, and a dev split to evaluate on.

    Args:
        source: where documents, queries and judgments come from.
        store: folder of the teacher's vectors, written by `distill encode`.
        train: split to train on; its labels are used where a loss needs them.
        dev: split to evaluate on during training, labelled or not.
        queries: files of extra training queries (TSV or JSON lines), unlabelled; queries that an evaluation split also has are dropped.
            A list uses every query once an epoch; {file: 0.5} draws, anew each epoch, half as many of them as `train` has queries.
        match_documents: number of documents that an epoch draws for each query of `train`, to learn their vectors, which are in the store
            already, as those of queries. Only for teachers that embed both alike.
        fresh: generator, Crop or Noise, of new queries in every epoch; the store's teacher embeds them, so its model must be available.
        fresh_share: number of new queries in an epoch for each query of `train`; 1 by default.
        candidates: number of documents that each query is scored against: its judged positive, then the teacher's top documents.
        teachers: further teachers by name, for losses to learn from: other stores of the same texts, stores of pairs by cross encoders,
            TREC run files, or any `Teacher`. With stores of pairs or run files, queries and candidates are those of the first of them.
        dev_documents: most documents that a student which embeds documents itself searches on dev: of a larger corpus, the judged
            documents and a random sample of the others.
        dev_suite: judged collections of other domains, on which a student that inherits the teacher's documents is evaluated too: folders
            in BEIR layout, or folders of such folders. The best checkpoint is then that of the best mean.
        batch_size: queries per rank and step. By default 64; on a GPU up to 512, for a student that inherits the teacher's documents.
        seed: seed of the order of training queries; the command line sets it by `--seed_everything`.
    """

    def __init__(
        self,
        source: TextSource,
        store: str,
        train: str = "train",
        dev: str = "dev",
        queries: list[str] | dict[str, float] | None = None,
        match_documents: float | None = None,
        fresh: Generator | None = None,
        fresh_share: float | None = None,
        candidates: int = 0,
        teachers: dict[str, str | Teacher] | None = None,
        dev_documents: int = 100_000,
        dev_suite: list[str] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ):
        super().__init__(train, dev, BATCH_SIZE if batch_size is None else batch_size, seed)
        self.source, self.store_folder = require_source(source), str(store)
        corpus = {DOCUMENTS: match_documents} if match_documents else {}
        self.query_files = [*list_paths(queries, "data.queries"), *corpus]
        self.query_shares = {**(queries if isinstance(queries, dict) else {}), **corpus}
        self.fresh, self.fresh_share = fresh, fresh_share or 1.0
        self.candidates, self.dev_documents = candidates, dev_documents
        self.given_teachers = teachers or {}
        self.dev_suite = list_paths(dev_suite, "data.dev_suite")
        self.chosen_size: int | None = None  # batch size that was not given, see `settle_batch`
        self._encoder: Encoder | None = None
        self._document_tower: Encoder | None = None
        self._documents: TokenArrays | None = None
        check_numbers(self.batch_size, candidates, dev_documents, match_documents, self.query_shares)
        check_fresh(fresh, fresh_share, has_candidates=bool(candidates or teachers))

    def setup(self, stage: str) -> None:
        """Opens all texts and vectors of a training, and refuses those that do not fit together."""
        if self._is_set_up:
            return
        self.store = self._open_store()
        if DOCUMENTS in self.query_files:
            refuse_unlike_roles(self.store.maker)
        self.dev_collections = open_dev_suite(self.dev_suite, self.store)
        given = (self.given_teachers, self.source, self.train_split, self.candidates, self.query_files)
        self.scored_candidates = read_given_candidates(*given)
        parts, scored = self.train_parts(), self.scored_candidates
        abroad = [collection.queries for collection in self.dev_collections]
        self.training_queries = select_training_queries(self.source, parts, self.query_files, scored, self.candidates, abroad)
        self.teacher = open_stored_teacher(self.store, self.train_sets)
        self.fresh_queries = self._add_fresh_queries()
        self.dev_texts, self.dev_vectors = open_evaluation_queries(self.source, self.store, self.dev_split)
        self.dev_qrels = self.open_qrels(self.dev_split, self.store.documents.ids)
        self.candidate_rows = self._choose_candidates()  # [N, K]
        self.teachers = {name: self._open_teacher(name, given) for name, given in self.given_teachers.items()}
        self._connect_teachers()
        if is_leader():
            for store in {store.folder: store for store in self._stores().values()}.values():
                store.verify()
        self._is_set_up = True

    def connect(self, encoder: Encoder, document_tower: Encoder | None = None) -> None:
        """Sets the encoders whose tokenizers the loaders use.

        Args:
            encoder: encoder of the queries.
            document_tower: encoder of the documents; None if the student inherits the teacher's document vectors.
        """
        self._encoder, self._document_tower, self._documents = encoder, document_tower, None

    @property
    def train_sets(self) -> list[QuerySet]:
        """The sets of training queries; rows are numbered one set after the other."""
        return self.training_queries.sets

    @property
    def removed_from_train(self) -> int:
        """The number of training queries that were left out, because an evaluation split has them too."""
        return self.training_queries.removed

    @property
    def labelled(self) -> bool:
        """Whether every training query has a judged document in column 0 of its candidates."""
        has_candidates = self.candidates and not self.query_files
        return bool(has_candidates and (self._positives == self.candidate_rows[:, 0]).all())

    @property
    def teacher_space(self) -> TeacherSpace:
        """The embedding space of the teacher, which the student's vectors must be in."""
        documents = self.store.documents
        return TeacherSpace(documents.maker, documents.width, documents.normalized)

    @cached_property
    def dev_corpus(self) -> np.ndarray:
        """Rows [N] of the documents that are searched on dev, if the student embeds documents itself."""
        return (self.dev_qrels or Qrels({})).sample_corpus(self.dev_texts.ids, self.store.documents.ids, self.dev_documents)

    @cached_property
    def dev_own_documents(self) -> np.ndarray | None:
        """Rows [Q] of the document that each dev query leaves out of its ranking, -1 for none; None where no query leaves one out."""
        return find_own_documents(self.source, self.dev_split, self.dev_texts.ids, self.store.documents.ids)

    def query_texts(self, rows: np.ndarray | Tensor) -> list[str]:
        """Reads the training queries in `rows` [n], as `Batch.query_rows` has them."""
        rows = np.asarray(rows)
        if self.fresh_queries is None:
            return self.training_queries.read(rows)
        is_stored = rows < len(self.training_queries)  # [n]
        stored_texts = iter(self.training_queries.read(rows[is_stored]))
        return [next(stored_texts) if stored else self.fresh_queries.text(row) for row, stored in zip(rows, is_stored, strict=True)]

    def document_texts(self, rows: np.ndarray | Tensor) -> list[str]:
        """Reads the documents in `rows` [n] of the store, as `Batch.document_rows` has them."""
        return self.source.documents().read(text_rows(self.store.documents, self.source, np.asarray(rows)))

    def count_tokens(self, encoder: Encoder) -> np.ndarray:
        """Counts [V] how often each token of an encoder occurs in training queries and documents, as `token_counts` has it."""
        queries = [texts for texts, _ in self.train_sets if texts.name != DOCUMENTS]
        return count_tokens(encoder, queries, self.source.documents() if self.source.has_documents() else None)

    def vector_fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of all teachers, of every store that a training reads, and of the judgments."""
        stores = {name: fingerprint(store.checksums) for name, store in self._stores().items()}
        others = {name: teacher.fingerprint() for name, teacher in self.teachers.items() if hasattr(teacher, "fingerprint")}
        judgments = fingerprint_judgments(self.source, self.train_split, self.dev_split) | fingerprint_dev_suite(self.dev_collections)
        own = {} if self._own_documents is None else {"own_documents": fingerprint(self._own_documents.tolist())}
        return {"teacher": self.store.maker.fingerprint, **stores, **others, **judgments, **own}

    # loaders

    def train_dataloader(self) -> TrainingLoader:
        encoder = self._require_encoder()
        tokens = concatenate_tokens([load_or_tokenize(texts, encoder, "query") for texts, _ in self.train_sets])
        qrels, corpus = self.source.qrels(self.train_split), self.store.documents.ids
        relevant = self.training_queries.never_negatives(qrels, corpus, self._own_documents) if self.candidates else None
        teachers = [teacher for teacher in (self.teacher, *self.teachers.values()) if isinstance(teacher, LookUpTeacher)]
        documents = None if self._document_tower is None else self.document_tokens(self.candidate_rows)
        chunk = tokens_for(encoder.device, TOKENS_PER_CHUNK)
        collate = make_collate(tokens, self.candidate_rows, documents, relevant, teachers, chunk)
        fresh = self.fresh_queries
        prepare_epoch = None if fresh is None else partial(fresh.prepare_epoch, stored_tokens=tokens, student=encoder)
        return self.make_training_loader(collate, tokens.lengths, draws=self.count_draws(), prepare_epoch=prepare_epoch)

    def count_draws(self) -> list[Draw]:
        """Returns how many queries an epoch draws from each set, the generated ones last."""
        draws = self.training_queries.count_draws(self.query_shares, self.query_files)
        return draws if self.fresh_queries is None else [*draws, Draw(self.fresh_queries.count, self.fresh_queries.count)]

    def val_dataloader(self) -> EvaluationLoader:
        tokens = load_or_tokenize(self.dev_texts, self._require_encoder(), "query")
        no_candidates = np.empty((len(tokens), 0), np.int64)
        return self.make_dev_loader(make_collate(tokens, no_candidates), tokens.lengths, EVALUATION_BATCH)

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            raise BadInput("RetrievalData: no encoder to cut its texts for: call connect(encoder), as StudentModule does")
        return self._encoder

    def document_tokens(self, rows: np.ndarray) -> tuple[TokenArrays, np.ndarray]:
        """Returns the tokens of the corpus for the document tower, and the documents in `rows` of the store as rows of these tokens."""
        assert self._document_tower is not None, "the student embeds documents itself"
        if self._documents is None:
            self._documents = load_or_tokenize(self.source.documents(), self._document_tower, "document")
        return self._documents, text_rows(self.store.documents, self.source, rows)

    # steps of `setup`

    def _open_store(self) -> TeacherStore:
        store = TeacherStore(self.store_folder)
        if is_leader():
            check_documents(store.documents, self.source)
        return store

    def _add_fresh_queries(self) -> FreshQueries | None:
        """Appends the generated queries, which are new in every epoch, to the queries with stored vectors."""
        if self.fresh is None:
            return None
        material = Material(self.source, self.train_split, tuple(collection.queries for collection in self.dev_collections))
        count = round(self.fresh_share * self.training_queries.split_size)
        queries = FreshQueries(self.teacher.queries, self.store, self.fresh, material, count, self.seed)
        self.teacher.queries = queries
        return queries

    def _choose_candidates(self) -> np.ndarray:
        """Returns document rows [N, K]: the positive, if a query has one, then the teacher's other top documents."""
        count, documents = self.candidates, self.store.documents
        if not count:
            return np.empty((len(self.training_queries), 0), np.int64)
        others = len(documents) - (self._own_documents is not None)  # a query's own document is no candidate
        if count > others:
            raise BadInput(f"data.candidates: {count}, but the corpus has {others} documents beside a query's own: set fewer")
        if not self.scored_candidates:
            return put_positive_first(self._positives, load_or_search_top(self.teacher, self.train_sets, count, self._own_documents))
        scored = [self.scored_candidates[texts.name][query] for texts, _ in self.train_sets for query in texts.ids]
        rows = documents.ids.rows([id_ for candidates in scored for id_ in candidates])
        if (rows < 0).any():
            raise BadInput("data.teachers: the scored documents are not all in the store: encode the same texts")
        return rows.reshape(-1, count)

    @cached_property
    def _positives(self) -> np.ndarray:
        """Rows [N] of each training query's best judged document in the corpus; -1 marks a query without one."""
        corpus = self.store.documents.ids
        if (qrels := self.open_qrels(self.train_split, corpus)) is not None:
            self.source.queries(self.train_split)  # refuses ids that two parts share: judgments name queries by them
        return self.training_queries.best_documents(qrels, corpus, self.source.relevant_from)

    @cached_property
    def _own_documents(self) -> np.ndarray | None:
        """Rows [N] of the documents that training queries leave out of their candidates; None where there are no such documents."""
        return self.training_queries.own_documents(self.source, self.store.documents.ids) if self.candidates else None

    def _open_teacher(self, name: str, given: str | Teacher) -> Teacher:
        if not isinstance(given, str):
            return given
        return open_further_teacher(name, given, self.store, self.source, self.train_split, self.train_sets, self.candidate_rows)

    def _connect_teachers(self) -> None:
        """Gives this data module to the teachers that read texts."""
        for teacher in self.teachers.values():
            if hasattr(teacher, "connect"):
                teacher.connect(self)

    def _stores(self) -> dict[str, VectorStore]:
        """Returns every store that a training reads, by name; the name of a further teacher's store begins with the teacher's name."""
        own = [self.store.documents, *self.teacher.queries.stores, *self.dev_vectors.stores]
        stores = {store.folder.name: store for store in own}
        stores |= {f"{collection.name}/documents": collection.documents for collection in self.dev_collections}
        for name, teacher in self.teachers.items():
            if isinstance(teacher, StoredTeacher | StoredPairs):
                stores |= {f"{name}/{store.folder.name}": store for store in teacher.stores}
        return stores
