"""A student without a transformer: the mean of the rows of a table of tokens, which begin as the teacher's own vectors of these tokens."""

# no annotations from __future__: the command line reads the types of these dataclasses, which it cannot once they are texts
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.fit_table import fit_length, fit_token_table
from distill.encoders.folder import load_encoder
from distill.encoders.modules import Normalize
from distill.encoders.pooling import Pooling
from distill.encoders.static_folder import make_plain_tokenizer
from distill.encoders.students import ReadTargets, StudentSpec, TeacherSpace
from distill.encoders.token_table import TokenTable
from distill.encoders.tokenizing import TextSettings, no_prompts, truncated_ids
from distill.encoders.towers import load_maker
from distill.encoders.transformer_folder import UNLIMITED
from distill.files.cache import cache_folder, load_or_compute
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.files.progress import log, progress_bar
from distill.records import BadInput

MOST_TARGETS = 500_000  # training queries that the table is fitted to


@dataclass
class StaticStudent(StudentSpec):
    """A table with a row for each token of the teacher; the vector of a query is the mean of its tokens' rows.

    It knows no order of words, and embeds a query in a small part of the time that a single layer takes. Before the first step the table is
    fitted to the teacher's vectors of the training queries, in closed form.

    Args:
        teacher: folder or hub name of the model whose tokens these are; by default the model that made the store.

    >>> StaticStudent().init_args
    {'teacher': None}
    """

    teacher: str | None = None

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = load_encoder(self.teacher) if self.teacher else load_maker(teacher.maker).query
        if encoder.width != teacher.width:
            raise BadInput(f"{self.teacher}: {encoder.width} wide, the teacher's vectors are {teacher.width}: take the store's maker")
        rows = np.array(embed_tokens(encoder))  # [V, D]
        # what all tokens have in common adds up in a mean, what tells them apart does not, and would be lost beside it
        rows -= rows.mean(axis=0)
        head = [Normalize()] if teacher.normalized else []
        tokenizer = make_plain_tokenizer(encoder.tokenizer.backend_tokenizer)
        # a prompt would add the same to every mean; a table reads texts of any length
        return Encoder([TokenTable(torch.from_numpy(rows)), Pooling("mean"), *head], tokenizer, TextSettings(UNLIMITED, no_prompts()))

    def fit_start(self, student: Encoder, read_targets: ReadTargets) -> None:
        token_ids, targets = read_targets(student, MOST_TARGETS)
        log.info(f"fitting the table to the vectors of {len(targets):,} training queries")
        weight = student.word_table.weight
        table = fit_token_table(token_ids, targets, fit_length(token_ids, targets, weight.detach().numpy()))
        with torch.no_grad():
            weight.copy_(torch.from_numpy(table))


def embed_tokens(encoder: Encoder) -> np.ndarray:
    """The encoder's vector [V, D] float32 of each token of its vocabulary as a query of its own, out of the cache where they were made."""

    def compute() -> Iterator[np.ndarray]:
        queries = list_token_queries(encoder)
        known = queries[: encoder.word_table.num_embeddings]
        encoder.prepare_for(best_device()).eval()
        with progress_bar(total=len(known), desc="embed tokens", unit=" tokens") as bar:
            yield encode_token_ids(encoder, known, progress=bar.update)
        yield np.zeros((len(queries) - len(known), encoder.width), np.float32)  # of ids that the encoder cannot read either

    return load_or_compute(cache_folder() / "token_vectors" / f"{fingerprint('tokens', encoder.fingerprint())}.npy", compute)


def list_token_queries(encoder: Encoder) -> list[list[int]]:
    """For each id of the vocabulary the tokens of a query of that token alone, with the encoder's prompt and special tokens around it."""
    tokenizer, length = encoder.tokenizer, encoder.settings.max_length
    between, alone = (truncated_ids(tokenizer, ["a"], length, special_tokens)[0] for special_tokens in (True, False))
    places = [start for start in range(len(between)) if between[start : start + len(alone)] == alone]
    behind = len(between) - len(alone) - places[0] if alone and places else 0  # special tokens
    empty = encoder.token_ids([""], "query")[0]  # prompt and special tokens
    before, after = empty[: len(empty) - behind], empty[len(empty) - behind :]
    count = 1 + max(tokenizer.get_vocab().values())
    return [[*before, id_, *after] for id_ in range(count)]
