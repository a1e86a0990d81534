"""Makes the rows of a word table narrower: a BERT becomes an ELECTRA, whose linear layer widens what the narrow tables hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import ElectraConfig, PreTrainedModel

from distill.encoders.encoder import Encoder
from distill.encoders.fit_projection import MOST_TEXTS, solve_projection
from distill.encoders.model_checks import count_table_rows
from distill.encoders.modules import Transformer
from distill.encoders.transformer_folder import new_backbone
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.records import BadInput

NARROW_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")  # their layers are those of an ELECTRA, weight by weight
SETTINGS = (
    *("vocab_size", "type_vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
)
FIX = "leave table_width out; vocabulary makes the table of any model smaller"
MOST_TOKENS = 20_000  # of texts, that the tables are fitted to
TOKENS_EACH = 4  # of texts for one of the vocabulary, so that rare tokens count a little too
USUAL_PLACES = (0.2, 0.5, 0.8)  # quantiles of positions, at which a token is read to find what it is wherever it stands
READ_FOR_PLACES = 256  # tokens that are read to find what a position adds
ROWS_AT_ONCE = 8192
STRENGTH = 1e-6  # of the ridge, as a share of the mean square of a number
ROW_LENGTH = 1.0  # of a median row of the new table, which is what the rows of a BERT have


def check_table_width(width: int | None) -> None:
    """Refuses what is no width of a table."""
    if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 2):
        raise BadInput(f"table_width: {width!r}: give how many numbers a row of the word table has, e.g. 128")


def narrow_table(encoder: Encoder, width: int, token_ids: Sequence[np.ndarray] | None = None) -> Encoder:
    """An encoder with the layers of another, whose word table has only `width` numbers a token.

    Its backbone is an ELECTRA: tables of words, positions and types of that width, a layer norm, a linear layer to the width of the
    layers, and the layers. Tables and linear layer are fitted in closed form to what the first layer reads in `encoder`.

    Args:
        encoder: stays as it is; the two share the modules behind the transformer.
        width: numbers in a row of the new table, fewer than now.
        token_ids: the tokens of texts, on which the two shall agree most; None leaves the new tables random, for weights to be loaded.

    Raises:
        BadInput: the table is no wider than that, or the architecture is none that an ELECTRA can stand for.
    """
    backbone = encoder.backbone
    refuse_other_families(backbone)
    now = encoder.word_table.embedding_dim
    if not 2 <= width < now:
        raise BadInput(f"table_width: {width}: a row has {now} numbers: give fewer, from 2 to {now - 1}, or leave it out")
    narrow: Any = new_backbone(make_config(backbone, width)).eval()
    narrow.encoder.load_state_dict(backbone.get_submodule("encoder").state_dict())
    if token_ids is not None:
        share = fit_tables(narrow, backbone, *choose_tokens_to_fit(token_ids, len(encoder.word_table.weight)))
        log.info(f"table_width: rows of {width} numbers in place of {now} keep {share:.0%} of what the first layer reads, before training")
    return Encoder([Transformer(narrow), encoder.pooling, *encoder.head], encoder.tokenizer, encoder.settings)


def refuse_other_families(backbone: PreTrainedModel) -> None:
    """Raises BadInput where an ELECTRA of narrow tables could not compute what a model computes."""
    kind = backbone.config.model_type
    if kind not in NARROW_FAMILIES:
        raise BadInput(f"table_width: {kind}: only rows of {', '.join(NARROW_FAMILIES)} can be made narrower: {FIX}")
    if backbone.config.is_decoder or getattr(backbone.config, "position_embedding_type", None) not in (None, "absolute"):
        raise BadInput(f"table_width: a {kind} whose attention reads to the left only, or by distance, has no narrow form: {FIX}")


def make_config(backbone: PreTrainedModel, width: int) -> ElectraConfig:
    """The config of an ELECTRA with the layers of another model and tables of `width` numbers."""
    shared = {name: copy.deepcopy(getattr(backbone.config, name)) for name in SETTINGS}
    return ElectraConfig(**shared, embedding_size=width, max_position_embeddings=min(count_table_rows(backbone)))


def choose_tokens_to_fit(token_ids: Sequence[np.ndarray], rows: int) -> tuple[Tensor, Tensor]:
    """Tokens [N] and their positions [N] in texts: an even sample of those of `token_ids`, and some of the whole vocabulary.

    >>> choose_tokens_to_fit([np.array([2, 5, 3])], rows=6)  # the last is one of the vocabulary
    (tensor([2, 5, 3, 0]), tensor([0, 1, 2, 0]))
    """
    texts = [token_ids[row] for row in evenly_spaced_rows(len(token_ids), MOST_TEXTS)]
    tokens, places = np.concatenate(texts).astype(np.int64), np.concatenate([np.arange(len(text)) for text in texts])
    chosen = evenly_spaced_rows(len(tokens), MOST_TOKENS)
    tokens, places = np.where(tokens < 0, ~tokens, tokens)[chosen], places[chosen]  # `~id` is a token of the prompt
    more = evenly_spaced_rows(rows, -(-len(tokens) // TOKENS_EACH))
    return torch.from_numpy(np.concatenate([tokens, more])), torch.from_numpy(np.concatenate([places, np.resize(places, len(more))]))


@torch.no_grad()
def fit_tables(narrow: Any, backbone: PreTrainedModel, tokens: Tensor, places: Tensor) -> float:
    """Sets tables, norm and linear layer of an ELECTRA so that its first layer reads nearly what that of `backbone` reads.

    Args:
        narrow: the ELECTRA.
        backbone: has the wide tables.
        tokens: [N], on which the two shall agree.
        places: [N], their positions in their texts.

    Returns:
        The share of the variance of what is read there that stays.
    """
    embeddings, project = narrow.embeddings, narrow.embeddings_project
    targets = read_tables(backbone, tokens, places)  # [N, D]
    mean = targets.mean(dim=0)
    to_narrow = find_directions(targets - mean, narrow.config.embedding_size)  # [D, E]
    to_narrow *= ROW_LENGTH / ((targets - mean) @ to_narrow).norm(dim=1).median().clamp_min(1e-9)
    usual = torch.from_numpy(np.quantile(places.numpy(), USUAL_PLACES, method="nearest"))
    for rows in torch.arange(narrow.config.vocab_size).split(ROWS_AT_ONCE):
        embeddings.word_embeddings.weight[rows] = (read_anywhere(backbone, rows, usual) - mean) @ to_narrow
    readers = tokens[evenly_spaced_rows(len(tokens), READ_FOR_PLACES)]
    without = read_anywhere(backbone, readers, usual)
    for place in range(len(embeddings.position_embeddings.weight)):
        added = read_tables(backbone, readers, torch.full_like(readers, place)) - without
        embeddings.position_embeddings.weight[place] = added.mean(dim=0) @ to_narrow
    for kind in range(len(embeddings.token_type_embeddings.weight)):
        added = read_anywhere(backbone, readers, usual, kind) - without
        embeddings.token_type_embeddings.weight[kind] = added.mean(dim=0) @ to_narrow
    embeddings.LayerNorm.reset_parameters()
    states = embeddings(tokens[:, None], position_ids=places[:, None])[:, 0]  # [N, E]
    center = states.mean(dim=0)
    weight = torch.from_numpy(solve_projection((states - center).numpy(), (targets - mean).numpy(), STRENGTH))  # [D, E]
    project.weight.copy_(weight)
    project.bias.copy_(mean - project.weight @ center)
    return 1 - float((project(states) - targets).square().sum() / (targets - mean).square().sum())


def read_tables(backbone: PreTrainedModel, tokens: Tensor, places: Tensor, kind: int = 0) -> Tensor:
    """What the first layer of a model reads [N, D] of tokens [N] at positions [N], in texts of type `kind`."""
    embeddings: Any = backbone.get_submodule("embeddings")
    padding = embeddings.position_embeddings.padding_idx
    first = 0 if padding is None else padding + 1  # of a RoBERTa, whose first rows are no positions
    types = torch.full_like(tokens, kind)
    states = embeddings(tokens[:, None], position_ids=places[:, None] + first, token_type_ids=types[:, None])[:, 0]
    project: Any = getattr(backbone, "embeddings_project", None)  # of an ELECTRA of narrow rows
    return states if project is None else project(states)


def read_anywhere(backbone: PreTrainedModel, tokens: Tensor, places: Tensor, kind: int = 0) -> Tensor:
    """As `read_tables`, the mean [N, D] over all of the positions for each of the tokens [N]."""
    return torch.stack([read_tables(backbone, tokens, place.expand(len(tokens)), kind) for place in places]).mean(dim=0)


def find_directions(vectors: Tensor, width: int) -> Tensor:
    """A map [D, E] to fewer dimensions that keeps the most of vectors [N, D], and makes the numbers of each add up to 0.

    So the norm behind it, which takes the mean of the numbers away, takes only the length of a vector.
    """
    _, directions = torch.linalg.eigh((vectors.T @ vectors).double())  # ascending
    first = torch.cat([torch.ones(width, 1), torch.eye(width)[:, 1:]], dim=1)
    without_mean = torch.linalg.qr(first.double())[0][:, 1:]  # [E, E - 1]
    return (directions[:, 1 - width :] @ without_mean.T).float()
