"""Joins a query and a document into one sequence of tokens, as their tokenizer does, and marks which token belongs to which text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from distill.encoders.tokenizing import Ids
from distill.records import BadInput, TensorRecord

QUERY, DOCUMENT = 1, 3  # numbers of the two texts among the five segments of a sequence; special tokens are segments 0, 2 and 4


@dataclass(frozen=True)
class PairTokens(TensorRecord):
    """Token ids of P pairs; the special tokens belong neither to the query nor to the document."""

    input_ids: Tensor  # [P, L] int64
    attention_mask: Tensor  # [P, L] int64, 1 on real tokens
    token_type_ids: Tensor  # [P, L] int64, as the tokenizer numbers the two texts
    query_mask: Tensor  # [P, L] int64, 1 on the query's tokens
    document_mask: Tensor  # [P, L] int64, 1 on the document's tokens


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens around two texts: `[CLS] query [SEP] document [SEP]`, `<s> query </s></s> document </s>`, and so on."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[int, ...]  # token type of each of the five segments
    pad_id: int

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerFast) -> PairTemplate:
        """Finds the template in a pair that the tokenizer joins, so that this works for every family of models.

        Raises BadInput where the tokenizer puts nothing between two texts.
        """
        encoding = tokenizer("a", "a", return_token_type_ids=True)
        ids, types, owners = encoding["input_ids"], encoding["token_type_ids"], encoding.sequence_ids(0)
        query, document = find_segment(owners, 0), find_segment(owners, 1)
        if not query or not document or query.stop >= document.start:
            raise BadInput(f"{tokenizer.name_or_path}: its tokenizer puts nothing between two texts: no cross encoder can be made of it")
        before, between, after = range(query.start), range(query.stop, document.start), range(document.stop, len(owners))
        segments = (before, query, between, document, after)
        return cls(
            before=tuple(ids[place] for place in before),
            between=tuple(ids[place] for place in between),
            after=tuple(ids[place] for place in after),
            types=tuple(types[segment.start] if segment else 0 for segment in segments),
            pad_id=tokenizer.pad_token_id,
        )

    @property
    def special_count(self) -> int:
        """How many special tokens a pair has."""
        return len(self.before) + len(self.between) + len(self.after)

    def fit_lengths(self, query: Ids, document: Ids, max_length: int) -> tuple[Ids, Ids]:
        """Cuts a pair to `max_length` tokens: first the document, and the query only where the document would get less than half."""
        room = max_length - self.special_count
        query = query[: max(room - len(document), room // 2)]
        return query, document[: room - len(query)]

    def build_pairs(self, queries: Sequence[Ids], documents: Sequence[Ids], max_length: int) -> PairTokens:
        """P pairs as one batch, padded on the right to the longest.

        Args:
            queries: token ids of P queries, without special tokens.
            documents: token ids of the P documents beside them.
            max_length: tokens of a pair, special tokens included.
        """
        rows = []
        for query, document in zip(queries, documents, strict=True):
            query, document = self.fit_lengths(query, document, max_length)
            rows.append(self._join(query, document))
        shape = (len(rows), max(len(ids) for ids, _ in rows))
        input_ids = np.full(shape, self.pad_id, np.int64)
        segments = np.full(shape, -1, np.int64)
        for number, (ids, segment) in enumerate(rows):
            input_ids[number, : len(ids)] = ids
            segments[number, : len(ids)] = segment
        is_real = segments >= 0  # [P, L]
        types = np.where(is_real, np.asarray(self.types, np.int64)[segments], 0)
        return PairTokens(
            input_ids=torch.from_numpy(input_ids),
            attention_mask=torch.from_numpy(is_real.astype(np.int64)),
            token_type_ids=torch.from_numpy(types),
            query_mask=torch.from_numpy((segments == QUERY).astype(np.int64)),
            document_mask=torch.from_numpy((segments == DOCUMENT).astype(np.int64)),
        )

    def _join(self, query: Ids, document: Ids) -> tuple[np.ndarray, np.ndarray]:
        """Joins a pair; returns its token ids [L] and the segment number [L] of each token."""
        parts = (self.before, query, self.between, document, self.after)
        ids = np.concatenate([np.asarray(part, np.int64) for part in parts])
        return ids, np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def find_segment(owners: Sequence[int | None], text: int) -> range:
    """The range of places from the first token of a text to its last; empty where it has no token.

    >>> find_segment([None, 0, 0, None, 1, None], 0)
    range(1, 3)
    """
    places = [place for place, owner in enumerate(owners) if owner == text]
    return range(places[0], places[-1] + 1) if places else range(0)
