"""PairsData: queries with positives and negatives to train a teacher on, and a judged dev split."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from distill.data.base import SplitDataModule
from distill.data.loaders import EvaluationLoader, TrainingLoader
from distill.data.negative_sampling import NegativeSampler, PairRows
from distill.encoders.cross import CrossEncoder
from distill.encoders.encoder import Encoder
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.first_stage import fingerprint_first_stage, retrieve_first_stage
from distill.teachers.negatives import JudgedQueries, Negatives
from distill.texts.ids import Ids
from distill.texts.own_documents import find_own_documents
from distill.texts.qrels import Qrels
from distill.texts.text_source import TRAIN, TextSource, fingerprint_judgments
from distill.texts.texts import Texts
from distill.texts.tokens import TokenArrays, load_or_tokenize

EVALUATION_BATCH = 32

# how a teacher is measured on dev: by searching the corpus, re-ranking a first stage, or the likelihood of each query given its document
DevMeasure = Literal["search", "rerank", "likelihood"]


class PairsReader(Protocol):
    """The methods of the teacher in training that `PairsData` calls; the teacher makes its own batches from token arrays."""

    dev_measure: DevMeasure

    def reader(self, role: Role) -> Encoder | CrossEncoder | Seq2SeqModel: ...

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any: ...

    def dev_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any: ...


class PairsData(SplitDataModule):
    """Labelled training queries, each with a positive and negatives, and a judged dev split.

    Args:
        source: where documents, queries and judgments come from.
        negatives: source of the negatives, which are never judged relevant to the query. It also gives the training pairs: all judged
            pairs, or for MinedNegatives the lines of its file.
        train: split to train on; queries that another split also has are left out.
        dev: judged split to evaluate on during training.
        negatives_per_query: number of negatives for each query, drawn anew each epoch; a generator of queries reads none.
        first_stage: only for a cross encoder: the documents that it re-ranks on dev, from a TREC run file or a store by `distill encode`.
        rerank: number of documents of the first stage to re-rank for each dev query.
        dev_documents: most documents that a dual encoder searches on dev: of a larger corpus, the judged documents and a random sample
            of the others.
        batch_size: pairs of a query and its positive per rank and step.
        tokens_per_chunk: padded tokens that pass through a dual or cross encoder at once.
        seed: seed of the order and of the negatives; the command line sets it by `--seed_everything`.
    """

    def __init__(
        self,
        source: TextSource,
        negatives: Negatives,
        train: str = "train",
        dev: str = "dev",
        negatives_per_query: int = 3,
        first_stage: str | None = None,
        rerank: int = 20,
        dev_documents: int = 100_000,
        batch_size: int = 32,
        tokens_per_chunk: int = 16_384,
        seed: int = 0,
    ):
        super().__init__(train, dev, batch_size, seed)
        self.source, self.negatives, self.negatives_per_query = source, negatives, negatives_per_query
        self.first_stage, self.rerank, self.dev_documents = first_stage, rerank, dev_documents
        self.tokens_per_chunk = tokens_per_chunk
        self._teacher: PairsReader | None = None
        self._documents: TokenArrays | None = None  # tokens of the corpus, as this teacher reads it
        least = {"negatives_per_query": 0, "rerank": 1, "dev_documents": 1, "batch_size": 1, "tokens_per_chunk": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value < minimum:
                raise BadInput(f"data.{name}: {value}: must be at least {minimum}")

    def setup(self, stage: str) -> None:
        """Opens the texts and judgments; refuses a training or dev split without judged queries."""
        if self._is_set_up:
            return
        self.corpus = self.source.documents().ids
        self.train_queries = self._select_training_queries()
        self.sampler = self._make_sampler()
        self.dev_qrels = self._require_qrels(self.dev_split)
        self.dev_queries = self._select_judged_dev_queries()
        self._is_set_up = True

    def connect(self, teacher: PairsReader) -> None:
        """Sets the teacher, which makes the batches, and prepares dev for its kind."""
        if teacher is self._teacher:
            return
        self._teacher, self._documents = teacher, None
        if teacher.dev_measure == "search":
            self.dev_candidates = np.empty((len(self.dev_queries), 0), np.int64)
            self.dev_corpus = self.dev_qrels.sample_corpus(self.dev_queries.ids, self.corpus, self.dev_documents)
            searched = Ids(self.corpus.raw[self.dev_corpus])
            self.dev_own_documents = find_own_documents(self.source, self.dev_split, self.dev_queries.ids, searched)
        elif teacher.dev_measure == "likelihood":
            positives = self.dev_qrels.best_documents(list(self.dev_queries.ids), self.corpus, self.source.relevant_from)
            self.dev_queries = self.dev_queries.subset(np.flatnonzero(positives >= 0))
            self.dev_candidates = positives[positives >= 0][:, None]
        elif self.first_stage is None:
            fix = "name a TREC run file of dev, or a store as distill encode leaves it"
            raise BadInput(f"data.first_stage: a cross encoder re-ranks: {fix}")
        else:
            self.dev_candidates = retrieve_first_stage(self.first_stage, self.source, self.dev_split, self.dev_queries, self.rerank)

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprints of every input of a training except its configuration."""
        inputs = {"documents": self.source.documents().fingerprint, "queries": self.train_queries.fingerprint}
        if self.first_stage is not None:
            inputs["first_stage"] = fingerprint_first_stage(self.first_stage)
        inputs |= {"dev": self.dev_queries.fingerprint, "negatives": self.negatives.fingerprint()}
        if self.own_documents is not None:  # releases up to 0.2 drew them as negatives
            inputs["own_documents"] = fingerprint(self.own_documents.tolist())
        return inputs | fingerprint_judgments(self.source, self.train_split, self.dev_split)

    def train_dataloader(self) -> TrainingLoader:
        teacher, examples = self._require_teacher(), self.sampler.examples
        queries, documents = self._tokenize(self.train_queries)

        def collate(rows: np.ndarray) -> Any:
            query_rows = examples.queries[rows]
            candidates = self.sampler.draw_candidates(rows, loader.epoch)
            pairs = PairRows(query_rows, candidates, self.sampler.relevant.rows_for(query_rows))
            return teacher.training_batch(queries, documents, pairs, self.tokens_per_chunk)

        lengths = queries.lengths[examples.queries] + documents.lengths[examples.positives]
        loader = self.make_training_loader(collate, lengths, examples="judged pairs")
        return loader

    def val_dataloader(self) -> EvaluationLoader:
        teacher = self._require_teacher()
        queries, documents = self._tokenize(self.dev_queries)

        def collate(rows: np.ndarray) -> Any:
            return teacher.dev_batch(queries, documents, PairRows(rows, self.dev_candidates[rows]), self.tokens_per_chunk)

        return self.make_dev_loader(collate, queries.lengths, EVALUATION_BATCH)

    def _require_teacher(self) -> PairsReader:
        if self._teacher is None:
            raise BadInput("PairsData: no teacher to make batches for: call connect(teacher), as a TeacherModule does")
        return self._teacher

    @property
    def document_tokens(self) -> TokenArrays:
        """The teacher's tokens of the corpus."""
        if self._documents is None:
            self._documents = load_or_tokenize(self.source.documents(), self._require_teacher().reader("document"), "document")
        return self._documents

    def _tokenize(self, queries: Texts) -> tuple[TokenArrays, TokenArrays]:
        """Returns the teacher's tokens of `queries` and of the documents."""
        return load_or_tokenize(queries, self._require_teacher().reader("query"), "query"), self.document_tokens

    def _select_training_queries(self) -> Texts:
        """Returns the queries of the training split, without those that an evaluation split has too."""
        parts = self.train_parts()
        all_queries = self.source.queries(self.train_split)
        queries = self.source.remove_leaked(all_queries, parts)
        removed_by_source = self.source.removed_from_train if TRAIN in parts else 0
        self.removed_from_train = len(all_queries) - len(queries) + removed_by_source
        return queries

    def _make_sampler(self) -> NegativeSampler:
        qrels = self._require_qrels(self.train_split)
        judged = JudgedQueries(self.source, self.train_split, self.train_queries, qrels, self.corpus)
        examples = self.negatives.select_pairs(judged)
        if not len(examples):
            raise BadInput(f"data.train: {self.train_split}: no query of it has a relevant document in the corpus{self.describe_removed()}")
        self.own_documents = judged.own_documents
        return NegativeSampler(examples, judged.never_negatives(), len(self.corpus), self.negatives_per_query, self.seed)

    def _select_judged_dev_queries(self) -> Texts:
        """Returns the dev queries that are judged; metrics are means over these."""
        dev = self.source.queries(self.dev_split)
        queries = dev.subset(self.dev_qrels.judged_positions(list(dev.ids)))
        if not len(queries):
            raise BadInput(f"data.dev: {self.dev_split}: none of its queries is judged")
        return queries

    def _require_qrels(self, split: str) -> Qrels:
        qrels = self.open_qrels(split, self.corpus)
        if qrels is None:
            reason = "a teacher learns from labels and is measured on them"
            raise BadInput(f"{self.source}: the split {split!r} has no judgments: {reason}")
        return qrels
