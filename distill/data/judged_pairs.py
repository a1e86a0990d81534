"""PairsData: queries with their positives and negatives to train a teacher on, and a judged dev split to measure it on."""

from __future__ import annotations

from typing import Any

import numpy as np

from distill.data.base import SplitDataModule
from distill.data.loaders import EvaluationLoader, TrainingLoader
from distill.data.negative_sampling import NegativeSampler, PairRows
from distill.records import BadInput
from distill.teachers.first_stage import first_stage_fingerprint, read_first_stage
from distill.teachers.negatives import JudgedQueries, Negatives
from distill.texts.qrels import Qrels
from distill.texts.sources import TRAIN, TextSource, judgments_fingerprints
from distill.texts.texts import Texts
from distill.texts.tokens import TokenArrays, load_or_tokenize

EVALUATION_BATCH = 32


class PairsData(SplitDataModule):
    """Labelled training queries, each with a positive and negatives, and a judged dev split.

    Args:
        source: where documents, queries and judgments come from.
        negatives: where the negatives of a query come from; never a document that is judged relevant to it. They also say what the pairs
            are: every judged one, or with MinedNegatives the lines of its file.
        train: split whose queries are trained on, but for those that another split asks too.
        dev: judged split to evaluate on during training.
        negatives_per_query: documents beside the positive, drawn anew each epoch; a generator of queries reads none.
        first_stage: for a cross encoder, whose documents it re-ranks on dev: a TREC run file, or a store as `distill encode` leaves it.
        rerank: so many of them for each dev query.
        dev_documents: a dual encoder searches the whole corpus on dev, or where it is larger than this, the judged documents and a random
            rest.
        batch_size: pairs of a query and its positive per rank and step.
        tokens_per_chunk: padded tokens that pass through a dual or cross encoder at once.
        seed: of the order and of the negatives; the command line sets it by `--seed_everything`.
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
        super().__init__()
        numbers = {"negatives_per_query": (negatives_per_query, 0), "rerank": (rerank, 1), "dev_documents": (dev_documents, 1)}
        for name, (value, least) in {**numbers, "batch_size": (batch_size, 1), "tokens_per_chunk": (tokens_per_chunk, 1)}.items():
            if value < least:
                raise BadInput(f"data.{name}: {value}: must be at least {least}")
        self.source, self.negatives = source, negatives
        self.train_split, self.dev_split = train, dev
        self.negatives_per_query, self.batch_size, self.tokens_per_chunk, self.seed = (
            negatives_per_query,
            batch_size,
            tokens_per_chunk,
            seed,
        )
        self.first_stage, self.rerank, self.dev_documents = first_stage, rerank, dev_documents

    def setup(self, stage: str) -> None:
        if self._is_set_up:
            return
        parts = self.parts()
        self.corpus = self.source.documents().ids
        whole = self.source.queries(self.train_split)
        self.train_queries = self.source.drop_leaked(whole, parts)
        self.removed_from_train = len(whole) - len(self.train_queries) + (self.source.removed_from_train if TRAIN in parts else 0)
        labelled = JudgedQueries(self.source, self.train_split, self.train_queries, self._judged(self.train_split), self.corpus)
        examples = self.negatives.examples(labelled)
        if not len(examples):
            raise BadInput(f"data.train: {self.train_split}: no query of it has a relevant document in the corpus")
        self.draw = NegativeSampler(examples, labelled.pairs(1), len(self.corpus), self.negatives_per_query, self.seed)
        self.dev_qrels = self._judged(self.dev_split)
        dev = self.source.queries(self.dev_split)
        self.dev_queries = dev.subset(self.dev_qrels.judged(list(dev.ids)))  # only those enter a mean
        if not len(self.dev_queries):
            raise BadInput(f"data.dev: {self.dev_split}: none of its queries is judged")
        self._is_set_up = True

    def prepare_for(self, teacher: Any) -> None:
        """What evaluating this kind of teacher needs: candidates to re-rank, or a corpus to search."""
        if teacher.writes:
            positives = self.dev_qrels.best(list(self.dev_queries.ids), self.corpus, self.source.relevant_from)
            self.dev_queries = self.dev_queries.subset(np.flatnonzero(positives >= 0))
            self.dev_candidates = positives[positives >= 0][:, None]
        elif not teacher.reranks:
            self.dev_candidates = np.empty((len(self.dev_queries), 0), np.int64)
            self.dev_corpus = self.dev_qrels.corpus_sample(self.dev_queries.ids, self.corpus, self.dev_documents)
        elif self.first_stage is None:
            raise BadInput(
                "data.first_stage: a cross encoder re-ranks: name a TREC run file of dev, or a store as distill encode leaves it"
            )
        else:
            self.dev_candidates = read_first_stage(self.first_stage, self.source, self.dev_split, self.dev_queries, self.rerank)

    def fingerprints(self) -> dict[str, str]:
        """Of every input of a training run beside its configuration."""
        found = {"documents": self.source.documents().fingerprint, "queries": self.train_queries.fingerprint}
        if self.first_stage is not None:
            found["first_stage"] = first_stage_fingerprint(self.first_stage)
        found |= {"dev": self.dev_queries.fingerprint, "negatives": self.negatives.fingerprint()}
        return found | judgments_fingerprints(self.source, self.train_split, self.dev_split)

    def train_dataloader(self) -> TrainingLoader:
        (queries, documents), examples = self._tokens(self.train_queries), self.draw.examples

        def collate(rows: np.ndarray) -> Any:
            asked = examples.queries[rows]
            drawn = PairRows(asked, self.draw.candidates(rows, loader.epoch), self.draw.relevant.of(asked))
            return self._teacher.training_batch(queries, documents, drawn, self.tokens_per_chunk)

        lengths = queries.lengths[examples.queries] + documents.lengths[examples.positives]
        loader = self.training_loader(collate, lengths, what="judged pairs")
        return loader

    def val_dataloader(self) -> EvaluationLoader:
        queries, documents = self._tokens(self.dev_queries)

        def collate(rows: np.ndarray) -> Any:
            return self._teacher.dev_batch(queries, documents, PairRows(rows, self.dev_candidates[rows]), self.tokens_per_chunk)

        return self.dev_loader(collate, queries.lengths, EVALUATION_BATCH)

    def _tokens(self, queries: Texts) -> tuple[TokenArrays, TokenArrays]:
        """Of `queries` and of the documents, as the teacher's readers cut them."""
        reader = self._teacher.reader
        return load_or_tokenize(queries, reader("query"), "query"), load_or_tokenize(
            self.source.documents(), reader("document"), "document"
        )

    def _judged(self, split: str) -> Qrels:
        qrels = self.source.qrels(split)
        if qrels is None:
            raise BadInput(
                f"{self.source.root}: the split {split!r} has no judgments: a teacher learns from labels and is measured on them"
            )
        return qrels

    @property
    def _teacher(self) -> Any:
        return self._fitting.lightning_module
