"""A query and a document as one sequence of tokens, put together as their tokenizer does it, and which token is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from distill.records import BadInput, Movable

Ids = Sequence[int] | np.ndarray  # of one text, without special tokens
QUERY, DOCUMENT = 1, 3  # segments of a sequence: special tokens are 0, 2 and 4


@dataclass(frozen=True)
class PairTokens(Movable):
    """Token ids of P pairs; the special tokens belong neither to the query nor to the document."""

    input_ids: Tensor  # [P, L] int64
    attention_mask: Tensor  # [P, L] int64, 1 on real tokens
    token_type_ids: Tensor  # [P, L] int64, as the tokenizer numbers the two texts
    query_mask: Tensor  # [P, L] int64, 1 on the query's tokens
    document_mask: Tensor  # [P, L] int64, 1 on the document's tokens


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens round two texts: `[CLS] query [SEP] document [SEP]`, `<s> query </s></s> document </s>`, and so on."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[int, ...]  # token type of each of the five segments
    pad_id: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> PairTemplate:
        """Read off what the tokenizer makes of a pair, so that no family has to be known here."""
        encoding = tokenizer("a", "a", return_token_type_ids=True)
        ids, types, owner = encoding["input_ids"], encoding["token_type_ids"], encoding.sequence_ids(0)
        if 0 not in owner or 1 not in owner or None not in owner[owner.index(0) : owner.index(1)]:
            raise BadInput(f"{tokenizer.name_or_path}: its tokenizer puts nothing between two texts: no cross encoder can be made of it")
        query, document = (range(owner.index(side), len(owner) - owner[::-1].index(side)) for side in (0, 1))
        parts = [range(query.start), query, range(query.stop, document.start), document, range(document.stop, len(owner))]
        before, between, after = (tuple(ids[place] for place in part) for part in parts[::2])
        return cls(before, between, after, tuple(types[part[0]] if part else 0 for part in parts), tokenizer.pad_token_id)

    @property
    def specials(self) -> int:
        """Special tokens of every pair."""
        return len(self.before) + len(self.between) + len(self.after)

    def fit_lengths(self, query: Ids, document: Ids, max_length: int) -> tuple[Ids, Ids]:
        """Both texts within `max_length` tokens: the document is cut, and a query only where it leaves the document less than half."""
        room = max_length - self.specials
        query = query[: max(room - len(document), room // 2)]
        return query, document[: room - len(query)]

    def pairs(self, queries: Sequence[Ids], documents: Sequence[Ids], max_length: int) -> PairTokens:
        """P pairs as one batch, padded on the right to the longest."""
        rows = [self._row(*self.fit_lengths(query, document, max_length)) for query, document in zip(queries, documents, strict=True)]
        longest = max(row.shape[1] for row in rows)
        ids, real, types, segments = (np.zeros((len(rows), longest), np.int64) for _ in range(4))
        ids[:] = self.pad_id
        for number, row in enumerate(rows):
            here = (number, slice(row.shape[1]))
            ids[here], segments[here] = row
            types[here], real[here] = np.asarray(self.types)[row[1]], 1
        masks = (real, types, segments == QUERY, segments == DOCUMENT)
        return PairTokens(torch.from_numpy(ids), *(torch.from_numpy(mask.astype(np.int64)) for mask in masks))

    def _row(self, query: Ids, document: Ids) -> np.ndarray:
        """[2, L]: token ids, and the number of the segment each is in."""
        parts = (self.before, query, self.between, document, self.after)
        ids = np.concatenate([np.asarray(part, np.int64) for part in parts])
        return np.stack([ids, np.repeat(np.arange(len(parts)), [len(part) for part in parts])])
