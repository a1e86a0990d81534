"""`TokenArrays`: the token ids of many texts in one flat array, which is computed once and memory-mapped from the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from distill.encoders.cross import CrossEncoder
from distill.encoders.encoder import Encoder
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import Role
from distill.files.cache import cache_folder, load_or_compute
from distill.files.fingerprints import fingerprint
from distill.files.progress import progress_bar
from distill.records import Tokens
from distill.texts.texts import Texts

TEXTS_PER_CHUNK = 16_384


class TokenArrays:
    """Token ids of N texts with T tokens in all: one flat array and the offset where each text starts.

    >>> tokens = TokenArrays(np.array([5, 6, 7], np.int32), np.array([0, 2, 3]), pad_id=0)
    >>> tokens.batch(np.array([1, 0])).input_ids.tolist()
    [[7, 0], [5, 6]]
    """

    def __init__(self, flat: np.ndarray, offsets: np.ndarray, pad_id: int):
        self.flat = flat if len(flat) else np.array([pad_id], np.int32)  # [T] int32; of texts without a token one that none of them has
        self.offsets = offsets  # [N + 1] int64
        self.lengths = np.diff(offsets)  # [N] tokens of each text
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.lengths)

    def ids(self, row: int) -> np.ndarray:
        """[L] int32 token ids of one text."""
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    def batch(self, rows: np.ndarray) -> Tokens:
        """Tokens [B, L] of the texts in `rows` [B], padded on the right to the longest of them."""
        lengths = self.lengths[rows]
        columns = np.arange(max(1, lengths.max()))  # a model reads no sequence of length 0
        is_real = columns < lengths[:, None]  # [B, L]
        places = np.where(is_real, self.offsets[rows][:, None] + columns, 0)  # [B, L] into flat
        ids = np.where(is_real, self.flat[places], self.pad_id)
        return Tokens(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(is_real.astype(np.int64)), padded=not is_real.all())


def load_or_tokenize(texts: Texts, encoder: Encoder | CrossEncoder | Seq2SeqModel, role: Role) -> TokenArrays:
    """Returns the token ids of `texts`, from the cache where this tokenizer has read these texts before.

    Args:
        texts: N texts.
        encoder: the model whose tokenizer, length and prompts are used.
        role: whether the texts are queries or documents.
    """
    name = fingerprint(texts.fingerprint, encoder.tokens_fingerprint(role))
    path = cache_folder() / "tokens" / f"{name}.npy"
    ids_and_lengths = load_or_compute(path, lambda: _tokenize(texts, encoder, role))
    flat, lengths = np.split(ids_and_lengths, [len(ids_and_lengths) - len(texts)])
    return TokenArrays(flat, np.append(0, np.cumsum(lengths, dtype=np.int64)), encoder.tokenizer.pad_token_id)


def tokenize_in_memory(texts: Sequence[str], encoder: Encoder, role: Role) -> TokenArrays:
    """Returns the token ids of texts that are used once, without the cache."""
    ids = encoder.token_ids(texts, role)
    lengths = np.array([0, *map(len, ids)], np.int64)
    return TokenArrays(np.fromiter(chain.from_iterable(ids), np.int32), np.cumsum(lengths), encoder.tokenizer.pad_token_id)


def concatenate_tokens(parts: list[TokenArrays]) -> TokenArrays:
    """The texts of several arrays, in order."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [part.offsets[-1] for part in parts])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
    flat = [part.flat[: part.offsets[-1]] for part in parts]  # that of no text has a placeholder
    return TokenArrays(np.concatenate(flat), np.concatenate([*offsets, starts[-1:]]), parts[0].pad_id)


def _tokenize(texts: Texts, encoder: Encoder | CrossEncoder | Seq2SeqModel, role: Role) -> Iterator[np.ndarray]:
    """Yields the token ids, int32, of one chunk of texts after the other, and at the end the number of tokens of every text."""
    lengths = [np.empty(0, np.int32)]
    starts = range(0, len(texts), TEXTS_PER_CHUNK)
    for start in progress_bar(starts, total=len(starts), desc=f"tokenise {texts.name}", unit=" chunks", shown=len(starts) > 1):
        rows = np.arange(start, min(start + TEXTS_PER_CHUNK, len(texts)))
        ids = encoder.token_ids(texts.read(rows), role)
        lengths.append(np.array([len(row) for row in ids], np.int32))
        yield np.concatenate([np.asarray(row, np.int32) for row in ids])
    yield np.concatenate(lengths)
